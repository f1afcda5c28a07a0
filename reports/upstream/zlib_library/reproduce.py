"""uproot: `uproot.ZLIB.library = "isal"` changes nothing for who reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import isal  # noqa: F401 - without it there is nothing to reproduce
import uproot
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "TTree.arrays of 8 branches of 200,000 events, zlib"
UNIT = "ms of CPU"
NAMES = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "nMuon", "Muon_pt", "MET_pt"]


def make(folder: Path, *, quick: bool) -> None:
    """Write one file."""
    nanoaod(folder / "events.root", 20_000 if quick else 200_000, uproot.ZLIB(1), baskets=4)


def turns(folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Read with the option, as it is documented, on both sides."""
    uproot.ZLIB.library = "isal"
    with uproot.open(folder / "events.root", array_cache=None) as file:
        tree = file["Events"]
        while True:
            yield timed(lambda: tree.arrays(NAMES, how=dict))
