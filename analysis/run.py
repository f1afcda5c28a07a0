"""Run a processor over a file set with coffea's Runner."""

from __future__ import annotations

import io
import json
import lzma
import os
import platform
import re
import sys
import time
import warnings
import zlib
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import cramjam
import pyarrow as pa
import uproot
from coffea.nanoevents import NanoAODSchema
from coffea.nanoevents import trace as coffea_trace
from coffea.processor import IterativeExecutor, Runner

from analysis import counting, inputs, remote
from analysis.column_cache import of_worker
from analysis.counting import Chunk, Counted
from analysis.errors import InputError, WorkerLostError
from analysis.executors import DEFAULT_CHUNKSIZE
from analysis.output import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from coffea.nanoevents import BaseSchema
    from coffea.processor import ProcessorABC
    from coffea.processor.executor import ExecutorBase, WorkItem

    from analysis.counting import Tally

PACKAGES: Final = ("awkward", "coffea", "hist", "numba", "numpy", "uproot")

BAD_FILE: Final = (
    OSError,
    uproot.DeserializationError,
    uproot.KeyInFileError,
    cramjam.DecompressionError,
    lzma.LZMAError,
    zlib.error,
    pa.ArrowException,
)
"""What reading a damaged file raises, and no processor by itself."""


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
    """

    accumulated: Any
    events: int
    chunks: int
    bytes_read: int | None
    wall_seconds: float
    processing_seconds: float
    repeated: int | None
    skipped: tuple[Chunk, ...] = ()


def run(
    fileset: Mapping[str, Any],
    processor: ProcessorABC | Callable[[Any], Any],
    executor: ExecutorBase,
    *,
    files: Collection[inputs.File],
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
        Of coffea's form, as of `inputs.read_fileset`.
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
        Whether to let coffea find out which branches the processor reads, by running it on events
        without content, and read those in one go. For processors whose branches are not known.
    skip_bad_files
        Whether to leave out chunks that cannot be read, rather than to end the run.
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
        If a file cannot be read to its end, a chunk cannot be processed or takes its worker with
        it, or the chunks whose results were merged are not all, each once.
    """
    if chunksize < 1:
        msg = f"a chunk cannot have {chunksize} events: ask for at least one"
        raise InputError(msg)
    data_format = inputs.data_format(fileset)
    if data_format == "parquet":
        trace = False  # coffea reads of Parquet what is asked for, and cannot be told before.
    runner = Runner(
        executor=executor,
        # Files were looked at already; if this looks at one again, to trace, it does so here.
        pre_executor=IterativeExecutor(status=False),
        schema=QuietSchema if schema in {None, NanoAODSchema} else schema,
        chunksize=chunksize,
        format=data_format,
        savemetrics=True,
        skipbadfiles=BAD_FILE if skip_bad_files else False,
        metadata_cache=inputs.metadata_cache(fileset, files),
        cachestrategy=partial(of_worker, column_cache) if column_cache else None,
    )
    todo: dict[str, Any] = dict(fileset)
    # uproot keeps up to 100 MB of arrays for each open file. Here they are never asked for again,
    # and the file is part of a reference cycle: with that cache the memory of a worker grows with
    # every chunk, until Python's collector comes by. (`python -m perf claims` measures it.)
    options: dict[str, Any] = {}
    if data_format == "root":
        paths = {file.path for file in files}
        of_servers = remote.options(paths, timeout, handler)
        options["uproot_options"] = {"array_cache": None, **of_servers}
    if branches and data_format == "root":
        # coffea preloads RNTuples by an argument that uproot is about to drop.
        if not column_cache and all(file.ttree for file in files):
            preload = sorted({*branches, *counters(branches)})
            todo = {name: {**one, "preload": preload} for name, one in fileset.items()}
        options["iteritems_options"] = {"filter_name": form_of(branches)}
    with counting.tally(scratch) as tally, _quiet():
        counted = Counted(processor, tally)
        try:
            chunks = list(
                runner.preprocess(
                    todo,
                    uproot_options=options.get("uproot_options"),
                    **({"trace": _traced, "processor_instance": processor} if trace else {}),
                )
            )
            started = time.perf_counter()
            merged = runner.run(chunks, counted, **options)
        except WorkerLostError as error:
            raise InputError(fatal(error, tally)) from error
        except Exception as error:
            raise InputError(_reason(error)) from error
        wall = time.perf_counter() - started
        asked = {_chunk(item) for item in chunks}
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
    )


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


def _traced(function: Callable[[Any], Any], events: Any) -> set[str]:
    """Branches that a function reads, as coffea's Runner asks for them."""
    with warnings.catch_warnings():
        # coffea tries typetracers first, on which no processor that takes numbers out of arrays
        # gets far, and then events of length nought and one.
        warnings.filterwarnings("ignore", message="Exception during")
        found: set[str] = coffea_trace.trace(function, events)
    return found


class QuietSchema(NanoAODSchema):
    """NanoAODSchema without a warning for each cross reference that the file does not have."""

    warn_missing_crossrefs = False


def form_of(branches: Collection[str]) -> list[str]:
    """Branches that NanoEvents needs to make events of `branches`; they need not all exist.

    The counters of the collections, what it takes an object's four-vector and charge from, and
    what identifies an event.
    """
    kinematics = {
        f"{collection}_{field}"
        for collection in _collections(branches)
        for field in ("pt", "eta", "phi", "mass", "charge")
    }
    identity = {"run", "luminosityBlock", "event"}
    return sorted({*branches, *kinematics, *counters(branches), *identity})


def counters(branches: Collection[str]) -> set[str]:
    """Branches that say how many objects each event has, of the collections of `branches`."""
    return {f"n{collection}" for collection in _collections(branches)}


def _collections(branches: Collection[str]) -> set[str]:
    return {name.partition("_")[0] for name in branches if "_" in name}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep coffea's progress bars off what is not a terminal, and its tracebacks off both."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", message="Performed attempt")
        warnings.filterwarnings("ignore", message="Skipping bad file")
        if sys.stdout.isatty():
            yield
        else:
            with redirect_stdout(io.StringIO()):
                yield


def _reason(error: BaseException) -> str:
    """One sentence of what coffea raises when a chunk fails."""
    text = " ".join(str(error).split())
    # "Failed processing file: WorkItem(dataset=..., filename='x.root', ..., entrystart=0, ...).
    # The error was: ValueError('...')."
    item = re.search(r"filename='([^']*)'.*?entrystart=(\d+), entrystop=(\d+)", text)
    cause = text.partition("The error was: ")[2] or text or type(error).__name__
    cause = re.sub(r"^InputError\((['\"])(.*)\1\)\.?$", r"\2", cause)
    if item is None:
        return f"the run failed: {cause[:300]}"
    path, start, stop = item.groups()
    if remote.protocol_of(path) in remote.PORTS and re.search(remote.OF_SERVERS, cause):
        return f"events {start} to {stop} could not be read: {remote.explain(path, cause)}"
    return f"{path}: events {start} to {stop} could not be processed: {cause[:300]}"


def provenance(**more: Any) -> dict[str, Any]:
    """What a result was made with: versions, machine, and `more`."""
    return {
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine()},
        **more,
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is there whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
