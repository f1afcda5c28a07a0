"""Where the time of a chunk goes, told by the worker that processes it.

The function that coffea's Runner gives to an executor is wrapped: on the worker it starts a
stopwatch, has uproot's and coffea's reading functions and the processor switch it from stage to
stage for as long as the chunk lasts, and adds what it showed to the chunk's result. The executor
merges it as it does all else, and the wrapped executor takes it out again: it works for every
executor and on every machine, and the accumulator is as without.

Each moment belongs to one stage, the innermost that is on, so that stages add up to the time that
the function took. `perf.scaling.worker` runs with and without, which tells what the probe costs.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coffea.nanoevents.mapping.parquet import ParquetSourceMapping
from coffea.nanoevents.mapping.uproot import UprootSourceMapping
from coffea.processor import ProcessorABC
from uproot import compression
from uproot.behaviors.RNTuple import HasFields
from uproot.behaviors.TBranch import HasBranches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.batches import Statistics

KEY: Final = "perf.scaling.stages"
"""Of what the probe adds to the result of a chunk."""

OPENING: Final = "opening"
READING: Final = "reading"
DECOMPRESSING: Final = "decompressing"
PROCESSING: Final = "processing"
STAGES: Final = (OPENING, READING, DECOMPRESSING, PROCESSING)

READERS: Final[tuple[tuple[Any, str], ...]] = (
    # Branches that are read in one go when a chunk is opened, of a TTree and of an RNTuple; ...
    (HasBranches, "arrays"),
    (HasFields, "arrays"),
    # ... and each when the processor asks for it.
    (UprootSourceMapping, "extract_column"),
    (ParquetSourceMapping, "extract_column"),
)
"""Functions that read branches."""

DECOMPRESSORS: Final[tuple[tuple[Any, str], ...]] = ((compression, "decompress"),)
"""Functions that decompress a basket or a page. Arrow does it unseen: with Parquet it is reading."""


@dataclass(frozen=True)
class Seen:
    """What the probe saw of some chunks.

    Attributes
    ----------
    opening
        Wall seconds, summed over chunks, of all that is in no other stage: unpickling the
        processor, opening the file, making the form, closing.
    reading
        Of getting branches from the file and making arrays of them, but for ...
    decompressing
        ... decompressing them.
    processing
        In the processor, but for reading.
    total
        From the first reading of the clock to the last: the sum of the four.
    cpu
        CPU seconds of the threads that did it.
    chunks
        Number of chunks.
    peaks
        Largest resident memory by worker (host and process) in bytes, where the system tells.
    """

    opening: float = 0.0
    reading: float = 0.0
    decompressing: float = 0.0
    processing: float = 0.0
    total: float = 0.0
    cpu: float = 0.0
    chunks: int = 0
    peaks: Mapping[str, int | None] = field(default_factory=dict)

    def __add__(self, other: Seen) -> Seen:
        """What was seen of both, as coffea merges results."""
        peaks = dict(self.peaks)
        for worker, peak in other.peaks.items():
            peaks[worker] = max(peak or 0, peaks.get(worker) or 0) or None
        return Seen(
            self.opening + other.opening,
            self.reading + other.reading,
            self.decompressing + other.decompressing,
            self.processing + other.processing,
            self.total + other.total,
            self.cpu + other.cpu,
            self.chunks + other.chunks,
            peaks,
        )


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
    """A function of chunks that adds to its result where its time went.

    Parameters
    ----------
    function
        As coffea's Runner gives it to an executor.
    """

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
            spent = watch.spent
            result[KEY] = Seen(
                opening=spent[OPENING],
                reading=spent[READING],
                decompressing=spent[DECOMPRESSING],
                processing=spent[PROCESSING],
                total=watch.since - watch.begin,
                cpu=cpu,
                chunks=1,
                peaks={worker_name(): _peak_memory()},
            )
        return result


class Watched(ProcessorABC):
    """A processor that tells the stopwatch when it is at work.

    Parameters
    ----------
    processor
        coffea processor, or function of events.
    """

    def __init__(self, processor: ProcessorABC | Callable[[Any], Any]) -> None:
        self.processor = processor

    def process(self, events: Any) -> Any:
        """As the processor's own."""
        one = self.processor
        call = one.process if isinstance(one, ProcessorABC) else one
        return _during(PROCESSING, call)(events)

    def postprocess(self, accumulator: Any) -> Any:
        """As the processor's own, if it has one."""
        own = getattr(self.processor, "postprocess", None)
        return own(accumulator) if callable(own) else accumulator


def empty(item: Any) -> dict[str, int]:  # noqa: ARG001  (an item it must take)
    """A task that takes no time and gives a small accumulator."""
    return {"tasks": 1}


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _peak_memory() -> int | None:
    """As `measure.peak_memory`, whose module a worker need not import for it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else None


# --- on the client


@dataclass
class Probe:
    """What was seen in all calls of an executor."""

    seen: Seen = field(default_factory=Seen)


def probed(executor: ExecutorBase) -> tuple[ExecutorBase, Probe]:
    """An executor that does the same and tells where the time of chunks goes.

    Parameters
    ----------
    executor
        Ready; it may be used beside.

    Returns
    -------
    executor, probe
        The executor is of a class derived from that of the given one, which coffea's Runner asks
        for. With processors that are not `Watched`, processing counts as opening.
    """
    probe = Probe()
    kind = type(executor)

    def call(
        self: Any, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, Any]:
        total, problem = kind.__call__(self, items, Timed(function), accumulator)
        if total is not None and KEY in total:
            probe.seen += total.pop(KEY)
        return total, problem

    derived = type(kind.__name__, (kind,), {"__call__": call})
    return derived(**executor.__dict__), probe


@dataclass(frozen=True)
class Stages:
    """Where the time of the workers went in a run, in seconds summed over them.

    What is known adds up to `budget`; None is what this executor does not tell.

    Attributes
    ----------
    opening, reading, decompressing, processing
        Of chunks, as of `Seen`.
    serialising, merging
        Packing and unpacking of results, and adding them up, on the workers.
    between
        On the workers, between these: retries, the probe itself.
    waiting
        The rest: workers had nothing to do, or an engine had them do what is its own.
    unknown
        The rest where serialising and merging are not known and part of it.
    budget
        Workers x wall time of the run.
    unpacking, adding
        Of results on the client, beside the work of the workers.
    chunk_cpu
        CPU seconds of chunks.
    """

    opening: float
    reading: float
    decompressing: float
    processing: float
    serialising: float | None
    merging: float | None
    between: float | None
    waiting: float | None
    unknown: float | None
    budget: float
    unpacking: float | None
    adding: float | None
    chunk_cpu: float


def stages(seen: Seen, statistics: Statistics | None, budget: float) -> Stages:
    """Split the time of the workers.

    Parameters
    ----------
    seen
        By the probe.
    statistics
        Of the executor, cleared before the run; None if it keeps none.
    budget
        Workers x wall time of the run.
    """
    known = (seen.opening, seen.reading, seen.decompressing, seen.processing)
    if statistics is None:
        rest = budget - sum(known)
        return Stages(*known, None, None, None, None, rest, budget, None, None, seen.cpu)
    spent = statistics.spent
    busy = spent.processing + spent.merging + spent.packing
    return Stages(
        *known,
        serialising=spent.packing,
        merging=spent.merging,
        between=spent.processing - sum(known),
        waiting=budget - busy,
        unknown=None,
        budget=budget,
        unpacking=statistics.unpacking,
        adding=statistics.merging,
        chunk_cpu=seen.cpu,
    )
