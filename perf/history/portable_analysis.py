"""An analysis that runs unchanged in every coffea release since 0.7.22.

Events may be eager, lazy, virtual or delayed. No cut lies between two neighbouring numbers of single
precision, and everything is computed in double precision: no version of numpy or awkward can then
select other events, and the histograms of all releases must be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import hist
import numpy as np
from coffea import processor
from coffea.nanoevents.methods import vector

from perf.history import compat

if TYPE_CHECKING:
    from collections.abc import Callable

BTAG_MIN: Final = 0.5
BINS: Final = 100

ak.behavior.update(vector.behavior)


def double(column: Any) -> Any:
    """A column in double precision."""
    return ak.values_astype(column, np.float64)


def vectors(objects: Any, **more: Any) -> Any:
    """Coffea's Lorentz vectors of a collection, in double precision."""
    fields = {name: double(getattr(objects, name)) for name in ("pt", "eta", "phi", "mass")}
    return ak.zip({**fields, **more}, with_name="PtEtaPhiMLorentzVector")


# --- the ADL queries (iris-hep/adl-benchmarks-index)


def query_1(events: Any) -> Any:
    """Missing ET of all events."""
    return events.MET.pt


def query_2(events: Any) -> Any:
    """Pt of all jets."""
    return ak.flatten(events.Jet.pt)


def query_3(events: Any) -> Any:
    """Pt of jets with abs(eta) < 1."""
    return ak.flatten(events.Jet.pt[abs(events.Jet.eta) < 1])


def query_4(events: Any) -> Any:
    """Missing ET of events with two jets of pt > 40."""
    return events.MET.pt[ak.sum(events.Jet.pt > 40, axis=1) >= 2]


def query_5(events: Any) -> Any:
    """Missing ET of events with an opposite-charge muon pair, 60 < mass < 120."""
    muons = vectors(events.Muon, charge=events.Muon.charge)
    pairs = ak.combinations(muons, 2, fields=["one", "two"])
    mass = (pairs.one + pairs.two).mass
    good = (pairs.one.charge * pairs.two.charge < 0) & (mass > 60) & (mass < 120)
    return events.MET.pt[ak.any(good, axis=1)]


def query_6(events: Any) -> Any:
    """Pt of the trijet with mass closest to 172.5."""
    trijets = ak.combinations(vectors(events.Jet), 3, fields=["one", "two", "three"])
    systems = trijets.one + trijets.two + trijets.three
    closest = ak.argmin(abs(systems.mass - 172.5), axis=1, keepdims=True)
    return ak.flatten(systems.pt[closest], axis=None)


def query_7(events: Any) -> Any:
    """Sum of pt of jets with pt > 30 that are far from leptons with pt > 10."""
    jets = events.Jet[events.Jet.pt > 30]
    near = False
    for leptons in (events.Electron, events.Muon):
        jet, lepton = ak.unzip(
            ak.cartesian([vectors(jets), vectors(leptons[leptons.pt > 10])], nested=True)
        )
        near = near | ak.any(jet.delta_r(lepton) < 0.4, axis=2)
    return ak.sum(double(jets.pt[~near]), axis=1)


def query_8(events: Any) -> Any:
    """Transverse mass of missing ET and the leading lepton outside the best Z pair."""
    leptons = ak.concatenate(
        [
            vectors(events.Electron, kind=events.Electron.charge * 11),
            vectors(events.Muon, kind=events.Muon.charge * 13),
        ],
        axis=1,
    )
    enough = ak.num(leptons) >= 3
    leptons, met_pt, met_phi = leptons[enough], events.MET.pt[enough], events.MET.phi[enough]
    leptons = ak.zip(
        {
            **{name: getattr(leptons, name) for name in ("pt", "eta", "phi", "mass", "kind")},
            "index": ak.local_index(leptons.pt, axis=1),
        },
        with_name="PtEtaPhiMLorentzVector",
    )
    pairs = ak.combinations(leptons, 2, fields=["one", "two"])
    pairs = pairs[pairs.one.kind == -pairs.two.kind]
    distance = abs((pairs.one + pairs.two).mass - 91.2)
    best = ak.argmin(distance, axis=1, keepdims=True)
    one, two = (ak.fill_none(ak.firsts(side.index[best]), -1) for side in (pairs.one, pairs.two))
    others = leptons[(leptons.index != one) & (leptons.index != two) & (one >= 0)]
    third = others[ak.argmax(others.pt, axis=1, keepdims=True)]
    turned = np.cos(third.phi - double(met_phi))
    return ak.flatten(np.sqrt(2 * third.pt * double(met_pt) * (1 - turned)), axis=None)


QUERIES: Final[dict[str, tuple[Callable[[Any], Any], float, float]]] = {
    "1": (query_1, 0, 2000),
    "2": (query_2, 15, 60),
    "3": (query_3, 15, 60),
    "4": (query_4, 0, 2000),
    "5": (query_5, 0, 2000),
    "6": (query_6, 15, 40),
    "7": (query_7, 15, 200),
    "8": (query_8, 15, 250),
}
"""Values that are filled and range of the histogram, by name of the query."""


def query(name: str, events: Any) -> Any:
    """Histogram of a query; that of delayed events must be computed."""
    values, low, high = QUERIES[name]
    histogram = compat.new_histogram(events, hist.axis.Regular(BINS, low, high, name="observable"))
    histogram.fill(observable=values(events))
    return histogram


# --- the ttbar analysis


class Ttbar(processor.ProcessorABC):
    """Single-lepton ttbar of the Analysis Grand Challenge, columnar and without variations.

    Its cuts are those of `analysis.ttbar`, except that numbers without an exact binary form are
    replaced by neighbours that have one.
    """

    def process(self, events: Any) -> dict[str, Any]:
        """A histogram by region, and the numbers of events after each step, of NanoEvents."""
        electrons, muons, jets = events.Electron, events.Muon, events.Jet
        electrons = electrons[
            (electrons.pt > 30)
            & (abs(electrons.eta) < 2.125)
            & (electrons.cutBased == 4)
            & (electrons.sip3d < 4)
        ]
        muons = muons[
            (muons.pt > 30)
            & (abs(muons.eta) < 2.125)
            & muons.tightId
            & (muons.sip3d < 4)
            & (muons.pfRelIso04_all < 0.15625)
        ]
        jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.375) & ((jets.jetId & 4) != 0)]

        one_lepton = ak.num(electrons) + ak.num(muons) == 1
        four_jets = one_lepton & (ak.num(jets) >= 4)
        btags = ak.sum(jets.btagCSVV2 > BTAG_MIN, axis=1)
        regions = {"4j1b": four_jets & (btags == 1), "4j2b": four_jets & (btags >= 2)}

        result = {
            "events": compat.number_of(events),
            "one_lepton": compat.count(one_lepton),
            "four_jets": compat.count(four_jets),
        }
        for region, (selected, observable) in {
            "4j1b": (regions["4j1b"], scalar_sum),
            "4j2b": (regions["4j2b"], hadronic_top),
        }.items():
            histogram = compat.new_histogram(
                events, hist.axis.Regular(25, 50, 550, name="observable")
            )
            histogram.fill(observable=observable(jets[selected]))
            result[region] = histogram
        return result

    def postprocess(self, accumulator: Any) -> Any:
        """Return the accumulator unchanged."""
        return accumulator


def scalar_sum(jets: Any) -> Any:
    """HT of each event in GeV."""
    return ak.sum(double(jets.pt), axis=1)


def hadronic_top(jets: Any) -> Any:
    """Mass in GeV of the b-tagged trijet of largest pt, of events that have one."""
    trijets = ak.combinations(
        vectors(jets, tagged=jets.btagCSVV2 > BTAG_MIN), 3, fields=["one", "two", "three"]
    )
    trijets = trijets[trijets.one.tagged | trijets.two.tagged | trijets.three.tagged]
    systems = trijets.one + trijets.two + trijets.three
    hardest = ak.argmax(systems.pt, axis=1, keepdims=True)
    return ak.flatten(systems.mass[hardest], axis=None)
