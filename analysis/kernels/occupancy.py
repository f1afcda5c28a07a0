"""Number of entries in each bin of a histogram without weights.

A regular axis with underflow and overflow, whose rule is that of `histogram`: bins are closed below
and open above; the upper edge, infinity and NaN belong to the overflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import boost_histogram as bh
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import flat, split
from analysis.kernels.histogram import bin_of, bin_of_compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 100
LOW: Final = 0.0
HIGH: Final = 200.0


def reference(
    values: Any, keep: Any = None, *, bins: int = BINS, low: float = LOW, high: float = HIGH
) -> NDArray[np.int64]:
    """Numbers of entries.

    Parameters
    ----------
    values
        What is filled, one value for each event or for each object (events x objects).
    keep
        Which of them are filled, in the same form; all if it is not given.
    bins, low, high
        The regular axis, in the unit of `values`.

    Returns
    -------
    NDArray[np.int64]
        Underflow, bins, overflow.
    """
    counts = [0] * (bins + 2)
    numbers, keeps = numbers_of(values, keep)
    for value, kept in zip(numbers.tolist(), keeps.tolist(), strict=True):
        counts[bin_of(value, bins, low, high)] += bool(kept)
    return np.array(counts, dtype=np.int64)


def columnar(
    values: Any, keep: Any = None, *, bins: int = BINS, low: float = LOW, high: float = HIGH
) -> NDArray[np.int64]:
    """As `reference`, in boost-histogram."""
    numbers, keeps = numbers_of(values, keep)
    histogram = bh.Histogram(bh.axis.Regular(bins, low, high), storage=bh.storage.Int64())
    histogram.fill(
        numbers.astype(np.float64) if keep is None else numbers[keeps].astype(np.float64)
    )
    counts: NDArray[np.int64] = histogram.view(flow=True)
    return counts


def compiled(
    values: Any, keep: Any = None, *, bins: int = BINS, low: float = LOW, high: float = HIGH
) -> NDArray[np.int64]:
    """As `reference`, in numba."""
    numbers, keeps = numbers_of(values, keep)
    counts: NDArray[np.int64] = _count(numbers, keeps, bins, float(low), float(high))
    return counts


def numbers_of(values: Any, keep: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values of all objects of all events, and whether each is filled."""
    if isinstance(values, ak.Array) and values.ndim > 1:
        numbers, *keeps = split(values, *([] if keep is None else [keep])).contents
    else:
        numbers, *keeps = map(flat, [values] if keep is None else [values, keep])
    # One that stands for all, without memory of its own.
    every = np.broadcast_to(np.True_, len(numbers))
    return numbers, keeps[0].view(np.bool_) if keeps else every


@loop
def _count(values, keep, bins, low, high) -> Any:  # type: ignore[no-untyped-def]
    counts = np.zeros(bins + 2, dtype=np.int64)
    for entry in range(len(values)):
        counts[bin_of_compiled(values[entry], bins, low, high)] += keep[entry]
    return counts
