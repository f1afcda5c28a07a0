"""coffea: `from_root` asks for the type names of all branches, whatever the filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "from_root with a filter of 8 branches of 1,500"
UNIT = "ms of CPU"
EVENT = ["run", "luminosityBlock", "event"]
NAMES = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"]


class Schema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD's, which would warn of what the filter leaves out."""

    warn_missing_crossrefs = False


def make(folder: Path, *, quick: bool) -> None:
    """Write a few events with many flags of triggers."""
    nanoaod(folder / "events.root", 100, None, baskets=1, flags=20 if quick else 1_477)


def turns(folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Make events of a file that has just been opened, as a chunk's is."""
    while True:
        with uproot.open(folder / "events.root", array_cache=None) as file:
            tree = file["Events"]  # Which from_root finds in the cache of objects.
            cost, events = timed(
                lambda: NanoEventsFactory.from_root(
                    file,
                    treepath="Events",
                    schemaclass=Schema,
                    iteritems_options={"filter_name": [*EVENT, *NAMES]},
                ).events()
            )
            yield cost, [events.fields, events.Jet.fields, events.Jet.pt, events.Jet.eta]
            del tree
