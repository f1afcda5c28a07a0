"""A job: what is processed, looked at before the work, and run on an executor.

The one way from a file set to results, which the command lines and the benchmarks share.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from analysis import ttbar
from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, open_executor, parse_options
from analysis.files import inspection, remote
from analysis.files.fileset import DEFAULT_TREE, FileSet, read_fileset
from analysis.runner import processors
from analysis.runner.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from coffea.nanoevents import BaseSchema
    from coffea.processor import ProcessorABC
    from coffea.processor.executor import ExecutorBase

    from analysis.files.inspection import File, LeftOut
    from analysis.kernels import Implementation
    from analysis.runner.run import Result
    from analysis.ttbar import Variations

DASK_AWKWARD: Final = "dask-awkward"
"""Beside EXECUTORS: coffea's other engine, which needs an environment of its own."""


@dataclass(frozen=True)
class Job:
    """What is processed, and how.

    Attributes
    ----------
    fileset
        The file set.
    processor
        coffea processor, or function of events.
    branches
        Branches that it reads, if they are known; of a tuple any one will do.
    replacements
        Branch to read in the place of another.
    schema, trace, chunksize, skip_bad_files, scratch, timeout
        As of `analysis.runner.run.run`.
    modules
        As of `open_executor`.
    allow_empty
        As of `analysis.files.inspection.inspect`.
    normalised
        Whether histograms of the ttbar analysis are saved, scaled to the luminosity, rather than
        what the processor gave.
    """

    fileset: FileSet
    processor: ProcessorABC | Callable[[Any], Any]
    branches: Collection[str | tuple[str, ...]] = ()
    replacements: Mapping[str, str] = field(default_factory=dict)
    schema: type[BaseSchema] | None = None
    trace: bool = False
    modules: tuple[str, ...] = ()
    chunksize: int = DEFAULT_CHUNKSIZE
    allow_empty: bool = False
    skip_bad_files: bool = False
    scratch: Path | None = None
    timeout: float = remote.TIMEOUT
    normalised: bool = False

    @classmethod
    def of_ttbar(
        cls,
        fileset: Path | FileSet,
        implementation: Implementation = "columnar",
        variations: Variations = "all",
        replacements: Mapping[str, str] | None = None,
        **how: Any,
    ) -> Job:
        """The ttbar analysis.

        Parameters
        ----------
        fileset
            The file set, or where it is.
        implementation, variations, replacements
            As of `TtbarProcessor`.
        **how
            Attributes of the job.
        """
        if not isinstance(fileset, FileSet):
            fileset = read_fileset(fileset)
        return cls(
            fileset,
            ttbar.TtbarProcessor(implementation, variations, replacements),
            ttbar.branches(variations),
            replacements=dict(replacements or {}),
            normalised=True,
            **how,
        )

    @classmethod
    def of_processor(
        cls,
        fileset: Path,
        processor: str,
        arguments: Mapping[str, Any] | None = None,
        schema: str = "NanoAODSchema",
        tree: str = DEFAULT_TREE,
        **how: Any,
    ) -> Job:
        """A processor of the user's.

        Parameters
        ----------
        fileset
            Where the file set is.
        processor, arguments
            As of `analysis.runner.processors.load`.
        schema
            As of `analysis.runner.processors.schema`.
        tree
            Of files that are listed without.
        **how
            Attributes of the job.
        """
        loaded = processors.load(processor, arguments)
        return cls(
            read_fileset(fileset, analysis=False, tree=tree),
            loaded.processor,
            schema=processors.schema(schema),
            modules=loaded.modules,
            **how,
        )

    def inspect(self) -> Inspected:
        """Look at all files.

        Raises
        ------
        InputError
            As of `analysis.files.inspection.inspect`.
        """
        self.fileset.data_format  # noqa: B018  (mixed formats are refused)
        left_out: list[LeftOut] | None = [] if self.skip_bad_files else None
        files = inspection.inspect(
            self.fileset,
            self.branches,
            replacements=self.replacements,
            allow_empty=self.allow_empty,
            bad=left_out,
            timeout=self.timeout,
        )
        return Inspected(self, tuple(files), tuple(left_out or ()))


@dataclass(frozen=True)
class Inspected:
    """A job whose files were looked at.

    Attributes
    ----------
    job
        The job.
    files
        Those that are used.
    left_out
        Those that are not.
    """

    job: Job
    files: tuple[File, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def events(self) -> int:
        """Number of events that are processed."""
        return sum(file.selected for file in self.files)

    @property
    def digest(self) -> str:
        """Identity of the input: of the file set and of its files, not of all their bytes."""
        seen = [
            (
                file.path,
                file.uuid.hex(),
                file.events,
                None if file.stamp is None else file.stamp.size,
            )
            for file in self.files
        ]
        text = json.dumps([self.job.fileset.digest, seen])
        return hashlib.sha256(text.encode()).hexdigest()

    def run(
        self,
        executor: ExecutorBase,
        *,
        chunksize: int | None = None,
        wrap: Callable[[Any], Any] = lambda processor: processor,
        **more: Any,
    ) -> Result:
        """Process every event.

        Parameters
        ----------
        executor
            Ready, as of `open_executor`.
        chunksize
            In the place of the job's.
        wrap
            Makes of the processor the one that is run.
        **more
            `column_cache` and `handler` of `analysis.runner.run.run`.

        Raises
        ------
        InputError
            As of `analysis.runner.run.run`.
        """
        return run(self.usable, wrap(self.job.processor), executor, **self._how(chunksize), **more)

    @property
    def usable(self) -> FileSet:
        """The file set without what is left out."""
        return inspection.processed(self.job.fileset, self.files, self.left_out)

    def processed(self, result: Result) -> FileSet:
        """What of the file set is in a result, for normalising it."""
        lost: dict[str, int] = {}
        for chunk in result.skipped:
            lost[chunk.dataset] = lost.get(chunk.dataset, 0) + chunk.stop - chunk.start
        return inspection.processed(self.job.fileset, self.files, self.left_out, lost)

    def run_lazily(self, workers: int) -> Result:
        """Process every event with dask-awkward.

        Parameters
        ----------
        workers
            Number of worker processes.

        Raises
        ------
        InputError
            As of `analysis.runner.dask_awkward.run_lazily`.
        """
        from analysis.runner import dask_awkward  # noqa: PLC0415  (not installed where the rest runs)

        how = self._how(None)
        del how["trace"], how["skip_bad_files"], how["timeout"]
        with dask_awkward.open_client(workers) as client:
            return dask_awkward.run_lazily(self.usable, self.job.processor, client, **how)

    def _how(self, chunksize: int | None) -> dict[str, Any]:
        job = self.job
        names = [name for one in job.branches for name in ([one] if isinstance(one, str) else one)]
        return {
            "files": self.files,
            "chunksize": chunksize or job.chunksize,
            "branches": [job.replacements.get(name, name) for name in names],
            "schema": job.schema,
            "trace": job.trace,
            "skip_bad_files": job.skip_bad_files,
            "scratch": job.scratch,
            "timeout": job.timeout,
        }


class Done(NamedTuple):
    """What came of a job.

    Attributes
    ----------
    result
        Merged output and what it took.
    fileset
        What of the file set is in it.
    left_out
        What is not, a sentence each.
    executor
        Its name, number of workers, and PYTHONHASHSEED of these, by which sets are ordered; None
        if that is not known.
    """

    result: Result
    fileset: FileSet
    left_out: tuple[str, ...]
    executor: Mapping[str, Any]


def execute(
    job: Job, executor: str, *, workers: int = 1, options: Mapping[str, Any] | None = None
) -> Done:
    """Look at the files, start an executor, run and end it.

    Parameters
    ----------
    job
        The job.
    executor
        A name of EXECUTORS, or DASK_AWKWARD.
    workers, options
        As of `open_executor`.

    Raises
    ------
    InputError
        If anything of it cannot be done.
    """
    if executor == DASK_AWKWARD:
        if options or job.trace or job.skip_bad_files:
            msg = f"{DASK_AWKWARD} takes no --option, --trace or --skip-bad-files: leave it out"
            raise InputError(msg)
        hash_seed = None
        inspected = job.inspect()
        result = inspected.run_lazily(workers)
    else:
        # Before files are looked at, which takes longer.
        parsed = parse_options(executor, options or {}, workers=workers)
        hash_seed = parsed.hash_seed
        inspected = job.inspect()
        with open_executor(executor, workers=workers, **parsed.keywords(job.modules)) as ready:
            result = inspected.run(ready)
    reasons = [
        *(str(one.reason) for one in inspected.left_out),
        *(f"{chunk} cannot be read" for chunk in result.skipped),
    ]
    about = {"name": executor, "workers": workers, "hash_seed": hash_seed}
    return Done(result, inspected.processed(result), tuple(reasons), about)
