"""The ADL queries on events computed by hand: those of the published histograms are in test_adl."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor

from analysis.adl import INPUTS, QUERIES, AdlProcessor, branches
from analysis.errors import InputError
from analysis.kernels import bind
from analysis.synthetic.writer import collections_of
from tests.support.jobs import run
from tests.support.nanoevents import nano_events
from tests.support.strategies import array_of

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.kernels import Implementation

PI: Final = math.pi
P4: Final = ("pt", "eta", "phi", "mass")
FIELDS: Final = {
    "Electron": (*P4, "charge"),
    "Muon": (*P4, "charge"),
    "Jet": (*P4, "btagCSVV2"),
}
Objects = list[tuple[Any, ...]]


def columns(*events: dict[str, Any]) -> dict[str, Any]:
    """Columns of events that are written object by object, those that are not there empty."""
    found = {
        name: array_of(name, [float(event.get(name, 0.0)) for event in events])
        for name in ("MET_pt", "MET_phi")
    }
    for collection, fields in FIELDS.items():
        for number, field in enumerate(fields):
            name = f"{collection}_{field}"
            values = [[one[number] for one in event.get(collection, [])] for event in events]
            found[name] = array_of(name, values)
    return found


def jet(pt: float, eta: float = 0.0, phi: float = 0.0, btag: float = 0.0) -> tuple[float, ...]:
    return pt, eta, phi, 0.0, btag


def lepton(pt: float, eta: float, phi: float, mass: float, charge: int) -> tuple[Any, ...]:
    return pt, eta, phi, mass, charge


def still(mass: float, charge: int) -> tuple[Any, ...]:
    return lepton(0.0, 0.0, 0.0, mass, charge)


# Massless, in steps of 90 degrees. Of jets 0, 1 and 2 energy 90, momentum (20, 30): their mass of
# sqrt(8100 - 1300) = 82.5 is the largest, and so the nearest to 172.5, and pt is sqrt(1300).
CROSS: Final = [
    jet(40.0, btag=0.105),
    jet(30.0, phi=PI / 2, btag=0.705),
    jet(20.0, phi=PI, btag=0.3),
    jet(10.0, phi=-PI / 2, btag=0.9),
]

HAND: Final[dict[str, tuple[list[dict[str, Any]], list[float]]]] = {
    # By query: events, and what is filled.
    "1": ([{"MET_pt": met} for met in (10.0, 30.0, 2000.0, -5.0)], [10.0, 30.0, 2000.0, -5.0]),
    "2": (
        [{"Jet": [jet(15.0), jet(15.5)]}, {}, {"Jet": [jet(10.0), jet(59.9), jet(60.0)]}],
        [15.0, 15.5, 10.0, 59.9, 60.0],
    ),
    # within 1 of eta = 0
    "3": (
        [
            {"Jet": [jet(20.0, 0.5), jet(25.0, 1.0), jet(30.0, 1.005)]},
            {"Jet": [jet(35.0, -1.0), jet(40.0, -0.99), jet(1.0, 2.0)]},
        ],
        [20.0, 40.0],
    ),
    # two jets of pt > 40, whatever their direction
    "4": (
        [
            {"MET_pt": 30.0, "Jet": [jet(40.3), jet(40.3, math.inf)]},
            {"MET_pt": 50.0, "Jet": [jet(40.0), jet(41.0)]},
            {"MET_pt": 70.0, "Jet": [jet(41.0)]},
            {"MET_pt": 90.0, "Jet": [jet(41.0), jet(42.0), jet(43.0)]},
            {"MET_pt": 110.0},
        ],
        [30.0, 90.0],
    ),
    # 45 + 46 at rest is in the window, 20 + 20 is not, equal charges are not
    "5": (
        [
            {"MET_pt": 30.0, "Muon": [still(45.0, 1), still(46.0, -1)]},
            {"MET_pt": 50.0, "Muon": [still(20.0, 1), still(20.0, -1)]},
            {"MET_pt": 70.0, "Muon": [still(45.0, 1), still(46.0, 1)]},
            {"MET_pt": 90.0, "Electron": [still(45.0, 1), still(46.0, -1)]},
        ],
        [30.0],
    ),
    "6a": ([{"Jet": CROSS}, {"Jet": CROSS[:2]}, {}], [math.sqrt(1300)]),
    "6b": ([{"Jet": CROSS}, {"Jet": CROSS[:2]}, {}], [0.705]),
    # jets of pt > 30 that are 0.4 from every lepton of pt > 10; 0 where there are none
    "7": (
        [
            {
                "Jet": [jet(50.0), jet(40.0, 2.0, 1.0), jet(30.0, -2.0), jet(30.2, -2.0)],
                "Electron": [lepton(10.05, 0.0, 0.1, 0.0, 1)],
            },
            {"Jet": [jet(50.0), jet(40.0, 2.0, 1.0)], "Muon": [lepton(10.0, 0.0, 0.1, 0.0, 1)]},
            {"Jet": [jet(50.0), jet(40.0, 2.0, 1.0)], "Muon": [lepton(20.0, 2.1, 1.1, 0.0, 1)]},
            {"Jet": [jet(5.0)]},
            {},
        ],
        [70.2, 90.0, 50.0, 0.0, 0.0],
    ),
    # The pair of mass 91.2 is left out: 2 sqrt(50 x 50) sin(pi / 2), then 2 sqrt(80 x 20). Of an
    # electron and a muon there is no pair; nor of two leptons.
    "8": (
        [
            {
                "MET_pt": 50.0,
                "MET_phi": PI,
                "Electron": [still(45.6, 1), still(45.6, -1)],
                "Muon": [lepton(50.0, 0.0, 0.0, 0.1, 1)],
            },
            {
                "MET_pt": 20.0,
                "MET_phi": 0.0,
                "Electron": [lepton(80.0, 1.0, -PI, 0.1, 1)],
                "Muon": [still(45.6, 1), still(45.6, -1)],
            },
            {"MET_pt": 50.0, "Electron": [still(45.6, 1)] * 2, "Muon": [still(45.6, -1)]},
            {"MET_pt": 50.0, "Electron": [still(45.6, 1), still(45.6, -1)]},
            {},
        ],
        [100.0, 80.0],
    ),
}

AXES: Final = {
    "1": (0, 2000),
    "2": (15, 60),
    "3": (15, 60),
    "4": (0, 2000),
    "5": (0, 2000),
    "6a": (15, 40),
    "6b": (0, 1),
    "7": (15, 200),
    "8": (15, 250),
}
"""100 bins each: the published histograms'."""


def filled(name: str) -> list[float]:
    low, high = AXES[name]
    counts = [0.0] * 102
    for value in HAND[name][1]:
        counts[min(max(math.floor((value - low) / (high - low) * 100) + 1, 0), 101)] += 1
    return counts


@pytest.mark.parametrize("name", HAND)
def test_query_fills_what_is_computed_by_hand(name: str, implementation: Implementation) -> None:
    events = columns(*HAND[name][0])
    assert QUERIES[name].run(events, implementation).tolist() == filled(name)
    values = QUERIES[name].values(events, bind(implementation))
    np.testing.assert_allclose(values, HAND[name][1], rtol=1e-14)


@pytest.mark.parametrize("name", HAND)
def test_axis_and_branches(name: str) -> None:
    low, high = AXES[name]
    query = QUERIES[name]
    np.testing.assert_allclose(query.edges, [low + (high - low) * i / 100 for i in range(101)])
    assert set(query.inputs) - {"Jet_btag"} <= set(INPUTS)
    # Whatever a query reads it names.
    read = columns(*HAND[name][0])
    read["Jet_btag"] = read.pop("Jet_btagCSVV2")
    some = {branch: read[branch] for branch in query.inputs}
    assert query.run(some, "compiled").tolist() == filled(name)


def test_of_the_names_of_the_b_tag_any_one_will_do() -> None:
    assert branches(["1", "6b"]) == [
        *("MET_pt", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"),
        ("Jet_btag", "Jet_btagCSVV2"),
    ]


def test_processor_fills_every_query(implementation: Implementation) -> None:
    everything = [event for events, _ in HAND.values() for event in events]
    read = columns(*everything)
    got = AdlProcessor(implementation).process(nano_events(read))
    assert list(got) == list(HAND)
    for name, histogram in got.items():
        assert histogram.view(flow=True).tolist() == QUERIES[name].run(read, "reference").tolist()
        assert histogram.axes[0].edges[[0, -1]].tolist() == list(AXES[name])


@pytest.mark.parametrize("name", HAND)
def test_query_reads_its_branches_and_no_other(name: str, tmp_path: Path) -> None:
    """A file of these alone is enough, and each of them is missed."""
    read = columns(*HAND[name][0])
    needed = [one if isinstance(one, str) else one[1] for one in branches([name])]
    some = {branch: read[branch] for branch in needed}
    flat = {branch: ak.to_numpy(one) for branch, one in some.items() if one.ndim == 1}
    counters = {
        f"n{branch.partition('_')[0]}": ak.to_numpy(ak.num(one))
        for branch, one in some.items()
        if branch not in flat
    }
    grouped = collections_of(some | flat | counters)
    types = {
        branch: one.dtype if isinstance(one, np.ndarray) else one.type.content
        for branch, one in grouped.items()
    }
    path = tmp_path / "events.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", types).extend(grouped)
    processor = AdlProcessor("compiled", queries=[name])
    files = {"adl": {"files": {str(path): "Events"}}}
    executor = IterativeExecutor(status=False)
    result = run(files, processor, executor, branches([name]), schema=BaseSchema)
    assert list(result.accumulated) == [name]
    assert result.accumulated[name].values(flow=True).tolist() == filled(name)
    for branch in needed:
        others = {other: column for other, column in some.items() if other != branch}
        with pytest.raises(InputError):
            processor.process(nano_events(others or {"other": read["MET_pt"]}))


def test_a_query_that_there_is_not() -> None:
    with pytest.raises(InputError, match="no query 9: use some of 1, 2, 3, 4, 5, 6a, 6b, 7, 8"):
        AdlProcessor(queries=["1", "9"])
