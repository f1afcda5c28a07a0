"""Verdicts on claims: an estimate with its interval beside a bound."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from analysis.errors import InputError
from perf.records.digest import result_digest
from perf.records.record_file import Claimed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perf.measure.estimate import Estimate
    from perf.records.record_file import Input, What


@dataclass(frozen=True)
class Arm:
    """One side of a claim, as a record keeps it: seconds a call of each round."""

    what: What
    input: Input
    wall: Sequence[float]
    cpu: Sequence[float]
    iterations: int
    check: str
    peak_memory: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of packages that only this side uses, beside those that every record has."""


@dataclass(frozen=True)
class Verdict:
    """What was measured for a claim."""

    claim: str
    sense: Literal["at least", "at most"]
    bound: float | None
    """The claim: at least, or at most, this. Without a bound it is shown beside the others."""
    measured: Estimate
    """Estimate with its interval, of no width where there is none."""
    unit: Literal["ratio", "bytes", "seconds", "milliseconds", "count"]
    arms: tuple[Arm, ...]
    quantity: str = ""
    """Of an executor: one of `executors.QUANTITIES`."""

    @property
    def holds(self) -> bool:
        """Whether the whole interval is on the right side of the bound, if there is one."""
        if self.bound is None:
            return True
        if self.sense == "at least":
            return self.measured.low >= self.bound
        return self.measured.high <= self.bound

    @property
    def fails(self) -> bool:
        """Whether the whole interval is on the wrong side; neither is undecided."""
        if self.bound is None:
            return False
        if self.sense == "at least":
            return self.measured.high < self.bound
        return self.measured.low > self.bound

    def __str__(self) -> str:
        """The verdict in one word."""
        if self.bound is None:
            return "-"
        return "holds" if self.holds else "FAILS" if self.fails else "undecided"

    @property
    def claimed(self) -> Claimed:
        """As a record keeps it."""
        return Claimed.model_validate(
            {
                "claim": self.claim,
                "sense": self.sense,
                "bound": self.bound,
                **asdict(self.measured),
                "unit": self.unit,
                "verdict": str(self),
            }
        )


def with_claims(verdicts: Iterable[Verdict]) -> list[tuple[Arm, tuple[Claimed, ...]]]:
    """Arms in order, each with the verdicts on it: a verdict without arms is on those before."""
    found: list[tuple[Arm, tuple[Claimed, ...]]] = []
    for verdict in verdicts:
        found += [(arm, ()) for arm in verdict.arms]
        if found and math.isfinite(verdict.measured.value):
            arm, claims = found.pop()
            found.append((arm, (*claims, verdict.claimed)))
    return found


def checked(
    sides: Mapping[str, Callable[[], Any]], agree: Callable[[Any, Any], bool]
) -> Mapping[str, str]:
    """Digest of each side's result, which must agree."""
    results = {name: run() for name, run in sides.items()}
    if not agree(*results.values()):
        msg = "the implementations differ on this input, their speeds mean nothing: run the tests"
        raise InputError(msg)
    return {name: result_digest(result) for name, result in results.items()}
