"""coffea: who has read the branches already cannot hand the arrays to `from_root`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "from_root and 4 columns of 200,000 events that are in memory"
UNIT = "ms of CPU"
EVENT = ["run", "luminosityBlock", "event"]
NAMES = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"]


class Schema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD's, which would warn of what the filter leaves out."""

    warn_missing_crossrefs = False


def make(folder: Path, *, quick: bool) -> None:
    """Write one file."""
    nanoaod(folder / "events.root", 20_000 if quick else 200_000, uproot.ZSTD(5))


def turns(folder: Path, side: str) -> Iterator[tuple[float, Any]]:
    """Make events of arrays that a reader of one's own has read."""
    with uproot.open(folder / "events.root", array_cache=None) as file:
        arrays = file["Events"].arrays(NAMES, how=dict, ak_add_doc=True)
        preload = arrays if side == "after" else NAMES

        def columns() -> list[Any]:
            events = NanoEventsFactory.from_root(
                file,
                treepath="Events",
                schemaclass=Schema,
                iteritems_options={"filter_name": [*EVENT, *NAMES]},
                preload=preload,
            ).events()
            return [events.Jet.pt + 0, events.Jet.eta + 0, events.Jet.phi + 0, events.Jet.mass + 0]

        while True:
            yield timed(columns)
