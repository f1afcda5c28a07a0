"""One jagged column of the events that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

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
    return join(*_keep(offsets, values, np.flatnonzero(event_mask)))


@loop
def _keep(offsets, values, events) -> Any:  # type: ignore[no-untyped-def]
    # Over the events that are kept: in the analysis one in twenty.
    kept_offsets = np.zeros(len(events) + 1, dtype=np.int64)
    for i in range(len(events)):
        size = offsets[events[i] + 1] - offsets[events[i]]
        kept_offsets[i + 1] = kept_offsets[i] + size
    kept_values = np.empty(kept_offsets[-1], dtype=values.dtype)
    for i in range(len(events)):
        first = offsets[events[i]]
        for j in range(kept_offsets[i + 1] - kept_offsets[i]):
            kept_values[kept_offsets[i] + j] = values[first + j]
    return kept_offsets, kept_values
