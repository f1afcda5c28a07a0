"""Claims about executors: what each costs beside the work, over the iterative one."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np
import psutil
from coffea.processor import accumulate

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors.worker import ALLOCATOR
from analysis.processes import environment, set_variables
from perf.cases import processor
from perf.cases import tasks as case_tasks
from perf.cases.case import BASE, IN_MEMORY, WORKERS
from perf.cases.data import Store
from perf.cases.executors import MAX_PLAIN_TASKS
from perf.measure import clocks
from perf.measure.paired import Arm, Verdict, checked, interleaved, ratio
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from perf.cases.tasks import Variant

ROUNDS: Final = 21
"""Pairs of executors: the interval then leaves out the least and the largest of them, as when
another process takes one of the cores for a while."""

PLAIN_ROUNDS: Final = 5
"""Pairs of coffea's own executors, of which nothing is claimed."""

PROCESSOR_CHUNK: Final = 250_000

EVENTS: Final = 4_000_000
"""Of claims about executors: 16 chunks, of which each of two workers has eight."""

EMPTY_TASKS: Final = 10_000
MERGED_TASKS: Final = 16
MERGED_BYTES: Final = 16_000_000
"""A histogram of a million bins from each of as many tasks as there are chunks."""

SHARES: Final = "apart"
"""Name of what has no executor."""

IDLE_SECONDS: Final = 5.0
"""CPU time is counted in steps of 10 ms: then of 0.2 % of a core."""

CPU: Final = "CPU time an event"
RATE: Final = "events a second"
FAULTS: Final = "page faults a run"
MEMORY: Final = "peak of a worker"
TASK: Final = "an empty task"
MERGE: Final = f"merging {MERGED_BYTES // 10**6} MB"
IDLE: Final = "CPU seconds a second"
QUANTITIES: Final = (CPU, RATE, FAULTS, MEMORY, TASK, MERGE, IDLE)
"""What is measured of an executor; the first two over those of the iterative one."""

MIN_RATE: Final = 1.75
MAX_MERGE: Final = 20.0
MAX_CPU: Final = {"futures": 1.05, "parsl": 1.05, "dask": 1.10, "spark": 1.15}
MAX_EMPTY_TASK: Final = {"dask": 0.5, "spark": 0.1}
"""Of executors with two workers: events a second and CPU time an event over those of the
iterative one, and milliseconds a task."""


def executor(
    store: Store,
    rng: np.random.Generator,
    name: str,
    variant: str = "",
    rounds: int = ROUNDS,
    options: Mapping[str, Any] | None = None,
    column_cache: int | None = None,
) -> list[Verdict]:
    """What an executor costs beside the work, with two workers that are warm.

    Alone: an idle engine takes CPU time that would be counted as that of another.

    Parameters
    ----------
    store, rng, rounds
        Events, order of the two sides, and how often each is measured.
    name
        Of the executor.
    variant
        What it is called that is not as it comes, and of which nothing is claimed.
    options
        Of `open_executor`; by default those that `overheads.VARIANTS` has for the variant.
    column_cache
        As of `analysis.runner.run.run`, on the executor alone.
    """
    on = f"{name} x{WORKERS}{variant and f' {variant}'}"
    if options is None:
        options = case_tasks.VARIANTS[cast("Variant", variant)]
    with (
        case_tasks.orphans_adopted(),
        open_executor(name, workers=WORKERS, **options) as engine,
    ):
        workers = case_tasks.wait_for_workers(engine, WORKERS)
        _see(workers)
        act = partial(_process, executor=engine, column_cache=column_cache)
        return [
            *_work(store, rng, act, workers, name, variant, on, rounds),
            *_tasks(rng, engine, name, variant, on, rounds, tuned=options.get("tuned", True)),
            _idle(name, variant, on),
        ]


def iterative(rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """The same of the iterative executor, which has no engine."""
    with open_executor(BASE) as base:
        return _tasks(rng, base, BASE, "", BASE, rounds)


def ceiling(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """What the machine allows: as many processes, each with its share of the files from the start.

    They send nothing to each other and wait for nothing but the slower one at the end. No executor
    can do better where chunks take the same time, and cores that share caches, memory or more
    (as two threads of one do) are the less able to be kept busy.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(WORKERS)]
        with environment(ALLOCATOR):
            pids = {pool.submit(os.getpid).result() for pool in pools}

        def shared(fileset: Mapping[str, Any]) -> Callable[[], Any]:
            for number, pool in enumerate(pools):
                share = {
                    name: {**one, "files": dict(list(one["files"].items())[number::WORKERS])}
                    for name, one in fileset.items()
                }
                pool.submit(_have_share, share).result()

            def act() -> Any:
                return accumulate([one.result() for one in [p.submit(_do_share) for p in pools]])

            return act

        return _work(store, rng, shared, pids, SHARES, "", f"{WORKERS} processes {SHARES}", rounds)


_share: list[Callable[[], Any]] = []


def _have_share(fileset: Mapping[str, Any]) -> None:
    # It has no engine to end.
    _share[:] = [_process(fileset, open_executor(BASE).__enter__())]


def _do_share() -> Any:
    return _share[0]()


def as_worker(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new process with the memory settings of workers.

    glibc reads them when a process starts. Whoever computes is to have them, the iterative
    executor too, or ratios would be of memory settings.
    """
    context = multiprocessing.get_context("spawn")
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    with (
        environment(ALLOCATOR),
        ProcessPoolExecutor(1, context, initializer=set_variables, initargs=(before,)) as pool,
    ):
        return pool.submit(function, *args).result()


def _see(workers: set[int]) -> None:
    """Check that the clock of CPU time sees all workers: they are children of this process."""
    seen = {child.pid for child in psutil.Process().children(recursive=True)}
    if missing := workers - seen - {os.getpid()}:
        msg = f"the CPU time of {len(missing)} workers cannot be seen from here: no claim is made"
        raise InputError(msg)


def _process(
    fileset: Mapping[str, Any], executor: ExecutorBase, column_cache: int | None = None
) -> Callable[[], Any]:
    """Make ready to process a file set as all sides of these claims do."""
    return processor.process(
        fileset,
        executor,
        implementation="columnar",
        variations="nominal",
        chunksize=PROCESSOR_CHUNK,
        column_cache=column_cache,
    )


def _work(
    store: Store,
    rng: np.random.Generator,
    other: Callable[[Mapping[str, Any]], Callable[[], Any]],
    workers: set[int],
    name: str,
    variant: str,
    on: str,
    rounds: int,
) -> list[Verdict]:
    """The processor: CPU time an event and events a second, over those of the iterative one.

    Then what else shows where the time goes: page faults and memory of the workers.
    """
    fileset = store.fileset(EVENTS)
    identity = store.fileset_identity(EVENTS)
    with open_executor(BASE) as base:
        acts = {BASE: _process(fileset, base), on: other(fileset)}
        check = checked(acts, difference.agree)
        want = acts[BASE]()

        def exact(act: Callable[[], Any]) -> None:
            if not difference.agree(act(), want):
                msg = f"a result of {on} or {BASE} differs from one before: run the tests"
                raise InputError(msg)

        faults: list[int] = []

        def counted() -> None:
            before = clocks.page_faults(workers)
            exact(acts[on])
            faults.append(clocks.page_faults(workers) - before)

        samples = interleaved(
            {BASE: partial(exact, acts[BASE]), on: counted},
            rounds=rounds,
            rng=rng,
            # What an idle engine takes meanwhile is not counted for the iterative executor.
            cpu={BASE: time.process_time, on: clocks.cpu_of_tree},
        )

    peaks = [clocks.peak_memory(pid) for pid in workers]
    peak = max((one for one in peaks if one is not None), default=None)

    def arm(side: str, executor: str, workers: int, variant: str) -> Arm:
        what = What(
            name=f"claim-executor-{name}{_suffix(variant)}-processor-{executor}",
            group=f"ttbar, nominal, {on}",
            kind="processor",
            subject="ttbar",
            implementation="columnar",
            executor=executor,
            workers=workers,
            size=identity.events,
            chunksize=PROCESSOR_CHUNK,
            parameters=_parameters(variant, variations="nominal", source="synthetic"),
        )
        wall, cpu = samples.wall[side], samples.cpu[side]
        held = peak if executor == name else None
        return Arm(what, identity, wall, cpu, samples.iterations[side], check[side], held)

    arms = (arm(BASE, BASE, 1, ""), arm(on, name, WORKERS, variant))
    shown: tuple[tuple[str, float, Literal["count", "bytes"]], ...] = (
        (FAULTS, float(np.median(faults)), "count"),
        (MEMORY, math.nan if peak is None else peak, "bytes"),
    )
    cost = ratio(samples.cpu[on], samples.cpu[BASE], rng)
    rate = ratio(samples.wall[BASE], samples.wall[on], rng)
    claimed = not variant and name in MAX_CPU
    return [
        Verdict(
            f"{on} / {BASE}: {CPU}",
            "at most",
            MAX_CPU.get(name) if claimed else None,
            cost.median,
            cost.low,
            cost.high,
            "ratio",
            arms,
            CPU,
        ),
        Verdict(
            f"{on} / {BASE}: {RATE}",
            "at least",
            MIN_RATE if claimed else None,
            rate.median,
            rate.low,
            rate.high,
            "ratio",
            (),
            RATE,
        ),
        *(
            Verdict(f"{on}: {what}", "at most", None, value, value, value, unit, (), what)
            for what, value, unit in shown
        ),
    ]


def _tasks(
    rng: np.random.Generator,
    engine: ExecutorBase,
    name: str,
    variant: str,
    on: str,
    rounds: int,
    *,
    tuned: bool = True,
) -> list[Verdict]:
    """Wall time a task, of tasks that do nothing and of such as return a large histogram."""
    empty = EMPTY_TASKS if tuned else min(EMPTY_TASKS, MAX_PLAIN_TASKS[name])
    # Workers have the histogram already: to make it takes longer than to merge it.
    returning = partial(case_tasks.Returning, size=MERGED_BYTES)
    workers = 1 if name == BASE else WORKERS
    case_tasks.wait_for_workers(engine, workers, partial(returning(), 0))
    verdicts = []
    for what, tasks, make, bound in (
        (TASK, empty, case_tasks.Empty, MAX_EMPTY_TASK.get(name)),
        (MERGE, MERGED_TASKS, returning, MAX_MERGE),
    ):
        call = case_tasks.calls(engine, tasks, make)
        want = make().expected(tasks)
        newest = call()

        def act(call: Callable[[], Any] = call, tasks: int = tasks) -> None:
            nonlocal newest
            newest = call()
            # All of it is compared at the end: that takes as long as merging.
            if newest["tasks"] != tasks:
                msg = f"{newest['tasks']} of {tasks} tasks are in the result: run the tests"
                raise InputError(msg)

        samples = interleaved({on: act}, rounds=rounds, rng=rng, cpu=clocks.cpu_of_tree)
        if not case_tasks.same(newest, want):
            msg = f"{on}: {what}: the result is not that of {tasks} tasks: run the tests"
            raise InputError(msg)
        each = [1e3 * seconds / tasks for seconds in samples.wall[on]]
        found = ratio(each, [1.0] * len(each), rng)
        described = What(
            name=f"claim-executor-{name}{_suffix(variant)}-{what.replace(' ', '_')}",
            group=f"{tasks:,} tasks: {what}",
            kind="executor",
            subject=name,
            executor=name,
            workers=workers,
            size=0,
            parameters=_parameters(variant, tasks=tasks),
        )
        wall, cpu = samples.wall[on], samples.cpu[on]
        verdicts.append(
            Verdict(
                f"{on}, {tasks:,} tasks: {what}",
                "at most",
                None if variant else bound,
                found.median,
                found.low,
                found.high,
                "milliseconds",
                (Arm(described, IN_MEMORY, wall, cpu, 1, result_digest(newest)),),
                what,
            )
        )
    return verdicts


def _idle(name: str, variant: str, on: str) -> Verdict:
    """What an engine takes that has nothing to do: CPU seconds a second."""
    begin, before = time.perf_counter(), clocks.cpu_of_tree()
    time.sleep(IDLE_SECONDS)
    wall, cpu = time.perf_counter() - begin, clocks.cpu_of_tree() - before
    what = What(
        name=f"claim-executor-{name}{_suffix(variant)}-idle",
        group="idle executor",
        kind="executor",
        subject=name,
        executor=name,
        workers=WORKERS,
        size=0,
        parameters=_parameters(variant),
    )
    share = cpu / wall
    arm = Arm(what, IN_MEMORY, [wall], [cpu], 1, IN_MEMORY.digest)
    claim = f"{on}, idle: {IDLE}"
    return Verdict(claim, "at most", None, share, share, share, "ratio", (arm,), IDLE)


def _suffix(variant: str) -> str:
    """What is added to the names of records."""
    return variant and "-" + "-".join(re.findall(r"[a-z0-9]+", variant.lower()))


def _parameters(variant: str, **others: str | int) -> dict[str, str | int | float | bool]:
    return {**others, **({"variant": variant} if variant else {})}
