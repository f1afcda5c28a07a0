"""Cases of the ttbar processor: one call of coffea's Runner on files that were inspected before."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from perf.cases.case import (
    BASE,
    EXECUTORS,
    POOLS,
    PROCESSORS,
    REAL_EVENTS,
    REAL_PROCESSOR,
    WORKERS,
    OnExecutor,
    Ready,
    Source,
    cross_check,
)
from perf.cases.data import Store, real_identity
from perf.cases.executors import plain_executors
from perf.cases.tasks import KillWorker, wait_for_workers
from perf.records import difference, provenance
from perf.records.format import label
from perf.records.record_file import What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.files.bulk import Reader
    from analysis.ttbar import Implementation
    from perf.cases.case import Inputs
    from perf.cases.scales import Scale
    from perf.records.record_file import Input

IDIOMATIC: Final = "idiomatic"
"""In the place of an implementation: the analysis as published, without kernels."""

Variations = Literal["all", "nominal"]

Named = tuple[str, str, dict[str, str | int | bool]]
"""Beginning of a case's name, its group, and further parameters of its record."""


def process(
    fileset: Mapping[str, Any],
    executor: ExecutorBase,
    *,
    implementation: Implementation | Literal["idiomatic"],
    variations: Variations,
    chunksize: int,
    kill_worker: bool = False,
    column_cache: int | None = None,
    handler: type | None = None,
    reader: Reader = "bulk",
) -> Callable[[], Any]:
    """Inspect a file set and return a function that processes it and returns the accumulator.

    The function processes every event; inspecting the files, starting and ending the executor
    are left out. It raises InputError unless each chunk was processed once, so that no speed is
    reported for more work or for less. `kill_worker` kills the worker that begins the middle one
    of the files. `handler` is uproot's source class for files of servers; None for the one that
    `run` chooses.
    """
    from analysis import ttbar
    from analysis.errors import InputError
    from analysis.files.fileset import FileSet
    from analysis.idiomatic import IdiomaticProcessor
    from analysis.runner.job import Job

    files = FileSet.of(fileset, analysis=True)
    how = "columnar" if implementation == IDIOMATIC else implementation
    job = Job.of_ttbar(files, how, variations, chunksize=chunksize, reader=reader)
    if implementation == IDIOMATIC:
        job = replace(job, processor=IdiomaticProcessor())
    inspected = job.inspect()
    paths = [file.path for file in inspected.files]
    middle = paths[len(paths) // 2]

    def run() -> Any:
        with tempfile.TemporaryDirectory(prefix="coffea-mark-") as folder:
            mark = Path(folder) / "killed"

            def wrap(processor: Any) -> Any:
                return KillWorker(processor.process, middle, mark) if kill_worker else processor

            done = inspected.run(executor, wrap=wrap, column_cache=column_cache, handler=handler)
            killed = mark.exists()
        # The killed worker need not have finished the chunks that it had begun.
        if done.repeated is None or killed != kill_worker or (done.repeated and not kill_worker):
            msg = (
                f"{done.repeated} of {done.chunks} chunks were processed again, with "
                f"{int(killed)} workers killed: no speed is reported, run it again"
            )
            raise InputError(msg)
        full = ttbar.whole_cutflow(done.accumulated["cutflow"], files)
        return {**done.accumulated, "cutflow": full}

    return run


@dataclass(frozen=True, kw_only=True)
class ProcessorCase(OnExecutor):
    """The ttbar processor over files, on an executor that runs already."""

    implementation: Implementation | Literal["idiomatic"] = "columnar"
    chunksize: int
    variations: Variations = "nominal"
    size: int
    source: Source = "synthetic"

    @property
    def what(self) -> What:
        """Named by executor, chunk size and implementation."""
        name, group, parameters = self._named()
        real = "-real" if self.source == "real" else ""
        return What(
            name=(
                f"{name}-{label(self.size)}-{self.on}"
                f"-chunk{label(self.chunksize)}-{self.implementation}{real}"
            ),
            group=group,
            kind="processor",
            subject="ttbar",
            implementation=self.implementation,
            executor=self.executor,
            workers=self.workers,
            size=self.size,
            chunksize=self.chunksize,
            parameters={
                "variations": self.variations,
                "source": self.source,
                **self.variant_parameters,
                **parameters,
            },
        )

    def _named(self) -> Named:
        return f"ttbar_{self.variations}", f"ttbar, {self.variations}", {}

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Write and inspect the files, start the executor."""
        from analysis.executors import open_executor

        fileset, identity = self._fileset(inputs)

        def expected() -> Any:
            # From local files, wherever the case itself reads them.
            with open_executor(BASE) as executor:
                return process(
                    fileset,
                    executor,
                    implementation=cross_check(self.implementation, self.size),
                    variations=self.variations,
                    chunksize=self.size,
                )()

        executor = inputs.executor(self.executor, self.workers, self.variant)
        with self._served(fileset) as (served, handler):
            yield Ready(
                run=process(
                    served,
                    executor,
                    implementation=self.implementation,
                    variations=self.variations,
                    chunksize=self.chunksize,
                    kill_worker=self._kill_worker,
                    handler=handler,
                ),
                # One result serves all executors and chunk sizes, which must not change it.
                expected=expected,
                result_key=(self.variations, self.source, self.size),
                compare=difference.agree,
                identity=identity,
                setup=self._setup(executor),
            )

    @contextmanager
    def _served(self, fileset: dict[str, Any]) -> Iterator[tuple[dict[str, Any], type | None]]:
        """The file set as it is read, and uproot's source class for it."""
        yield fileset, None

    def _fileset(self, inputs: Inputs) -> tuple[dict[str, Any], Input]:
        if self.source == "synthetic":
            fileset = inputs.store.fileset(self.size)
            return fileset, inputs.store.fileset_identity(self.size)
        path = inputs.real_file(REAL_PROCESSOR)
        fileset = {
            "ttbar__nominal": {
                "files": {str(path): "Events"},
                "metadata": {"process": "ttbar", "variation": "nominal", "xsec": 729.84},
            }
        }
        return fileset, real_identity(path, REAL_EVENTS)

    @property
    def _kill_worker(self) -> bool:
        return False

    def _setup(self, executor: ExecutorBase) -> Callable[[], object] | None:  # noqa: ARG002
        return None


@dataclass(frozen=True, kw_only=True)
class ScalingCase(ProcessorCase):
    """The processor by number of workers.

    The same events on more workers are strong scaling, as many more events weak scaling.
    """

    def _named(self) -> Named:
        return "scaling", "scaling", {}


@dataclass(frozen=True, kw_only=True)
class FilesCase(ProcessorCase):
    """The processor over the same events in more files."""

    files: int

    def _named(self) -> Named:
        return f"files{self.files}", "number of files", {"files": self.files}

    def _fileset(self, inputs: Inputs) -> tuple[dict[str, Any], Input]:
        store = Store(inputs.store.directory, self.size // self.files)
        return store.fileset(self.size), inputs.store.events(self.size).identity


@dataclass(frozen=True, kw_only=True)
class RecoveryCase(ProcessorCase):
    """The processor where one worker is killed half-way, and where none is.

    The difference is what it takes to notice the loss, to start another worker and to process
    the lost chunks again.
    """

    killed: bool

    def _named(self) -> Named:
        name = "one_killed" if self.killed else "none_killed"
        return name, "one worker killed", {"killed": self.killed}

    @property
    def cold(self) -> bool:
        """Without warm-ups, each of which would take a worker: earlier cases warmed them."""
        return self.killed

    @property
    def _kill_worker(self) -> bool:
        return self.killed

    def _setup(self, executor: ExecutorBase) -> Callable[[], object]:
        # The worker that was killed in the round before must have a successor.
        return partial(wait_for_workers, executor, self.workers)


def processors(scale: Scale) -> list[ProcessorCase]:
    """The processor by executor and chunk size, with all variations, and as published.

    Every executor has every chunk size with nominal events; all variations have the largest.
    The analysis as published is what the kernels are compared with, coffea's own executors what
    ours are compared with.
    """
    both: tuple[Variations, ...] = ("nominal", "all")
    slowest_too: tuple[Implementation, ...] = ("reference", *PROCESSORS)
    with_all = {BASE, "futures"} if scale.details else {BASE}
    largest = scale.chunksizes[-1]
    synthetic = partial(ProcessorCase, size=scale.processor_events)
    return [
        *(
            ProcessorCase(
                BASE,
                implementation=implementation,
                chunksize=REAL_EVENTS,
                variations=variations,
                size=REAL_EVENTS,
                source="real",
            )
            for variations in both
            for implementation in slowest_too
        ),
        *(
            synthetic(BASE, implementation=IDIOMATIC, chunksize=chunksize)
            for chunksize in scale.chunksizes
        ),
        *(
            synthetic(
                executor,
                workers,
                implementation=implementation,
                chunksize=chunksize,
                variations=variations,
            )
            for executor, workers in EXECUTORS
            for variations in (both if executor in with_all else both[:1])
            for chunksize in (scale.chunksizes if variations == "nominal" else (largest,))
            for implementation in PROCESSORS
        ),
        *(synthetic(name, WORKERS, "plain", chunksize=largest) for name in plain_executors(scale)),
    ]


def scalings(scale: Scale) -> list[ScalingCase]:
    """The processor by number of workers, up to one a core: the same events, and more."""
    if scale.fewest_workers is None:
        return []
    cores = provenance.machine().cores or 1
    numbers = [n for i in range(cores.bit_length()) if (n := 2**i) >= scale.fewest_workers]
    each = scale.processor_events // WORKERS
    return [
        ScalingCase(name, workers, chunksize=scale.chunksizes[0], size=size)
        for name in POOLS
        for workers in numbers
        for size in sorted({each * WORKERS, each * workers})
    ]


def many_files(scale: Scale) -> list[FilesCase]:
    """The processor on every executor by number of files."""
    return [
        FilesCase(
            name, workers, chunksize=scale.chunksizes[-1], size=scale.files_events, files=files
        )
        for name, workers in EXECUTORS
        for files in scale.files
    ]


def recoveries(scale: Scale) -> list[RecoveryCase]:
    """The processor with and without the loss of a worker."""
    return [
        RecoveryCase(
            name,
            WORKERS,
            chunksize=scale.chunksizes[0],
            size=scale.processor_events,
            killed=killed,
        )
        for name in (POOLS if scale.details else ())
        for killed in (False, True)
    ]
