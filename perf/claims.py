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
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.kernels import KERNELS, bind
from perf import measure, processor
from perf.data import Store
from perf.results import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.kernels import Implementation
    from perf.data import Events

CONFIDENCE: Final = 0.99
"""Of intervals: a claim that lies on its bound is confirmed by chance in 1 of 200 runs."""

RESAMPLES: Final = 2_000
"""Of the bootstrap: an end of a 99 % interval rests on 10 of them."""

ROUNDS: Final = 30
"""Pairs: the interval of a median of 30 rests on about the 8th and the 23rd of them."""

PROCESSOR_ROUNDS: Final = 7
"""Pairs of the processor, which takes seconds: the interval is then about the range of them."""

PROCESSOR_CHUNK: Final = 250_000
MEMORY_CHUNKS: Final = 8
TRIJET_EVENTS: Final = 100_000
SELECTION_EVENTS: Final = 10_000

MIN_TRIJET_RATIO: Final = 4.0
MIN_SELECTION_RATIO: Final = 5.0
MAX_PROCESSOR_RATIO: Final = 0.55
MAX_WORKER_MEMORY: Final = 1e9


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
    cpu: Callable[[], float] = time.process_time,
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
        CPU clock in seconds.

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
                clock = measure.Clock(cpu)
                clock()
                for _ in range(count):
                    act()
                clock()
                (wall_seconds,), (cpu_seconds,) = clock.samples(1, count)
                wall[name].append(wall_seconds)
                used[name].append(cpu_seconds)
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
        The claim: at least, or at most, this.
    measured, low, high
        Estimate with its interval; low and high are the estimate itself where there is none.
    unit
        Of the numbers.
    arms
        What was measured for it.
    """

    claim: str
    sense: Literal["at least", "at most"]
    bound: float
    measured: float
    low: float
    high: float
    unit: Literal["ratio", "bytes"]
    arms: tuple[Arm, ...]

    @property
    def holds(self) -> bool:
        """Whether the whole interval is on the right side of the bound."""
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


def every(store: Store, rng: np.random.Generator) -> list[Callable[[], Verdict]]:
    """Every claim, to be measured when called."""
    return [
        partial(trijet, store, rng),
        partial(selection, store, rng),
        partial(processing, store, rng, "idiomatic"),
        partial(processing, store, rng, "columnar"),
        partial(memory, store, "columnar"),
        partial(memory, store, "compiled"),
    ]


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
