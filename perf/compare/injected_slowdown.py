"""A repository with known slowdowns, to see whether they are found."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from perf import programs
from perf.compare.sides import ROOT

BASE: Final = "base"
NONE: Final = "none"
"""Tags: the commit to compare with, and one that changes no code."""

PERCENT: Final = {"one": 1, "five": 5}
"""Further tags: commits of which SLOWED takes so many percent more instructions."""

SLOWED: Final = "trijet_pt-compiled"
"""The kernel that is slower: its loop takes 97 % of its time."""

EVENTS: Final = {"one": 77, "five": 491}
"""First of the 10,000 events that are processed twice, by tag: some have more jets than others, so
that callgrind counts 1.2 % more instructions for the first 100. `Trials` counts again."""

_INJECTED: Final = '''

_as_it_was = _largest


def _largest(offsets, *others):
    """As it was, and the first events once more."""
    _as_it_was(offsets[: 1 + {events}], *others)
    return _as_it_was(offsets, *others)
'''

_PROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "coffea-scaling-made-up"
version = "0"

[tool.hatch.build.targets.wheel]
packages = ["analysis"]
"""


def repository(folder: Path) -> Path:
    """The repository of our `analysis` with all tags, made unless it exists."""
    path = folder / f"made-up-{state()}"
    if (path / ".git").is_dir():
        return path
    shutil.copytree(
        ROOT / "analysis", path / "analysis", ignore=shutil.ignore_patterns("__pycache__")
    )
    (path / "pyproject.toml").write_text(_PROJECT)
    git(path, "init", "--quiet", "--initial-branch=main")
    commit(path, BASE)
    (path / "README.md").write_text("Nothing that is run.\n")
    commit(path, NONE)
    module = path / "analysis" / "kernels" / f"{SLOWED.partition('-')[0]}.py"
    as_it_was = module.read_text()
    for tag, events in EVENTS.items():
        module.write_text(as_it_was + _INJECTED.format(events=events))
        commit(path, tag)
    return path


def state() -> str:
    """Identity of our `analysis` and of the slowdowns."""
    total = hashlib.sha256(f"{_INJECTED}{EVENTS}".encode())
    for path in sorted((ROOT / "analysis").rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:10]


def commit(repository: Path, tag: str) -> None:
    """Commit all files, with a tag."""
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", f"--message={tag}")
    git(repository, "tag", tag)


def git(repository: Path, *arguments: str) -> str:
    """Run git as a fixed author and without the user's settings: hashes are always the same."""
    author = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "Made up"),
            ("EMAIL", "made-up@example.org"),
            ("DATE", "2026-01-01T00:00:00+00:00"),
        )
    }
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return programs.git(repository, *arguments, variables={**author, **settings})
