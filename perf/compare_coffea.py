"""What is compared of coffea itself: a file of benchmarks, run in the environments of both sides.

It is written for any coffea with NanoEvents of awkward 2, and imports nothing of this project but
`analysis`, and that only for a processor.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import awkward as ak
import numpy as np
import uproot
from coffea.analysis_tools import PackedSelection
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

NanoAODSchema.warn_missing_crossrefs = False

FILE = os.environ["COFFEA_SCALING_FILE"]
"""NanoAOD of which everything is read."""

COLUMNS = {
    "Jet": ("pt", "eta", "phi", "mass"),
    "Muon": ("pt", "eta", "phi", "mass", "charge"),
    "Electron": ("pt", "eta", "phi", "mass", "charge"),
}


def nanoevents() -> Any:
    """Events of the file, of which no column is read yet if coffea can wait."""
    # Opened here and not by coffea, which would keep the columns for the next time.
    file = uproot.open(FILE, array_cache=None)
    options: dict[str, Any] = {"schemaclass": NanoAODSchema}
    try:
        return NanoEventsFactory.from_root(
            file, treepath="Events", mode="virtual", **options
        ).events()
    except TypeError:
        return NanoEventsFactory.from_root(
            file, treepath="Events", delayed=False, **options
        ).events()


@cache
def in_memory() -> Any:
    """Events whose columns are read, for what is done with them."""
    events = nanoevents()
    for collection, fields in COLUMNS.items():
        for field in fields:
            ak.to_numpy(ak.flatten(events[collection][field]))
    return events


def bench_nanoevents_open() -> int:
    """A file opened as NanoEvents."""
    return len(nanoevents())


def bench_nanoevents_read() -> dict[str, Any]:
    """A file opened, and the columns of the analysis read."""
    events = nanoevents()
    return {
        f"{collection}_{field}": ak.to_numpy(ak.flatten(events[collection][field]))
        for collection, fields in COLUMNS.items()
        for field in fields
    }


def bench_nanoevents_dimuon() -> Any:
    """Masses of pairs of muons, by their four-momenta in coffea."""
    pairs = ak.combinations(in_memory().Muon, 2, fields=["first", "second"])
    return ak.to_numpy(ak.flatten((pairs.first + pairs.second).mass))


def bench_packed_selection() -> Any:
    """Three cuts, and the events that pass all."""
    events, selection = in_memory(), PackedSelection()
    selection.add("muon", ak.any(events.Muon.pt > 25, axis=1))
    selection.add("electron", ak.any(events.Electron.pt > 25, axis=1))
    selection.add("jets", ak.sum(events.Jet.pt > 30, axis=1) >= 4)
    return np.asarray(selection.all("muon", "electron", "jets"))


@cache
def _runner() -> Any:
    from coffea.processor import IterativeExecutor, Runner  # noqa: PLC0415  (not all have it)

    from analysis.processors import load  # noqa: PLC0415

    processor = load(os.environ["COFFEA_SCALING_PROCESSOR"]).processor
    runner = Runner(executor=IterativeExecutor(status=False), schema=NanoAODSchema)
    fileset = {
        "ttbar__nominal": {
            "files": {FILE: "Events"},
            "metadata": {"process": "ttbar", "variation": "nominal", "xsec": 729.84},
        }
    }
    chunks = list(runner.preprocess(fileset, "Events"))
    return lambda: runner(chunks, processor_instance=processor, treename="Events")


def bench_processor() -> Any:
    """A processor on the file, by coffea's Runner."""
    return _runner()()
