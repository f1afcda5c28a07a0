"""coffea's second engine beside executors: dask-awkward, by `coffea.dataset_tools.apply_to_fileset`.

It has no Runner: a lazy array stands for the events of a data set, its partitions are the chunks,
and dask computes what is built of it. dask-awkward needs a dask before 2025.4, so this runs in an
environment of its own (`MISSING`).
"""

from __future__ import annotations

import glob
import logging
import pickle
import re
import time
import uuid
import weakref
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import cloudpickle
from coffea.dataset_tools import apply_to_fileset
from coffea.nanoevents import NanoAODSchema
from coffea.processor import accumulate

from analysis.allocator import ALLOCATOR
from analysis.errors import ChangedError, InputError, WorkerLostError
from analysis.executors.worker import warm
from analysis.files import inspection
from analysis.files.nanoevents import QuietSchema, counters, form_of
from analysis.runner import counting
from analysis.runner.counting import Chunk, Counted
from analysis.runner.failures import fatal
from analysis.runner.result import Result

# Not installed where the rest of the package runs.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from coffea.nanoevents import BaseSchema

    from analysis.runner.job import Inspected

FAN_IN: Final = 8
"""Number of results that a task merges."""

UNREAD: Final = re.compile(r"PlaceholderArray.* at '[^']*/(\w+)%2C", re.DOTALL)
"""awkward's error about a branch that was left out."""

MISSING: Final = (
    "running with dask-awkward needs an environment of its own: `make dask-awkward` makes it in "
    ".venv-dask-awkward, use the Python there"
)


def run_lazily(inspected: Inspected, client: Any = None) -> Result:
    """Process every event of a job, as partitions of dask-awkward arrays.

    The processor is called with the events of one partition after the other, and need know
    nothing of dask. If the job does not say which branches it reads, every branch is read:
    dask-awkward does not see what a processor does with a partition.

    Parameters
    ----------
    inspected
        A job on ROOT files. Partitions are made of the numbers of events that looking at them
        found; coffea opens the first file of each data set once more, for the form of its events.
    client
        A `distributed.Client`, as of `open_client`; None to work in this process.

    Returns
    -------
    Result
        What was merged over all data sets, and what it took. Unlike with an executor,
        ``wall_seconds`` has the making of the graph in it, and ``processing_seconds`` the opening
        of files.

    Raises
    ------
    InputError
        If dask-awkward is not installed, a file cannot be read to its end, a chunk cannot be
        processed or takes its worker with it, or the chunks whose results were merged are not
        all, each once.
    """
    dask = _dask()
    job, files = inspected.job, inspected.files
    asked = [
        Chunk(file.dataset, file.path, start, stop)
        for file, start, stop in inspection.chunks(files, job.chunksize)
    ]
    if job.fileset.data_format != "root" or not all(file.ttree for file in files):
        msg = (
            "with dask-awkward coffea reads TTrees only: use an executor for Parquet and RNTuples"
        )
        raise InputError(msg)
    fileset = inspected.processed()
    by_dataset: dict[str, list[Chunk]] = {}
    for chunk in asked:
        by_dataset.setdefault(chunk.dataset, []).append(chunk)
    trees = {(file.dataset, file.path): file.tree for file in files}
    branches = job.branch_names
    with counting.tally(job.scratch) as tally:
        counted = Counted(job.processor, tally)
        started = time.perf_counter()
        build = partial(_of_each, counted, frozenset({*branches, *counters(branches)}))
        built = [
            _apply(build, fileset[name], name, chunks, trees, branches, job.schema)
            for name, chunks in by_dataset.items()
        ]
        try:
            (merged,) = dask.compute(
                _tree(dask.optimize(*built)),
                scheduler="synchronous" if client is None else client,
            )
        except InputError:
            raise
        except Exception as error:
            raise InputError(_reason(error, tally)) from error
        if other := [file.path for file in files if inspection.Stamp.of(file.path) != file.stamp]:
            raise ChangedError(inspection.changed(other[0]))
        counted.postprocess(merged)
        wall = time.perf_counter() - started
        counting.check_chunks(
            set(asked), merged["processed"], merged, merged["events"], may_skip=False
        )
        repeated = (
            None if merged["unseen"] else counting.calls_repeated(merged["processed"], tally)
        )
    return Result(
        accumulated=merged["out"],
        events=merged["events"],
        chunks=len(merged["processed"]),
        bytes_read=merged["bytes"],
        wall_seconds=wall,
        processing_seconds=merged["seconds"],
        repeated=repeated,
        fileset=fileset,
    )


@contextmanager
def open_client(workers: int = 1) -> Iterator[Any]:
    """Start worker processes of one thread each, yield their `distributed.Client`, and end them.

    Every worker has imported the analysis.
    """
    dask = _dask()
    from distributed import Client, LocalCluster

    spawned = "distributed.nanny.pre-spawn-environ"
    # distributed has glibc return memory at once and take it again for each array, which costs
    # half as much CPU time again.
    kept = {k: v for k, v in dask.config.get(spawned).items() if not k.startswith("MALLOC_")}
    settings = {
        spawned: {**kept, **ALLOCATOR},
        # A worker that died and is not back within 15 s is given up. A busy machine takes longer
        # to import coffea, and without workers dask waits for ever.
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            # `run_lazily` says in one sentence what failed.
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm)
        yield client


def _dask() -> Any:
    try:
        import dask
        import dask_awkward  # noqa: F401
        import distributed  # noqa: F401
    except ImportError as error:
        raise InputError(MISSING) from error
    return dask


def _apply(
    build: Callable[[Any], Any],
    dataset: Mapping[str, Any],
    name: str,
    chunks: Sequence[Chunk],
    trees: Mapping[tuple[str, str], str],
    branches: Collection[str],
    schema: type[BaseSchema] | None,
) -> Any:
    """Apply `build` to the lazy events of a data set."""
    files: dict[str, Any] = {}
    for chunk in chunks:
        # uproot takes brackets in a path for a pattern.
        file = files.setdefault(
            glob.escape(chunk.path), {"object_path": trees[name, chunk.path], "steps": []}
        )
        file["steps"].append([chunk.start, chunk.stop])
    options: dict[str, Any] = {"allow_read_errors_with_report": (_Never,)}
    if branches:
        # The form of events is part of every task: with a thousand branches, megabytes.
        options["filter_name"] = form_of(branches)
    try:
        # One data set at a time, so that the file that cannot be opened is known.
        built, _ = apply_to_fileset(
            build,
            {name: {"files": files, "metadata": dict(dataset.get("metadata") or {})}},
            schemaclass=QuietSchema if schema in {None, NanoAODSchema} else schema,
            uproot_options=options,
        )
    except Exception as error:
        raise InputError(inspection.unreadable(chunks[0].path, error)) from error
    return built[name]


class _Never(Exception):
    """Never raised: uproot reports what it read only if it may ignore some exception."""


def _of_each(counted: Counted, branches: frozenset[str], events: Any) -> Any:
    """Lazy array whose partitions are the results of the chunks."""
    import dask_awkward

    reader, where = _reader(events)
    wanted = branches & reader.common_keys if branches else reader.common_keys
    read = dask_awkward.from_map(
        _Reader(reader.project_manually(wanted)), where, token=uuid.uuid4().hex, label="read"
    )
    return read.map_partitions(
        _Process(counted),
        label="process",
        # Otherwise dask hashes the processor, which may be large.
        token=uuid.uuid4().hex,
        meta=dask_awkward.lib.core.empty_typetracer(),
    )


def _reader(events: Any) -> tuple[Any, list[Any]]:
    """The function that reads partitions of lazy events, and its argument for each."""
    (layer,) = (layer for layer in events.dask.layers.values() if hasattr(layer, "io_func"))
    return layer.io_func, list(layer.inputs)


def _tree(arrays: Sequence[Any]) -> Any:
    """Delayed sum of all partitions of lazy arrays."""
    import dask

    merge = dask.delayed(_merge, pure=False)
    parts = [part for array in arrays for part in array.to_delayed(optimize_graph=False)]
    while len(parts) > 1:
        parts = [merge(parts[i : i + FAN_IN]) for i in range(0, len(parts), FAN_IN)]
    return parts[0]


def _reason(error: Exception, tally: counting.Tally) -> str:
    """One sentence about a computation that failed outside of the functions below."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        deaths = f"workers died {error.allowed_failures + 1} times"
        return fatal(WorkerLostError(deaths), tally)
    return f"the run failed: {_cause(error)}"


# --- on workers


class _Once:
    """A callable that a worker process unpickles once, not with every task.

    The behaviors of events alone are 100 kB, and take 10 ms to pickle and unpickle.
    """

    code: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle of a pickle that is made once."""
        if self.code is None:
            self.code = cloudpickle.dumps((type(self), self.__dict__))
        return _received, (self.code,)


@lru_cache(maxsize=64)
def _received(code: bytes) -> Any:
    kind, state = pickle.loads(code)
    received = object.__new__(kind)
    received.__dict__.update(state, code=code)
    return received


class _Reader(_Once):
    """coffea's reader of partitions, with bytes, seconds and the file in the events' attributes.

    It takes the reader's place in the graph: dask-awkward calls its methods.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def mock(self) -> Any:
        """Events without content."""
        return self.reader.mock()

    def __call__(self, where: tuple[str, str, int, int, bool]) -> Any:
        """Events of a partition, with the metadata that they have in coffea's Runner."""
        path, tree, start, stop, _ = where
        began = time.perf_counter()
        try:
            events, report = self.reader(where)
        except Exception as error:
            raise InputError(inspection.unreadable(path, error)) from error
        metadata = {
            **events.metadata,
            "filename": path,
            "treename": tree,
            "entrystart": start,
            "entrystop": stop,
        }
        origin = _Origin()
        attributes = {
            "bytes_read": int(report["performance_counters", "num_requested_bytes"][0]),
            "seconds": time.perf_counter() - began,
            "@events_factory": origin,
        }
        events = ak.with_parameter(events, "metadata", metadata, attrs=attributes)
        origin.reference = weakref.ref(events)
        return events


class _Origin:
    """The events of a partition, for its objects to look up cross references."""

    reference: Callable[[], Any]

    def events(self) -> Any:
        """The events, which are alive as long as the partition is processed."""
        return self.reference()


class _Process(_Once):
    """Processing of a partition."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted

    def __call__(self, events: Any) -> dict[str, Any]:
        """Result of a chunk, with its cost."""
        chunk = _chunk(events)
        began = time.perf_counter()
        try:
            out = self.counted.process(events)
        except ChangedError:
            raise
        except Exception as error:
            msg = f"{chunk} could not be processed: {_cause(error)}"
            raise InputError(msg) from error
        return {
            **out,
            "processed": {chunk},
            "events": len(events),
            "bytes": events.attrs["bytes_read"],
            "seconds": events.attrs["seconds"] + time.perf_counter() - began,
        }


def _chunk(events: Any) -> Chunk:
    about = events.metadata
    return Chunk(*(about[key] for key in ("dataset", "filename", "entrystart", "entrystop")))


def _merge(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum of results, which are left unchanged."""
    merged: dict[str, Any] = accumulate(parts)
    return merged


def _cause(error: BaseException) -> str:
    """Beginning of an exception's text, without line breaks."""
    text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    if unread := UNREAD.search(text):
        return f"it reads {unread[1]}, which is not among the branches that it was said to read"
    return " ".join(text.split())[:300]
