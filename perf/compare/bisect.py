"""Which commit made a benchmark slower? Each step is decided by `compare`, not by one timing.

The range is halved as git bisect halves it. A commit belongs to the side of GOOD or of BAD by a
comparison with GOOD: changed in the same sense as BAD, or not. One that cannot be installed, or
gives another result, tells nothing and its neighbours are asked. What stays undecided is asked
once more with more time; if that is not enough the search ends with the commits that are left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from analysis.errors import InputError
from perf.compare import session, verdict
from perf.compare.verdict import Judgement
from perf.environments import git

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perf.compare.session import Benchmark, Side

PATIENCE: Final = 3
"""How many times the budget a commit gets at its second chance."""

Answer = Literal["as GOOD", "as BAD", "undecided", "skipped"]


@dataclass(frozen=True)
class Step:
    """A commit that was asked.

    Attributes
    ----------
    commit
        Full hash.
    answer
        What came of it.
    judgement
        Of the comparison with GOOD; None if there was none.
    reason
        Why it was skipped.
    """

    commit: str
    answer: Answer
    judgement: Judgement | None = None
    reason: str = ""


@dataclass
class Search:
    """A search for the commit that changed a benchmark.

    Attributes
    ----------
    clone
        Repository.
    commits
        From GOOD to BAD, oldest first, both among them.
    make
        Side of a commit.
    benchmark
        What is searched with.
    budget
        Seconds of a step.
    """

    clone: Path
    commits: Sequence[str]
    make: Callable[[str], Side]
    benchmark: Benchmark
    budget: float = session.BUDGET
    seed: int = 1
    resolution: float = verdict.RESOLUTION
    steps: list[Step] = field(default_factory=list)
    direction: str = ""

    def run(self, report: Callable[[Step], None] = lambda _: None) -> list[str]:
        """Commits of which one is the first that is as BAD; one commit if all went well.

        Raises
        ------
        InputError
            If GOOD and BAD do not differ, or cannot be compared.
        """
        ends = self._ask(len(self.commits) - 1)
        report(ends)
        if ends.answer != "as BAD":
            why = ends.reason or str(ends.judgement)
            msg = (
                f"{self.benchmark.name}: there is nothing to search for, BAD is not known to "
                f"differ from GOOD: {why}; give more time, or other commits"
            )
            raise InputError(msg)
        good, bad = 0, len(self.commits) - 1
        asked: set[int] = set()
        while pending := [n for n in range(good + 1, bad) if n not in asked]:
            middle = min(pending, key=lambda n: (abs(2 * n - good - bad), n))
            asked.add(middle)
            step = self._ask(middle)
            report(step)
            if step.answer == "as BAD":
                bad = middle
            elif step.answer == "as GOOD":
                good = middle
            elif step.answer == "undecided":
                break
        return list(self.commits[good + 1 : bad + 1])

    def _ask(self, number: int) -> Step:
        """Compare a commit with GOOD."""
        step = self._asked(self.commits[number])
        self.steps.append(step)
        return step

    def _asked(self, commit: str) -> Step:
        judgement: Judgement | None = None
        # Every step may be wrong, so each is allowed its share of the error.
        share = verdict.ERROR / (1 + math.ceil(math.log2(len(self.commits))))
        for turn in range(2):
            try:
                made = session.comparison(
                    self.make(self.commits[0]),
                    self.make(commit),
                    [self.benchmark],
                    seed=self.seed + turn,
                    error=share / 2,
                    resolution=self.resolution,
                )
            except InputError as error:
                return Step(commit, "skipped", reason=str(error))
            made.run(self.budget * (PATIENCE if turn else 1))
            one = made.measured[self.benchmark.name]
            if one.failure is not None:
                return Step(commit, "skipped", reason=one.failure)
            judgement = one.judgement
            if judgement is not None and judgement.outcome != "undecided":
                if not self.direction and judgement.outcome in {"slower", "faster"}:
                    # BAD itself is asked first: it says what is searched for.
                    self.direction = judgement.outcome
                # To have changed the other way is not to be as BAD.
                answer: Answer = "as BAD" if judgement.outcome == self.direction else "as GOOD"
                return Step(commit, answer, judgement)
        return Step(commit, "undecided", judgement)


def commits(clone: Path, good: str, bad: str) -> list[str]:
    """Full hashes from GOOD to BAD, oldest first, along first parents.

    Raises
    ------
    InputError
        If they are no commits of the clone, or GOOD is no ancestor of BAD.
    """
    first, last = (_commit(clone, one) for one in (good, bad))
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
    """A commit for people: its hash in short, day and subject."""
    return git(clone, "show", "--no-patch", "--format=%h %cs %s", commit)


def _commit(clone: Path, name: str) -> str:
    try:
        return git(clone, "rev-parse", "--verify", f"{name}^{{commit}}")
    except InputError as error:
        msg = f"{clone} has no commit {name!r} ({error}): fetch it, or name another"
        raise InputError(msg) from None
