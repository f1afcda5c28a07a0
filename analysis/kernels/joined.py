"""One column of two collections, of the events that are kept: objects of the first, then of the second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reference(first: ak.Array, second: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """Objects of both collections of the events that `event_mask` keeps, in their order.

    Parameters
    ----------
    first, second
        The same column of two collections (events x objects).
    event_mask
        bool, events.

    Returns
    -------
    ak.Array
        Kept events x objects, of the type that holds both.
    """
    kept = [one + other for one, other, keep in rows(first, second, event_mask) if keep]
    return from_lists(kept, _common(first, second).type)


def columnar(first: ak.Array, second: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in awkward."""
    return ak.concatenate([first[event_mask], second[event_mask]], axis=1)


def compiled(first: ak.Array, second: ak.Array, event_mask: NDArray[np.bool_]) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    offsets, (values,) = split(first)
    other_offsets, (others,) = split(second)
    events = np.flatnonzero(event_mask)
    empty = np.empty(0, _common(first, second))
    return join(*_join(offsets, values, other_offsets, others, events, empty))


def _common(first: ak.Array, second: ak.Array) -> np.dtype[Any]:
    return np.result_type(*(split(one).contents[0].dtype for one in (first, second)))


@loop
def _join(offsets, values, other_offsets, others, events, empty) -> Any:  # type: ignore[no-untyped-def]
    joined_offsets = np.zeros(len(events) + 1, dtype=np.int64)
    for i in range(len(events)):
        event = events[i]
        size = offsets[event + 1] - offsets[event]
        size += other_offsets[event + 1] - other_offsets[event]
        joined_offsets[i + 1] = joined_offsets[i] + size
    joined = np.empty(joined_offsets[-1], dtype=empty.dtype)
    n = 0
    for event in events:
        for j in range(offsets[event], offsets[event + 1]):
            joined[n] = values[j]
            n += 1
        for j in range(other_offsets[event], other_offsets[event + 1]):
            joined[n] = others[j]
            n += 1
    return joined_offsets, joined
