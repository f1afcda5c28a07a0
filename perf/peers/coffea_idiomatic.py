"""coffea as its tutorials write it: NanoEvents, vectors, the Runner in chunks of `CHUNK` events.

Branches are not named beforehand: virtual arrays read what is used. Where the result depends on it,
four-vectors are made of double-precision columns, as a user does who compares with another tool.
ttbar is `analysis.idiomatic`. Kinematics are taken to be finite in queries 5, 6 and 8.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import hist
import numpy as np
from coffea import processor
from coffea.nanoevents import NanoAODSchema
from coffea.util import coffea_console

from analysis.idiomatic import IdiomaticProcessor
from perf.peers.query import CHUNK, TTBAR, Query

if TYPE_CHECKING:
    from collections.abc import Callable

NanoAODSchema.warn_missing_crossrefs = False


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    # Its executors show progress even if their status is False.
    coffea_console.quiet = True
    runner = processor.Runner(
        executor=processor.IterativeExecutor(status=False),
        pre_executor=processor.IterativeExecutor(status=False),
        schema=NanoAODSchema,
        chunksize=CHUNK,
    )
    metadata = {"process": "ttbar", "variation": "nominal"}
    fileset = {"ttbar": {"files": {path: "Events"}, "metadata": metadata}}
    return counts(runner(fileset, processor_instance=of(query)), query)


def versions() -> dict[str, str]:
    """Of coffea."""
    return {"coffea": version("coffea")}


def of(query: Query) -> processor.ProcessorABC:
    """The processor of a query."""
    return IdiomaticProcessor() if query.name == TTBAR else Adl(query)


def counts(accumulated: Any, query: Query) -> list[float]:
    """Counts of the histograms that a processor of `of` gave."""
    if query.name == TTBAR:
        from perf.peers.ours import of_ttbar  # noqa: PLC0415  (of the same histogram)

        (histogram,) = accumulated["histograms"].values()
        return of_ttbar(histogram)
    return [*accumulated["histogram"].values(flow=True)]


class Adl(processor.ProcessorABC):
    """One ADL query."""

    def __init__(self, query: Query) -> None:
        self.query = query

    def process(self, events: Any) -> dict[str, Any]:
        """Fill the histogram of a chunk."""
        query = self.query
        histogram = hist.Hist.new.Reg(query.bins, query.low, query.high).Double()
        histogram.fill(ak.to_numpy(_QUERIES[query.name](events)))
        return {"histogram": histogram}

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator


def _vectors(objects: Any, **more: Any) -> Any:
    """Lorentz vectors of double precision, in Cartesian coordinates: cheaper to add."""
    pt, eta, phi, mass = (
        ak.values_astype(objects[field], np.float64) for field in ("pt", "eta", "phi", "mass")
    )
    pz = pt * np.sinh(eta)
    components = {
        "x": pt * np.cos(phi),
        "y": pt * np.sin(phi),
        "z": pz,
        "t": np.sqrt(pt**2 + pz**2 + mass**2),
    }
    return ak.zip(
        components | more, with_name="LorentzVector", behavior=objects.behavior, depth_limit=2
    )


def _query_1(events: Any) -> Any:
    return events.MET.pt


def _query_2(events: Any) -> Any:
    return ak.flatten(events.Jet.pt)


def _query_3(events: Any) -> Any:
    return ak.flatten(events.Jet[abs(events.Jet.eta) < 1].pt)


def _query_4(events: Any) -> Any:
    return events.MET.pt[ak.sum(events.Jet.pt > 40, axis=1) >= 2]


def _query_5(events: Any) -> Any:
    muons = _vectors(events.Muon, charge=events.Muon.charge)
    pairs = ak.combinations(muons, 2, fields=["one", "other"])
    mass = (pairs.one + pairs.other).mass
    good = (pairs.one.charge != pairs.other.charge) & (mass > 60) & (mass < 120)
    return events.MET.pt[ak.any(good, axis=1)]


def _trijets(events: Any, **more: Any) -> Any:
    """The trijet with the mass closest to 172.5 GeV, of events that have one."""
    trijets = ak.combinations(_vectors(events.Jet, **more), 3, fields=["j1", "j2", "j3"])
    trijets["p4"] = trijets.j1 + trijets.j2 + trijets.j3
    best = ak.argmin(abs(trijets.p4.mass - 172.5), axis=1, keepdims=True)
    return ak.drop_none(trijets[best])


def _query_6a(events: Any) -> Any:
    return ak.flatten(_trijets(events).p4.pt)


def _query_6b(events: Any) -> Any:
    trijet = _trijets(events, btag=events.Jet.btagCSVV2)
    return ak.flatten(np.maximum(trijet.j1.btag, np.maximum(trijet.j2.btag, trijet.j3.btag)))


def _query_7(events: Any) -> Any:
    jets = events.Jet[events.Jet.pt > 30]
    for leptons in (events.Electron, events.Muon):
        _, distance = jets.nearest(leptons[leptons.pt > 10], return_metric=True)
        jets = jets[ak.fill_none(distance >= 0.4, value=True)]
    return ak.sum(ak.values_astype(jets.pt, np.float64), axis=1)


def _query_8(events: Any) -> Any:
    events = events[ak.num(events.Electron) + ak.num(events.Muon) >= 3]
    leptons = ak.concatenate(
        [
            _vectors(
                objects,
                charge=objects.charge,
                flavour=ak.full_like(objects.charge, flavour),
                lepton_pt=ak.values_astype(objects.pt, np.float64),
                lepton_phi=ak.values_astype(objects.phi, np.float64),
            )
            for objects, flavour in ((events.Electron, 11), (events.Muon, 13))
        ],
        axis=1,
    )
    leptons["number"] = ak.local_index(leptons)
    pairs = ak.combinations(leptons, 2, fields=["one", "other"])
    pairs = pairs[
        (pairs.one.flavour == pairs.other.flavour) & (pairs.one.charge != pairs.other.charge)
    ]
    some = ak.num(pairs) > 0
    pairs, leptons, met = pairs[some], leptons[some], events.MET[some]
    distance = abs((pairs.one + pairs.other).mass - 91.2)
    best = ak.firsts(pairs[ak.argmin(distance, axis=1, keepdims=True)])
    outside = leptons[(leptons.number != best.one.number) & (leptons.number != best.other.number)]
    leading = ak.firsts(outside[ak.argmax(outside.lepton_pt, axis=1, keepdims=True)])
    angle = leading.lepton_phi - ak.values_astype(met.phi, np.float64)
    product = leading.lepton_pt * ak.values_astype(met.pt, np.float64)
    return ak.drop_none(2 * np.sqrt(product) * abs(np.sin(angle / 2)))


_QUERIES: Final[dict[str, Callable[[Any], Any]]] = {
    "1": _query_1,
    "2": _query_2,
    "3": _query_3,
    "4": _query_4,
    "5": _query_5,
    "6a": _query_6a,
    "6b": _query_6b,
    "7": _query_7,
    "8": _query_8,
}
"""By query: the entries of its histogram."""
