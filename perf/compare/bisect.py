"""Which commit made a benchmark slower? Each step is decided by `compare`, not by one timing.

The range is halved as in git bisect. A commit is as BAD if a comparison with GOOD finds a change
in the same direction as that of BAD, otherwise as GOOD. A commit that cannot be installed, or
gives another result, is skipped, and its neighbours are compared. An undecided commit is compared
once more with more time; if that is not enough, the search ends with the commits that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from analysis.errors import InputError
from perf.compare import session, verdict
from perf.compare.verdict import Judgement
from perf.programs import commit, git

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perf.compare.benchmarks import Benchmark
    from perf.compare.sides import Side

MORE_TIME: Final = 3
"""Factor of the budget when an undecided commit is compared again."""

Answer = Literal["as GOOD", "as BAD", "undecided", "skipped"]


@dataclass(frozen=True)
class Step:
    """A commit that was compared."""

    commit: str
    answer: Answer
    judgement: Judgement | None = None
    """Of the comparison with GOOD; None if there was none."""
    reason: str = ""
    """Why it was skipped."""


@dataclass
class Search:
    """A search for the commit that changed a benchmark."""

    clone: Path
    commits: Sequence[str]
    """From GOOD to BAD, oldest first, both among them."""
    make: Callable[[str], Side]
    """Makes the side of a commit."""
    benchmark: Benchmark
    budget: float = session.BUDGET
    """Seconds of a step."""
    seed: int = 1
    resolution: float = verdict.RESOLUTION
    steps: list[Step] = field(default_factory=list)
    direction: str = ""

    def run(self, report: Callable[[Step], None] = lambda _: None) -> list[str]:
        """Commits of which one is the first that is as BAD; a single one if all went well.

        InputError if GOOD and BAD do not differ, or cannot be compared.
        """
        last = self._compare(len(self.commits) - 1)
        report(last)
        if last.answer != "as BAD":
            why = last.reason or str(last.judgement)
            msg = (
                f"{self.benchmark.name}: there is nothing to search for, BAD is not known to "
                f"differ from GOOD: {why}; give more time, or other commits"
            )
            raise InputError(msg)
        good, bad = 0, len(self.commits) - 1
        done: set[int] = set()
        while pending := [n for n in range(good + 1, bad) if n not in done]:
            middle = min(pending, key=lambda n: (abs(2 * n - good - bad), n))
            done.add(middle)
            step = self._compare(middle)
            report(step)
            if step.answer == "as BAD":
                bad = middle
            elif step.answer == "as GOOD":
                good = middle
            elif step.answer == "undecided":
                break
        return list(self.commits[good + 1 : bad + 1])

    def _compare(self, number: int) -> Step:
        """Compare a commit with GOOD."""
        step = self._step(self.commits[number])
        self.steps.append(step)
        return step

    def _step(self, commit: str) -> Step:
        judgement: Judgement | None = None
        # Every step may be wrong, so each has its share of the allowed error.
        share = verdict.ERROR / (1 + math.ceil(math.log2(len(self.commits))))
        for turn in range(2):
            try:
                comparison = session.Comparison(
                    self.make(self.commits[0]),
                    self.make(commit),
                    [self.benchmark],
                    seed=self.seed + turn,
                    error=share / 2,
                    resolution=self.resolution,
                )
            except InputError as error:
                return Step(commit, "skipped", reason=str(error))
            comparison.run(self.budget * (MORE_TIME if turn else 1))
            member = comparison.measured[self.benchmark.name]
            if member.failure is not None:
                return Step(commit, "skipped", reason=member.failure)
            judgement = member.judgement
            if judgement is not None and judgement.outcome != "undecided":
                if not self.direction and judgement.outcome in {"slower", "faster"}:
                    # BAD itself is compared first: it sets the direction.
                    self.direction = judgement.outcome
                # A change in the other direction is not as BAD.
                answer: Answer = "as BAD" if judgement.outcome == self.direction else "as GOOD"
                return Step(commit, answer, judgement)
        return Step(commit, "undecided", judgement)


def commits(clone: Path, good: str, bad: str) -> list[str]:
    """Full hashes from GOOD to BAD, oldest first, along first parents."""
    first, last = (commit(clone, name) for name in (good, bad))
    listed = git(clone, "rev-list", "--first-parent", "--reverse", f"{first}..{last}").split()
    try:
        git(clone, "merge-base", "--is-ancestor", first, last)
    except InputError:
        listed = []
    if not listed:
        msg = f"{good} is not before {bad} in {clone}: name the older one first"
        raise InputError(msg)
    return [first, *listed]


def described(clone: Path, commit: str) -> str:
    """Short hash, day and subject of a commit."""
    return git(clone, "show", "--no-patch", "--format=%h %cs %s", commit)
