"""Clocks, memory, versions and machine."""

from __future__ import annotations

import gc
import hashlib
import math
import os
import platform
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from perf.records.record_file import Machine

    CpuClock = Callable[[], Any]
    """The difference of two of its readings is CPU seconds, NaN where they are not known."""

PACKAGES: Final = (
    "coffea",
    "awkward",
    "uproot",
    "numba",
    "numpy",
    "hist",
    "boost-histogram",
    "distributed",
    "parsl",
    "pyspark",
    "pyhf",
    "jax",
)
"""Packages whose versions stand in every record."""

SUITE: Final = "coffea-scaling"
"""This project, among the packages of a record."""

MACHINE_VARIABLE: Final = "PERF_MACHINE"
"""Environment variable that names the machine, where its own name changes."""

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


def versions() -> dict[str, str]:
    """Versions of Python and of PACKAGES, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def suite() -> str:
    """Identity of the code of this project: what is measured, and how."""
    total = hashlib.sha256()
    root = Path(__file__).parents[2]
    for source in sorted(
        one for part in ("analysis", "perf") for one in (root / part).rglob("*.py")
    ):
        total.update(f"{source.relative_to(root)}\n".encode() + source.read_bytes())
    return total.hexdigest()[:8]


def machine(name: str | None = None) -> Machine:
    """Identity of the machine that runs this process.

    Parameters
    ----------
    name
        What to call it; by default the environment variable PERF_MACHINE, or its own name.
    """
    # The clocks are used in environments that have no pydantic, too: see perf.history.
    from perf.records.record_file import Machine  # noqa: PLC0415

    return Machine(
        name=name or os.environ.get(MACHINE_VARIABLE) or platform.node(),
        cpu=_cpu_model(),
        cores=_usable_cores(),
        memory=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """Load average of the last minute, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


# --- clocks


@dataclass(eq=False)
class Clock:
    """A timer that reads wall and CPU time at the same instants.

    pytest-benchmark calls it for wall time; CPU time is kept beside, so that both are of the
    same calls: of the same noise, and without a second run.

    Attributes
    ----------
    cpu
        CPU clock in seconds: of this process by default.
    readings
        (wall, CPU) in seconds of each call of the timer.
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
        """Wall and CPU seconds a call of the last `rounds` pairs of readings.

        Parameters
        ----------
        rounds
            Number of samples: each began and ended with a reading.
        iterations
            Calls in each.
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

    Attributes
    ----------
    own
        Of each, by number of the process.
    ended
        Of the children of each that have ended, and were waited for.
    """

    own: Mapping[int, float]
    ended: Mapping[int, float]

    def __sub__(self, before: TreeCpu) -> float:
        """Seconds since another moment; NaN where a process took its time with it.

        Of a child whose parent does not wait for it (pyspark's daemon has the system take its
        workers away) nobody knows any more what it used: not zero, and not what the rest used.
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


def cpu_of_tree() -> TreeCpu:
    """CPU seconds of this process and of its descendants until now."""
    times = os.times()
    this = os.getpid()
    own = {this: time.process_time()}
    ended = {this: times.children_user + times.children_system}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            used = child.cpu_times()
            own[child.pid] = used.user + used.system
            ended[child.pid] = used.children_user + used.children_system
    return TreeCpu(own, ended)


@contextmanager
def settled() -> Iterator[None]:
    """Keep what exists already out of garbage collections.

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


def plan(act: Callable[[], Any], *, seconds: float, min_rounds: int = MIN_ROUNDS) -> Plan:
    """Choose rounds and iterations by calling `act`, which must be warm.

    Parameters
    ----------
    act
        What is measured.
    seconds
        Time to spend on the samples, about; the least number is taken whatever it costs.
    min_rounds
        Least number of samples; SLOW_ROUNDS of calls slower than SLOW_SECONDS.

    Returns
    -------
    Plan
        Each sample of at least ROUND_SECONDS.
    """
    gc.collect()
    iterations, elapsed = 1, 0.0
    while True:
        begin = time.perf_counter()
        for _ in range(iterations):
            act()
        elapsed = time.perf_counter() - begin
        if elapsed >= ROUND_SECONDS:
            break
        # Aim above the target, so that one more turn suffices even if this one was slow.
        wanted = iterations * 1.2 * ROUND_SECONDS / max(elapsed, 1e-9)
        iterations = max(iterations + 1, min(int(wanted), 10 * iterations))
    rounds = int(seconds / elapsed)
    least = min(min_rounds, SLOW_ROUNDS) if elapsed >= SLOW_SECONDS else min_rounds
    return Plan(max(least, min(rounds, MAX_ROUNDS)), iterations)


# --- memory


def reset_peak_memory() -> bool:
    """Forget this process's largest resident memory so far, if the system can.

    Returns
    -------
    bool
        Whether it did: Linux can (``/proc/self/clear_refs``).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory(pid: int | None = None) -> int | None:
    """Largest resident memory of a process in bytes since its start or the last reset.

    Parameters
    ----------
    pid
        Process; this one by default.

    Returns
    -------
    int or None
        ``VmHWM`` of Linux, which belongs to one program: ``ru_maxrss`` would begin with what the
        parent had when it started this one. None where there is none.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def page_faults(pids: Iterable[int]) -> int:
    """How often processes have had a page of memory mapped, since each began; on Linux.

    A process that is gone counts nothing.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            # After the name, which may hold anything: state, ppid, ..., minflt (proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[7])
    return total


def peak_memory_of_children() -> int | None:
    """Largest resident memory of any running child in bytes; None if there is none."""
    peaks = [peak_memory(child.pid) for child in psutil.Process().children(recursive=True)]
    return max((peak for peak in peaks if peak is not None), default=None)
