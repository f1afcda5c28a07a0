"""coffea: a data set or file whose name is not ASCII ends in a `UnicodeEncodeError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coffea.processor.executor import FileMeta

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "names of data sets that fail, of 3 of which 2 are not ASCII"
UNIT = "errors"
ASCII, OTHERS = "ttbar", ("tt\u0304", "Zerfälle")


def turns(_folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Hash what the Runner puts into its dictionaries."""
    while True:
        errors = 0
        for name in OTHERS:
            try:
                hash(FileMeta(name, "events.root", "Events"))
            except UnicodeEncodeError:
                errors += 1
        # Hashes of ASCII names stay, with what is kept by them.
        yield errors, hash(FileMeta(ASCII, "events.root", "Events"))
