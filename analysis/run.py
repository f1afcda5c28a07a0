"""Run a processor over a file set with coffea's Runner."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coffea.nanoevents import NanoAODSchema
from coffea.processor import Runner

from analysis import inputs
from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from coffea.processor import ProcessorABC
    from coffea.processor.executor import ExecutorBase

PACKAGES: Final = ("awkward", "coffea", "hist", "numba", "numpy", "uproot")


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
    """

    accumulated: Any
    events: int
    chunks: int
    bytes_read: int | None
    wall_seconds: float


def run(
    fileset: Mapping[str, Any],
    processor: ProcessorABC,
    executor: ExecutorBase,
    *,
    files: Collection[inputs.File],
    chunksize: int = DEFAULT_CHUNKSIZE,
    branches: Collection[str] = (),
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

    Returns
    -------
    Result
        The merged output and what it took.

    Raises
    ------
    InputError
        If a file cannot be read to its end, or the chunks processed are not all events.
    """
    if chunksize < 1:
        msg = f"a chunk cannot have {chunksize} events: ask for at least one"
        raise InputError(msg)
    data_format = inputs.data_format(fileset)
    runner = Runner(
        executor=executor,
        schema=_Schema,
        chunksize=chunksize,
        format=data_format,
        savemetrics=True,
        metadata_cache=inputs.metadata_cache(fileset, files),
    )
    todo: dict[str, Any] = dict(fileset)
    # uproot keeps up to 100 MB of arrays for each open file. Here they are never asked for again,
    # and the file is part of a reference cycle: with that cache the memory of a worker grows with
    # every chunk, until Python's collector comes by. (`python -m perf claims` measures it.)
    options: dict[str, Any] = (
        {"uproot_options": {"array_cache": None}} if data_format == "root" else {}
    )
    if branches and data_format == "root":
        # coffea preloads RNTuples by an argument that uproot is about to drop.
        if all(file.ttree for file in files):
            preload = sorted({*branches, *_counters(branches)})
            todo = {name: {**one, "preload": preload} for name, one in fileset.items()}
        options["iteritems_options"] = {"filter_name": _form_of(branches)}
    started = time.perf_counter()
    try:
        with _quiet():
            accumulated, metrics = runner(todo, processor_instance=processor, **options)
    except Exception as error:
        raise InputError(_reason(error)) from error
    wall = time.perf_counter() - started
    expected = sum(file.events for file in files)
    if metrics["entries"] != expected:
        msg = (
            f"the executor processed {metrics['entries']} of {expected} events: "
            "the result is not used, run it again"
        )
        raise InputError(msg)
    return Result(accumulated, expected, metrics["chunks"], metrics.get("bytesread"), wall)


class _Schema(NanoAODSchema):
    """NanoAODSchema without a warning for each cross reference that the file does not have."""

    warn_missing_crossrefs = False


def _form_of(branches: Collection[str]) -> list[str]:
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
    return sorted({*branches, *kinematics, *_counters(branches), *identity})


def _counters(branches: Collection[str]) -> set[str]:
    return {f"n{collection}" for collection in _collections(branches)}


def _collections(branches: Collection[str]) -> set[str]:
    return {name.partition("_")[0] for name in branches if "_" in name}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep coffea's progress bars off what is not a terminal, and its tracebacks off both."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.filterwarnings("ignore", message="Performed attempt")
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
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        ) as part:
            try:
                json.dump(content, part, indent=1)
                part.write("\n")
                part.close()
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise InputError(msg) from error
