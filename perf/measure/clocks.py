"""Wall and CPU time: of one process, of a tree of processes, and how often to sample it."""

from __future__ import annotations

import gc
import math
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    CpuClock = Callable[[], Any]
    """The difference of two of its readings is CPU seconds, NaN where they are not known."""

ROUND_SECONDS: Final = 0.005
"""Shortest sample: 0.1 % of it is 5 us, far above what reading both clocks takes (under 1 us)."""

MIN_ROUNDS: Final = 5
SLOW_ROUNDS: Final = 3
SLOW_SECONDS: Final = 0.5
"""Least number of samples, and of calls that are slower than this: the latter vary by a few
percent where the short ones vary by tens, and a run should end within minutes."""

MAX_ROUNDS: Final = 50
"""Samples of a case: a median needs a few, and more than these do not make it steadier here
(notes on noise: what differs between processes does not average out within one)."""


@dataclass(eq=False)
class Clock:
    """A timer that reads wall and CPU time at the same instants.

    pytest-benchmark calls it for wall time; CPU time is kept beside, so that both are of the
    same calls: of the same noise, and without a second run. Readings are (wall, CPU) in seconds.
    """

    cpu: Callable[[], float] = time.process_time
    readings: list[tuple[float, float]] = field(default_factory=list)

    # By which pytest-benchmark names the timer in its files.
    __name__ = "Clock"

    def __call__(self) -> float:
        """Wall time in seconds."""
        cpu, wall = self.cpu(), time.perf_counter()
        self.readings.append((wall, cpu))
        return wall

    def samples(self, rounds: int, iterations: int) -> tuple[list[float], list[float]]:
        """Wall and CPU seconds a call of the last `rounds` samples, each of so many calls.

        A sample began and ended with a reading.
        """
        measured = self.readings[-2 * rounds :]
        if len(measured) != 2 * rounds:
            msg = f"the clock was read {len(measured)} times, not {2 * rounds}"
            raise ValueError(msg)
        wall, cpu = (
            [
                (end[which] - begin[which]) / iterations
                for begin, end in zip(measured[::2], measured[1::2], strict=True)
            ]
            for which in (0, 1)
        )
        return wall, cpu


@dataclass(frozen=True)
class TreeCpu:
    """CPU seconds of this process and its descendants at one moment, in steps of 10 ms.

    By number of the process: its own, and that of its children that ended and were waited for.
    """

    own: Mapping[int, float]
    ended: Mapping[int, float]

    def __sub__(self, before: TreeCpu) -> float:
        """Seconds since another moment; NaN where a process ended and its time is lost.

        That is so for a child whose parent does not wait for it: pyspark's daemon has the system
        take its workers away. The time is then neither zero nor what the rest used.
        """
        gone = before.own.keys() - self.own.keys()
        lost = sum(before.own[pid] + before.ended[pid] for pid in gone)
        lost -= sum(total - before.ended.get(pid, 0.0) for pid, total in self.ended.items())
        used = sum((*self.own.values(), *self.ended.values()))
        used -= sum((*before.own.values(), *before.ended.values()))
        rounding = TICK * (1 + len(before.own))
        if lost > rounding or used < -rounding:
            return math.nan
        return max(used, 0.0)


TICK: Final = 0.01
"""Seconds, of which Linux counts whole ones of a process."""


def cpu_of_tree(*, kernel: bool = True) -> TreeCpu:
    """CPU seconds of this process and of its descendants until now; not `kernel`: in user mode."""
    times = os.times()
    this = os.getpid()
    own = {this: time.process_time() if kernel else times.user}
    ended = {this: times.children_user + kernel * times.children_system}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            used = child.cpu_times()
            own[child.pid] = used.user + kernel * used.system
            ended[child.pid] = used.children_user + kernel * used.children_system
    return TreeCpu(own, ended)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Keep existing objects out of garbage collections.

    With the analysis imported each takes 0.1 s and more, at a moment that nobody chooses.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class Plan:
    """How often to call what is measured: `rounds` samples of `iterations` calls."""

    rounds: int
    iterations: int


def plan(run: Callable[[], Any], *, seconds: float, min_rounds: int = MIN_ROUNDS) -> Plan:
    """Choose rounds and iterations by calling `run`, which must be warm.

    Each sample takes at least ROUND_SECONDS, and all of them about `seconds`, but for the least
    number: `min_rounds`, or SLOW_ROUNDS of calls slower than SLOW_SECONDS.
    """
    gc.collect()
    iterations, elapsed = 1, 0.0
    while True:
        begin = time.perf_counter()
        for _ in range(iterations):
            run()
        elapsed = time.perf_counter() - begin
        if elapsed >= ROUND_SECONDS:
            break
        # Aim above the target, so that one more turn suffices even if this one was slow.
        wanted = iterations * 1.2 * ROUND_SECONDS / max(elapsed, 1e-9)
        iterations = max(iterations + 1, min(int(wanted), 10 * iterations))
    rounds = int(seconds / elapsed)
    least = min(min_rounds, SLOW_ROUNDS) if elapsed >= SLOW_SECONDS else min_rounds
    return Plan(max(least, min(rounds, MAX_ROUNDS)), iterations)
