"""Claims about executors: what each costs beside the work, over the iterative one."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import psutil
from coffea.processor import accumulate

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.processes import environment, set_variables
from perf.cases import processor
from perf.cases import tasks as case_tasks
from perf.cases.case import BASE, IN_MEMORY, WORKERS
from perf.cases.data import Store
from perf.cases.executors import MAX_PLAIN_TASKS
from perf.claims.verdict import Arm, Verdict, checked
from perf.measure import clocks, memory
from perf.measure.estimate import Estimate
from perf.measure.paired import interleaved, ratio
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from perf.cases.tasks import Variant

_Result = TypeVar("_Result")

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

INDEPENDENT: Final = "apart"
"""Name in records of processes without an executor."""

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


@dataclass(frozen=True)
class _Measured:
    """An executor as it is measured: a variant is not checked against bounds."""

    name: str
    variant: str = ""
    rounds: int = ROUNDS
    events: int = 0

    def __str__(self) -> str:
        if self.name == INDEPENDENT:
            return f"{WORKERS} processes {self.name}"
        return BASE if self.name == BASE else f"{self.name} x{WORKERS}{self._variant(' ')}"

    def _variant(self, separator: str) -> str:
        return self.variant and separator + self.variant

    def what(self, suffix: str, **details: Any) -> What:
        """What a record is of, its name ending in the suffix."""
        words = re.findall(r"[a-z0-9]+", self.variant.lower())
        parameters = details.pop("parameters", {})
        if self.variant:
            parameters = {**parameters, "variant": self.variant}
        return What(
            name="-".join(("claim-executor", self.name, *words, suffix)),
            parameters=parameters,
            **details,
        )


def executor(
    store: Store,
    rng: np.random.Generator,
    name: str,
    variant: str = "",
    rounds: int = ROUNDS,
    options: Mapping[str, Any] | None = None,
    column_cache: int | None = None,
    events: int | None = None,
) -> list[Verdict]:
    """What an executor costs beside the work, with two workers that are warm.

    No other engine runs meanwhile: its CPU time when idle would be counted, too. `variant` is the
    label of a non-default setup, which is not checked against bounds; its options of
    `open_executor` are by default those of `tasks.VARIANTS`. The column cache is of the executor
    only. The processor runs over so many events, by default EVENTS.
    """
    measured = _Measured(name, variant, rounds, events or EVENTS)
    if options is None:
        options = case_tasks.VARIANTS[cast("Variant", variant)]
    with (
        case_tasks.orphans_adopted(),
        open_executor(name, workers=WORKERS, **options) as engine,
    ):
        workers = case_tasks.wait_for_workers(engine, WORKERS)
        _require_visible(workers)
        prepare = partial(process, executor=engine, column_cache=column_cache)
        return [
            *_work(store, rng, prepare, workers, measured),
            *_tasks(rng, engine, measured, tuned=options.get("tuned", True)),
            _idle(measured),
        ]


def iterative(rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """The same of the iterative executor, which has no engine."""
    with open_executor(BASE) as base:
        return _tasks(rng, base, _Measured(BASE, rounds=rounds))


def independent_processes(
    store: Store, rng: np.random.Generator, rounds: int = ROUNDS
) -> list[Verdict]:
    """What the machine allows: as many processes, each with its share of the files from the start.

    They send nothing to each other and wait only for the slower one at the end. No executor
    can do better where chunks take the same time. Cores that share caches, memory or more (as two
    threads of one do) gain less from a second process.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(WORKERS)]
        with environment(ALLOCATOR):
            pids = {pool.submit(os.getpid).result() for pool in pools}

        def prepare(fileset: Mapping[str, Any]) -> Callable[[], Any]:
            for number, pool in enumerate(pools):
                share = {
                    name: {**sample, "files": dict(list(sample["files"].items())[number::WORKERS])}
                    for name, sample in fileset.items()
                }
                pool.submit(_prepare_share, share).result()

            def run() -> Any:
                futures = [pool.submit(_run_share) for pool in pools]
                return accumulate([future.result() for future in futures])

            return run

        return _work(store, rng, prepare, pids, _Measured(INDEPENDENT, "", rounds, EVENTS))


_share: list[Callable[[], Any]] = []


def _prepare_share(fileset: Mapping[str, Any]) -> None:
    # It has no engine to end.
    _share[:] = [process(fileset, open_executor(BASE).__enter__())]


def _run_share() -> Any:
    return _share[0]()


def as_worker(function: Callable[..., _Result], *args: Any) -> _Result:
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


def _require_visible(workers: set[int]) -> None:
    """Check that the clock of CPU time sees all workers: they are children of this process."""
    seen = {child.pid for child in psutil.Process().children(recursive=True)}
    if missing := workers - seen - {os.getpid()}:
        msg = f"the CPU time of {len(missing)} workers cannot be seen from here: no claim is made"
        raise InputError(msg)


def process(
    fileset: Mapping[str, Any], executor: ExecutorBase, column_cache: int | None = None
) -> Callable[[], Any]:
    """Prepare to process a file set as all sides of these claims do."""
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
    prepare: Callable[[Mapping[str, Any]], Callable[[], Any]],
    workers: set[int],
    measured: _Measured,
) -> list[Verdict]:
    """The processor: CPU time an event and events a second, over those of the iterative one.

    Then what else shows where the time goes: page faults and memory of the workers.
    """
    on, name = str(measured), measured.name
    fileset = store.fileset(measured.events)
    identity = store.fileset_identity(measured.events)
    with open_executor(BASE) as base:
        sides = {BASE: process(fileset, base), on: prepare(fileset)}
        check = checked(sides, difference.agree)
        expected = sides[BASE]()

        def exact(run: Callable[[], Any]) -> None:
            if not difference.agree(run(), expected):
                msg = f"a result of {on} or {BASE} differs from one before: run the tests"
                raise InputError(msg)

        faults: list[int] = []

        def counted() -> None:
            before = memory.page_faults(workers)
            exact(sides[on])
            faults.append(memory.page_faults(workers) - before)

        samples = interleaved(
            {BASE: partial(exact, sides[BASE]), on: counted},
            rounds=measured.rounds,
            rng=rng,
            # What an idle engine takes meanwhile is not counted for the iterative executor.
            cpu={BASE: time.process_time, on: clocks.cpu_of_tree},
        )
    peaks = [memory.peak_memory(pid) for pid in workers]
    peak = max((one for one in peaks if one is not None), default=None)

    def arm(side: str, of: _Measured, executor: str, workers: int) -> Arm:
        what = of.what(
            f"processor-{executor}",
            group=f"ttbar, nominal, {on}",
            kind="processor",
            subject="ttbar",
            implementation="columnar",
            executor=executor,
            workers=workers,
            size=identity.events,
            chunksize=PROCESSOR_CHUNK,
            parameters={"variations": "nominal", "source": "synthetic"},
        )
        return Arm(
            what,
            identity,
            samples.wall[side],
            samples.cpu[side],
            samples.iterations[side],
            check[side],
            peak if executor == name else None,
        )

    arms = (arm(BASE, _Measured(name), BASE, 1), arm(on, measured, name, WORKERS))
    cost = ratio(samples.cpu[on], samples.cpu[BASE], rng)
    rate = ratio(samples.wall[BASE], samples.wall[on], rng)
    claimed = not measured.variant and name in MAX_CPU
    max_cpu, min_rate = (MAX_CPU[name], MIN_RATE) if claimed else (None, None)
    page_faults = Estimate.exact(float(np.median(faults)))
    largest = Estimate.exact(math.nan if peak is None else peak)
    return [
        Verdict(f"{on} / {BASE}: {CPU}", "at most", max_cpu, cost, "ratio", arms, CPU),
        Verdict(f"{on} / {BASE}: {RATE}", "at least", min_rate, rate, "ratio", (), RATE),
        Verdict(f"{on}: {FAULTS}", "at most", None, page_faults, "count", (), FAULTS),
        Verdict(f"{on}: {MEMORY}", "at most", None, largest, "bytes", (), MEMORY),
    ]


def _tasks(
    rng: np.random.Generator, engine: ExecutorBase, measured: _Measured, *, tuned: bool = True
) -> list[Verdict]:
    """Wall time a task, of tasks that do nothing and of such as return a large histogram."""
    on, name = str(measured), measured.name
    empty = EMPTY_TASKS if tuned else min(EMPTY_TASKS, MAX_PLAIN_TASKS[name])
    # Workers have the histogram already: to make it takes longer than to merge it.
    returning = partial(case_tasks.Returning, size=MERGED_BYTES)
    workers = 1 if name == BASE else WORKERS
    case_tasks.wait_for_workers(engine, workers, partial(returning(), 0))
    verdicts = []
    for quantity, tasks, make, bound in (
        (TASK, empty, case_tasks.Empty, MAX_EMPTY_TASK.get(name)),
        (MERGE, MERGED_TASKS, returning, MAX_MERGE),
    ):
        call = case_tasks.calls(engine, tasks, make)
        newest = call()

        def run(call: Callable[[], Any] = call, tasks: int = tasks) -> None:
            nonlocal newest
            newest = call()
            # All of it is compared at the end: that takes as long as merging.
            if newest["tasks"] != tasks:
                msg = f"{newest['tasks']} of {tasks} tasks are in the result: run the tests"
                raise InputError(msg)

        samples = interleaved({on: run}, rounds=measured.rounds, rng=rng, cpu=clocks.cpu_of_tree)
        if not case_tasks.same(newest, make().expected(tasks)):
            msg = f"{on}: {quantity}: the result is not that of {tasks} tasks: run the tests"
            raise InputError(msg)
        each = [1e3 * seconds / tasks for seconds in samples.wall[on]]
        what = measured.what(
            quantity.replace(" ", "_"),
            group=f"{tasks:,} tasks: {quantity}",
            kind="executor",
            subject=name,
            executor=name,
            workers=workers,
            size=0,
            parameters={"tasks": tasks} | ({"bytes": MERGED_BYTES} if quantity == MERGE else {}),
        )
        check = result_digest(newest)
        verdicts.append(
            Verdict(
                f"{on}, {tasks:,} tasks: {quantity}",
                "at most",
                None if measured.variant else bound,
                ratio(each, [1.0] * len(each), rng),
                "milliseconds",
                (Arm(what, IN_MEMORY, samples.wall[on], samples.cpu[on], 1, check),),
                quantity,
            )
        )
    return verdicts


def _idle(measured: _Measured) -> Verdict:
    """What an engine takes that has nothing to do: CPU seconds a second."""
    begin, before = time.perf_counter(), clocks.cpu_of_tree()
    time.sleep(IDLE_SECONDS)
    wall, cpu = time.perf_counter() - begin, clocks.cpu_of_tree() - before
    what = measured.what(
        "idle",
        group="idle executor",
        kind="executor",
        subject=measured.name,
        executor=measured.name,
        workers=WORKERS,
        size=0,
    )
    arm = Arm(what, IN_MEMORY, [wall], [cpu], 1, IN_MEMORY.digest)
    share = Estimate.exact(cpu / wall)
    return Verdict(f"{measured}, idle: {IDLE}", "at most", None, share, "ratio", (arm,), IDLE)
