"""What is measured in every version: acts of a user, each with the identity of its result.

Importing this imports no coffea: whoever lists acts need not have the version that does them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Everything that differs between versions is imported where it is used: importing it is an act.
# ruff: noqa: PLC0415

Group = Literal["events", "queries", "ttbar", "executors"]
"""Acts that share a process."""

FILLED: Final = 1_000_000
"""Entries of the histograms that are filled apart."""

READ: Final = (
    *(f"Jet_{field}" for field in ("pt", "eta", "phi", "mass", "jetId", "btagCSVV2")),
    *(f"Muon_{field}" for field in ("pt", "eta", "phi", "mass", "charge")),
    "MET_pt",
)
"""Branches that are read."""

KERNELS: Final = ("jets", "regions", "ht", "cleaning", "charged_pair", "trijet_pt")
"""Cheap and dear ones, with every operation that columnar analysis is made of."""

ONE_CORE: Final = "ttbar-one-core"


@dataclass(frozen=True)
class Act:
    """One thing that is measured.

    Attributes
    ----------
    name
        The same in every version.
    group
        Which process does it.
    kind, subject
        As in a record.
    result
        Acts of the same result must have the same digest, in all versions.
    detail
        Mode of the events, way to process them, or implementation of the kernel.
    """

    name: str
    group: Group
    kind: Literal["import", "events", "kernel", "query", "histogram", "processor"]
    subject: str
    result: str
    detail: str = ""


IMPORT: Final = Act("import", "events", "import", "coffea", "import")
"""Of coffea.nanoevents and coffea.processor, by a new process."""

MODES: Final = ("virtual", "eager", "dask")

ACTS: Final[tuple[Act, ...]] = (
    IMPORT,
    *(Act(f"open-{mode}", "events", "events", "open", "number", mode) for mode in MODES),
    *(Act(f"read-{mode}", "events", "events", "read", "columns", mode) for mode in MODES),
    Act("fill", "events", "histogram", "fill", "fill"),
    Act("fill-weighted", "events", "histogram", "fill", "fill-weighted"),
    *(
        Act(f"{name}-{how}", "events", "kernel", name, f"kernel-{name}", how)
        for name in KERNELS
        for how in ("columnar", "compiled")
    ),
    *(Act(f"adl-{name}", "queries", "query", name, f"adl-{name}") for name in "12345678"),
    Act(ONE_CORE, "ttbar", "processor", "ttbar", "ttbar"),
    *(
        Act(f"ttbar-{way}", "executors", "processor", "ttbar", "ttbar", way)
        for way in ("futures", "dask", "dask-awkward")
    ),
)
GROUPS: Final[tuple[Group, ...]] = ("events", "queries", "ttbar", "executors")


@dataclass(frozen=True)
class Ready:
    """An act that can be done at once.

    Attributes
    ----------
    do
        What is timed.
    digest
        Identity of what it gives.
    detail
        The way that was taken where the version chooses it.
    in_workers
        Whether other processes do the work.
    sizes
        Gives sizes of what an executor moves.
    """

    do: Callable[[], Any]
    digest: Callable[[Any], str]
    detail: str = ""
    in_workers: bool = False
    sizes: Callable[[], Any] | None = None


def ready(
    act: Act, path: str, *, chunksize: int, workers: int, close: contextlib.ExitStack
) -> Ready:
    """Make an act's input and workers: all that is not timed.

    Parameters
    ----------
    act
        Any but the import.
    path
        NanoAOD file.
    chunksize, workers
        Of a processor.
    close
        Ends what was started.

    Raises
    ------
    bridge.MissingError
        If the installed version has no such thing.
    """
    from perf.history import compat

    match act.kind:
        case "events":
            opened = partial(compat.open_events, path, act.detail)
            if act.detail not in compat.modes():
                opened()
            if act.subject == "open":
                return Ready(opened, _digest_of_number)
            return Ready(lambda: _read(opened()), digest)
        case "histogram":
            return _fill(weighted=act.name.endswith("weighted"))
        case "kernel":
            return _kernel(act, path)
        case "query":
            from perf.history import portable_analysis

            mode = compat.modes()[0]
            return Ready(
                lambda: compat.compute(
                    portable_analysis.query(act.subject, compat.open_events(path, mode))
                ),
                digest,
                mode,
            )
        case _:
            return _processor(act, path, chunksize, workers, close)


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
        # In one go: the file would be opened for each.
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


def _kernel(act: Act, path: str) -> Ready:
    from perf.history import compat

    if compat.OLD_AWKWARD:
        msg = "the kernels are written for awkward 2"
        raise compat.MissingError(msg)
    from analysis.kernels import KERNELS as registry

    kernel = registry[act.subject]
    try:
        # Packed: as they come the compiled ones would convert them in each call.
        arguments = tuple(
            _plain(one) if hasattr(one, "layout") else one
            for one in kernel.arguments(_columns(path))
        )
        kernel.run(act.detail, *arguments)  # type: ignore[arg-type]
    except AttributeError as error:
        msg = f"the kernel is written for a newer awkward: {error}"
        raise compat.MissingError(msg) from error
    return Ready(partial(kernel.run, act.detail, *arguments), _digest_of_kernel)  # type: ignore[arg-type]


def _digest_of_kernel(result: Any) -> str:
    # Of what was found; the last bit of a mass is another in numba and in awkward.
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
    act: Act, path: str, chunksize: int, workers: int, close: contextlib.ExitStack
) -> Ready:
    from perf.history import compat, portable_analysis

    way = act.detail or compat.ways()[0]
    if act.detail and way == compat.ways()[0]:
        msg = f"{way} is what {ONE_CORE} is in this version"
        raise compat.MissingError(msg)
    job = compat.Job(path, portable_analysis.Ttbar(), chunksize, workers)
    close.callback(job.close)
    pool = way in compat.POOLS
    return Ready(job.prepare(way), digest, way, pool, None if pool else partial(job.sizes, way))


# --- identity of results


def digest(result: Any) -> str:
    """Identity of a result, whichever version of which package made it.

    Parameters
    ----------
    result
        Histogram, array, number, or a dict or tuple of these.

    Returns
    -------
    str
        Hexadecimal SHA-256 of what it holds in one form.
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
        for one in result:
            _feed(update, one)
    elif hasattr(result, "axes"):
        for axis in result.axes:
            _feed(update, np.asarray(axis.edges))
        view = result.view(flow=True)
        _feed(update, {name: view[name] for name in view.dtype.names or ()} or np.asarray(view))
    else:
        # A jagged array has its lengths in the digest as well.
        for part in _flat(result):
            kind = {"b": "|u1", "i": "<i8", "u": "<i8", "f": "<f8"}[part.dtype.kind]
            update(f"{part.shape}".encode())
            update(np.ascontiguousarray(part, kind).tobytes())


def _flat(result: Any) -> list[Any]:
    import awkward as ak
    import numpy as np

    if isinstance(result, ak.Array) and result.ndim > 1:
        return [*_flat(ak.num(result)), *_flat(ak.flatten(result))]
    return [np.asarray(result)]


def differing(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Names of results that are known and are not as they must be."""
    return sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name])
