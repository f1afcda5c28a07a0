"""One worker run of a scaling measurement: a process that starts an executor, runs, and ends it.

`main` reads a request from standard input and writes an outcome to standard output, both JSON.
Each worker run is a process of its own, so that what it finds in memory, allocator and caches is
the same for every executor and does not depend on the order.
"""

from __future__ import annotations

import math
import os
import pickle
import random
import sys
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import cloudpickle
import psutil
import pydantic
from coffea.processor import IterativeExecutor

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, open_executor, parse_options
from analysis.files import output
from perf.cases.tasks import calls
from perf.measure import clocks, memory
from perf.measure.fresh_process import answering
from perf.records import identity
from perf.records.digest import result_digest
from perf.scaling import stages
from perf.scaling.reference import Reference, WrongError, check_result, make_reference
from perf.scaling.stages import EmptyTask, StagedProcessor, Stages

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


# --- what is asked, and what is answered


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Job(_Frozen):
    """What is processed, the same in all worker runs."""

    fileset: Path
    processor: str = TTBAR
    """TTBAR, or as `analysis.runner.processors.load` takes it."""
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    schema_name: str = "NanoAODSchema"
    tree: str = "Events"
    trace: bool = False
    """The last four are of a processor that is not TTBAR, as of `analysis.runner.job.Job`."""
    implementation: Literal["columnar", "compiled", "fused"] = "columnar"
    variations: Literal["nominal", "all"] = "nominal"
    """The last two are of TTBAR."""
    allow_empty: bool = False
    """Whether files may have no events."""
    scratch: Path | None = None
    """Folder that this machine shares with the workers, if they are on others."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of the user's that are named."""
        named = () if self.processor == TTBAR else (self.processor, self.schema_name)
        return tuple(name.partition(":")[0] for name in named if ":" in name)

    def inspect(self) -> Inspected:
        """Look at the files and make the processor; an InputError if one cannot be used."""
        from analysis.runner.job import Job as AnalysisJob

        how: dict[str, Any] = {"allow_empty": self.allow_empty, "scratch": self.scratch}
        if self.processor == TTBAR:
            job = AnalysisJob.of_ttbar(self.fileset, self.implementation, self.variations, **how)
        else:
            named = self.fileset, self.processor, self.arguments, self.schema_name, self.tree
            job = AnalysisJob.of_processor(*named, trace=self.trace, **how)
        return job.inspect()


class Configuration(_Frozen):
    """How a job is processed; coffea's own executor, with its defaults, if it is not tuned."""

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
        """Options, with `tuned` if it is False."""
        # The iterative executor has no such option: see `opened`.
        stock = not self.tuned and self.executor != "iterative"
        return {**self.options, **({"tuned": False} if stock else {})}

    @property
    def inside(self) -> bool:
        """Whether chunks are processed in the process that starts it."""
        return self.executor in {"iterative", "compute"} or self.options.get("pool") == "threads"

    @property
    def label(self) -> str:
        """The engine, with its options."""
        return ", ".join([self.engine, *(f"{k}={v}" for k, v in sorted(self.options.items()))])

    def __str__(self) -> str:
        return f"{self.label}, workers {self.workers}, chunk size {self.chunksize}"


class Request(_Frozen):
    """What a worker run is to do."""

    job: Job
    configuration: Configuration
    runs: int = 1
    """Timed runs."""
    seed: int = 0
    """Of the order of timed runs and the one with the stage timer."""
    input: str
    """Digest that the input must have."""
    reference: Path
    """File of the result that each run must have; made by this worker run if `make_reference`."""
    make_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured(Stages):
    """What a worker run measured; None is what this executor or system does not tell.

    CPU seconds are those of this process and all its descendants.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    inspect_wall: float | None
    """Seconds to open every file and look at it."""
    files: int | None
    accumulator: int | None
    """Number of files, and bytes of the pickled result; the three are not in records of before."""
    start_wall: float
    start_cpu: float
    stop_wall: float
    """Seconds to start the executor and to end it."""
    first_wall: float
    first_cpu: float
    """Of the first run, which no other warmed up."""
    wall: tuple[float, ...]
    cpu: tuple[float, ...]
    """Of the timed runs."""
    events: int
    chunks: int
    bytes_read: int | None
    """Of a run."""
    task_wall: float
    task_cpu: float
    """Seconds a task, of tasks that do nothing."""
    probed_wall: float
    probed_cpu: float
    """Of the run with the stage timer, of which the stages are."""
    workers_seen: int
    """Workers that processed a chunk."""
    batches: int | None
    lost: int | None
    """Results that the client received, and batches given to another worker."""
    peak_client: int | None
    peak_worker: int | None
    peak_engine: int | None
    """Largest resident memory in bytes of this process, of any worker, and of any other process of
    the executor: a Java virtual machine, a scheduler."""


class Outcome(_Frozen):
    """What came of a worker run: what it measured and the digest of the result, or an error.

    If it failed because the result is wrong, all that the same configuration measured is worthless.
    """

    measured: Measured | None = None
    check: str = ""
    error: str | None = None
    wrong: bool = False


def source_of(executor: str) -> str:
    """Digest of the code that is measured: of this project but for other executors."""
    # Kernels are imported by names that are made up.
    return identity.digest(
        identity.modules(
            "perf.scaling.worker", f"analysis.executors.{executor}", "analysis.kernels.*"
        )
    )


# --- measuring


class Elapsed(NamedTuple):
    """Wall and CPU seconds, the latter of this process and all its descendants."""

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> tuple[Any, Elapsed]:
    """What a call returns, and what it took."""
    cpu = clocks.cpu_of_tree()
    begin = time.perf_counter()
    result = run()
    wall = time.perf_counter() - begin
    return result, Elapsed(wall, clocks.cpu_of_tree() - cpu)


def measure(request: Request) -> Outcome:
    """Start the executor, run, and end it.

    Raises
    ------
    InputError
        If something of it cannot be done.
    WrongError
        If a result is wrong.
    """
    # It imports the analysis, which opening files is not to count.
    import analysis.runner.job  # noqa: F401

    inspected, inspect = timed(request.job.inspect)
    if inspected.digest != request.input:
        msg = "the file set or one of its files was changed while it was measured: run it again"
        raise InputError(msg)
    configuration = request.configuration
    if request.make_reference:
        content = cloudpickle.dumps(tuple(make_reference(inspected, configuration.chunksize)))
        with output.whole(request.reference) as part:
            part.write_bytes(content)
        return Outcome()
    expected = Reference(*pickle.loads(request.reference.read_bytes()))
    check = partial(check_result, inspected, expected)
    with clocks.gc_frozen(), ExitStack() as stack:
        executor, start = timed(lambda: stack.enter_context(opened(configuration)))
        values, last = _measure(request, inspected, executor, check)
        _, stop = timed(stack.close)
    measured = Measured(
        inspect_wall=inspect.wall,
        files=len(inspected.files),
        accumulator=len(cloudpickle.dumps(last)),
        start_wall=start.wall,
        start_cpu=start.cpu,
        stop_wall=stop.wall,
        **values,
    )
    cpu = (start.cpu, measured.first_cpu, measured.task_cpu, measured.probed_cpu, *measured.cpu)
    if any(map(math.isnan, cpu)):
        msg = "a worker ended during a run and took its CPU time with it: measure again"
        raise InputError(msg)
    try:
        digest = result_digest(last)
    except TypeError:
        digest = ""
    return Outcome(measured=measured, check=digest)


def opened(configuration: Configuration) -> AbstractContextManager[ExecutorBase]:
    """The executor of a configuration, for as long as it is needed."""
    if configuration.executor == "iterative" and not configuration.tuned:
        return nullcontext(IterativeExecutor(status=False))
    options = parse_options(configuration.executor, configuration.all_options)
    return open_executor(
        configuration.executor, workers=configuration.workers, **options.keywords()
    )


def _measure(
    request: Request,
    inspected: Inspected,
    executor: ExecutorBase,
    check: Callable[[Result], None],
) -> tuple[dict[str, Any], Any]:
    """All but start and stop, by names of Measured; and the last result."""
    chunksize, workers = request.configuration.chunksize, request.configuration.workers
    statistics = getattr(executor, "statistics", None)
    first, first_elapsed = timed(lambda: inspected.run(executor, chunksize=chunksize))
    check(first)
    # Before the runs: it also has the workers import the stage timer.
    task = _empty_tasks(executor, workers)
    elapsed: list[Elapsed] = []
    staged: dict[str, Any] = {}
    turns = [False] * request.runs + [True]
    random.Random(request.seed).shuffle(turns)
    for with_stages in turns:
        if statistics is not None:
            statistics.clear()
        if with_stages:
            timing, timer = stages.with_stage_timer(executor)
            result, spent = timed(
                partial(inspected.run, timing, chunksize=chunksize, wrap=StagedProcessor)
            )
            staged = {
                "probed_wall": spent.wall,
                "probed_cpu": spent.cpu,
                **asdict(stages.split(timer.times, statistics, workers * spent.wall)),
                "batches": None if statistics is None else statistics.batches,
                "lost": None if statistics is None else statistics.lost,
                "workers_seen": len(timer.times.peaks),
                **_peaks(timer.times.peaks),
            }
        else:
            result, spent = timed(lambda: inspected.run(executor, chunksize=chunksize))
            elapsed.append(spent)
        check(result)
    values = {
        **staged,
        "first_wall": first_elapsed.wall,
        "first_cpu": first_elapsed.cpu,
        "wall": tuple(run.wall for run in elapsed),
        "cpu": tuple(run.cpu for run in elapsed),
        "events": result.events,
        "chunks": result.chunks,
        "bytes_read": result.bytes_read,
        "task_wall": task.wall,
        "task_cpu": task.cpu,
    }
    return values, result.accumulated


def _empty_tasks(executor: ExecutorBase, workers: int) -> Elapsed:
    """What a task takes that does nothing."""
    quiet = executor.copy(status=False)
    count = 10 * workers
    calls(quiet, count, EmptyTask)()
    while True:
        result, elapsed = timed(calls(quiet, count, EmptyTask))
        if result != EmptyTask().expected(count):
            msg = f"{result['tasks']} of {count} empty tasks came back, or not each once"
            raise WrongError(msg)
        if elapsed.wall > TASK_SECONDS or count == MOST_TASKS:
            return Elapsed(elapsed.wall / count, elapsed.cpu / count)
        count = min(10 * count, MOST_TASKS)


def _peaks(of_workers: Mapping[str, int | None]) -> dict[str, int | None]:
    """Peak memory of client, workers and engine, by names of Measured."""
    host = stages.worker_name().removesuffix(f"-{os.getpid()}")
    workers = [peak for peak in of_workers.values() if peak is not None]
    engine: list[int] = []
    for child in psutil.Process().children(recursive=True):
        peak = memory.peak_memory(child.pid)
        with suppress(psutil.Error):
            if peak is None or "resource_tracker" in " ".join(child.cmdline()):
                continue
            (workers if f"{host}-{child.pid}" in of_workers else engine).append(peak)
    return {
        "peak_client": memory.peak_memory(),
        "peak_worker": max(workers, default=None),
        "peak_engine": max(engine, default=None),
    }


def main() -> None:
    """Read a request, write an outcome."""
    with answering() as answers:
        request = Request.model_validate_json(sys.stdin.read())
        try:
            outcome = measure(request)
        except InputError as error:
            outcome = Outcome(error=str(error))
        except WrongError as error:
            outcome = Outcome(error=str(error), wrong=True)
        answers.write(outcome.model_dump_json())
