"""Combinations of the objects of an event as flat indices, and picks among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from analysis.kernels._layout import join, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NONE = -1
"""Index of a missing object."""


def combine(
    offsets: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    """Every combination of `size` objects of an event, in lexicographic order.

    Parameters
    ----------
    offsets
        Offsets of the objects (events + 1).
    size
        Objects in a combination.

    Returns
    -------
    offsets
        Offsets of the combinations (events + 1).
    indices
        `size` arrays of flat indices into the collection's contents (combinations).
    """
    slots = join(offsets, np.arange(offsets[-1]))
    return split(*ak.unzip(ak.combinations(slots, size)))


def pick_largest(
    offsets: NDArray[np.int64], merit: NDArray[np.float64], start: float
) -> NDArray[np.int64]:
    """Flat index of each event's largest `merit` above `start`, the first of equals, else NONE.

    NaN is never picked.
    """
    merit = np.where(merit > start, merit, start)
    local = ak.to_numpy(ak.fill_none(ak.argmax(join(offsets, merit), axis=1), NONE))
    slots = np.where(local == NONE, NONE, offsets[:-1] + local)
    slots[slots != NONE] = np.where(
        merit[slots[slots != NONE]] > start, slots[slots != NONE], NONE
    )
    return slots


def local_indices(
    offsets: NDArray[np.int64],
    picked: NDArray[np.int64],
    indices: tuple[NDArray[np.int64], ...],
) -> NDArray[np.int64]:
    """Indices within the event of the objects of the picked combinations (events x size)."""
    (some,) = np.nonzero(picked != NONE)
    chosen = np.full((len(picked), len(indices)), NONE, dtype=np.int64)
    for column, flat_indices in enumerate(indices):
        chosen[some, column] = flat_indices[picked[some]] - offsets[some]
    return chosen


def picks_agree(
    got: NDArray[np.int64],
    want: NDArray[np.int64],
    offsets: NDArray[np.int64],
    objects: tuple[NDArray[Any], ...],
    merit: Callable[..., tuple[Any, Any]],
) -> bool:
    """Whether two picks are the same, or their merits differ by no more than rounding.

    Combinations of equal objects have equal merits exactly: of them the first must be picked.

    Parameters
    ----------
    got, want
        Indices within the event of the objects picked, NONE where there is nothing to pick
        (events x size).
    offsets
        Offsets of the objects.
    objects
        The columns that the merit is computed from.
    merit
        Takes `size` arrays of flat indices, and returns the merit of each combination and the
        bound on its rounding error.
    """
    if got.shape != want.shape or not np.array_equal(got == NONE, want == NONE):
        return False
    counts = np.diff(offsets)[:, None]
    for side in (got, want):
        some = side[:, 0] != NONE
        in_order = np.all(np.diff(side[some]) > 0)
        if not in_order or np.any(side[some] < 0) or np.any(side >= np.maximum(counts, 1)):
            return False
    (differ,) = np.nonzero(np.any(got != want, axis=1))
    one, other = (offsets[differ, None] + side[differ] for side in (got, want))
    (value, bound), (other_value, other_bound) = merit(*one.T), merit(*other.T)
    near = abs(value - other_value) <= bound + other_bound
    equal = np.all([column[one] == column[other] for column in objects], axis=(0, 2))
    return bool(np.all(near & ~(equal & (value == other_value))))
