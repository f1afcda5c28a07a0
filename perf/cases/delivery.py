"""Cases of delivery: a file set through a local ServiceX that runs already, nothing cached."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

from perf.cases.case import WORKERS, Case, Ready
from perf.cases.tasks import orphans_adopted
from perf.records.format import label
from perf.records.record_file import What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from perf.cases.case import Inputs
    from perf.cases.scales import Scale

Query = Literal["uproot-raw", "func-adl"]
FUNCADL: Final = "uproot"
"""Name of the code generator of FuncADL."""


@contextmanager
def endpoint(
    fileset: Mapping[str, Any], query: Query, data_format: str, workers: int
) -> Iterator[tuple[Callable[[], Any], Callable[[], None]]]:
    """Start an endpoint that may read a file set, and transforms `workers` files at a time.

    Yields a function that delivers all events and returns the files, and one that removes what
    was delivered. Raises NotInstalledError if something it needs is missing.
    """
    from analysis.delivery import queries
    from analysis.delivery.client import Request, deliver
    from analysis.errors import NotInstalledError

    try:
        from analysis.servicex.server import serving
    except ImportError as error:
        msg = f"the local ServiceX needs the extra `servicex`: {error}"
        raise NotInstalledError(msg) from None
    make = queries.uproot_raw if query == "uproot-raw" else queries.funcadl
    requests = [
        Request(name, list(dataset["files"]), make(next(iter(dataset["files"].values()))))
        for name, dataset in fileset.items()
    ]
    folders = {Path(path).parent for request in requests for path in request.dataset}
    with (
        TemporaryDirectory(prefix="delivery-") as temporary,
        serving(allow=sorted(folders), workers=workers) as server,
    ):
        if query == "func-adl" and FUNCADL not in server.codegens:
            msg = "FuncADL needs an environment of its own: `make dask-awkward` makes it"
            raise NotInstalledError(msg)
        cache = Path(temporary) / "cache"

        def run() -> Any:
            delivered = deliver(
                requests,
                data_format=data_format,
                config=server.config,
                cache=cache,
                progress=False,
            )
            return [path for files in delivered.values() for path in files.files]

        yield run, lambda: shutil.rmtree(cache, ignore_errors=True)


def required_events(fileset: Mapping[str, Any]) -> NDArray[Any]:
    """Numbers of the events that must arrive: those with one lepton, by the kernels.

    The query shares no code with the kernels; it may deliver more events.
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
                lepton = kernels("leptons", electrons, muons) != NEITHER
                parts.append(tree["event"].array(library="np")[lepton])
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


def agree(arrived: NDArray[Any], required: NDArray[Any]) -> bool:
    """Whether all events that must arrive did, each as often, and few others."""
    import numpy as np

    events, counts = np.unique(arrived, return_counts=True)
    needed, times = np.unique(required, return_counts=True)
    return bool(
        np.isin(needed, events).all()
        and (counts[np.searchsorted(events, needed)] >= times).all()
        and len(arrived) < 2 * len(required)
    )


@dataclass(frozen=True)
class DeliveryCase(Case):
    """The events that the analysis needs of a file set, from the request to files on disk."""

    query: Query
    data_format: str
    size: int
    workers: int = WORKERS

    in_workers = True
    cold = True
    """What was delivered before must not be there, so there is no warm-up."""

    @property
    def what(self) -> What:
        """Named by query and format."""
        return What(
            name=f"deliver-{label(self.size)}-{self.query}-{self.data_format}",
            group="delivery",
            kind="delivery",
            subject="ttbar",
            workers=self.workers,
            size=self.size,
            parameters={"query": self.query, "format": self.data_format},
        )

    def rounds(self, scale: Scale) -> int | None:
        """A delivery takes seconds."""
        return scale.start_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Start the endpoint, and deliver once: its workers then have imported all they need."""
        inputs.close_executor()
        fileset = inputs.store.fileset(self.size)
        how = (fileset, self.query, self.data_format, self.workers)
        with orphans_adopted(), endpoint(*how) as (run, forget):
            run()
            yield Ready(
                run=run,
                expected=lambda: required_events(fileset),
                result_key=("delivery", self.size),
                compare=agree,
                identity=inputs.store.fileset_identity(self.size),
                setup=forget,
                content=event_numbers,
            )


def deliveries(scale: Scale) -> list[DeliveryCase]:
    """Both kinds of query, and the formats that a selection of events is delivered in."""
    return [
        DeliveryCase("uproot-raw", "parquet", scale.processor_events),
        DeliveryCase("uproot-raw", "root-ttree", scale.processor_events),
        DeliveryCase("func-adl", "parquet", scale.processor_events),
    ]
