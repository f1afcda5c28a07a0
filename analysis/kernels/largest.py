"""The largest value of one column among a few picked objects of each event.

Source: query 6b of iris-hep/adl-benchmarks-index (b-tag discriminant of the trijet's jets).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.kernels._combinations import NONE
from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    import awkward as ak
    from numpy.typing import NDArray


def reference(column: ak.Array, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest value of each event.

    Parameters
    ----------
    column
        Any column of a collection (events x objects).
    indices
        Indices within the event of the objects picked (events x picks); -1 in the first column
        where nothing is.

    Returns
    -------
    NDArray[np.float64]
        Events; NaN where nothing is picked or a picked value is NaN.
    """
    largest = []
    for values, picks in rows(column, indices):
        picked = [math.nan] if picks[0] == NONE else [float(values[i]) for i in picks]
        largest.append(math.nan if any(map(math.isnan, picked)) else max(picked))
    return np.array(largest, dtype=np.float64)


def columnar(column: ak.Array, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """As `reference`, in awkward."""
    offsets, (values,) = split(column)
    (some,) = np.nonzero(indices[:, 0] != NONE)
    largest = np.full(len(indices), np.nan)
    largest[some] = values[offsets[some, None] + indices[some]].max(axis=1)
    return largest


def compiled(column: ak.Array, indices: NDArray[np.int64]) -> NDArray[np.float64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, (values,) = split(column)
    largest: NDArray[np.float64] = _largest(offsets, values, np.ascontiguousarray(indices))
    return largest


@loop
def _largest(offsets, values, indices) -> Any:  # type: ignore[no-untyped-def]
    largest = np.full(len(indices), np.nan, dtype=np.float64)
    for event in range(len(indices)):
        if indices[event, 0] == NONE:
            continue
        best = -np.inf
        for i in indices[event]:
            value = values[offsets[event] + i]
            # True also for NaN, which then stays, because no comparison with it is true.
            if not value <= best:
                best = value
                if np.isnan(value):
                    break
        largest[event] = best
    return largest
