"""Delivery as it is measured: a file set through a running local ServiceX, nothing in any cache."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

# The analysis takes seconds to import, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

Query = Literal["uproot-raw", "func-adl"]
FUNCADL: Final = "uproot"
"""Name of the code generator of FuncADL."""


@contextmanager
def ready(
    fileset: Mapping[str, Any], query: Query, data_format: str, workers: int
) -> Iterator[tuple[Callable[[], Any], Callable[[], None]]]:
    """Start an endpoint that may read a file set.

    Parameters
    ----------
    fileset
        Of coffea's form.
    query, data_format
        As of `analysis.delivery.fileset.deliver_fileset`.
    workers
        Files that are transformed at a time.

    Yields
    ------
    tuple
        Delivers all of it, and gives which events arrived; and forgets what was delivered, so
        that it can be done anew.

    Raises
    ------
    NotInstalledError
        If what it needs is not here.
    """
    from analysis.delivery import queries
    from analysis.delivery.client import Request, deliver
    from analysis.errors import NotInstalledError

    try:
        from analysis.servicex.endpoint import serving
    except ImportError as error:
        msg = f"the local ServiceX needs the extra `servicex`: {error}"
        raise NotInstalledError(msg) from None
    make = queries.uproot_raw if query == "uproot-raw" else queries.funcadl
    requests = [
        Request(name, list(dataset["files"]), make(next(iter(dataset["files"].values()))))
        for name, dataset in fileset.items()
    ]
    folders = {Path(path).parent for one in requests for path in one.dataset}
    with (
        TemporaryDirectory(prefix="delivery-") as temporary,
        serving(allow=sorted(folders), workers=workers) as endpoint,
    ):
        if query == "func-adl" and FUNCADL not in endpoint.codegens:
            msg = "FuncADL needs an environment of its own: `make dask-awkward` makes it"
            raise NotInstalledError(msg)
        cache = Path(temporary) / "cache"

        def act() -> Any:
            delivered = deliver(
                requests,
                data_format=data_format,
                config=endpoint.config,
                cache=cache,
                progress=False,
            )
            return [path for one in delivered.values() for path in one.files]

        yield act, lambda: shutil.rmtree(cache, ignore_errors=True)


def wanted(fileset: Mapping[str, Any]) -> NDArray[Any]:
    """Numbers of the events that must arrive: those with one lepton, by the kernels.

    The query shares no code with them; it may deliver more.
    """
    import numpy as np
    import uproot

    from analysis.kernels import bind
    from analysis.kernels.leptons import NEITHER

    kernels = bind("columnar")
    parts = []
    for dataset in fileset.values():
        for path, name in dataset["files"].items():
            with uproot.open({path: name}) as tree:
                electrons, muons = (
                    kernels(kind, *(tree[f"{collection}_{field}"].array() for field in fields))
                    for kind, collection, fields in (
                        ("electrons", "Electron", ("pt", "eta", "cutBased", "sip3d")),
                        ("muons", "Muon", ("pt", "eta", "tightId", "sip3d", "pfRelIso04_all")),
                    )
                )
                one = kernels("leptons", electrons, muons) != NEITHER
                parts.append(tree["event"].array(library="np")[one])
    return np.sort(np.concatenate(parts))


def event_numbers(paths: Iterable[Path]) -> NDArray[Any]:
    """Numbers of the events in delivered files, sorted."""
    import numpy as np
    import pyarrow.parquet as pq
    import uproot

    parts = []
    for path in paths:
        if path.suffix == ".parquet":
            parts.append(pq.read_table(path, columns=["event"])["event"].to_numpy())
        else:
            with uproot.open({path: None}) as file:
                (tree,) = file.values()
                parts.append(tree["event"].array(library="np"))
    return np.sort(np.concatenate(parts))


def agree(got: NDArray[Any], want: NDArray[Any]) -> bool:
    """Whether all events that must arrive did, each as often, and few others."""
    import numpy as np

    events, counts = np.unique(got, return_counts=True)
    needed, times = np.unique(want, return_counts=True)
    there = np.isin(needed, events).all()
    return bool(
        there
        and (counts[np.searchsorted(events, needed)] >= times).all()
        and len(got) < 2 * len(want)
    )
