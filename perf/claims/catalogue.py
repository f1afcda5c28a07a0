"""Claims about speed and memory, each measured so that it can be refuted."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.files.bulk import Reader
from analysis.kernels import KERNELS, bind
from perf.cases import processor
from perf.cases.case import VECTORISED
from perf.cases.data import Store
from perf.cases.executors import MAX_PLAIN_TASKS
from perf.claims.executors import (
    MAX_CPU,
    PLAIN_ROUNDS,
    PROCESSOR_CHUNK,
    as_worker,
    executor,
    independent_processes,
    iterative,
)
from perf.claims.fits import fits
from perf.claims.verdict import Arm, Verdict, checked
from perf.measure.estimate import Estimate
from perf.measure.memory import peak_memory
from perf.measure.paired import interleaved, ratio
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.kernels import Implementation

ROUNDS: Final = 30
"""Pairs: the interval of a median of 30 rests on about the 8th and the 23rd of them."""

PROCESSOR_ROUNDS: Final = 7
"""Pairs of the processor, which takes seconds: the interval is then about the range of them."""

MEMORY_CHUNKS: Final = 8
TRIJET_EVENTS: Final = 100_000
SELECTION_EVENTS: Final = 10_000

MIN_TRIJET_RATIO: Final = 4.0
MIN_SELECTION_RATIO: Final = 5.0
MAX_PROCESSOR_RATIO: Final = 0.55
MAX_READING_RATIO: Final = {"columnar": 0.65, "compiled": 0.57, "idiomatic": 0.88}
"""As a prototype reached them, which also kept files open from chunk to chunk."""
MAX_WORKER_MEMORY: Final = 1e9

NOMINAL: Final = {
    "kind": "processor",
    "subject": "ttbar",
    "executor": "iterative",
    "workers": 1,
    "chunksize": PROCESSOR_CHUNK,
    "parameters": {"variations": "nominal", "source": "synthetic"},
}
"""What claims about the nominal processor in one process have in common."""

# --- the claims


def trijet(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """The trijet of largest pt: compiled at least four times as fast as columnar."""
    kernel = KERNELS["trijet_pt"]
    events = store.dense(TRIJET_EVENTS)
    arguments = kernel.arguments(events.columns)
    return _pair(
        f"trijet_pt, {TRIJET_EVENTS:,} events: columnar / compiled",
        ("at least", MIN_TRIJET_RATIO),
        {name: partial(kernel.run, name, *arguments) for name in VECTORISED},
        lambda result, expected: kernel.agree(result, expected, *arguments),
        {"group": "trijet_pt", "kind": "kernel", "subject": "trijet_pt"},
        events.identity,
        rng,
        rounds,
    )


def selection(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """Selection of objects and regions: compiled at least five times as fast as columnar."""
    events = store.events(SELECTION_EVENTS)
    return _pair(
        f"objects and regions, {SELECTION_EVENTS:,} events: columnar / compiled",
        ("at least", MIN_SELECTION_RATIO),
        {name: partial(select, events.columns, name) for name in VECTORISED},
        lambda result, expected: all(map(np.array_equal, result, expected)),
        {
            "group": "objects and regions",
            "kind": "selection",
            "subject": "electrons, muons, jets, leptons, regions",
        },
        events.identity,
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
        return _pair(
            f"ttbar nominal, chunk {PROCESSOR_CHUNK:,}, zstd: compiled / {baseline}",
            ("at most", MAX_PROCESSOR_RATIO),
            {
                name: processor.process(
                    fileset,
                    executor,
                    implementation=name,
                    variations="nominal",
                    chunksize=PROCESSOR_CHUNK,
                )
                for name in ("compiled", baseline)
            },
            difference.agree,
            {"group": "ttbar, nominal", **NOMINAL},
            identity,
            rng,
            rounds,
        )


def reading(
    store: Store,
    rng: np.random.Generator,
    implementation: Literal["columnar", "compiled", "idiomatic"],
    rounds: int = PROCESSOR_ROUNDS,
) -> Verdict:
    """The processor, nominal: with branches read in bulk it takes less CPU time than by uproot."""
    fileset = store.fileset(PROCESSOR_CHUNK)
    with open_executor("iterative") as executor:
        return _pair(
            f"{implementation}, ttbar nominal, chunk {PROCESSOR_CHUNK:,}, zstd: read in bulk / by uproot",
            ("at most", MAX_READING_RATIO[implementation]),
            {
                reader: processor.process(
                    fileset,
                    executor,
                    implementation=implementation,
                    variations="nominal",
                    chunksize=PROCESSOR_CHUNK,
                    reader=reader,
                )
                for reader in get_args(Reader)
            },
            difference.agree,
            {"group": f"reading, {implementation}", **NOMINAL},
            store.fileset_identity(PROCESSOR_CHUNK),
            rng,
            rounds,
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
        Estimate.exact(peak),
        "bytes",
        (Arm(what, identity, [wall], [cpu], 1, check, peak),),
    )


class Claim(NamedTuple):
    """What is measured under a name, and gives verdicts."""

    name: str
    measure: Callable[[], Sequence[Verdict]]


def every(store: Store, rng: np.random.Generator, only: Sequence[str] = ()) -> list[Claim]:
    """Every claim whose name matches a pattern (shell's), by default all; measured when called.

    An InputError if a pattern matches none.
    """

    def single(measure: Callable[..., Verdict], *args: Any) -> Callable[[], Sequence[Verdict]]:
        return lambda: [measure(*args)]

    # To be sent to another process: without what this one has read.
    fresh = Store(store.directory, store.file_events)
    claims = [
        Claim("trijet", single(trijet, store, rng)),
        Claim("selection", single(selection, store, rng)),
        Claim("idiomatic", single(processing, store, rng, "idiomatic")),
        Claim("columnar", single(processing, store, rng, "columnar")),
        *(
            Claim(f"reading-{name}", single(reading, store, rng, name))
            for name in MAX_READING_RATIO
        ),
        Claim("memory-columnar", single(memory, store, "columnar")),
        Claim("memory-compiled", single(memory, store, "compiled")),
        Claim("fit", partial(fits, rng)),
        Claim("executor-iterative", partial(as_worker, iterative, rng)),
        Claim(
            "executor-independent-processes",
            partial(as_worker, independent_processes, fresh, rng),
        ),
        *(
            Claim(f"executor-{name}", partial(as_worker, executor, fresh, rng, name))
            for name in MAX_CPU
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
        if not any(fnmatch(claim.name, pattern) for claim in claims):
            names = ", ".join(claim.name for claim in claims)
            msg = f"there is no claim {pattern!r}: there are {names}"
            raise InputError(msg)
    return [
        claim for claim in claims if not only or any(fnmatch(claim.name, name) for name in only)
    ]


def _one_worker(
    fileset: Mapping[str, Any], implementation: Implementation
) -> tuple[float, float, int, str]:
    """Wall and CPU seconds, peak memory and digest of one run in this process."""
    with open_executor("iterative") as executor:
        run = processor.process(
            fileset,
            executor,
            implementation=implementation,
            variations="all",
            chunksize=PROCESSOR_CHUNK,
        )
        wall, cpu = time.perf_counter(), time.process_time()
        result = run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_memory()
    if peak is None:
        msg = "peak memory is read from /proc, which this system does not have: run on Linux"
        raise InputError(msg)
    return wall, cpu, peak, result_digest(result)


def _pair(
    claim: str,
    bound: tuple[Literal["at least", "at most"], float],
    sides: Mapping[str, Callable[[], Any]],
    agree: Callable[[Any, Any], bool],
    what: Mapping[str, Any],
    identity: Input,
    rng: np.random.Generator,
    rounds: int,
) -> Verdict:
    """CPU time of the first of two implementations over that of the second, which must agree."""
    check = checked(sides, agree)
    samples = interleaved(sides, rounds=rounds, rng=rng)
    numerator, denominator = (samples.cpu[name] for name in sides)
    slug = what["group"].replace(", ", "_").replace(" ", "_")
    arms = tuple(
        Arm(
            What(name=f"claim-{slug}-{name}", implementation=name, size=identity.events, **what),
            identity,
            samples.wall[name],
            samples.cpu[name],
            samples.iterations[name],
            check[name],
        )
        for name in sides
    )
    return Verdict(claim, *bound, ratio(numerator, denominator, rng), "ratio", arms)
