"""Pairs: two sides measured in one run, so that their ratio can be believed.

A ratio is measured in one run: both sides in random order, round by round, in CPU time. What
slows the machine down then slows both, and a pair of neighbours shares it. Of 20 comparisons of
one kernel with itself so, at load 2.5 on two cores, 18 lay between 0.988 and 1.009 and all 20
intervals held 1; medians of two consecutive runs in wall time differ by a third either way at
load 8 (shared notes on performance suites, 6.3).
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from analysis.errors import InputError
from perf.measure import clocks
from perf.records.digest import result_digest
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


CONFIDENCE: Final = 0.99
"""Of intervals: a claim that lies on its bound is confirmed by chance in 1 of 200 runs."""

RESAMPLES: Final = 2_000
"""Of the bootstrap: an end of a 99 % interval rests on 10 of them."""


@dataclass(frozen=True)
class Samples:
    """Paired samples: entry i of both sides was taken in round i.

    Attributes
    ----------
    wall, cpu
        Seconds a call, by side, of each round.
    iterations
        Calls in each sample, by side.
    """

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]
    iterations: Mapping[str, int]


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with its interval.

    Attributes
    ----------
    median
        Median of the ratios of the pairs.
    low, high
        Bootstrap interval of it.
    minima
        Ratio of the smallest times, for comparison.
    """

    median: float
    low: float
    high: float
    minima: float


def interleaved(
    sides: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    rng: np.random.Generator,
    cpu: clocks.CpuClock | Mapping[str, clocks.CpuClock] = time.process_time,
    before: Callable[[str], None] | None = None,
) -> Samples:
    """Time several acts in one run, in another random order each round.

    Parameters
    ----------
    sides
        What is timed, by name. Called beforehand, so that compiling is not timed.
    rounds
        Samples of each.
    rng
        Chooses the orders.
    cpu
        CPU clock in seconds; or of each side its own.
    before
        Called with the name of a side before its turn, and not timed.

    Returns
    -------
    Samples
        Each of at least `measure.ROUND_SECONDS`.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    used: dict[str, list[float]] = {name: [] for name in sides}
    with clocks.settled():
        iterations = {}
        for name, act in sides.items():
            if before:
                before(name)
            act()
            iterations[name] = clocks.plan(act, seconds=0).iterations
        for _ in range(rounds):
            for name in rng.permutation(list(sides)):
                act, count = sides[name], iterations[name]
                if before:
                    before(name)
                gc.collect()
                # CPU time is read outside: to look through all processes takes milliseconds.
                cpu_clock = cpu if callable(cpu) else cpu[name]
                cpu_begin, begin = cpu_clock(), time.perf_counter()
                for _ in range(count):
                    act()
                end, cpu_end = time.perf_counter(), cpu_clock()
                wall[name].append((end - begin) / count)
                used[name].append((cpu_end - cpu_begin) / count)
    return Samples(wall, used, iterations)


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], rng: np.random.Generator
) -> Ratio:
    """Ratio of paired times.

    Parameters
    ----------
    numerator, denominator
        Seconds a call; entry i of both of the same round.
    rng
        Draws the bootstrap.

    Returns
    -------
    Ratio
        Interval at CONFIDENCE, of the median of the pairs' ratios.
    """
    logs = np.log(np.asarray(numerator) / np.asarray(denominator))
    drawn = np.median(rng.choice(logs, size=(RESAMPLES, len(logs))), axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Ratio(
        median=math.exp(float(np.median(logs))),
        low=math.exp(low),
        high=math.exp(high),
        minima=min(numerator) / min(denominator),
    )


@dataclass(frozen=True)
class Arm:
    """One side of a claim, as a record keeps it."""

    what: What
    input: Input
    wall: Sequence[float]
    cpu: Sequence[float]
    iterations: int
    check: str
    peak_memory: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes
    ----------
    claim
        In words.
    bound, sense
        The claim: at least, or at most, this. Without a bound it is shown beside the others.
    measured, low, high
        Estimate with its interval; low and high are the estimate itself where there is none.
    unit
        Of the numbers.
    arms
        What was measured for it.
    quantity
        What is measured of every executor, if that is it: of CPU, RATE, TASK and so on.
    """

    claim: str
    sense: Literal["at least", "at most"]
    bound: float | None
    measured: float
    low: float
    high: float
    unit: Literal["ratio", "bytes", "milliseconds", "count"]
    arms: tuple[Arm, ...]
    quantity: str = ""

    @property
    def holds(self) -> bool:
        """Whether the whole interval is on the right side of the bound, if there is one."""
        if self.bound is None:
            return True
        return self.low >= self.bound if self.sense == "at least" else self.high <= self.bound

    @property
    def fails(self) -> bool:
        """Whether the whole interval is on the wrong side; undecided is what is neither."""
        if self.bound is None:
            return False
        return self.high < self.bound if self.sense == "at least" else self.low > self.bound

    def __str__(self) -> str:
        """What the table says."""
        if self.bound is None:
            return "-"
        return "holds" if self.holds else "FAILS" if self.fails else "undecided"


def checked(
    sides: Mapping[str, Callable[[], Any]], agree: Callable[[Any, Any], bool]
) -> Mapping[str, str]:
    """Digest of each side's result, which must agree."""
    results = {name: act() for name, act in sides.items()}
    if not agree(*results.values()):
        msg = "the implementations differ on this input, their speeds mean nothing: run the tests"
        raise InputError(msg)
    return {name: result_digest(result) for name, result in results.items()}
