"""One visit of a scaling measurement: a process that starts an executor, runs, and ends it.

`main` reads a request from standard input and writes an outcome to standard output, both JSON.
Each visit is a process of its own, so that what it finds in memory, allocator and caches is the
same for every executor and does not depend on the order.
"""

from __future__ import annotations

import math
import os
import pickle
import random
import sys
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cloudpickle
import psutil
import pydantic
from coffea.processor import IterativeExecutor, ProcessorABC

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, open_executor, parse_options
from analysis.files import output
from perf.measure import clocks, memory
from perf.measure.fresh_process import answering
from perf.records import difference, identity
from perf.records.digest import result_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.runner.job import Inspected
    from analysis.runner.result import Result

# The analysis takes seconds to import, which looking at what was measured need not wait for.
# ruff: noqa: PLC0415

TTBAR: Final = "ttbar"
"""In the place of a processor's name: the analysis of this project."""

MOST_TASKS: Final = 10_000
TASK_SECONDS: Final = 2.0
"""Empty tasks are made ten times as many until they take so long or are so many: what starting a
call costs, up to 0.5 s with Spark, must not be taken for the cost of a task."""


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Job(_Frozen):
    """What is processed, the same in all visits.

    Attributes
    ----------
    fileset
        Path of the file set.
    processor
        TTBAR, or as `analysis.runner.processors.load` takes it.
    arguments
        Keywords to make a processor with that is not TTBAR.
    schema_name, tree, trace
        Of events, of files that name none, and whether to find out first what is read; not for
        TTBAR.
    implementation, variations
        Of TTBAR.
    allow_empty
        Whether files may have no events.
    scratch
        Folder that this machine shares with the workers, if they are on others.
    """

    fileset: Path
    processor: str = TTBAR
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    schema_name: str = "NanoAODSchema"
    tree: str = "Events"
    trace: bool = False
    implementation: Literal["columnar", "compiled"] = "columnar"
    variations: Literal["nominal", "all"] = "nominal"
    allow_empty: bool = False
    scratch: Path | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of the user's that are named."""
        named = () if self.processor == TTBAR else (self.processor, self.schema_name)
        return tuple(one.partition(":")[0] for one in named if ":" in one)


class Cell(_Frozen):
    """How it is processed.

    Attributes
    ----------
    executor, workers, chunksize
        As of `open_executor` and `run`.
    tuned
        False for coffea's own executor as it comes.
    options
        More options of the executor.
    """

    executor: str
    workers: int = 1
    chunksize: int = DEFAULT_CHUNKSIZE
    tuned: bool = True
    options: dict[str, Any] = pydantic.Field(default_factory=dict)

    @property
    def engine(self) -> str:
        """Name of the executor, and whose it is."""
        return self.executor if self.tuned else f"{self.executor}, coffea's own"

    @property
    def all_options(self) -> dict[str, Any]:
        """Options with that of whose executor it is."""
        # The iterative executor has no such option: see `opened`.
        plain = not self.tuned and self.executor != "iterative"
        return {**self.options, **({"tuned": False} if plain else {})}

    def __str__(self) -> str:
        return f"{self.engine}, workers {self.workers}, chunk size {self.chunksize}"


class Request(_Frozen):
    """What a visit is to do.

    Attributes
    ----------
    job, cell
        What, and how.
    runs
        Timed runs.
    seed
        Of the order of timed runs and the probed one.
    input
        Digest that the input must have.
    reference
        File of the result that each run must have; made by the visit if `make_reference`.
    """

    job: Job
    cell: Cell
    runs: int = 1
    seed: int = 0
    input: str
    reference: Path
    make_reference: bool = False


class Measured(_Frozen):
    """What a visit measured; None is what this executor or system does not tell.

    Attributes
    ----------
    start_wall, start_cpu
        Seconds from nothing to an executor that is ready. CPU seconds are those of this process
        and all its descendants everywhere in here.
    stop_wall
        Seconds until it was gone.
    first_wall, first_cpu
        Of the first run, which no other warmed up.
    wall, cpu
        Of the timed runs.
    events, chunks, bytes_read
        Of a run.
    task_wall, task_cpu
        Seconds a task, of tasks that do nothing.
    probed_wall, probed_cpu
        Of the run with the probe, of which the following tell.
    workers_seen
        Workers that processed a chunk.
    opening, reading, decompressing, processing, serialising, merging, between, waiting, unknown
        Seconds as of `probe.Stages`.
    budget, unpacking, adding, chunk_cpu
        The same. What other threads of a worker take to read files is not in `chunk_cpu`.
    batches, lost
        Results that the client received, and batches given to another worker.
    peak_client, peak_worker, peak_engine
        Largest resident memory in bytes of this process, of any worker, and of any other process
        of the executor: a Java virtual machine, a scheduler.
    """

    start_wall: float
    start_cpu: float
    stop_wall: float
    first_wall: float
    first_cpu: float
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    events: int
    chunks: int
    bytes_read: int | None
    task_wall: float
    task_cpu: float
    probed_wall: float
    probed_cpu: float
    workers_seen: int
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
    batches: int | None
    lost: int | None
    peak_client: int | None
    peak_worker: int | None
    peak_engine: int | None


class Outcome(_Frozen):
    """What came of a visit.

    Attributes
    ----------
    measured
        None if it failed.
    check
        Digest of the result; empty if it has none.
    error
        Why it failed, one sentence.
    wrong
        Whether it failed because the result is wrong, by which all that the same cell measured
        is worth nothing.
    """

    measured: Measured | None = None
    check: str = ""
    error: str | None = None
    wrong: bool = False


class WrongError(Exception):
    """A result is not that of the reference, or chunks were not processed once each."""


def prepare(job: Job) -> Inspected:
    """Look at the files and make the processor.

    Raises
    ------
    InputError
        If the file set, a file of it or the processor cannot be used.
    """
    from analysis.runner.job import Job as Made

    how: dict[str, Any] = {"allow_empty": job.allow_empty, "scratch": job.scratch}
    if job.processor == TTBAR:
        made = Made.of_ttbar(job.fileset, job.implementation, job.variations, **how)
    else:
        named = job.fileset, job.processor, job.arguments, job.schema_name, job.tree
        made = Made.of_processor(*named, trace=job.trace, **how)
    return made.inspect()


def source_of(executor: str) -> str:
    """Digest of the code that is measured: of this project but for other executors."""
    # Kernels are imported by names that are made up.
    return identity.digest(
        identity.modules(
            "perf.scaling.worker", f"analysis.executors.{executor}", "analysis.kernels.*"
        )
    )


# --- in the process of the visit


class Reference(NamedTuple):
    """The result that all others must have.

    Attributes
    ----------
    accumulated
        By the iterative executor.
    chunks
        That it is merged of.
    single
        Whether the data are of single precision.
    sizes
        Of sums, as of `equal.Sizes`.
    """

    accumulated: Any
    chunks: int
    single: bool
    sizes: dict[str, Any]


@dataclass
class Seen:
    """What a processor that is `Noted` was given in this process, and what it gave.

    Attributes
    ----------
    single
        Whether anything of events was of single precision.
    sizes
        Of sums.
    """

    single: bool = False
    sizes: difference.Sizes = field(default_factory=difference.Sizes)


noted = Seen()


class Noted(ProcessorABC):
    """A processor that tells of what precision its events are, and how large its sums."""

    def __init__(self, processor: ProcessorABC | Callable[[Any], Any]) -> None:
        self.processor = processor

    def process(self, events: Any) -> Any:
        """As the processor's own."""
        noted.single = noted.single or '"float32"' in events.layout.form.to_json()
        one = self.processor
        made = (one.process if isinstance(one, ProcessorABC) else one)(events)
        noted.sizes.add(made)
        return made

    def postprocess(self, accumulator: Any) -> Any:
        """As the processor's own, if it has one."""
        own = getattr(self.processor, "postprocess", None)
        return own(accumulator) if callable(own) else accumulator


def reference(prepared: Inspected, chunksize: int) -> Reference:
    """Process every event by the iterative executor."""
    vars(noted).update(vars(Seen()))
    with open_executor("iterative") as executor, clocks.gc_frozen():
        result = prepared.run(executor, chunksize=chunksize, wrap=Noted)
    arithmetic = difference.Arithmetic(prepared.events, result.chunks, single=noted.single)
    sizes = noted.sizes.of(result.accumulated, arithmetic)
    return Reference(result.accumulated, result.chunks, noted.single, sizes)


class Spell(NamedTuple):
    """Wall and CPU seconds of something, the latter of this process and all its descendants."""

    wall: float
    cpu: float


def timed(act: Callable[[], Any]) -> tuple[Any, Spell]:
    """What an act gives, and what it took."""
    cpu = clocks.cpu_of_tree()
    begin = time.perf_counter()
    got = act()
    wall = time.perf_counter() - begin
    return got, Spell(wall, clocks.cpu_of_tree() - cpu)


def visit(request: Request) -> Outcome:
    """Start the executor, run, and end it.

    Raises
    ------
    InputError
        If something of it cannot be done.
    WrongError
        If a result is wrong.
    """
    prepared = prepare(request.job)
    if prepared.digest != request.input:
        msg = "the file set or one of its files was changed while it was measured: run it again"
        raise InputError(msg)
    cell = request.cell
    if request.make_reference:
        made = cloudpickle.dumps(tuple(reference(prepared, cell.chunksize)))
        with output.whole(request.reference) as part:
            part.write_bytes(made)
        return Outcome()
    want = Reference(*pickle.loads(request.reference.read_bytes()))
    check = partial(check_result, prepared, want)
    with clocks.gc_frozen(), ExitStack() as stack:
        executor, start = timed(lambda: stack.enter_context(opened(cell)))
        measured, last = _measure(request, prepared, executor, check)
        _, stop = timed(stack.close)
    measured |= {"start_wall": start.wall, "start_cpu": start.cpu, "stop_wall": stop.wall}
    once = (start.cpu, *(measured[f"{name}_cpu"] for name in ("first", "task", "probed")))
    if any(math.isnan(cpu) for cpu in (*once, *measured["cpu"])):
        msg = "a worker ended during a run and took its CPU time with it: measure again"
        raise InputError(msg)
    try:
        digest = result_digest(last)
    except TypeError:
        digest = ""
    return Outcome(measured=Measured(**measured), check=digest)


def opened(cell: Cell) -> AbstractContextManager[ExecutorBase]:
    """The executor of a cell, for as long as it is needed."""
    if cell.executor == "iterative" and not cell.tuned:
        return nullcontext(IterativeExecutor(status=False))
    given = parse_options(cell.executor, cell.all_options)
    return open_executor(cell.executor, workers=cell.workers, **given.keywords())


def _measure(
    request: Request,
    prepared: Inspected,
    executor: ExecutorBase,
    check: Callable[[Result], None],
) -> tuple[dict[str, Any], Any]:
    """All but start and stop, by names of Measured; and the last result."""
    from perf.scaling.stages import Watched, probed, stages

    cell = request.cell
    statistics = getattr(executor, "statistics", None)
    first, first_spell = timed(lambda: prepared.run(executor, chunksize=cell.chunksize))
    check(first)
    # Before the runs: it also has the workers import the probe.
    task = _empty_tasks(executor, cell.workers)
    spells: list[Spell] = []
    found: dict[str, Any] = {}
    turns = [False] * request.runs + [True]
    random.Random(request.seed).shuffle(turns)
    for with_probe in turns:
        if statistics is not None:
            statistics.clear()
        if with_probe:
            other, probe = probed(executor)
            result, spell = timed(
                partial(prepared.run, other, chunksize=cell.chunksize, wrap=Watched)
            )
            seen = probe.seen
            found |= {
                "probed_wall": spell.wall,
                "probed_cpu": spell.cpu,
                **asdict(stages(seen, statistics, cell.workers * spell.wall)),
                "batches": None if statistics is None else statistics.batches,
                "lost": None if statistics is None else statistics.lost,
                "workers_seen": len(seen.peaks),
                **_peaks(seen.peaks),
            }
        else:
            result, spell = timed(lambda: prepared.run(executor, chunksize=cell.chunksize))
            spells.append(spell)
        check(result)
    return {
        **found,
        "first_wall": first_spell.wall,
        "first_cpu": first_spell.cpu,
        "wall": [one.wall for one in spells],
        "cpu": [one.cpu for one in spells],
        "events": result.events,
        "chunks": result.chunks,
        "bytes_read": result.bytes_read,
        "task_wall": task.wall,
        "task_cpu": task.cpu,
    }, result.accumulated


def _empty_tasks(executor: ExecutorBase, workers: int) -> Spell:
    """What a task takes that does nothing."""
    from perf.scaling.stages import empty

    quiet = executor.copy(status=False)
    made = 0

    def call(count: int) -> Any:
        nonlocal made
        # Items that differ from all before: coffea's DaskExecutor remembers results.
        items = range(made, made + count)
        made += count
        return quiet(items, empty, None)

    count = 10 * workers
    call(count)
    while True:
        (total, _), spell = timed(partial(call, count))
        if total["tasks"] != count:
            msg = f"{total['tasks']} of {count} empty tasks came back"
            raise WrongError(msg)
        if spell.wall > TASK_SECONDS or count == MOST_TASKS:
            return Spell(spell.wall / count, spell.cpu / count)
        count = min(10 * count, MOST_TASKS)


def _peaks(of_workers: Mapping[str, int | None]) -> dict[str, int | None]:
    """Peak memory of client, workers and engine, by names of Measured."""
    from perf.scaling.stages import worker_name

    own = worker_name()
    host = own.removesuffix(f"-{os.getpid()}")
    workers = [peak for peak in of_workers.values() if peak is not None]
    engine: list[int] = []
    for child in psutil.Process().children(recursive=True):
        peak = memory.peak_memory(child.pid)
        with suppress(psutil.Error):
            if peak is None or "resource_tracker" in " ".join(child.cmdline()):
                continue
            (workers if f"{host}-{child.pid}" in of_workers else engine).append(peak)
    client = memory.peak_memory()
    return {
        "peak_client": client,
        "peak_worker": max(workers, default=None),
        "peak_engine": max(engine, default=None),
    }


def check_result(prepared: Inspected, want: Reference, result: Result) -> None:
    """Raise if a result is not that of the reference, or a chunk was not processed once."""
    if result.events != prepared.events:
        msg = f"{result.events} of {prepared.events} events were processed"
        raise WrongError(msg)
    if result.repeated is None:
        msg = (
            "the workers do not share a folder with this machine, so that it is not known whether "
            "each chunk was processed once: name one with --scratch"
        )
        raise InputError(msg)
    if result.repeated:
        msg = f"{result.repeated} chunks were processed more than once"
        raise InputError(msg)
    arithmetic = difference.Arithmetic(
        prepared.events, max(result.chunks, want.chunks), single=want.single
    )
    found = difference.difference(
        result.accumulated, want.accumulated, arithmetic=arithmetic, sizes=want.sizes
    )
    if found is not None:
        msg = f"the result differs from the reference: {found}"
        raise WrongError(msg)


def main() -> None:
    """Read a request, write an outcome."""
    with answering() as answers:
        request = Request.model_validate_json(sys.stdin.read())
        try:
            outcome = visit(request)
        except InputError as error:
            outcome = Outcome(error=str(error))
        except WrongError as error:
            outcome = Outcome(error=str(error), wrong=True)
        answers.write(outcome.model_dump_json())
