"""The eight ADL queries, composed of kernels.

Source: iris-hep/adl-benchmarks-index, the functionality benchmark of analysis description
languages. Every histogram has 100 bins; kinematics are in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import hist
import numpy as np
from coffea import processor

from analysis.errors import InputError
from analysis.files.columns import Columns
from analysis.kernels import Implementation, bind, column
from analysis.kernels._layout import flat
from analysis.kernels.occupancy import numbers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

BINS: Final = 100
BTAGS: Final = ("Jet_btag", "Jet_btagCSVV2")
"""The b-tag branch: its name in the Open Data of 2012, and later."""
LEPTONS_MIN: Final = 3
"""Leptons of an event of query 8."""


Entries = tuple[Any, Any]
"""What a histogram is filled with: values, and which of them (None: all)."""


@dataclass(frozen=True)
class Query:
    """One query: the branches that it reads, and its histogram."""

    name: str
    """"1" to "8"; the sixth fills two histograms, "6a" and "6b"."""
    title: str
    low: float
    """Range of the histogram, in GeV except for the b-tag discriminant."""
    high: float
    inputs: tuple[str, ...]
    entries: Callable[[Mapping[str, Any], Callable[..., Any]], Entries]
    """Entries of the histogram, from columns of events and the kernels of an implementation."""

    def run(self, columns: Mapping[str, Any], implementation: Implementation) -> NDArray[np.int64]:
        """Counts of the histogram of columns of events: underflow, 100 bins, overflow."""
        kernels = bind(implementation)
        values, keep = self.entries(columns, kernels)
        counts: NDArray[np.int64] = kernels(
            "occupancy", values, keep, bins=BINS, low=self.low, high=self.high
        )
        return counts

    def values(
        self, columns: Mapping[str, Any], kernels: Callable[..., Any]
    ) -> NDArray[np.float64]:
        """What the histogram is filled with, in double precision."""
        values, keep = numbers_of(*self.entries(columns, kernels))
        return values[keep].astype(np.float64)

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 101 edges of the bins."""
        return np.linspace(self.low, self.high, BINS + 1)


def _p4(columns: Mapping[str, Any], collection: str) -> list[Any]:
    return [column(columns, f"{collection}_{field}") for field in _P4]


def _query_1(columns: Mapping[str, Any], _: Callable[..., Any]) -> Entries:
    return columns["MET_pt"], None


def _query_2(columns: Mapping[str, Any], _: Callable[..., Any]) -> Entries:
    return columns["Jet_pt"], None


def _query_3(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    pt = columns["Jet_pt"]
    return pt, kernels("acceptance", pt, columns["Jet_eta"], eta_max=1.0)


def _query_4(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    hard = kernels("acceptance", columns["Jet_pt"], pt_min=40.0)
    return columns["MET_pt"], kernels("count", hard) >= 2


def _query_5(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    muons = _p4(columns, "Muon")
    return columns["MET_pt"], kernels("charged_pair", *muons, columns["Muon_charge"])


def _query_6a(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    indices, pt = kernels("trijet_mass", *_p4(columns, "Jet"))
    return pt, indices[:, 0] >= 0


def _query_6b(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    indices, _ = kernels("trijet_mass", *_p4(columns, "Jet"))
    btag = columns[next((name for name in BTAGS if name in columns), BTAGS[0])]
    return kernels("largest", btag, indices), indices[:, 0] >= 0


def _query_7(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    pt, eta, phi = (columns[f"Jet_{field}"] for field in ("pt", "eta", "phi"))
    every = np.ones(len(pt), np.bool_)
    kept = kernels("acceptance", pt, pt_min=30.0)
    for collection in ("Electron", "Muon"):
        hard = kernels("acceptance", columns[f"{collection}_pt"], pt_min=10.0)
        directions = (
            kernels("selected", columns[f"{collection}_{field}"], hard, every)
            for field in ("eta", "phi")
        )
        kept = kept & kernels("cleaning", eta, phi, *directions)
    return kernels("ht", kernels("selected", pt, kept, every)), None


def _query_8(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Entries:
    # Leptons of other events need not be put into one list.
    number = ak.num(columns["Electron_pt"]) + ak.num(columns["Muon_pt"])
    some = flat(number) >= LEPTONS_MIN
    pt, eta, phi, mass, charge, flavour = (
        kernels(
            "joined", *(column(columns, f"{one}_{field}") for one in ("Electron", "Muon")), some
        )
        for field in (*_P4, "charge", "flavour")
    )
    pair = kernels("z_pair", pt, eta, phi, mass, charge, flavour, leptons_min=LEPTONS_MIN)
    met = (flat(columns[name])[some] for name in ("MET_pt", "MET_phi"))
    return kernels("transverse_mass", pt, phi, pair, *met), pair[:, 0] >= 0


def _of(collection: str, *fields: str) -> tuple[str, ...]:
    return tuple(f"{collection}_{field}" for field in fields)


_P4: Final = ("pt", "eta", "phi", "mass")
_LEPTONS: Final = _of("Electron", *_P4, "charge") + _of("Muon", *_P4, "charge")

QUERIES: Final[dict[str, Query]] = {
    query.name: query
    for query in (
        Query("1", "missing ET of all events", 0, 2000, ("MET_pt",), _query_1),
        Query("2", "pt of all jets", 15, 60, ("Jet_pt",), _query_2),
        Query("3", "pt of jets with abs(eta) < 1", 15, 60, _of("Jet", "pt", "eta"), _query_3),
        Query(
            "4",
            "missing ET of events with two jets of pt > 40",
            0,
            2000,
            ("MET_pt", "Jet_pt"),
            _query_4,
        ),
        Query(
            "5",
            "missing ET of events with an opposite-charge muon pair, 60 < mass < 120",
            0,
            2000,
            ("MET_pt", *_of("Muon", *_P4, "charge")),
            _query_5,
        ),
        Query(
            "6a",
            "pt of the trijet with mass closest to 172.5",
            15,
            40,
            _of("Jet", *_P4),
            _query_6a,
        ),
        Query(
            "6b",
            "largest b-tag discriminant in that trijet",
            0,
            1,
            _of("Jet", *_P4, "btag"),
            _query_6b,
        ),
        Query(
            "7",
            "sum of pt of jets with pt > 30 far from leptons with pt > 10",
            15,
            200,
            _of("Jet", "pt", "eta", "phi")
            + _of("Electron", "pt", "eta", "phi")
            + _of("Muon", "pt", "eta", "phi"),
            _query_7,
        ),
        Query(
            "8",
            "transverse mass of missing ET and the leading lepton outside the best Z pair",
            15,
            250,
            ("MET_pt", "MET_phi", *_LEPTONS),
            _query_8,
        ),
    )
}
"""Every query, by name."""

INPUTS: Final = tuple(
    sorted({name for query in QUERIES.values() for name in query.inputs} - set(BTAGS))
)
"""Branches that the queries read, beside one of BTAGS."""


def branches(queries: Collection[str] = tuple(QUERIES)) -> list[str | tuple[str, ...]]:
    """Branches that queries read, given by name; of a tuple any one will do."""
    names = dict.fromkeys(name for query in queries for name in QUERIES[query].inputs)
    return [BTAGS if name in BTAGS else name for name in names]


class AdlProcessor(processor.ProcessorABC):
    """Queries as a coffea processor, with kernels of one implementation.

    `replacements` names branches to read in the place of others; `queries` are names of QUERIES.
    """

    def __init__(
        self,
        implementation: Implementation = "columnar",
        replacements: Mapping[str, str] | None = None,
        queries: Collection[str] = tuple(QUERIES),
    ) -> None:
        if unknown := [name for name in queries if name not in QUERIES]:
            msg = f"there is no query {unknown[0]}: use some of {', '.join(QUERIES)}"
            raise InputError(msg)
        self.implementation = implementation
        self.replacements = dict(replacements or {})
        self.queries = tuple(queries)

    def process(self, events: Any) -> dict[str, hist.Hist]:
        """Unweighted histograms of a chunk, by query."""
        columns = Columns(events, self.replacements)
        histograms = {}
        for name in self.queries:
            query = QUERIES[name]
            histogram = hist.Hist(
                hist.axis.Regular(BINS, query.low, query.high, label=query.title)
            )
            histogram.view(flow=True)[...] = query.run(columns, self.implementation)
            histograms[name] = histogram
        return histograms

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator
