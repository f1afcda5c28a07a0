"""uproot and awkward, without coffea: the columns of a query in steps of `CHUNK` events.

Columns are made double precision before arithmetic and before comparisons with numbers that single
precision cannot hold. Four-vectors are computed once an object, not once a combination. Kinematics
are taken to be finite in queries 5, 6 and 8 and in the trijets of ttbar.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import boost_histogram as bh
import numpy as np
import uproot

from perf.peers.query import CHUNK, TTBAR, Query

if TYPE_CHECKING:
    from collections.abc import Callable

P4: Final = ("pt", "eta", "phi", "mass")
DIRECTION: Final = ("pt", "eta", "phi")


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    columns, entries = _QUERIES[query.name]
    axis = bh.axis.Regular(query.bins, query.low, query.high)
    histograms = [bh.Histogram(axis) for _ in range(query.histograms)]
    with uproot.open(path) as file:
        for events in file["Events"].iterate(list(columns), step_size=CHUNK):
            for histogram, values in zip(histograms, entries(events), strict=True):
                histogram.fill(ak.to_numpy(values))
    return [count for one in histograms for count in one.values(flow=True)]


def versions() -> dict[str, str]:
    """Of both."""
    return {name: version(name) for name in ("uproot", "awkward")}


def _double(column: Any) -> Any:
    return ak.values_astype(column, np.float64)


def _vectors(events: Any, collection: str, *more: str) -> Any:
    """Cartesian four-vectors of a collection, with more of its fields as they are."""
    pt, eta, phi, mass = (_double(events[f"{collection}_{field}"]) for field in P4)
    pz = pt * np.sinh(eta)
    others = {field: events[f"{collection}_{field}"] for field in more}
    return ak.zip(
        {
            "x": pt * np.cos(phi),
            "y": pt * np.sin(phi),
            "z": pz,
            "e": np.sqrt(pt**2 + pz**2 + mass**2),
            **others,
        }
    )


def _sum(*vectors: Any) -> dict[str, Any]:
    first, *others = vectors
    return {c: sum((one[c] for one in others), start=first[c]) for c in ("x", "y", "z", "e")}


def _mass(p: dict[str, Any]) -> Any:
    return np.sqrt(np.maximum(0, p["e"] ** 2 - (p["x"] ** 2 + p["y"] ** 2 + p["z"] ** 2)))


def _query_1(events: Any) -> Any:
    return [events.MET_pt]


def _query_2(events: Any) -> Any:
    return [ak.flatten(events.Jet_pt)]


def _query_3(events: Any) -> Any:
    return [ak.flatten(events.Jet_pt[abs(events.Jet_eta) < 1])]


def _query_4(events: Any) -> Any:
    return [events.MET_pt[ak.sum(events.Jet_pt > 40, axis=1) >= 2]]


def _query_5(events: Any) -> Any:
    one, other = ak.unzip(ak.combinations(_vectors(events, "Muon", "charge"), 2))
    mass = _mass(_sum(one, other))
    good = (one.charge * other.charge < 0) & (mass > 60) & (mass < 120)
    return [events.MET_pt[ak.any(good, axis=1)]]


def _trijets(events: Any, *more: str) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Jets and sums of all combinations, and which is closest."""
    jets = ak.unzip(ak.combinations(_vectors(events, "Jet", *more), 3))
    sums = _sum(*jets)
    return jets, sums, ak.argmin(abs(_mass(sums) - 172.5), axis=1, keepdims=True)


def _query_6a(events: Any) -> Any:
    _, sums, best = _trijets(events)
    return [_present(np.sqrt(sums["x"] ** 2 + sums["y"] ** 2)[best])]


def _query_6b(events: Any) -> Any:
    (one, two, three), _, best = _trijets(events, "btagCSVV2")
    largest = np.maximum(np.maximum(one.btagCSVV2, two.btagCSVV2), three.btagCSVV2)
    return [_present(largest[best])]


def _present(picked: Any) -> Any:
    return ak.drop_none(ak.flatten(picked))


def _query_7(events: Any) -> Any:
    fields = {
        collection: {field: events[f"{collection}_{field}"] for field in DIRECTION}
        for collection in ("Jet", "Electron", "Muon")
    }
    leptons = ak.concatenate([ak.zip(fields[name]) for name in ("Electron", "Muon")], axis=1)
    leptons = leptons[leptons.pt > 10]
    jets = ak.zip(fields["Jet"])
    jets = _double(jets[jets.pt > 30])
    jet, lepton = ak.unzip(ak.cartesian([jets, _double(leptons)], nested=True))
    dphi = abs(jet.phi - lepton.phi)
    dphi = ak.where(dphi > np.pi, 2 * np.pi - dphi, dphi)
    close = (jet.eta - lepton.eta) ** 2 + dphi**2 < 0.4**2
    return [ak.sum(jets.pt[~ak.any(close, axis=2)], axis=1)]


def _query_8(events: Any) -> Any:
    events = events[ak.num(events.Electron_pt) + ak.num(events.Muon_pt) >= 3]
    flavours = [_vectors(events, name, "pt", "phi", "charge") for name in ("Electron", "Muon")]
    for index, one in enumerate(flavours):
        one["flavour"] = ak.full_like(one.charge, index)
    leptons = ak.concatenate(flavours, axis=1)
    leptons["number"] = ak.local_index(leptons)
    one, other = ak.unzip(ak.combinations(leptons, 2))
    candidate = (one.flavour == other.flavour) & (one.charge * other.charge < 0)
    some = ak.any(candidate, axis=1)
    one, other, leptons = one[candidate][some], other[candidate][some], leptons[some]
    best = ak.argmin(abs(_mass(_sum(one, other)) - 91.2), axis=1, keepdims=True)
    first, second = ak.flatten(one.number[best]), ak.flatten(other.number[best])
    outside = leptons[(leptons.number != first) & (leptons.number != second)]
    leading = ak.flatten(outside[ak.argmax(outside.pt, axis=1, keepdims=True)])
    angle = _double(leading.phi) - _double(events.MET_phi[some])
    met = _double(events.MET_pt[some])
    return [2 * np.sqrt(_double(leading.pt) * met) * abs(np.sin(angle / 2))]


def _ttbar(events: Any) -> Any:
    electrons = (
        (events.Electron_pt > 30)
        & (abs(_double(events.Electron_eta)) < 2.1)
        & (events.Electron_cutBased == 4)
        & (events.Electron_sip3d < 4)
    )
    muons = (
        (events.Muon_pt > 30)
        & (abs(_double(events.Muon_eta)) < 2.1)
        & events.Muon_tightId
        & (events.Muon_sip3d < 4)
        & (_double(events.Muon_pfRelIso04_all) < 0.15)
    )
    n_electrons = ak.sum(electrons, axis=1)
    one_lepton = n_electrons + ak.sum(muons, axis=1) == 1
    events, is_electron = events[one_lepton], n_electrons[one_lepton] == 1
    jets = (
        (events.Jet_pt > 30) & (abs(_double(events.Jet_eta)) < 2.4) & (events.Jet_jetId & 4 != 0)
    )
    tags = ak.sum(events.Jet_btagCSVV2[jets] > 0.5, axis=1)
    four_jets = ak.sum(jets, axis=1) >= 4
    one_b, two_b = four_jets & (tags == 1), four_jets & (tags >= 2)

    ht = ak.sum(_double(events.Jet_pt[one_b][jets[one_b]]), axis=1)
    vectors = _vectors(events[two_b], "Jet", "btagCSVV2")[jets[two_b]]
    trijets = ak.unzip(ak.combinations(vectors, 3))
    tagged = sum((one.btagCSVV2 > 0.5 for one in trijets), start=0) > 0
    sums = {c: column[tagged] for c, column in _sum(*trijets).items()}
    best = ak.argmax(sums["x"] ** 2 + sums["y"] ** 2, axis=1, keepdims=True)
    mass = ak.flatten(_mass({c: column[best] for c, column in sums.items()}))
    return [
        values[channel[region]]
        for channel in (is_electron, ~is_electron)
        for region, values in ((one_b, ht), (two_b, mass))
    ]


def _of(collection: str, *fields: str) -> tuple[str, ...]:
    return tuple(f"{collection}_{field}" for field in fields)


_QUERIES: Final[dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]]] = {
    "1": (("MET_pt",), _query_1),
    "2": (("Jet_pt",), _query_2),
    "3": (_of("Jet", "pt", "eta"), _query_3),
    "4": (("MET_pt", "Jet_pt"), _query_4),
    "5": (("MET_pt", *_of("Muon", *P4, "charge")), _query_5),
    "6a": (_of("Jet", *P4), _query_6a),
    "6b": (_of("Jet", *P4, "btagCSVV2"), _query_6b),
    "7": (
        _of("Jet", *DIRECTION) + _of("Electron", *DIRECTION) + _of("Muon", *DIRECTION),
        _query_7,
    ),
    "8": (
        ("MET_pt", "MET_phi", *_of("Electron", *P4, "charge"), *_of("Muon", *P4, "charge")),
        _query_8,
    ),
    TTBAR: (
        _of("Electron", "pt", "eta", "cutBased", "sip3d")
        + _of("Muon", "pt", "eta", "tightId", "sip3d", "pfRelIso04_all")
        + _of("Jet", *P4, "jetId", "btagCSVV2"),
        _ttbar,
    ),
}
"""By query: its columns, and the entries of each of its histograms."""
