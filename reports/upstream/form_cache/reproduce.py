"""coffea: `from_root` makes the form of the same file again for every chunk."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import uproot
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from coffea.nanoevents.mapping import UprootSourceMapping
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "from_root of a chunk of an open file with 1,500 branches"
UNIT = "ms of CPU"


class Schema(NanoAODSchema):  # type: ignore[misc]
    """NanoAOD's, which would warn of references to collections that the file lacks."""

    warn_missing_crossrefs = False


def make(folder: Path, *, quick: bool) -> None:
    """Write a few events with many flags of triggers."""
    nanoaod(folder / "events.root", 100, None, baskets=1, flags=20 if quick else 1_477)


def turns(folder: Path, side: str) -> Iterator[tuple[float, Any]]:
    """Make events of one chunk after the other."""
    with uproot.open(folder / "events.root", array_cache=None) as file:
        form = UprootSourceMapping._extract_base_form(file["Events"])
        form["typenames"] = file["Events"].typenames()
        options = {"known_base_form": form} if side == "after" else {}
        whole = copy.deepcopy(form)
        while True:
            cost, events = timed(
                lambda: NanoEventsFactory.from_root(
                    file,
                    treepath="Events",
                    schemaclass=Schema,
                    entry_start=20,
                    entry_stop=80,
                    **options,
                ).events()
            )
            assert form == whole, "what is kept must not be changed"
            yield cost, [events.fields, events.layout.form.to_json(), events.Jet.pt, events.MET.pt]
