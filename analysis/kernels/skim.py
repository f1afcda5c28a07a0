"""One jagged column of the events that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.compiling import loop
from analysis.kernels._layout import flat, from_lists, join, rows, split

if TYPE_CHECKING:
    import awkward as ak
    from numpy.typing import NDArray


def reference(column: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """All objects of the events that `event_mask` keeps, in their order.

    Parameters
    ----------
    column
        Any column of a collection (events x objects).
    event_mask
        bool, events.

    Returns
    -------
    ak.Array
        Kept events x objects, of the column's type.
    """
    kept = [values for values, keep in rows(column, event_mask) if keep]
    return from_lists(kept, split(column).contents[0].dtype.type)


def columnar(column: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in awkward."""
    return column[event_mask]


def compiled(column: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    offsets, (values,) = split(column)
    return join(*_keep(offsets, values, flat(event_mask)))


@loop
def _keep(offsets, values, keep_events) -> Any:  # type: ignore[no-untyped-def]
    n_events = 0
    n_objects = 0
    for event in range(len(keep_events)):
        if keep_events[event]:
            n_events += 1
            n_objects += offsets[event + 1] - offsets[event]
    kept_offsets = np.zeros(n_events + 1, dtype=np.int64)
    kept_values = np.empty(n_objects, dtype=values.dtype)
    n_events = 0
    n_objects = 0
    for event in range(len(keep_events)):
        if keep_events[event]:
            for i in range(offsets[event], offsets[event + 1]):
                kept_values[n_objects] = values[i]
                n_objects += 1
            n_events += 1
            kept_offsets[n_events] = n_objects
    return kept_offsets, kept_values
