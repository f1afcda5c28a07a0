"""uproot: arrays of a file that is closed and deleted live on until the collector of cycles runs."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import awkward as ak
import uproot
from measure import nanoaod

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "held by a file of 400,000 events, read, closed and deleted"
UNIT = "MB"
NAMES = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"]


def make(folder: Path, *, quick: bool) -> None:
    """Write one file."""
    nanoaod(folder / "events.root", 20_000 if quick else 400_000, None)


def turns(folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Read a file with the default caches, close it, and keep no name of it."""

    def sums() -> list[float]:
        with uproot.open(folder / "events.root") as file:
            arrays = file["Events"].arrays(NAMES, how=dict)
        return [float(ak.sum(arrays[name])) for name in NAMES]

    tracemalloc.start()
    while True:
        gc.collect()
        gc.disable()
        begin = tracemalloc.get_traced_memory()[0]
        result = sums()
        held = tracemalloc.get_traced_memory()[0] - begin
        gc.enable()
        yield held / 1e6, result
