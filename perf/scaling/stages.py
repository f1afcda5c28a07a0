"""The stage timer: where the time of a chunk goes, measured on the worker that processes it.

The function that coffea's Runner gives to an executor is wrapped. On the worker it starts a
stopwatch, which uproot's and coffea's reading functions and the processor switch from stage to
stage, and adds what it shows to the chunk's result. The executor merges that with the rest, and
the wrapped executor takes it out again: this works for every executor and on every machine, and
does not change the accumulator.

Each moment belongs to one stage, the innermost that is on, so that stages add up to the time that
the function took. `perf.scaling.worker` runs with and without, which gives the timer's own cost.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from coffea.nanoevents.mapping.parquet import ParquetSourceMapping
from coffea.nanoevents.mapping.uproot import UprootSourceMapping
from coffea.processor import ProcessorABC
from uproot import compression
from uproot.behaviors.RNTuple import HasFields
from uproot.behaviors.TBranch import HasBranches

from analysis.files.baskets import Basket
from analysis.files.bulk import BulkTree
from perf.cases.tasks import Empty
from perf.measure.memory import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.batches import Statistics

KEY: Final = "perf.scaling.stages"
"""Key of the times in the result of a chunk."""

OPENING: Final = "opening"
READING: Final = "reading"
DECOMPRESSING: Final = "decompressing"
PROCESSING: Final = "processing"
STAGES: Final = (OPENING, READING, DECOMPRESSING, PROCESSING)

READERS: Final[tuple[tuple[Any, str], ...]] = (
    # Branches that are read in one go when a chunk is opened, of a TTree and of an RNTuple; ...
    (HasBranches, "arrays"),
    (HasFields, "arrays"),
    (BulkTree, "arrays"),
    # ... and each when the processor asks for it.
    (UprootSourceMapping, "extract_column"),
    (ParquetSourceMapping, "extract_column"),
)
"""Functions that read branches."""

DECOMPRESSORS: Final[tuple[tuple[Any, str], ...]] = (
    (compression, "decompress"),
    (Basket, "read_into"),
)
"""Functions that decompress a basket or a page. Arrow does it unseen: with Parquet it is reading."""


@dataclass(frozen=True)
class ChunkTimes:
    """Seconds that some chunks took, summed over them."""

    opening: float = 0.0
    """All that is in no other stage: unpickling the processor, opening the file, making the form,
    closing."""
    reading: float = 0.0
    """Getting branches from the file and making arrays of them, without ..."""
    decompressing: float = 0.0
    """... decompressing them."""
    processing: float = 0.0
    """In the processor, without reading."""
    total: float = 0.0
    """From the first reading of the clock to the last: the sum of the four."""
    cpu: float = 0.0
    """CPU seconds of the threads that did it."""
    chunks: int = 0
    peaks: Mapping[str, int | None] = field(default_factory=dict)
    """Largest resident memory by worker (host and process) in bytes, where the system tells."""

    def __add__(self, other: ChunkTimes) -> ChunkTimes:
        """Times of both, as coffea merges results."""
        peaks = dict(self.peaks)
        for worker, peak in other.peaks.items():
            peaks[worker] = max(peak or 0, peaks.get(worker) or 0) or None
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in (*STAGES, "total", "cpu", "chunks")
        }
        return ChunkTimes(**sums, peaks=peaks)


# --- on workers


class _Stopwatch:
    """Gives each moment to the stage that is on."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(STAGES, 0.0)
        self.stage = OPENING
        self.begin = self.since = time.perf_counter()

    def switch(self, stage: str) -> str:
        """End the stage that is on, and begin another; the former."""
        now = time.perf_counter()
        self.spent[self.stage] += now - self.since
        self.since = now
        before, self.stage = self.stage, stage
        return before


class _Local(threading.local):
    watch: _Stopwatch | None = None


_local = _Local()
_lock = threading.Lock()
_users = 0
_originals: list[tuple[Any, str, Any]] = []


def _during(stage: str, function: Callable[..., Any], only: str | None = None) -> Any:
    """The function, in a stage of its own; only if it is called in the stage `only`."""

    @functools.wraps(function)
    def timed(*arguments: Any, **keywords: Any) -> Any:
        watch = _local.watch
        if watch is None or (only is not None and watch.stage != only):
            return function(*arguments, **keywords)
        before = watch.switch(stage)
        try:
            return function(*arguments, **keywords)
        finally:
            watch.switch(before)

    return timed


@contextmanager
def _installed() -> Iterator[None]:
    """Have READERS and DECOMPRESSORS switch stages; chunks in other threads may be at work too."""
    global _users  # noqa: PLW0603
    with _lock:
        _users += 1
        if _users == 1:
            for holder, name in (*READERS, *DECOMPRESSORS):
                original = getattr(holder, name)
                # What is decompressed while a file is opened is part of opening it.
                changed = (
                    _during(READING, original)
                    if (holder, name) in READERS
                    else _during(DECOMPRESSING, original, only=READING)
                )
                _originals.append((holder, name, original))
                setattr(holder, name, changed)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                while _originals:
                    setattr(*_originals.pop())


@dataclass(frozen=True)
class Timed:
    """A function of chunks, as coffea's Runner gives it, that adds to its result where its time went."""

    function: Callable[[Any], Any]

    def __call__(self, item: Any) -> Any:
        """Call it, with the stopwatch on."""
        with _installed():
            cpu = time.thread_time()
            watch = _local.watch = _Stopwatch()
            try:
                result = self.function(item)
            finally:
                _local.watch = None
            watch.switch(OPENING)
            cpu = time.thread_time() - cpu
        if result is not None:
            result[KEY] = ChunkTimes(
                **watch.spent,
                total=watch.since - watch.begin,
                cpu=cpu,
                chunks=1,
                peaks={worker_name(): peak_memory()},
            )
        return result


class WrappedProcessor(ProcessorABC):
    """A processor, or function of events, inside of another processor."""

    def __init__(self, processor: ProcessorABC | Callable[[Any], Any]) -> None:
        self.processor = processor

    def own(self, events: Any) -> Any:
        """What it returns."""
        own = self.processor
        return (own.process if isinstance(own, ProcessorABC) else own)(events)

    def postprocess(self, accumulator: Any) -> Any:
        """As the processor's own, if it has one."""
        own = getattr(self.processor, "postprocess", None)
        return own(accumulator) if callable(own) else accumulator


class StagedProcessor(WrappedProcessor):
    """A processor that tells the stopwatch when it is at work."""

    def process(self, events: Any) -> Any:
        """As the processor's own."""
        return _during(PROCESSING, self.own)(events)


@dataclass(frozen=True)
class EmptyTask(Empty):
    """A task that does nothing, before which a worker imports the stage timer."""


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


# --- on the client


@dataclass
class StageTimer:
    """Times of all chunks of an executor's calls."""

    times: ChunkTimes = field(default_factory=ChunkTimes)


def with_stage_timer(executor: ExecutorBase) -> tuple[ExecutorBase, StageTimer]:
    """An executor that does the same as a ready one and times the stages of chunks.

    It is of a class derived from that of the given one, which coffea's Runner asks for. Without a
    `StagedProcessor`, processing counts as opening.
    """
    timer = StageTimer()
    kind = type(executor)

    def call(
        self: Any, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, Any]:
        total, problem = kind.__call__(self, items, Timed(function), accumulator)
        if total is not None and KEY in total:
            timer.times += total.pop(KEY)
        return total, problem

    derived = type(kind.__name__, (kind,), {"__call__": call})
    return derived(**executor.__dict__), timer


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Where the time of the workers went in a run, in seconds summed over them.

    What is known adds up to `budget`; None is what this executor does not tell.
    """

    opening: float
    reading: float
    decompressing: float
    processing: float
    """These four as of `ChunkTimes`."""
    serialising: float | None
    merging: float | None
    """Packing and unpacking of results, and adding them up, on the workers."""
    between: float | None
    """On the workers, between these: retries, the stage timer itself."""
    waiting: float | None
    """The rest: workers had nothing to do, or the engine's own work."""
    unknown: float | None
    """The rest where serialising and merging are not known and part of it."""
    budget: float
    """Workers x wall time of the run."""
    unpacking: float | None
    adding: float | None
    """Of results on the client, beside the work of the workers."""
    chunk_cpu: float


def split(times: ChunkTimes, statistics: Statistics | None, budget: float) -> Stages:
    """Split the time of the workers; the statistics are the executor's, of this run, if it keeps any."""
    chunks = times.opening + times.reading + times.decompressing + times.processing
    spent = None if statistics is None else statistics.spent
    return Stages(
        opening=times.opening,
        reading=times.reading,
        decompressing=times.decompressing,
        processing=times.processing,
        serialising=None if spent is None else spent.packing,
        merging=None if spent is None else spent.merging,
        between=None if spent is None else spent.processing - chunks,
        waiting=None
        if spent is None
        else budget - (spent.processing + spent.merging + spent.packing),
        unknown=budget - chunks if spent is None else None,
        budget=budget,
        unpacking=None if statistics is None else statistics.unpacking,
        adding=None if statistics is None else statistics.merging,
        chunk_cpu=times.cpu,
    )
