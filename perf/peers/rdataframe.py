"""RDataFrame from Python: expressions and C++ functions (`rdataframe.hpp`), compiled by cling.

cling optimises little unless it is told to (``EXTRA_CLING_ARGS``), which a user who cares does. ROOT
compiles the expressions of a query when it is first asked; measured is a later call. Histograms are
TH1D, whose edges round as ROOT's do (`query.Edges`); the comparison takes that into account.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Before ROOT starts cling.
os.environ.setdefault("EXTRA_CLING_ARGS", "-O3")

import ROOT

from perf.peers.query import TTBAR, Query

ROOT.gInterpreter.Declare(f'#include "{Path(__file__).with_name("rdataframe.hpp")}"')


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    events = ROOT.RDataFrame("Events", path)
    # All are booked before the first is read: the events are looped over once.
    if query.name == TTBAR:
        booked = _ttbar(events, query)
    else:
        booked = [_histogram(*_ENTRIES[query.name](events), query)]
    return [one.GetBinContent(i) for one in booked for i in range(query.size)]


def versions() -> dict[str, str]:
    """Of ROOT."""
    return {"ROOT": str(ROOT.gROOT.GetVersion())}


def _histogram(events: Any, column: str, query: Query) -> Any:
    # Every histogram needs a name, and a title.
    return events.Histo1D(("", "", query.bins, query.low, query.high), column)


def _p4(collection: str, *more: str) -> str:
    return ", ".join(f"{collection}_{field}" for field in ("pt", "eta", "phi", "mass", *more))


def _directions(collection: str) -> str:
    return ", ".join(f"{collection}_{field}" for field in ("pt", "eta", "phi"))


def _query_3(events: Any) -> tuple[Any, str]:
    return events.Define("central_pt", "Jet_pt[abs(Jet_eta) < 1]"), "central_pt"


def _query_4(events: Any) -> tuple[Any, str]:
    return events.Filter("Sum(Jet_pt > 40) >= 2"), "MET_pt"


def _query_5(events: Any) -> tuple[Any, str]:
    return (
        events.Filter("nMuon >= 2").Filter(f"peers::z_candidate({_p4('Muon', 'charge')})"),
        "MET_pt",
    )


def _trijet(events: Any) -> Any:
    return (
        events.Filter("nJet >= 3")
        .Define("trijet", f"peers::closest_trijet({_p4('Jet')})")
        .Filter("trijet.i >= 0")
    )


def _query_6a(events: Any) -> tuple[Any, str]:
    return _trijet(events).Define("trijet_pt", "trijet.pt"), "trijet_pt"


def _query_6b(events: Any) -> tuple[Any, str]:
    return _trijet(events).Define("btag", "peers::largest(trijet, Jet_btagCSVV2)"), "btag"


def _query_7(events: Any) -> tuple[Any, str]:
    columns = ", ".join(map(_directions, ("Jet", "Electron", "Muon")))
    return events.Define("isolated_ht", f"peers::isolated_ht({columns})"), "isolated_ht"


def _query_8(events: Any) -> tuple[Any, str]:
    leptons = f"{_p4('Electron', 'charge')}, {_p4('Muon', 'charge')}"
    return (
        events.Filter("nElectron + nMuon >= 3").Define(
            "mt", f"peers::transverse_mass({leptons}, MET_pt, MET_phi)"
        ),
        "mt",
    )


_ENTRIES = {
    "1": lambda events: (events, "MET_pt"),
    "2": lambda events: (events, "Jet_pt"),
    "3": _query_3,
    "4": _query_4,
    "5": _query_5,
    "6a": _query_6a,
    "6b": _query_6b,
    "7": _query_7,
    "8": _query_8,
}
"""By query: the events that are left, and the column that is filled."""


def _ttbar(events: Any, query: Query) -> list[Any]:
    electrons = "Electron_pt, Electron_eta, Electron_cutBased, Electron_sip3d"
    muons = "Muon_pt, Muon_eta, Muon_tightId, Muon_sip3d, Muon_pfRelIso04_all"
    four_jets = (
        events.Define("electrons", f"peers::good_electrons({electrons})")
        .Define("muons", f"peers::good_muons({muons})")
        .Filter("electrons + muons == 1")
        .Define("jets", "peers::good_jets(Jet_pt, Jet_eta, Jet_jetId)")
        .Filter("jets.size() >= 4")
        .Define("b_tags", "peers::b_tags(jets, Jet_btagCSVV2)")
    )
    regions = (
        four_jets.Filter("b_tags == 1").Define("observable", "peers::ht(jets, Jet_pt)"),
        four_jets.Filter("b_tags >= 2").Define(
            "observable", f"peers::top_mass(jets, {_p4('Jet', 'btagCSVV2')})"
        ),
    )
    return [
        _histogram(region.Filter(f"{channel} == 1"), "observable", query)
        for channel in ("electrons", "muons")
        for region in regions
    ]
