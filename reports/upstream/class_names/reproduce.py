"""uproot: opening a TTree of many branches regularizes the same few class names again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uproot
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "uproot.open and file[name] of a TTree with 1,500 branches"
UNIT = "ms of CPU"


def make(folder: Path, *, quick: bool) -> None:
    """Write a few events with many flags of triggers."""
    nanoaod(folder / "events.root", 100, None, baskets=1, flags=20 if quick else 1_477)


def turns(folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Open the file and its TTree."""

    def names() -> dict[str, str]:
        with uproot.open(folder / "events.root") as file:
            return {branch.name: branch.classname for branch in file["Events"].branches}

    while True:
        yield timed(names)
