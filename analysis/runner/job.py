"""The one way from a file set to a result, which command lines and benchmarks share.

A `Job` says what is processed and how. `Job.inspect` opens every file, `Inspected.run` processes
every event on an executor that is open and gives a `Result`, and `analysis.runner.save` writes
it. `execute` does all of it but the writing, and opens and closes the executor.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor
from coffea.util import coffea_console

from analysis import ttbar
from analysis.errors import InputError, UnreadableError
from analysis.executors import DEFAULT_CHUNKSIZE, open_executor, parse_options
from analysis.files import inspection, kept, remote
from analysis.files.bulk import BulkTrees
from analysis.files.fileset import DEFAULT_TREE, FileSet, read_fileset
from analysis.files.nanoevents import QuietSchema, counters, form_of
from analysis.runner import counting, processors
from analysis.runner.chunks import ChunkRunner, Item
from analysis.runner.column_cache import of_worker
from analysis.runner.counting import Counted
from analysis.runner.failures import explain
from analysis.runner.result import Result
from analysis.runner.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from coffea.nanoevents import BaseSchema
    from coffea.processor import ProcessorABC
    from coffea.processor.executor import ExecutorBase

    from analysis.files.bulk import Reader
    from analysis.files.inspection import File, LeftOut
    from analysis.runner.tracing import Traced
    from analysis.ttbar import Variations

DASK_AWKWARD: Final = "dask-awkward"
"""Name of coffea's other engine, beside EXECUTORS; it needs an environment of its own."""


@dataclass(frozen=True)
class Job:
    """What is processed, and how.

    Attributes
    ----------
    fileset
        The file set.
    processor
        coffea processor, or function of events; all that it needs beside events stands in their
        metadata.
    branches
        Branches that it reads, if they are known; of a tuple any one will do. Events then have no
        others, which spares making the form of a thousand; and TTrees and Parquet are read in one
        go for each chunk, which takes less time than a branch at a time.
    replacements
        Branch to read in the place of another.
    schema
        Of events; NanoAODSchema by default.
    trace
        Whether to find out which branches a copy of the processor reads, by running it on events
        without content, and to read those in one go. For processors whose branches are not known.
    chunksize
        Approximate number of events in a chunk: coffea divides each file into equal parts of this
        size or up to half as much again.
    allow_empty
        Whether a tree may have no events.
    skip_bad_files
        Whether to leave out files and chunks that cannot be read, rather than to end the run. An
        error of the processor ends it all the same.
    scratch
        Folder that the workers share with this process, for counting; by default a local one,
        which workers on other machines do not see.
    timeout
        Seconds that a server of files may take to answer.
    reader
        What reads branches in one go: ``bulk`` or ``uproot``. They give the same, and uproot takes
        longer; it reads in any case what is not a number or a list of numbers, and RNTuples. Of no
        effect on Parquet, which Arrow reads.
    normalised
        Whether histograms of the ttbar analysis are saved, scaled to the luminosity, rather than
        what the processor gave.
    replaceable
        Whether a missing branch can be replaced by another with ``--map``.
    """

    fileset: FileSet
    processor: ProcessorABC | Callable[[Any], Any]
    branches: Collection[str | tuple[str, ...]] = ()
    replacements: Mapping[str, str] = field(default_factory=dict)
    schema: type[BaseSchema] | None = None
    trace: bool = False
    chunksize: int = DEFAULT_CHUNKSIZE
    allow_empty: bool = False
    skip_bad_files: bool = False
    scratch: Path | None = None
    timeout: float = remote.TIMEOUT
    reader: Reader = "bulk"
    normalised: bool = False
    replaceable: bool = True

    @classmethod
    def of_ttbar(
        cls,
        fileset: Path | FileSet,
        implementation: ttbar.Implementation = "columnar",
        variations: Variations = "all",
        replacements: Mapping[str, str] | None = None,
        **how: Any,
    ) -> Job:
        """The ttbar analysis, on a file set or the path of one.

        `implementation`, `variations` and `replacements` are those of `TtbarProcessor`, `how` has
        attributes of the job.
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
        """A processor of the user's, on the file set of a path; `how` has attributes of the job.

        Processor, arguments and schema are as of `analysis.runner.processors`; `tree` is that of
        files that are listed without.
        """
        return cls(
            read_fileset(fileset, analysis=False, tree=tree),
            processors.load(processor, arguments),
            schema=processors.schema(schema),
            replaceable=False,
            **how,
        )

    @property
    def branch_names(self) -> list[str]:
        """All branches that may be read, by their names in the files."""
        names = [
            name
            for branch in self.branches
            for name in ([branch] if isinstance(branch, str) else branch)
        ]
        return [self.replacements.get(name, name) for name in names]

    def inspect(self) -> Inspected:
        """Open every file of the file set and check that it has what is read.

        Raises
        ------
        InputError
            If formats are mixed, or a file cannot be used.
        """
        self.fileset.data_format  # noqa: B018  (mixed formats are refused)
        left_out: list[LeftOut] | None = [] if self.skip_bad_files else None
        files = inspection.inspect(
            self.fileset,
            self.branches,
            replacements=self.replacements,
            replaceable=self.replaceable,
            allow_empty=self.allow_empty,
            bad=left_out,
            timeout=self.timeout,
        )
        return Inspected(self, tuple(files), tuple(left_out or ()))


@dataclass(frozen=True)
class Inspected:
    """A job whose files were opened and checked."""

    job: Job
    files: tuple[File, ...]
    """Files to process."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that cannot be used."""

    @property
    def events(self) -> int:
        """Number of events to process."""
        return sum(file.selected for file in self.files)

    @property
    def digest(self) -> str:
        """Digest of the file set and of the identity of its files, not of their bytes."""
        seen = [
            (file.path, file.uuid.hex(), file.events, file.stamp and file.stamp.size)
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
        column_cache: int | None = None,
        handler: type | None = None,
    ) -> Result:
        """Process every event.

        Parameters
        ----------
        executor
            An executor of `open_executor`, or coffea's own.
        chunksize
            Replaces the job's.
        wrap
            Takes the processor, and gives the one that is run.
        column_cache
            Bytes of columns that each worker keeps for the next run over the same events, by the
            same executor. Columns are then read one at a time, and the first run takes longer.
        handler
            Source of uproot that reads files of servers, in the place of `remote.RemoteSource`.

        Returns
        -------
        Result
            The merged output and its cost. Each chunk is in it once.

        Raises
        ------
        InputError
            If a file cannot be read to its end or has changed, a chunk cannot be processed
            (`ChunkError`) or takes its worker with it, or the chunks whose results were merged
            are not all, each once. If the executor is recoverable, its attribute
            ``partial_output`` is what the other chunks gave.
        """
        job, processor = self.job, wrap(self.job.processor)
        chunks = inspection.chunks(self.files, chunksize or job.chunksize)
        # coffea's executors show progress even if their status is False.
        coffea_console.quiet = not sys.stdout.isatty()
        runner = ChunkRunner(
            executor=executor,
            # Files were inspected already.
            pre_executor=IterativeExecutor(status=False),
            schema=QuietSchema if job.schema in {None, NanoAODSchema} else job.schema,
            chunksize=chunksize or job.chunksize,
            format=job.fileset.data_format,
            savemetrics=True,
            skipbadfiles=(UnreadableError,) if job.skip_bad_files else False,
            cachestrategy=partial(of_worker, column_cache) if column_cache else None,
        )
        options: dict[str, Any] = {}
        branches = job.branch_names
        form = form_of(branches) if branches else None
        root = job.fileset.data_format == "root"
        if root:
            # uproot keeps up to 100 MB of arrays for each open file. Here they are never asked for
            # again, and the file is part of a reference cycle: with that cache the memory of a
            # worker grows with every chunk, until Python's collector comes by.
            # (`python -m perf claims` measures it.)
            options["uproot_options"] = {"array_cache": None, **self._opening(handler)}
            if form:
                options["iteritems_options"] = {"filter_name": form}
        preload: dict[str, frozenset[str]] = {}
        traced: dict[str, Traced] = {}
        if job.trace:
            uproot_options = options.get("uproot_options", {})
            traced = trace(self.processed(), self.files, processor, runner.schema, uproot_options)
            preload = {name: read.branches for name, read in traced.items()}
        # coffea preloads RNTuples by an argument that uproot is about to drop.
        elif branches and not column_cache and not (root and any(not f.ttree for f in self.files)):
            preload = dict.fromkeys(job.fileset, frozenset({*branches, *counters(branches)}))
        usable = self.processed().datasets
        run = uuid.uuid4().hex
        items = [
            Item.of(
                file,
                start,
                stop,
                usable[file.dataset].metadata,
                preload.get(file.dataset),
                None if root else form,
                run,
            )
            for file, start, stop in chunks
        ]
        with counting.tally(job.scratch) as tally:
            counted = Counted(processor, tally)
            started = time.perf_counter()
            try:
                merged = runner.run(items, counted, **options)
            except Exception as error:  # noqa: BLE001  (explained in one sentence)
                raise explain(error, tally, processor) from error.__cause__
            finally:
                # Those of workers stay open until the next run begins.
                kept.close()
            wall = time.perf_counter() - started
            asked = {item.chunk for item in items}
            done = {item.chunk for item in merged["processed"]}
            metrics, counts = merged["metrics"], merged["out"]
            counting.check_chunks(
                asked, done, counts, metrics["entries"], may_skip=job.skip_bad_files
            )
            repeated = None if counts["unseen"] else counting.calls_repeated(done, tally)
        skipped = tuple(sorted(asked - done))
        return Result(
            accumulated=counts["out"],
            events=metrics["entries"],
            chunks=len(done),
            bytes_read=metrics.get("bytesread"),
            read_ahead=metrics["read ahead"],
            wall_seconds=wall,
            processing_seconds=metrics["processtime"],
            repeated=repeated,
            fileset=self.processed(skipped),
            left_out=(
                *(str(file.reason) for file in self.left_out),
                *(f"{chunk} cannot be read" for chunk in skipped),
            ),
            skipped=skipped,
            traced=traced,
        )

    def _opening(self, handler: type | None) -> dict[str, Any]:
        """Options of ``uproot.open`` for the reader; `handler` is as of `run`."""
        job = self.job
        if job.reader == "bulk" and handler is None:
            return kept.options(job.timeout)
        of_servers = remote.options({file.path for file in self.files}, job.timeout, handler)
        return of_servers | ({"object_cache": BulkTrees()} if job.reader == "bulk" else {})

    def processed(self, skipped: Collection[counting.Chunk] = ()) -> FileSet:
        """The file set without the files that are left out and these chunks."""
        lost: dict[str, int] = {}
        for chunk in skipped:
            lost[chunk.dataset] = lost.get(chunk.dataset, 0) + chunk.stop - chunk.start
        return inspection.processed(self.job.fileset, self.files, self.left_out, lost)


def execute(
    job: Job, executor: str, *, workers: int = 1, options: Mapping[str, Any] | None = None
) -> Result:
    """Inspect the files, start an executor, process every event and end the executor.

    Parameters
    ----------
    job
        The job.
    executor
        A name of EXECUTORS, or DASK_AWKWARD.
    workers, options
        Arguments of `open_executor`.

    Raises
    ------
    InputError
        If the executor, a file or the processor cannot be used, or the run fails.
    """
    known: dict[str, Any] = {"hash_seed": None, "allocator": None}
    if executor == DASK_AWKWARD:
        from analysis.runner import dask_awkward  # noqa: PLC0415  (not installed where the rest runs)

        if options or job.trace or job.skip_bad_files:
            msg = f"{DASK_AWKWARD} takes no --option, --trace or --skip-bad-files: leave it out"
            raise InputError(msg)
        inspected = job.inspect()
        with dask_awkward.open_client(workers) as client:
            result = dask_awkward.run_lazily(inspected, client)
    else:
        # Before files are inspected, which takes longer.
        parsed = parse_options(executor, options or {}, workers=workers)
        known = {"hash_seed": parsed.hash_seed, "allocator": parsed.allocator}
        inspected = job.inspect()
        with open_executor(executor, workers=workers, **parsed.keywords()) as ready:
            result = inspected.run(ready)
    return replace(result, executor={"name": executor, "workers": workers, **known})
