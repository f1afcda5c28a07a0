"""Run a processor over a file set with coffea's Runner."""

from __future__ import annotations

import sys
import sysconfig
import time
import traceback
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import cloudpickle
import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory, mapping
from coffea.nanoevents import trace as coffea_trace
from coffea.processor import IterativeExecutor, ProcessorABC, Runner
from coffea.processor.executor import WorkItem
from coffea.util import coffea_console

from analysis.errors import (
    ChangedError,
    ChunkError,
    InputError,
    ProcessorError,
    UnreadableError,
    WorkerLostError,
)
from analysis.executors import DEFAULT_CHUNKSIZE
from analysis.files import inspection, remote
from analysis.files.fileset import FileSet
from analysis.files.nanoevents import QuietSchema, counters, form_of
from analysis.runner import counting
from analysis.runner.column_cache import of_file, of_worker
from analysis.runner.counting import Chunk, Counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from coffea.nanoevents import BaseSchema
    from coffea.processor.executor import ExecutorBase

    from analysis.runner.counting import Tally

READING: Final = str(Path(mapping.__file__).parent)
"""Code of coffea that reads columns of events, when the processor first uses them."""


class Traced(NamedTuple):
    """What tracing found of the branches that a processor reads.

    Attributes
    ----------
    branches
        Those that it read until it ended or failed.
    failure
        Why it did not get to its end on events without content; empty if it did.
    """

    branches: frozenset[str]
    failure: str = ""


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes
    ----------
    accumulated
        What the processor returned, merged over all chunks.
    events
        Number of events processed.
    chunks
        Number of chunks processed.
    bytes_read
        Bytes read from ROOT files, metadata included; None for Parquet, which coffea does not
        count.
    wall_seconds
        From the first chunk's start to the end of merging; without opening files to look at them
        and without the start of the executor.
    processing_seconds
        Wall seconds in the processor, summed over chunks, reading of branches included.
    repeated
        How many chunks were processed once more than their result was used, after a failure or
        the death of a worker; None if workers did not share a folder with this process to count
        it in.
    skipped
        Chunks that could not be read and were left out.
    traced
        By data set, what was found out of the branches that the processor reads, if it was asked.
    """

    accumulated: Any
    events: int
    chunks: int
    bytes_read: int | None
    wall_seconds: float
    processing_seconds: float
    repeated: int | None
    skipped: tuple[Chunk, ...] = ()
    traced: Mapping[str, Traced] = field(default_factory=dict)


def run(
    fileset: Mapping[str, Any],
    processor: ProcessorABC | Callable[[Any], Any],
    executor: ExecutorBase,
    *,
    files: Collection[inspection.File],
    chunksize: int = DEFAULT_CHUNKSIZE,
    branches: Collection[str] = (),
    schema: type[BaseSchema] | None = None,
    trace: bool = False,
    skip_bad_files: bool = False,
    scratch: Path | None = None,
    column_cache: int | None = None,
    timeout: float = remote.TIMEOUT,
    handler: type | None = None,
) -> Result:
    """Process every event of a file set.

    Parameters
    ----------
    fileset
        A `FileSet`, or what it can be made of.
    processor
        The processor; all that it needs beside events stands in their metadata.
    executor
        Ready, as of `open_executor`.
    files
        The files of the file set, as of `inputs.inspect`.
    chunksize
        Events a chunk, about: coffea divides each file into equal parts of this size or up to
        half as much again.
    branches
        Branches that the processor reads, if they are known. Then events have no others, which
        spares making the form of a thousand; and TTrees are read in one go when a chunk is
        opened, which takes less time than a branch at a time.
    schema
        Of events; NanoAODSchema by default.
    trace
        Whether to let coffea find out which branches a copy of the processor reads, by running it
        on events without content, and read those in one go. For processors whose branches are not
        known.
    skip_bad_files
        Whether to leave out chunks that cannot be read, rather than to end the run. An error of
        the processor ends it all the same.
    scratch
        Folder that the workers share with this process, for counting; by default a local one,
        which workers on other machines do not see.
    column_cache
        Bytes of columns that each worker keeps for the next run over the same events, by the
        same executor. Columns are then read one at a time, and the first run takes longer.
    timeout
        Seconds that a server of files may take to answer.
    handler
        Source of uproot that reads files of servers, in the place of `remote.RemoteSource`.

    Returns
    -------
    Result
        The merged output and what it took. Each chunk is in it once.

    Raises
    ------
    InputError
        If a file cannot be read to its end or has changed, a chunk cannot be processed
        (`ChunkError`) or takes its worker with it, or the chunks whose results were merged are
        not all, each once. If the executor is recoverable, its attribute ``partial_output`` is
        what the other chunks gave.
    """
    if chunksize < 1:
        msg = f"a chunk cannot have {chunksize} events: ask for at least one"
        raise InputError(msg)
    fileset = FileSet.of(fileset)
    data_format = fileset.data_format
    # coffea's executors show progress whatever their status says.
    coffea_console.quiet = not sys.stdout.isatty()
    runner = _Runner(
        executor=executor,
        # Files were looked at already.
        pre_executor=IterativeExecutor(status=False),
        schema=QuietSchema if schema in {None, NanoAODSchema} else schema,
        chunksize=chunksize,
        format=data_format,
        savemetrics=True,
        skipbadfiles=(UnreadableError,) if skip_bad_files else False,
        cachestrategy=partial(of_worker, column_cache) if column_cache else None,
    )
    # uproot keeps up to 100 MB of arrays for each open file. Here they are never asked for again,
    # and the file is part of a reference cycle: with that cache the memory of a worker grows with
    # every chunk, until Python's collector comes by. (`python -m perf claims` measures it.)
    options: dict[str, Any] = {}
    preload: dict[str, frozenset[str]] = {}
    traced: dict[str, Traced] = {}
    if data_format == "root":
        of_servers = remote.options({file.path for file in files}, timeout, handler)
        options["uproot_options"] = {"array_cache": None, **of_servers}
        if trace:
            traced = _trace(fileset, files, processor, runner.schema, options["uproot_options"])
            preload = {name: one.branches for name, one in traced.items()}
        # coffea preloads RNTuples by an argument that uproot is about to drop.
        elif branches and not column_cache and all(file.ttree for file in files):
            preload = dict.fromkeys(fileset, frozenset({*branches, *counters(branches)}))
        if branches:
            options["iteritems_options"] = {"filter_name": form_of(branches)}
    items = [
        _Item(
            file.dataset,
            file.path,
            file.tree,
            start,
            stop,
            file.uuid,
            dict(fileset.datasets[file.dataset].metadata),
            preload.get(file.dataset),
            file.stamp,
        )
        for file, start, stop in inspection.chunks(files, chunksize)
    ]
    with counting.tally(scratch) as tally:
        counted = Counted(processor, tally)
        started = time.perf_counter()
        try:
            merged = runner.run(items, counted, **options)
        except Exception as error:  # noqa: BLE001  (told in one sentence)
            raise _told(error, tally, processor) from error.__cause__
        wall = time.perf_counter() - started
        asked = {_chunk(item) for item in items}
        done = {_chunk(item) for item in merged["processed"]}
        metrics, counts = merged["metrics"], merged["out"]
        check_chunks(asked, done, counts, metrics["entries"], may_skip=skip_bad_files)
        repeated = None if counts["unseen"] else calls_repeated(done, tally)
    return Result(
        accumulated=counts["out"],
        events=metrics["entries"],
        chunks=len(done),
        bytes_read=metrics.get("bytesread"),
        wall_seconds=wall,
        processing_seconds=metrics["processtime"],
        repeated=repeated,
        skipped=tuple(sorted(asked - done)),
        traced=traced,
    )


@dataclass(unsafe_hash=True, frozen=True)
class _Item(WorkItem):
    """A chunk as coffea's Runner has it, and what tells its file from another."""

    stamp: inspection.Stamp | None = field(default=None, compare=False)


class _Runner(Runner):
    """coffea's Runner, which tells files that cannot be read from processors that fail."""

    @staticmethod
    def _work_function(
        *settings: Any, processor_instance: Any, cache_function: Any, **options: Any
    ) -> Any:
        """Process a chunk, on a worker."""
        given = settings[-1]
        item = given[0] if isinstance(given, tuple) else given
        _check_stamp(item)
        file = f"{item.filename} {item.fileuuid!r} {item.stamp}"
        try:
            out = Runner._work_function(
                *settings,
                processor_instance=processor_instance,
                cache_function=partial(of_file, cache_function, file),
                **options,
            )
        except ChunkError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  (told apart in there)
            raise _failure(item, error) from None
        _check_stamp(item)
        return out

    @staticmethod
    def automatic_retries(
        retries: int,
        skipbadfiles: bool | tuple[type[BaseException], ...],  # noqa: FBT001  (coffea's)
        func: Callable[..., Any],
        *args: Any,
        use_result_type: bool = False,  # noqa: ARG004
        **kwargs: Any,
    ) -> Any:
        """As coffea's, without its warnings, which workers would print."""
        for left in reversed(range(retries + 1)):
            try:
                return func(*args, **kwargs)
            except ChangedError:
                raise
            except Exception as error:
                if left:
                    continue
                if skipbadfiles and isinstance(error, UnreadableError):
                    return None
                raise
        return None  # pragma: no cover  (there is at least one try)


def _check_stamp(item: _Item) -> None:
    if item.stamp is not None and inspection.Stamp.of(item.filename) != item.stamp:
        raise ChangedError(inspection.changed(item.filename))


def _failure(item: WorkItem, error: BaseException) -> ChunkError:
    """What to raise of a chunk that failed: whose fault it is, in one sentence."""
    causes = list(_causes(error))
    if found := next((one for one in causes if isinstance(one, ChangedError)), None):
        return found
    # coffea raises "Failed to open file", "Failed creating nanoevents" or "Failed processing
    # file", from what was raised there.
    opening = str(error).startswith("Failed to open")
    cause = causes[1] if len(causes) > 1 else error
    details = "".join(traceback.format_exception(cause))
    where = f"events {item.entrystart} to {item.entrystop}"
    if isinstance(cause, InputError):
        msg = f"{item.filename}: {where} could not be processed: {cause}"
        return ProcessorError(msg, details)
    if opening or any(_is_reading(one, str(error)) for one in causes[1:]):
        return UnreadableError(inspection.unreadable(item.filename, cause, where), details)
    line = _line_of(cause)
    said = f"{type(cause).__name__}: {_brief(cause)}{f' ({line})' if line else ''}"
    return ProcessorError(f"{item.filename}: {where} could not be processed: {said}", details)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_reading(error: BaseException, stage: str) -> bool:
    """Whether an exception was raised where coffea reads events, not in the user's code."""
    # Making events reads what is preloaded, and of the user's code runs the schema alone.
    place = str(Path(uproot.__file__).parent) if stage.startswith("Failed creating") else READING
    return any(
        frame.filename.startswith(place) for frame in traceback.extract_tb(error.__traceback__)
    )


def _line_of(error: BaseException) -> str:
    """Where in the user's code an exception came from: the last line outside of packages."""
    packages = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*packages, "<")) and frame.filename not in OURS:
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""


OURS: Final = frozenset({__file__, counting.__file__})
"""Code between coffea's Runner and the user's."""


def _told(error: Exception, tally: Tally, processor: Any) -> InputError:
    """One sentence of what ended a run; with what a recoverable executor had by then."""
    told = error
    if isinstance(error, WorkerLostError):
        told = InputError(fatal(error, tally))
    elif not isinstance(error, InputError):
        told = InputError(_reason(error, processor))
    if (partial := getattr(error, "partial_output", None)) is not None:
        told.partial_output = partial["out"]  # type: ignore[attr-defined]
    return told  # type: ignore[return-value]


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _reason(error: BaseException, processor: Any) -> str:
    """One sentence of what coffea or an engine raised, which is no chunk that failed."""
    if "pickle" in str(error) and (found := unpicklable(processor)):
        return f"the processor cannot be sent to workers: {found}: make it in process()"
    return f"the run failed: {type(error).__name__}: {_brief(error)}"


def unpicklable(processor: Any) -> str:
    """The attribute of a processor that cannot be pickled, and why; empty if all can."""
    for name, value in getattr(processor, "__dict__", {}).items():
        try:
            cloudpickle.dumps(value)
        except Exception as error:  # noqa: BLE001  (whatever an object's own pickling raises)
            return f"its attribute {name} ({type(value).__name__}): {_brief(error)}"
    return ""


def _chunk(item: WorkItem) -> Chunk:
    return Chunk(item.dataset, item.filename, int(item.entrystart), int(item.entrystop))


def check_chunks(
    asked: set[Chunk], done: set[Chunk], counts: Mapping[str, int], events: int, *, may_skip: bool
) -> None:
    """Whether the merged output holds the result of each chunk once.

    `done` are the chunks of which it holds a result at all; so many results as chunks then means
    one of each.
    """
    wrong = None
    if done - asked or (asked - done and not may_skip):
        wrong = f"{len(done)} of {len(asked)} chunks"
    elif counts["results"] != len(done):
        wrong = f"{counts['results']} results of {len(done)} chunks"
    elif events != (expected := sum(chunk.stop - chunk.start for chunk in done)):
        wrong = f"{events} of {expected} events"
    if wrong:
        msg = f"the executor merged {wrong}: the result is not used, run it again"
        raise InputError(msg)


def calls_repeated(done: set[Chunk], tally: Tally) -> int:
    """How many calls of the processor are not in the result.

    Raises
    ------
    InputError
        If a result was merged that no call of this run gave.
    """
    calls = tally.read()["end"]
    if cached := [chunk for chunk in done if chunk not in calls]:
        msg = (
            f"{len(cached)} of {len(done)} chunks were never processed, their results come from "
            "an earlier run: the result is not used, restart the executor and run it again"
        )
        raise InputError(msg)
    return sum(calls[chunk] - 1 for chunk in done)


def fatal(error: WorkerLostError, tally: Tally) -> str:
    """One sentence on what workers died of."""
    suspects = tally.unfinished()
    if not suspects:
        return f"the run failed: {error}; no chunk was at work then, run it again"
    chunk, times = suspects[0]
    return (
        f"{chunk} could not be processed: {error}, {times} of them at this chunk; if memory is "
        "short ask for smaller chunks or fewer workers, else look for a crash in the processor"
    )


def _trace(
    fileset: FileSet,
    files: Collection[inspection.File],
    processor: ProcessorABC | Callable[[Any], Any],
    schema: type[BaseSchema],
    options: Mapping[str, Any],
) -> dict[str, Traced]:
    """Branches that the processor reads of each data set, found on its first file.

    coffea's Runner can trace, but gives the processor no metadata of the data set, and runs the
    very object that is sent to workers: what it keeps of events that do not exist would count.
    """
    found: dict[str, Traced] = {}
    for file in files:
        if file.dataset in found:
            continue
        about = {
            **fileset.datasets[file.dataset].metadata,
            "dataset": file.dataset,
            "filename": file.path,
            "treename": file.tree,
            "entrystart": 0,
            "entrystop": 0,
            "fileuuid": str(UUID(bytes=file.uuid)),
        }
        with uproot.open({file.path: None}, **options) as opened:
            events = NanoEventsFactory.from_root(
                file=opened,
                treepath=file.tree,
                schemaclass=schema,
                metadata=about,
                mode="virtual",
                entry_start=0,
                entry_stop=0,
            ).events()
            found[file.dataset] = _traced(processor, events)
    return found


def _traced(processor: ProcessorABC | Callable[[Any], Any], events: Any) -> Traced:
    """Branches that copies of a processor read of events without content."""
    read: set[str] = set()
    failure = ""
    # No processor that takes numbers out of arrays gets far with the first.
    for trace in (
        coffea_trace.trace_with_typetracer,
        coffea_trace.trace_with_length_zero_array,
        coffea_trace.trace_with_length_one_array,
    ):
        copy = cloudpickle.loads(cloudpickle.dumps(processor))
        function = copy.process if isinstance(copy, ProcessorABC) else copy
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read |= trace(function, events)
        failures = [str(one.message) for one in said if TRACING_FAILED in str(one.message)]
        if not failures:
            return Traced(frozenset(read))
        failure = " ".join(failures[-1].removeprefix(TRACING_FAILED).split())[:300]
    return Traced(frozenset(read), failure)


TRACING_FAILED: Final = "Exception during function tracing: "
"""How coffea warns of what a processor raised."""
