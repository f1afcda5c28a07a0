"""Claims about starting executors: what many workers cost, and how soon they are warm."""

from __future__ import annotations

import gc
import time
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.executors import open_executor
from perf.cases.case import BASE, IN_MEMORY, WORKERS
from perf.cases.tasks import Start, orphans_adopted
from perf.claims.executors import PROCESSOR_CHUNK, process
from perf.claims.verdict import Arm, Verdict
from perf.measure import clocks
from perf.measure.paired import in_rounds, ratio
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.record_file import What

if TYPE_CHECKING:
    import numpy as np

    from perf.cases.data import Store

MANY: Final = 16
"""Workers whose start is measured, on whatever cores: in CPU time."""

ROUNDS: Final = 7
"""Starts of many workers and of one, and starts with a first run."""

MAX_CPU: Final = {"futures": 30.0, "dask": 60.0, "parsl": 60.0}
"""CPU seconds of starting MANY workers, by executors that are measured."""

MAX_SHARED: Final = {"futures": 2.0, "dask": 3.0, "parsl": 2.0}
"""CPU time of starting MANY workers over that of one: workers are forks."""

MAX_FIRST: Final = 1.3
"""Time of the first run of a new executor over that of the next: wall time, in which the kernel
gives workers their memory, and CPU time in user mode, in which they import and compile."""

EVENTS: Final = 2_000_000
"""Of a run: a million for each of two workers."""


def start(
    store: Store, rng: np.random.Generator, name: str, rounds: int = ROUNDS
) -> list[Verdict]:
    """What an executor takes to start, until each worker did a task, and for its first run."""
    with orphans_adopted():
        return [*_many(rng, name, rounds), *_first(store, rng, name, rounds)]


def _many(rng: np.random.Generator, name: str, rounds: int) -> list[Verdict]:
    """Starts of many workers and of one, in random order."""
    sides = (1, MANY)
    wall: dict[int, list[float]] = {workers: [] for workers in sides}
    cpu: dict[int, list[float]] = {workers: [] for workers in sides}
    _started(name, 1)  # What this process imports is not part of it.
    for workers, _ in in_rounds(sides, rounds, int(rng.integers(1 << 32))):
        of_wall, of_cpu = _started(name, workers)
        wall[workers].append(of_wall)
        cpu[workers].append(of_cpu)
    arms = tuple(
        Arm(
            What(
                name=f"claim-start-{name}-{workers}",
                group="start of many workers",
                kind="executor",
                subject=name,
                executor=name,
                workers=workers,
                size=0,
            ),
            IN_MEMORY,
            wall[workers],
            cpu[workers],
            1,
            IN_MEMORY.digest,
        )
        for workers in sides
    )
    seconds = ratio(cpu[MANY], [1.0] * rounds, rng)
    shared = ratio(cpu[MANY], cpu[1], rng)
    on = f"{name} x{MANY}"
    return [
        Verdict(
            f"{on}: CPU time of its start", "at most", MAX_CPU[name], seconds, "seconds", arms
        ),
        Verdict(
            f"{on} / x1: CPU time of its start",
            "at most",
            MAX_SHARED[name],
            shared,
            "ratio",
            (),
        ),
    ]


def _started(name: str, workers: int) -> tuple[float, float]:
    """Wall and CPU seconds of a start."""
    with closing(Start(name, workers)) as starting:
        gc.collect()
        before, begin = clocks.cpu_of_tree(), time.perf_counter()
        number = starting.start()
        wall, cpu = time.perf_counter() - begin, clocks.cpu_of_tree() - before
    if number != workers:
        msg = f"{name}: {number} of {workers} workers are there: run the tests"
        raise InputError(msg)
    return wall, cpu


def _first(store: Store, rng: np.random.Generator, name: str, rounds: int) -> list[Verdict]:
    """The first run of each of several executors over the median of the next."""
    fileset, identity = store.fileset(EVENTS), store.fileset_identity(EVENTS)
    with open_executor(BASE) as base:
        expected = process(fileset, base)()
    wall: dict[str, list[float]] = {"first": [], "warm": []}
    cpu: dict[str, list[float]] = {"first": [], "warm": []}
    user: dict[str, list[float]] = {"first": [], "warm": []}
    for _ in range(rounds):
        with open_executor(name, workers=WORKERS) as engine:
            run = process(fileset, engine)
            took = [_timed(run, expected) for _ in range(4)]
        for which, several in (("first", took[:1]), ("warm", took[1:])):
            wall[which].append(median(one[0] for one in several))
            cpu[which].append(median(one[1] for one in several))
            user[which].append(median(one[2] for one in several))
    arms = tuple(
        Arm(
            What(
                name=f"claim-start-{name}-{which}-run",
                group="first run of an executor",
                kind="processor",
                subject="ttbar",
                implementation="columnar",
                executor=name,
                workers=WORKERS,
                size=identity.events,
                chunksize=PROCESSOR_CHUNK,
                parameters={"variations": "nominal", "source": "synthetic"},
            ),
            identity,
            wall[which],
            cpu[which],
            1,
            result_digest(expected),
        )
        for which in wall
    )
    claim = f"{name} x{WORKERS}: first run / warm run"
    return [
        Verdict(f"{claim}, {clock}", "at most", MAX_FIRST, found, "ratio", of)
        for clock, found, of in (
            ("wall time", ratio(wall["first"], wall["warm"], rng), arms),
            ("user CPU time", ratio(user["first"], user["warm"], rng), ()),
        )
    ]


def _timed(run: Any, expected: Any) -> tuple[float, float, float]:
    """Wall, CPU and user CPU seconds of a run, whose result must be right."""
    gc.collect()
    before = clocks.cpu_of_tree(), clocks.cpu_of_tree(kernel=False)
    begin = time.perf_counter()
    result = run()
    wall = time.perf_counter() - begin
    cpu, user = clocks.cpu_of_tree() - before[0], clocks.cpu_of_tree(kernel=False) - before[1]
    if not difference.agree(result, expected):
        msg = "a result differs from that of the iterative executor: run the tests"
        raise InputError(msg)
    return wall, cpu, max(user, clocks.TICK)
