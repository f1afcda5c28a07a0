"""Pairs: two sides measured in one run, so that their ratio can be believed.

Both sides are called in random order, round by round, and judged in CPU time. What slows the
machine down then slows both, and neighbours share it. Of 20 comparisons of one kernel with itself,
at load 2.5 on two cores, 18 lay between 0.988 and 1.009 and all 20 intervals held 1; medians of two
consecutive runs in wall time differ by a third either way at load 8.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from perf.measure import clocks
from perf.measure.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


T = TypeVar("T")

CONFIDENCE: Final = 0.99
"""Of intervals: a claim that lies on its bound is confirmed by chance in 1 of 200 runs."""

RESAMPLES: Final = 2_000
"""Of the bootstrap: an end of a 99 % interval rests on 10 of them."""


@dataclass(frozen=True)
class Samples:
    """Wall and CPU seconds a call of each round, and calls in each sample, by side."""

    wall: Mapping[str, Sequence[float]]
    cpu: Mapping[str, Sequence[float]]
    iterations: Mapping[str, int]


def in_rounds(items: Sequence[T], rounds: int, seed: int) -> Iterator[tuple[T, int]]:
    """Each item once a round, every round in a random order of its own, with the round's number."""
    for number in range(rounds):
        for index in np.random.default_rng([seed, number]).permutation(len(items)):
            yield items[index], number


def interleaved(
    sides: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    rng: np.random.Generator,
    cpu: clocks.CpuClock | Mapping[str, clocks.CpuClock] = time.process_time,
    setup: Callable[[str], None] | None = None,
) -> Samples:
    """Time several functions in one run, in another random order each round.

    Each is called beforehand, so that compiling is not timed. The CPU clock is one for all or one
    for each side. `setup` is called with the name of a side before its turn, and not timed.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    used: dict[str, list[float]] = {name: [] for name in sides}
    with clocks.gc_frozen():
        iterations = {}
        for name, run in sides.items():
            if setup:
                setup(name)
            run()
            iterations[name] = clocks.plan(run, seconds=0).iterations
        for _ in range(rounds):
            for name in rng.permutation(list(sides)):
                run, count = sides[name], iterations[name]
                if setup:
                    setup(name)
                gc.collect()
                # CPU time is read outside: to look through all processes takes milliseconds.
                cpu_clock = cpu if callable(cpu) else cpu[name]
                cpu_begin, begin = cpu_clock(), time.perf_counter()
                for _ in range(count):
                    run()
                end, cpu_end = time.perf_counter(), cpu_clock()
                wall[name].append((end - begin) / count)
                used[name].append((cpu_end - cpu_begin) / count)
    return Samples(wall, used, iterations)


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], rng: np.random.Generator
) -> Estimate:
    """Median of the ratios of paired times, with a bootstrap interval at CONFIDENCE."""
    logs = np.log(np.asarray(numerator) / np.asarray(denominator))
    drawn = np.median(rng.choice(logs, size=(RESAMPLES, len(logs))), axis=1)
    log = Estimate.of_draws(float(np.median(logs)), drawn, CONFIDENCE)
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(log.high))
