"""Claims about speed and memory, each measured so that it can be refuted.

A ratio is measured in one run: both sides in random order, round by round, in CPU time. What
slows the machine down then slows both, and a pair of neighbours shares it. Of 20 comparisons of
one kernel with itself so, at load 2.5 on two cores, 18 lay between 0.988 and 1.009 and all 20
intervals held 1; medians of two consecutive runs in wall time differ by a third either way at
load 8 (shared notes on performance suites, 6.3).
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import numpy as np
import psutil
from coffea.processor import accumulate

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors.worker import ALLOCATOR
from analysis.kernels import KERNELS, bind
from perf import measure, overheads, processor
from perf.catalogue import BASE, IN_MEMORY, MAX_PLAIN_TASKS, WORKERS
from perf.data import Store
from perf.results import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coffea.processor.executor import ExecutorBase

    from analysis.kernels import Implementation
    from perf.data import Events
    from perf.overheads import Variant

CONFIDENCE: Final = 0.99
"""Of intervals: a claim that lies on its bound is confirmed by chance in 1 of 200 runs."""

RESAMPLES: Final = 2_000
"""Of the bootstrap: an end of a 99 % interval rests on 10 of them."""

ROUNDS: Final = 30
"""Pairs: the interval of a median of 30 rests on about the 8th and the 23rd of them."""

PROCESSOR_ROUNDS: Final = 7
"""Pairs of the processor, which takes seconds: the interval is then about the range of them."""

EXECUTOR_ROUNDS: Final = 11
"""Pairs of executors: the interval then leaves out the least and the largest of them, as when
another process takes one of the cores for a while."""

PLAIN_ROUNDS: Final = 5
"""Pairs of coffea's own executors, of which nothing is claimed."""

PROCESSOR_CHUNK: Final = 250_000
MEMORY_CHUNKS: Final = 8
TRIJET_EVENTS: Final = 100_000
SELECTION_EVENTS: Final = 10_000

EXECUTOR_EVENTS: Final = 4_000_000
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

MIN_TRIJET_RATIO: Final = 4.0
MIN_SELECTION_RATIO: Final = 5.0
MAX_PROCESSOR_RATIO: Final = 0.55
MAX_WORKER_MEMORY: Final = 1e9
MIN_EXECUTOR_RATE: Final = 1.75
MAX_MERGE: Final = 20.0
MAX_EXECUTOR_CPU: Final = {"futures": 1.05, "parsl": 1.05, "dask": 1.10, "spark": 1.15}
MAX_EMPTY_TASK: Final = {"dask": 0.5, "spark": 0.1}
"""Of executors with two workers: events a second and CPU time an event over those of the
iterative one, and milliseconds a task."""


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
    cpu: Callable[[], float] | Mapping[str, Callable[[], float]] = time.process_time,
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

    Returns
    -------
    Samples
        Each of at least `measure.ROUND_SECONDS`.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    used: dict[str, list[float]] = {name: [] for name in sides}
    with measure.settled():
        for act in sides.values():
            act()
        iterations = {name: measure.plan(act, seconds=0).iterations for name, act in sides.items()}
        for _ in range(rounds):
            for name in rng.permutation(list(sides)):
                act, count = sides[name], iterations[name]
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


# --- the claims


def trijet(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """The trijet of largest pt: compiled at least four times as fast as columnar."""
    kernel = KERNELS["trijet_pt"]
    events = store.dense(TRIJET_EVENTS)
    arguments = kernel.arguments(events.columns)
    return _kernels(
        f"trijet_pt, {TRIJET_EVENTS:,} events: columnar / compiled",
        MIN_TRIJET_RATIO,
        lambda implementation: kernel.run(implementation, *arguments),
        lambda got, want: kernel.agree(got, want, *arguments),
        What(name="", group="trijet_pt", kind="kernel", subject="trijet_pt", size=TRIJET_EVENTS),
        events,
        rng,
        rounds,
    )


def selection(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """Selection of objects and regions: compiled at least five times as fast as columnar."""
    events = store.events(SELECTION_EVENTS)
    return _kernels(
        f"objects and regions, {SELECTION_EVENTS:,} events: columnar / compiled",
        MIN_SELECTION_RATIO,
        partial(select, events.columns),
        lambda got, want: all(np.array_equal(a, b) for a, b in zip(got, want, strict=True)),
        What(
            name="",
            group="objects and regions",
            kind="selection",
            subject="electrons, muons, jets, leptons, regions",
            size=SELECTION_EVENTS,
        ),
        events,
        rng,
        rounds,
    )


def select(columns: Mapping[str, Any], implementation: Implementation) -> tuple[Any, Any]:
    """The selection of the analysis: channel and region of each event."""
    kernels = bind(implementation)

    def mask(name: str) -> Any:
        return kernels(name, *KERNELS[name].arguments(columns))

    channel = kernels("leptons", mask("electrons"), mask("muons"))
    return channel, kernels("regions", mask("jets"), columns["Jet_btagCSVV2"])


def processing(
    store: Store,
    rng: np.random.Generator,
    baseline: Literal["columnar", "idiomatic"],
    rounds: int = PROCESSOR_ROUNDS,
) -> Verdict:
    """The processor, nominal: compiled takes at most 0.55 of the CPU time of the baseline."""
    fileset = store.fileset(PROCESSOR_CHUNK)
    identity = store.fileset_identity(PROCESSOR_CHUNK)
    with open_executor("iterative") as executor:
        sides: dict[str, Callable[[], Any]] = {
            name: processor.process(
                fileset,
                executor,
                implementation=name,
                variations="nominal",
                chunksize=PROCESSOR_CHUNK,
            )
            for name in (baseline, "compiled")
        }
        check = _checked(sides, processor.agree)
        samples = interleaved(sides, rounds=rounds, rng=rng)
    what = What(
        name="",
        group="ttbar, nominal",
        kind="processor",
        subject="ttbar",
        executor="iterative",
        workers=1,
        size=identity.events,
        chunksize=PROCESSOR_CHUNK,
        parameters={"variations": "nominal", "source": "synthetic"},
    )
    found = ratio(samples.cpu["compiled"], samples.cpu[baseline], rng)
    return Verdict(
        f"ttbar nominal, chunk {PROCESSOR_CHUNK:,}, zstd: compiled / {baseline}",
        "at most",
        MAX_PROCESSOR_RATIO,
        found.median,
        found.low,
        found.high,
        "ratio",
        _arms(what, identity, samples, check),
    )


def memory(store: Store, implementation: Implementation) -> Verdict:
    """The processor with all variations: a worker stays below 1 GB at chunk 250,000."""
    # Several chunks, because what one leaves behind adds to the next.
    fileset = store.fileset(MEMORY_CHUNKS * PROCESSOR_CHUNK)
    identity = store.fileset_identity(MEMORY_CHUNKS * PROCESSOR_CHUNK)
    # A process of its own: the peak of this one holds what was measured before.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        wall, cpu, peak, check = pool.submit(_one_worker, fileset, implementation).result()
    what = What(
        name=f"claim-ttbar_all-memory-{implementation}",
        group="ttbar, all",
        kind="processor",
        subject="ttbar",
        implementation=implementation,
        executor="iterative",
        workers=1,
        size=identity.events,
        chunksize=PROCESSOR_CHUNK,
        parameters={"variations": "all", "source": "synthetic"},
    )
    return Verdict(
        f"ttbar, all variations, {MEMORY_CHUNKS} chunks of {PROCESSOR_CHUNK:,}, {implementation}: "
        "peak of a worker",
        "at most",
        MAX_WORKER_MEMORY,
        peak,
        peak,
        peak,
        "bytes",
        (Arm(what, identity, [wall], [cpu], 1, check, peak),),
    )


def executor(
    store: Store,
    rng: np.random.Generator,
    name: str,
    variant: str = "",
    rounds: int = EXECUTOR_ROUNDS,
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
        As of `analysis.run.run`, on the executor alone.
    """
    on = f"{name} x{WORKERS}{variant and f' {variant}'}"
    if options is None:
        options = overheads.VARIANTS[cast("Variant", variant)]
    with (
        overheads.orphans_adopted(),
        open_executor(name, workers=WORKERS, **options) as engine,
    ):
        workers = overheads.require(engine, WORKERS)
        _see(workers)
        act = partial(_process, executor=engine, column_cache=column_cache)
        return [
            *_work(store, rng, act, workers, name, variant, on, rounds),
            *_tasks(rng, engine, name, variant, on, rounds, tuned=options.get("tuned", True)),
            _idle(name, variant, on),
        ]


def iterative(rng: np.random.Generator, rounds: int = EXECUTOR_ROUNDS) -> list[Verdict]:
    """The same of the iterative executor, which has no engine."""
    with open_executor(BASE) as base:
        return _tasks(rng, base, BASE, "", BASE, rounds)


def ceiling(
    store: Store, rng: np.random.Generator, rounds: int = EXECUTOR_ROUNDS
) -> list[Verdict]:
    """What the machine allows: as many processes, each with its share of the files from the start.

    They send nothing to each other and wait for nothing but the slower one at the end. No executor
    can do better where chunks take the same time, and cores that share caches, memory or more
    (as two threads of one do) are the less able to be kept busy.
    """
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, context)) for _ in range(WORKERS)]

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

        pids = {pool.submit(os.getpid).result() for pool in pools}
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
    before = {name: os.environ.get(name) for name in ALLOCATOR}
    os.environ.update(ALLOCATOR)
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=_forget, initargs=(before,)) as pool:
            return pool.submit(function, *args).result()
    finally:
        _forget(before)


def _forget(before: Mapping[str, str | None]) -> None:
    """Have processes that are started from now on not inherit the memory settings."""
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


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
    fileset = store.fileset(EXECUTOR_EVENTS)
    identity = store.fileset_identity(EXECUTOR_EVENTS)
    with open_executor(BASE) as base:
        acts = {BASE: _process(fileset, base), on: other(fileset)}
        check = _checked(acts, processor.agree)
        want = acts[BASE]()

        def exact(act: Callable[[], Any]) -> None:
            if not processor.agree(act(), want):
                msg = f"a result of {on} or {BASE} differs from one before: run the tests"
                raise InputError(msg)

        faults: list[int] = []

        def counted() -> None:
            before = measure.page_faults(workers)
            exact(acts[on])
            faults.append(measure.page_faults(workers) - before)

        samples = interleaved(
            {BASE: partial(exact, acts[BASE]), on: counted},
            rounds=rounds,
            rng=rng,
            # What an idle engine takes meanwhile is not counted for the iterative executor.
            cpu={BASE: time.process_time, on: measure.cpu_of_tree},
        )

    peak = max((measure.peak_memory(pid) or 0 for pid in workers), default=0)

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
        (MEMORY, peak, "bytes"),
    )
    cost = ratio(samples.cpu[on], samples.cpu[BASE], rng)
    rate = ratio(samples.wall[BASE], samples.wall[on], rng)
    claimed = not variant and name in MAX_EXECUTOR_CPU
    return [
        Verdict(
            f"{on} / {BASE}: {CPU}",
            "at most",
            MAX_EXECUTOR_CPU.get(name) if claimed else None,
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
            MIN_EXECUTOR_RATE if claimed else None,
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
    returning = partial(overheads.Returning, size=MERGED_BYTES)
    workers = 1 if name == BASE else WORKERS
    overheads.require(engine, workers, partial(returning(), 0))
    verdicts = []
    for what, tasks, make, bound in (
        (TASK, empty, overheads.Empty, MAX_EMPTY_TASK.get(name)),
        (MERGE, MERGED_TASKS, returning, MAX_MERGE),
    ):
        call = overheads.calls(engine, tasks, make)
        want = make().expected(tasks)
        newest = call()

        def act(call: Callable[[], Any] = call, tasks: int = tasks) -> None:
            nonlocal newest
            newest = call()
            # All of it is compared at the end: that takes as long as merging.
            if newest["tasks"] != tasks:
                msg = f"{newest['tasks']} of {tasks} tasks are in the result: run the tests"
                raise InputError(msg)

        samples = interleaved({on: act}, rounds=rounds, rng=rng, cpu=measure.cpu_of_tree)
        if not overheads.same(newest, want):
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
                (Arm(described, IN_MEMORY, wall, cpu, 1, measure.digest(newest)),),
                what,
            )
        )
    return verdicts


def _idle(name: str, variant: str, on: str) -> Verdict:
    """What an engine takes that has nothing to do: CPU seconds a second."""
    wall, cpu = time.perf_counter(), measure.cpu_of_tree()
    time.sleep(IDLE_SECONDS)
    wall, cpu = time.perf_counter() - wall, measure.cpu_of_tree() - cpu
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
    arm = Arm(what, IN_MEMORY, [wall], [max(cpu, 0.0)], 1, IN_MEMORY.digest)
    claim = f"{on}, idle: {IDLE}"
    return Verdict(claim, "at most", None, share, share, share, "ratio", (arm,), IDLE)


def _suffix(variant: str) -> str:
    """What is added to the names of records."""
    return variant and "-" + "-".join(re.findall(r"[a-z0-9]+", variant.lower()))


def _parameters(variant: str, **others: str | int) -> dict[str, str | int | float | bool]:
    return {**others, **({"variant": variant} if variant else {})}


class Claim(NamedTuple):
    """Something to be measured that verdicts come of.

    Attributes
    ----------
    name
        By which it is chosen.
    measure
        Gives the verdicts.
    """

    name: str
    measure: Callable[[], Sequence[Verdict]]


def every(store: Store, rng: np.random.Generator, only: Sequence[str] = ()) -> list[Claim]:
    """Every claim, to be measured when called.

    Parameters
    ----------
    store
        Events.
    rng
        Of the order of measurements.
    only
        Patterns of names (shell's); by default all.

    Raises
    ------
    InputError
        If there is none of a pattern.
    """

    def one(of: Callable[..., Verdict], *args: Any) -> Callable[[], Sequence[Verdict]]:
        return lambda: [of(*args)]

    # To be sent to another process: without what this one has read.
    fresh = Store(store.directory, store.file_events)
    found = [
        Claim("trijet", one(trijet, store, rng)),
        Claim("selection", one(selection, store, rng)),
        Claim("idiomatic", one(processing, store, rng, "idiomatic")),
        Claim("columnar", one(processing, store, rng, "columnar")),
        Claim("memory-columnar", one(memory, store, "columnar")),
        Claim("memory-compiled", one(memory, store, "compiled")),
        Claim("executor-iterative", partial(as_worker, iterative, rng)),
        Claim("executor-ceiling", partial(as_worker, ceiling, fresh, rng)),
        *(
            Claim(f"executor-{name}", partial(as_worker, executor, fresh, rng, name))
            for name in MAX_EXECUTOR_CPU
        ),
        *(
            Claim(
                f"executor-{name}-plain",
                partial(as_worker, executor, fresh, rng, name, "plain", PLAIN_ROUNDS),
            )
            for name in MAX_PLAIN_TASKS
        ),
    ]
    for pattern in only:
        if not any(fnmatch(claim.name, pattern) for claim in found):
            names = ", ".join(claim.name for claim in found)
            msg = f"there is no claim {pattern!r}: there are {names}"
            raise InputError(msg)
    return [claim for claim in found if not only or any(fnmatch(claim.name, one) for one in only)]


def _one_worker(
    fileset: Mapping[str, Any], implementation: Implementation
) -> tuple[float, float, int, str]:
    """Wall and CPU seconds, peak memory and digest of one run in this process."""
    with open_executor("iterative") as executor:
        act = processor.process(
            fileset,
            executor,
            implementation=implementation,
            variations="all",
            chunksize=PROCESSOR_CHUNK,
        )
        wall, cpu = time.perf_counter(), time.process_time()
        result = act()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = measure.peak_memory()
    if peak is None:
        msg = "peak memory is read from /proc, which this system has not: run on Linux"
        raise InputError(msg)
    return wall, cpu, peak, measure.digest(result)


def _kernels(
    claim: str,
    bound: float,
    run: Callable[[Implementation], Any],
    agree: Callable[[Any, Any], bool],
    what: What,
    events: Events,
    rng: np.random.Generator,
    rounds: int,
) -> Verdict:
    sides: dict[str, Callable[[], Any]] = {
        "columnar": lambda: run("columnar"),
        "compiled": lambda: run("compiled"),
    }
    check = _checked(sides, agree)
    samples = interleaved(sides, rounds=rounds, rng=rng)
    found = ratio(samples.cpu["columnar"], samples.cpu["compiled"], rng)
    return Verdict(
        claim,
        "at least",
        bound,
        found.median,
        found.low,
        found.high,
        "ratio",
        _arms(what, events.identity, samples, check),
    )


def _checked(
    sides: Mapping[str, Callable[[], Any]], agree: Callable[[Any, Any], bool]
) -> Mapping[str, str]:
    """Digest of each side's result, which must agree."""
    results = {name: act() for name, act in sides.items()}
    if not agree(*results.values()):
        msg = "the implementations differ on this input, their speeds mean nothing: run the tests"
        raise InputError(msg)
    return {name: measure.digest(result) for name, result in results.items()}


def _arms(
    what: What, identity: Input, samples: Samples, check: Mapping[str, str]
) -> tuple[Arm, ...]:
    return tuple(
        Arm(
            what.model_copy(
                update={
                    "name": f"claim-{what.group.replace(', ', '_').replace(' ', '_')}-{name}",
                    "implementation": name,
                }
            ),
            identity,
            samples.wall[name],
            samples.cpu[name],
            samples.iterations[name],
            check[name],
        )
        for name in samples.cpu
    )
