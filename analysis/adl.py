"""The eight ADL queries, composed of kernels.

Source: iris-hep/adl-benchmarks-index, the functionality benchmark of analysis description
languages. Every histogram has 100 bins; kinematics are in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import hist
import numpy as np
from coffea import processor

from analysis.files.columns import Columns
from analysis.kernels import Implementation, bind, column
from analysis.kernels._layout import flat, split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

BINS: Final = 100
BTAGS: Final = ("Jet_btag", "Jet_btagCSVV2")
"""The b-tag branch: its name in the Open Data of 2012, and later."""


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
    values: Callable[[Mapping[str, Any], Callable[..., Any]], NDArray[np.float64]]
    """Entries of the histogram, from columns of events and the kernels of an implementation."""

    def run(
        self, columns: Mapping[str, Any], implementation: Implementation
    ) -> NDArray[np.float64]:
        """Counts of the histogram of columns of events: underflow, 100 bins, overflow."""
        kernels = bind(implementation)
        values = self.values(columns, kernels)
        category, weights = np.zeros(len(values), np.int64), np.ones((len(values), 1))
        sums = kernels(
            "histogram", values, category, weights, bins=BINS, low=self.low, high=self.high
        )
        counts: NDArray[np.float64] = sums[0, 0, :, 0]
        return counts

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 101 edges of the bins."""
        return np.linspace(self.low, self.high, BINS + 1)


def _contents(jagged: Any) -> NDArray[np.float64]:
    """Values of all objects of all events, in double precision."""
    return split(jagged).contents[0].astype(np.float64)


def _met(columns: Mapping[str, Any], mask: NDArray[np.bool_] | None = None) -> Any:
    met = flat(columns["MET_pt"]).astype(np.float64)
    return met if mask is None else met[mask]


def _p4(columns: Mapping[str, Any], collection: str) -> list[Any]:
    return [column(columns, f"{collection}_{field}") for field in ("pt", "eta", "phi", "mass")]


def _query_1(columns: Mapping[str, Any], _: Callable[..., Any]) -> Any:
    return _met(columns)


def _query_2(columns: Mapping[str, Any], _: Callable[..., Any]) -> Any:
    return _contents(columns["Jet_pt"])


def _query_3(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    pt = columns["Jet_pt"]
    central = kernels("acceptance", pt, columns["Jet_eta"], eta_max=1.0)
    return _contents(kernels("selected", pt, central, np.ones(len(pt), np.bool_)))


def _query_4(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    hard = kernels("acceptance", columns["Jet_pt"], columns["Jet_eta"], pt_min=40.0)
    return _met(columns, kernels("count", hard) >= 2)


def _query_5(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    muons = _p4(columns, "Muon")
    return _met(columns, kernels("charged_pair", *muons, columns["Muon_charge"]))


def _query_6a(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    indices, pt = kernels("trijet_mass", *_p4(columns, "Jet"))
    return pt[indices[:, 0] >= 0]


def _query_6b(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    indices, _ = kernels("trijet_mass", *_p4(columns, "Jet"))
    btag = columns[next((name for name in BTAGS if name in columns), BTAGS[0])]
    return kernels("largest", btag, indices)[indices[:, 0] >= 0]


def _query_7(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    pt, eta, phi = (columns[f"Jet_{field}"] for field in ("pt", "eta", "phi"))
    leptons = {field: column(columns, f"Lepton_{field}") for field in ("pt", "eta", "phi")}
    every = np.ones(len(pt), np.bool_)
    hard = kernels("acceptance", leptons["pt"], leptons["eta"], pt_min=10.0)
    lepton_eta, lepton_phi = (
        kernels("selected", leptons[field], hard, every) for field in ("eta", "phi")
    )
    isolated = kernels("cleaning", eta, phi, lepton_eta, lepton_phi)
    return kernels(
        "ht",
        kernels("selected", pt, isolated & kernels("acceptance", pt, eta, pt_min=30.0), every),
    )


def _query_8(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> Any:
    pt, eta, phi, mass = _p4(columns, "Lepton")
    charge, flavour = column(columns, "Lepton_charge"), column(columns, "Lepton_flavour")
    pair = kernels("z_pair", pt, eta, phi, mass, charge, flavour)
    transverse = kernels("transverse_mass", pt, phi, pair, columns["MET_pt"], columns["MET_phi"])
    return transverse[pair[:, 0] >= 0]


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
            ("MET_pt", "Jet_pt", "Jet_eta"),
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


class AdlProcessor(processor.ProcessorABC):
    """All queries as a coffea processor, with kernels of one implementation.

    `replacements` names branches to read in the place of others.
    """

    def __init__(
        self,
        implementation: Implementation = "columnar",
        replacements: Mapping[str, str] | None = None,
    ) -> None:
        self.implementation = implementation
        self.replacements = dict(replacements or {})

    def process(self, events: Any) -> dict[str, hist.Hist]:
        """Unweighted histograms of a chunk, by query."""
        columns = Columns(events, self.replacements)
        histograms = {}
        for name, query in QUERIES.items():
            histogram = hist.Hist(
                hist.axis.Regular(BINS, query.low, query.high, label=query.title)
            )
            histogram.view(flow=True)[...] = query.run(columns, self.implementation)
            histograms[name] = histogram
        return histograms

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator
