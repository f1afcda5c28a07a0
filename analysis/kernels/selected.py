"""One column of the selected objects of the selected events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reference(column: ak.Array, object_mask: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """Objects that `object_mask` keeps, of events that `event_mask` keeps, in their order.

    Parameters
    ----------
    column
        Any column of a collection (events x objects).
    object_mask
        bool, events x objects.
    event_mask
        bool, events.

    Returns
    -------
    ak.Array
        Selected events x selected objects, of the column's type.
    """
    kept = [
        [value for value, keep in zip(values, keeps, strict=True) if keep]
        for values, keeps, keep_event in rows(column, object_mask, event_mask)
        if keep_event
    ]
    return from_lists(kept, split(column).contents[0].dtype.type)


def columnar(column: ak.Array, object_mask: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in awkward."""
    # Events first, so that objects of dropped events are not read.
    keeps = object_mask[event_mask]
    if keeps.layout.is_regular:  # would be taken for a numpy mask, and flatten the result
        keeps = ak.from_regular(keeps)
    return column[event_mask][keeps]


def compiled(column: ak.Array, object_mask: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    offsets, (values, keeps) = split(column, object_mask)
    return join(*_compact(offsets, values, keeps.view(np.bool_), np.flatnonzero(event_mask)))


@loop
def _compact(offsets, values, keeps, events) -> Any:  # type: ignore[no-untyped-def]
    kept_offsets = np.zeros(len(events) + 1, dtype=np.int64)
    for i in range(len(events)):
        size = 0
        for j in range(offsets[events[i]], offsets[events[i] + 1]):
            size += keeps[j]
        kept_offsets[i + 1] = kept_offsets[i] + size
    kept_values = np.empty(kept_offsets[-1], dtype=values.dtype)
    n = 0
    for event in events:
        for j in range(offsets[event], offsets[event + 1]):
            if keeps[j]:
                kept_values[n] = values[j]
                n += 1
    return kept_offsets, kept_values
