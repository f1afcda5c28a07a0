"""Columns of events by the name of their NanoAOD branch, whatever the file calls them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import awkward as ak

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from awkward.contents import Content


class _OfThread(threading.local):
    layout: Content | None = None
    """Of the events that are processed."""
    columns: Mapping[str, ak.Array] = {}


_AHEAD: Final = _OfThread()


@contextmanager
def ahead(events: Any, columns: Mapping[str, ak.Array]) -> Iterator[None]:
    """While events are processed, give columns that were read before as they are.

    NanoEvents would look for each of them, and sum up the numbers of objects once more. Events
    that a processor changed or selected have another layout, and all of their columns from there.
    """
    _AHEAD.layout, _AHEAD.columns = events.layout, columns
    try:
        yield
    finally:
        _AHEAD.layout, _AHEAD.columns = None, {}


class Columns(Mapping[str, ak.Array]):
    """Columns of NanoEvents of NanoAODSchema or BaseSchema, read on first access.

    `replacements` are branches to read in the place of others, as ``{"MET_pt": "PuppiMET_pt"}``.
    InputError says that a branch is missing, and which could replace it.
    """

    def __init__(self, events: Any, replacements: Mapping[str, str] | None = None) -> None:
        self._events = events
        self._replacements = dict(replacements or {})
        self._read: dict[str, ak.Array] = {}
        self._ahead = (
            _AHEAD.columns if _AHEAD.layout is not None and events.layout is _AHEAD.layout else {}
        )
        self._collections: dict[str, Content] = {}

    def __getitem__(self, name: str) -> ak.Array:
        """Column `name`, materialised and without behaviours."""
        if name not in self._read:
            branch = self._replacements.get(name, name)
            if branch in self._ahead:
                return self._ahead[branch]
            column = self._find(branch)
            if column is None:
                raise InputError(missing_branches([branch], list(self)))
            # Kernels need no vectors: without NanoEvents' behaviours every operation is cheaper.
            self._read[name] = ak.Array(column.materialize())
        return self._read[name]

    def _find(self, branch: str) -> Content | None:
        fields = self._events.fields
        if branch in fields:
            return self._events[branch].layout
        collection, _, field = branch.partition("_")
        # Kept, because coffea checks a collection's fields each time that it is taken.
        if collection not in self._collections and collection in fields:
            self._collections[collection] = self._events[collection].layout
        objects = self._collections.get(collection)
        return objects[field] if objects is not None and field in objects.fields else None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(self._replacements.get(name, name)) is not None

    def __iter__(self) -> Iterator[str]:
        for name in self._events.fields:
            fields = self._events[name].fields
            yield from (f"{name}_{field}" for field in fields) if fields else (name,)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def missing_branches(
    branches: Collection[str], available: Collection[str], *, replaceable: bool = True
) -> str:
    """One sentence that lists missing branches and what is like them.

    If they are not `replaceable` by --map, it is --branches that is to be corrected.
    """
    parts = []
    for branch in branches:
        candidates = substitutes(branch, available)
        if not candidates:
            advice = f"none of its branches looks like {'a substitute' if replaceable else 'it'}"
        elif replaceable:
            advice = f"one of {', '.join(candidates)} could serve: --map {branch}={candidates[0]}"
        else:
            advice = f"one of {', '.join(candidates)} could be meant"
        parts.append(f"no branch {branch} ({advice})")
    found = f"there is {' and '.join(parts)}"
    return found if replaceable else f"{found}: correct --branches"


def substitutes(branch: str, available: Collection[str]) -> list[str]:
    """Branches that could replace `branch`, the likeliest first.

    They are the same field of a collection with a similar name (PuppiMET_pt for MET_pt), or a
    field of the same collection that begins alike (Jet_btagDeepB for Jet_btagCSVV2).
    """
    collection, _, field = branch.partition("_")
    # "btag" of "btagCSVV2": NanoAOD spells a quantity in lower case and its variant in capitals.
    stem = field[: next((i for i, c in enumerate(field) if not c.islower()), len(field))]
    found = []
    for other in available:
        other_collection, _, other_field = other.partition("_")
        like_collection = other_field == field and collection in other_collection
        like_field = (
            other_collection == collection and len(stem) > 1 and other_field.startswith(stem)
        )
        if other != branch and field and (like_collection or like_field):
            found.append(other)
    return sorted(found, key=lambda name: (len(name), name))
