"""What the workflows of GitHub may do: nothing that somebody typed is run, and no token does much."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from perf.programs import git

if TYPE_CHECKING:
    from collections.abc import Iterator

GITHUB: Final = Path(__file__).parents[1] / ".github"
WORKFLOWS: Final = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(GITHUB.glob("workflows/*.yml"))
}
WRITE: Final = {
    ("pages", "deploy"): {"pages", "id-token"},
    ("compare", "comment"): {"issues", "pull-requests"},
}
"""What jobs may write to; neither of them runs code of a pull request."""

GH: Final = """#!/usr/bin/env python3
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
asked = Path(__file__).with_name("asked.jsonl")
body = [Path(a.removeprefix("body=@")).read_text() for a in arguments if a.startswith("body=@")]
asked.open("a").write(json.dumps([arguments, *body]) + "\\n")
if "--jq" in arguments:
    sys.stdout.write(Path(__file__).with_name("found").read_text())
"""
"""Stands in for GitHub's command, which needs GitHub."""


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, content in workflow["jobs"].items():
            yield name, job, content


@pytest.fixture(params=jobs(), ids=lambda one: "-".join(one[:2]))
def job(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, Any]]:
    one: tuple[str, str, dict[str, Any]] = request.param
    return one


def test_actions_are_pinned_to_commits(job: tuple[str, str, dict[str, Any]]) -> None:
    used = [step["uses"] for step in job[2]["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", one) for one in used)


def test_no_expression_is_part_of_a_shell_line(job: tuple[str, str, dict[str, Any]]) -> None:
    lines = [step["run"] for step in job[2]["steps"] if "run" in step]
    # The version of Python of the matrix is written in the workflow.
    assert not [line for line in lines if "${{" in line]


def test_jobs_may_read_and_few_may_write(job: tuple[str, str, dict[str, Any]]) -> None:
    name, key, content = job
    given = content.get("permissions", WORKFLOWS[name]["permissions"])
    writes = {what for what, how in given.items() if how == "write"}
    assert writes == WRITE.get((name, key), set())
    assert set(given.values()) <= {"read", "write"}
    kept = [
        step["with"].get("persist-credentials")
        for step in content["steps"]
        if step.get("uses", "").startswith("actions/checkout@")
    ]
    assert all(one is False for one in kept)


def test_no_cache_is_left_by_code_of_a_pull_request_of_coffea() -> None:
    steps = WORKFLOWS["compare"]["jobs"]["measure"]["steps"]
    assert not [step for step in steps if "cache" in json.dumps(step)]


# --- scripts


def script(name: str, *arguments: Any, **environment: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GITHUB / "scripts" / name, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {key: str(value) for key, value in environment.items()},
    )


@pytest.fixture
def coffea(tmp_path: Path) -> Path:
    """A repository with three commits, and a pull request that left it at the second."""
    folder = tmp_path / "coffea"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=master")
    for key, value in {"user.name": "me", "user.email": "me@localhost"}.items():
        git(folder, "config", key, value)
    for name in ("one", "two"):
        git(folder, "commit", "--quiet", "--allow-empty", "--message", name)
        git(folder, "tag", name)
    git(folder, "checkout", "--quiet", "--detach")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "proposed")
    git(folder, "update-ref", "refs/pull/1234/head", "HEAD")
    git(folder, "checkout", "--quiet", "master")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "three")
    return folder


def test_a_pull_request_is_compared_with_where_it_left(coffea: Path, tmp_path: Path) -> None:
    done = script("compared-commits.sh", tmp_path / "a.git", REFERENCE=1234, COFFEA=coffea)
    head, base = git(coffea, "rev-parse", "refs/pull/1234/head"), git(coffea, "rev-parse", "two")
    assert done.stdout == f"base={base}\nhead={head}\n"
    # A commit of the main branch, with the one before it.
    done = script("compared-commits.sh", tmp_path / "b.git", REFERENCE=base, COFFEA=coffea)
    before = git(coffea, "rev-parse", "one")
    assert done.stdout == f"base={before}\nhead={base}\n"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "$(touch made)",
        "1; touch made",
        "--upload-pack=touch made",
        "12\nhead=x",
        "master",
        "1" * 7,
    ],
)
def test_nothing_else_is_looked_up(coffea: Path, tmp_path: Path, typed: str) -> None:
    done = script("compared-commits.sh", tmp_path / "a.git", REFERENCE=typed, COFFEA=coffea)
    assert (done.returncode, done.stdout) == (2, "")
    assert "name a pull request of coffea by its number" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"coffea"}


def post(tmp_path: Path, found: str = "", **environment: Any) -> list[Any]:
    """What is asked of GitHub when a table is posted."""
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "found").write_text(found)
    (tmp_path / "asked.jsonl").unlink(missing_ok=True)
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_REPOSITORY": "me/suite",
        "ISSUE": 7,
        "REFERENCE": 1234,
        "RUN": "https://run",
    }
    done = script("post-comment.sh", tmp_path / "comment.md", **(given | environment))
    assert done.returncode == (0 if (tmp_path / "asked.jsonl").exists() else 2)
    if done.returncode:
        return []
    return [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]


def test_a_table_is_posted_and_later_replaced(tmp_path: Path) -> None:
    (tmp_path / "comment.md").write_text("### `a` over `b`: 1 slower\n| ht | @everybody |\n")
    _, (posted, body) = post(tmp_path)
    assert posted[1:5] == ["--silent", "--method", "POST", "repos/me/suite/issues/7/comments"]
    assert body.startswith("<!-- perf compare 1234 -->\n### `a` over `b`: 1 slower\n")
    assert body.endswith("\n[Log and all measurements](https://run)\n")
    # Nobody is notified.
    assert "@everybody" not in body
    _, (replaced, again) = post(tmp_path, found="99\n100\n")
    assert replaced[1:5] == ["--silent", "--method", "PATCH", "repos/me/suite/issues/comments/99"]
    assert again == body


def test_a_long_table_is_cut_and_a_failure_is_said(tmp_path: Path) -> None:
    _, (_, body) = post(tmp_path)
    assert "The comparison of `1234` failed." in body
    (tmp_path / "comment.md").write_text("µ" * 100_000)
    _, (_, body) = post(tmp_path, REFERENCE="--> $(touch made) x")
    assert body.startswith("<!-- perf compare touchmadex -->\nµµµ")
    assert len(body) < 65_536
    assert not (tmp_path / "made").exists()
    assert post(tmp_path, ISSUE="7/../8") == []
