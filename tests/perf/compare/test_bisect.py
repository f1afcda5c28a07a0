"""The commit that made it slower is found, whatever lies around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import InputError
from perf.compare import benchmarks, bisect, session, sides
from tests.support import toy_repository
from tests.support.toy_repository import WORK

STATES = {
    "first": {},
    "second": {"alpha": WORK * 3},
    "third": {"alpha": WORK * 3, "beta": WORK // 2},
    "fourth": {"alpha": WORK, "gamma": WORK * 115 // 100},
    "fifth": {"gamma": WORK * 115 // 100, "delta": WORK * 2},
    "sixth": {"gamma": WORK * 115 // 100},
}
"""gamma is slower from the fourth on; the others come and go."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_repository.repository(tmp_path_factory.mktemp("bisect"), STATES)


@pytest.fixture(autouse=True)
def apart_and_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A few samples of each process: what is to be found here is large, or counted.
    monkeypatch.setattr(session, "SAMPLES", 0.02)
    monkeypatch.setattr(session, "PROCESS", 0.02)


def search(
    repository: Path, suite: Path, benchmark: str, good: str = "first", bad: str = "sixth"
) -> bisect.Search:
    (one,) = benchmarks.functions(suite, [benchmark])
    return bisect.Search(
        repository,
        bisect.commits(repository, good, bad),
        lambda commit: sides.side(f"{commit}@{repository}"),
        one,
        budget=30,
    )


def test_first_slow_commit_is_found(repository: Path, tmp_path: Path) -> None:
    made = search(repository, toy_repository.suite(tmp_path), "gamma")
    (found,) = made.run()
    assert bisect.described(repository, found).endswith("fourth")
    assert made.direction == "slower"
    # BAD itself, then half of what is left each time.
    assert len(made.steps) == 3


@pytest.mark.slow
def test_commit_that_tells_nothing_is_passed_over(repository: Path, tmp_path: Path) -> None:
    suite = toy_repository.suite(tmp_path)
    suite.write_text(
        suite.read_text().replace(
            "def called(name):",
            "def called(name):\n"
            "    if open(made_up.__file__).readline().strip() in ('# third', '# fourth'):\n"
            "        raise ValueError('does not run')",
        )
    )
    made = search(repository, suite, "gamma")
    left = [bisect.described(repository, one).rpartition(" ")[2] for one in made.run()]
    # Which of the three it is cannot be known.
    assert left == ["third", "fourth", "fifth"]
    assert [step.answer for step in made.steps].count("skipped") == 2


def test_nothing_to_find_is_told(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BAD is not known to differ from GOOD"):
        search(repository, toy_repository.suite(tmp_path), "alpha").run()


def test_order_of_commits_is_checked(repository: Path) -> None:
    with pytest.raises(InputError, match="name the older one first"):
        bisect.commits(repository, "sixth", "first")
    with pytest.raises(InputError, match="has no commit 'seventh'"):
        bisect.commits(repository, "first", "seventh")
