"""Made-up events where tools differ: empty lists, NaN, limits of single precision, edges of bins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.synthetic import generate
from analysis.synthetic.columns import jagged, offsets_of
from analysis.synthetic.writer import _SINKS

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.synthetic.columns import Columns

NAN: Final = math.nan
SIDE: Final = math.pi / 2
SYNTHETIC: Final = 600
"""Events as the generator makes them: as many as the reference answers in seconds."""


def jet(pt: float, eta: float = 0.3, phi: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"pt": pt, "eta": eta, "phi": phi, "mass": 5.0, "jetId": 6, "btagCSVV2": 0.2, **more}


def electron(pt: float, eta: float = 0.1, phi: float = 3.0, **more: Any) -> dict[str, Any]:
    good = {"charge": 1, "cutBased": 4, "sip3d": 1.0}
    return {"pt": pt, "eta": eta, "phi": phi, "mass": 0.0005, **good, **more}


def muon(pt: float, eta: float = 0.1, phi: float = 3.0, **more: Any) -> dict[str, Any]:
    good = {"charge": 1, "tightId": True, "sip3d": 1.0, "pfRelIso04_all": 0.01}
    return {"pt": pt, "eta": eta, "phi": phi, "mass": 0.1, **good, **more}


def jets(*tags: float) -> list[dict[str, Any]]:
    """Four jets of different pt, the first of them with these b-tags."""
    four = [jet(90.0), jet(70.5, 1.0, 1.4), jet(50.25, -1.2, 2.9), jet(36.0, 0.2, -1.1)]
    for one, tag in zip(four, tags, strict=False):
        one["btagCSVV2"] = tag
    return four


LIMITS: Final[list[dict[str, Any]]] = [
    {},
    # Edges of bins, of which ROOT counts 580 in the bin above.
    *({"MET_pt": met} for met in (580.0, 1160.0, 0.0, 20.0, 1999.9, 2000.0, 3e9, -5.0)),
    {"Jet": [jet(pt) for pt in (15.0, 24.0, 33.0, 60.0, 14.9, 59.9)]},
    # Cuts: none of these is above them, and 1.0 in eta is not central.
    {"MET_pt": 30.0, "Jet": [jet(40.0, 1.0), jet(41.0, -1.0), jet(30.0), jet(10.0)]},
    {"MET_pt": 50.0, "Jet": [jet(40.1), jet(41.0)]},
    # In single precision 2.1, 2.4 and 0.15 are on the other side of the number that is meant.
    {"Jet": jets(0.9), "Electron": [electron(40.0, 2.1)]},
    {"Jet": jets(0.9), "Muon": [muon(40.0, pfRelIso04_all=0.15)]},
    {"Jet": jets(0.9), "Muon": [muon(40.0, -2.1)]},
    {"Jet": [*jets(0.9)[:3], jet(45.0, 2.4)], "Muon": [muon(40.0)]},
    {"Jet": jets(0.5, 0.9), "Electron": [electron(30.0), electron(31.0)]},
    {"Jet": jets(0.9, 0.8), "Muon": [muon(35.0, sip3d=4.0), muon(36.0)]},
    {"Jet": jets(0.9, 0.8), "Muon": [muon(36.0)], "Electron": [electron(36.0, cutBased=3)]},
    {"Jet": [*jets(0.9, 0.8), jet(99.0, jetId=3)], "Electron": [electron(36.0)]},
    # Close over the edge of phi; a lepton of 10 GeV removes nothing.
    {
        "Jet": [jet(50.0, 0.0, 3.1), jet(40.5, 0.0, -3.0), jet(36.5, 2.0, 0.0)],
        "Electron": [electron(10.5, 0.05, -3.1)],
        "Muon": [muon(10.0, 2.0, 0.0)],
    },
    # A Z of each flavour and a third lepton; no pair; a pair of 59.9 and one of 90 GeV.
    {
        "MET_pt": 40.0,
        "Electron": [electron(45.0, 0.0, 0.0), electron(46.0, 0.0, 3.1, charge=-1)],
        "Muon": [muon(22.0, 0.0, 1.0)],
    },
    {
        "MET_pt": 60.0,
        "MET_phi": 1.0,
        "Electron": [electron(22.0, 0.0, SIDE)],
        "Muon": [muon(45.0, 0.0, 0.0), muon(45.5, 0.0, 3.1, charge=-1), muon(9.0, 1.0, 1.0)],
    },
    {"MET_pt": 70.0, "Muon": [muon(45.0), muon(46.0), muon(47.0)]},
    {"MET_pt": 80.0, "Electron": [electron(45.0, charge=-1)], "Muon": [muon(46.0), muon(20.0)]},
    {"MET_pt": 90.0, "Muon": [muon(29.9, 0.0, 0.0), muon(30.0, 0.0, 3.14, charge=-1)]},
    {"Jet": [jet(70.0, 0.0, 0.0), jet(60.0, 0.5, 2.0), jet(50.0, -0.5, -2.0)]},
]
"""Finite numbers."""

NOT_NUMBERS: Final[list[dict[str, Any]]] = [
    {"MET_pt": NAN},
    {"MET_pt": math.inf},
    {"MET_pt": 33.0, "Jet": [jet(NAN), jet(50.0)]},
    {"MET_pt": 44.0, "Jet": [jet(NAN), jet(50.0), jet(60.0)]},
    {"Jet": [*jets(0.9), jet(NAN)], "Electron": [electron(40.0), electron(NAN)]},
    {"Jet": jets(NAN, 0.9), "Muon": [muon(40.0), muon(50.0, sip3d=NAN)]},
    {"Jet": jets(NAN, NAN), "Muon": [muon(40.0), muon(50.0, pfRelIso04_all=NAN)]},
    {"Jet": jets(0.9, 0.9), "Electron": [electron(NAN, 0.3, 0.0)]},
]
"""NaN where cuts are made; what is made four-vectors of is finite."""


def columns_of(events: list[dict[str, Any]], like: Columns) -> Columns:
    """Columns of events that are written object by object, with the types of others."""
    made: Columns = {}
    for name, column in like.items():
        collection, _, field = name.partition("_")
        dtype = np.asarray(ak.flatten(column, axis=None)).dtype
        if isinstance(column, ak.Array):
            lists = [[one[field] for one in event.get(collection, [])] for event in events]
            offsets = offsets_of(np.array([len(one) for one in lists], np.uint32))
            made[name] = jagged(offsets, np.array([x for one in lists for x in one], dtype))
        elif name.startswith("n"):
            made[name] = np.array([len(event.get(name[1:], [])) for event in events], dtype)
        else:
            made[name] = np.array([event.get(name, 0) for event in events], dtype)
    return made


def everything() -> dict[str, Columns]:
    """Columns of events by what they are about."""
    synthetic = generate("ttbar", "nominal", 0, SYNTHETIC, seed=3)
    return {
        "synthetic": synthetic,
        "limits": columns_of(LIMITS, synthetic),
        "nan": columns_of(NOT_NUMBERS, synthetic),
    }


def write(columns: Columns, path: Path, format: str) -> None:
    """Write events to a file, zstd."""
    with _SINKS[format](path, {"compression": "zstd", "level": 3}) as sink:
        sink(columns)
