"""Workloads that are measured in every version of coffea, each with the digest of its result.

Importing this module imports no coffea, so that workloads can be listed without the version that
runs them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

# What differs between versions is imported where it is used: its import is a workload.
# ruff: noqa: PLC0415

Group = Literal["events", "queries", "ttbar", "executors"]
"""Workloads of a group share a process."""

FILLED: Final = 1_000_000
"""Entries of the histograms of the workloads that only fill."""

READ: Final = (
    *(f"Jet_{field}" for field in ("pt", "eta", "phi", "mass", "jetId", "btagCSVV2")),
    *(f"Muon_{field}" for field in ("pt", "eta", "phi", "mass", "charge")),
    "MET_pt",
)
"""Branches that are read."""

KERNELS: Final = ("jets", "regions", "ht", "cleaning", "charged_pair", "trijet_pt")
"""Cheap and expensive ones, with every operation that columnar analysis is made of."""

ONE_CORE: Final = "ttbar-one-core"


@dataclass(frozen=True)
class Workload:
    """One thing that is measured."""

    name: str
    """The same in every version."""
    group: Group
    kind: Literal["import", "events", "kernel", "query", "histogram", "processor"]
    subject: str
    """Kind and subject are those of a record."""
    result: str
    """Workloads of the same result must have the same digest, in all versions."""
    detail: str = ""
    """Mode of the events, way to process them, or implementation of the kernel."""


IMPORT: Final = Workload("import", "events", "import", "coffea", "import")
"""Import of coffea.nanoevents and coffea.processor in a new process."""

MODES: Final = ("virtual", "eager", "dask")

WORKLOADS: Final[tuple[Workload, ...]] = (
    IMPORT,
    *(Workload(f"open-{mode}", "events", "events", "open", "number", mode) for mode in MODES),
    *(Workload(f"read-{mode}", "events", "events", "read", "columns", mode) for mode in MODES),
    Workload("fill", "events", "histogram", "fill", "fill"),
    Workload("fill-weighted", "events", "histogram", "fill", "fill-weighted"),
    *(
        Workload(f"{name}-{how}", "events", "kernel", name, f"kernel-{name}", how)
        for name in KERNELS
        for how in ("columnar", "compiled")
    ),
    *(Workload(f"adl-{name}", "queries", "query", name, f"adl-{name}") for name in "12345678"),
    Workload(ONE_CORE, "ttbar", "processor", "ttbar", "ttbar"),
    *(
        Workload(f"ttbar-{way}", "executors", "processor", "ttbar", "ttbar", way)
        for way in ("futures", "dask", "compute", "dask-awkward")
    ),
)
GROUPS: Final[tuple[Group, ...]] = ("events", "queries", "ttbar", "executors")


@dataclass(frozen=True)
class Ready:
    """A workload that can be called."""

    run: Callable[[], Any]
    """The timed call."""
    digest: Callable[[Any], str]
    """Identity of its result."""
    detail: str = ""
    """The way that was taken where the version chooses it."""
    in_workers: bool = False
    """Whether other processes do the work."""
    sizes: Callable[[], Any] | None = None
    """Returns `compat.Sizes` of what an executor moves."""


def ready(
    workload: Workload, path: str, *, chunksize: int, workers: int, close: contextlib.ExitStack
) -> Ready:
    """Prepare the input and workers of any workload but the import: all that is not timed.

    `path` is a NanoAOD file, `close` ends what was started. compat.MissingError if the installed
    version has no such thing.
    """
    from perf.history import compat

    match workload.kind:
        case "events":
            opened = partial(compat.open_events, path, workload.detail)
            if workload.detail not in compat.modes():
                opened()
            if workload.subject == "open":
                return Ready(opened, _digest_of_number)
            return Ready(lambda: _read(opened()), digest)
        case "histogram":
            return _fill(weighted=workload.name.endswith("weighted"))
        case "kernel":
            return _kernel(workload, path)
        case "query":
            from perf.history import portable_analysis

            mode = compat.modes()[0]
            return Ready(
                lambda: compat.compute(
                    portable_analysis.query(workload.subject, compat.open_events(path, mode))
                ),
                digest,
                mode,
            )
        case _:
            return _processor(workload, path, chunksize, workers, close)


def _digest_of_number(events: Any) -> str:
    from perf.history import compat

    return digest(int(compat.compute(compat.number_of(events))))


def _read(events: Any) -> dict[str, Any]:
    from perf.history import compat

    columns = {}
    for branch in READ:
        collection, _, field = branch.partition("_")
        columns[branch] = events[collection][field]
    if compat.is_delayed(events):
        # Together: the file would be opened for each.
        columns = compat.compute(columns)
    return {name: compat.materialised(column) for name, column in columns.items()}


def _fill(*, weighted: bool) -> Ready:
    import hist
    import numpy as np

    rng = np.random.default_rng(1)
    values = rng.exponential(100.0, FILLED)
    weights = rng.integers(1, 8, FILLED) / 4
    storage = hist.storage.Weight() if weighted else hist.storage.Double()

    def fill() -> Any:
        histogram = hist.Hist(hist.axis.Regular(100, 0, 500, name="observable"), storage=storage)
        more = {"weight": weights} if weighted else {}
        return histogram.fill(observable=values, **more)

    return Ready(fill, digest)


def _kernel(workload: Workload, path: str) -> Ready:
    from perf.history import compat

    if compat.OLD_AWKWARD:
        msg = "the kernels are written for awkward 2"
        raise compat.MissingError(msg)
    from analysis.kernels import KERNELS as registry

    kernel = registry[workload.subject]
    try:
        # Packed: compiled kernels would convert the columns in each call.
        arguments = tuple(
            _plain(column) if hasattr(column, "layout") else column
            for column in kernel.arguments(_columns(path))
        )
        kernel.run(workload.detail, *arguments)  # type: ignore[arg-type]
    except AttributeError as error:
        msg = f"the kernel is written for a newer awkward: {error}"
        raise compat.MissingError(msg) from error
    return Ready(partial(kernel.run, workload.detail, *arguments), _digest_of_kernel)  # type: ignore[arg-type]


def _digest_of_kernel(result: Any) -> str:
    # Without the masses, whose last bit differs between numba and awkward.
    return digest(result[0] if isinstance(result, tuple) else result)


@cache
def _columns(path: str) -> dict[str, Any]:
    """Columns of a file by branch, in memory of their own."""
    import uproot

    with uproot.open({path: "Events"}) as tree:
        return {branch: _plain(tree[branch].array(library="ak")) for branch in tree.keys()}  # noqa: SIM118  (no mapping)


def _plain(column: Any) -> Any:
    import awkward as ak
    import numpy as np

    if column.ndim == 1:
        return ak.to_numpy(column)
    counts, contents = ak.to_numpy(ak.num(column)), ak.to_numpy(ak.flatten(column))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ak.Array(
        ak.contents.ListOffsetArray(
            ak.index.Index64(offsets), ak.contents.NumpyArray(np.ascontiguousarray(contents))
        )
    )


def _processor(
    workload: Workload, path: str, chunksize: int, workers: int, close: contextlib.ExitStack
) -> Ready:
    from perf.history import compat, portable_analysis

    way = workload.detail or compat.ways()[0]
    if workload.detail and way == compat.ways()[0]:
        msg = f"{way} is the way of {ONE_CORE} in this version"
        raise compat.MissingError(msg)
    job = compat.Job(path, portable_analysis.Ttbar(), chunksize, workers)
    close.callback(job.close)
    pool = way in compat.POOLS
    return Ready(job.prepare(way), digest, way, pool, None if pool else partial(job.sizes, way))


# --- identity of results


def digest(result: Any) -> str:
    """SHA-256 of a histogram, array or number, or a dict or tuple of these.

    It is the same whichever version of whichever package made the result: unlike that of
    `perf.records.difference` it knows no types but whole and floating-point numbers, and needs no
    awkward 2. The records that are kept have it.
    """
    total = hashlib.sha256()
    _feed(total.update, result)
    return total.hexdigest()


def _feed(update: Callable[[bytes], None], result: Any) -> None:
    import numpy as np

    if isinstance(result, dict):
        for name in sorted(result):
            update(f"{name}:".encode())
            _feed(update, result[name])
    elif isinstance(result, tuple):
        for entry in result:
            _feed(update, entry)
    elif hasattr(result, "axes"):
        for axis in result.axes:
            _feed(update, np.asarray(axis.edges))
        view = result.view(flow=True)
        _feed(update, {name: view[name] for name in view.dtype.names or ()} or np.asarray(view))
    else:
        for part in _flat(result):
            kind = {"b": "|u1", "i": "<i8", "u": "<i8", "f": "<f8"}[part.dtype.kind]
            update(f"{part.shape}".encode())
            update(np.ascontiguousarray(part, kind).tobytes())


def _flat(result: Any) -> list[Any]:
    """Lengths and contents of a jagged array, or the array itself."""
    import awkward as ak
    import numpy as np

    if isinstance(result, ak.Array) and result.ndim > 1:
        return [*_flat(ak.num(result)), *_flat(ak.flatten(result))]
    return [np.asarray(result)]
