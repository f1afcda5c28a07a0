"""Filling one weighted histogram for many weight variations at once.

A regular axis with underflow and overflow, a category for each entry, and for each weight
variation the sum of weights and the sum of squared weights. Bins are closed below and open
above; the upper edge, infinity and NaN belong to the overflow (boost-histogram's rule). Entries
are added in order, so that all implementations round alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import boost_histogram as bh
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS: Final = 25
LOW: Final = 50.0
HIGH: Final = 550.0


def reference(
    values: NDArray[np.float64],
    category: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    categories: int = 1,
    bins: int = BINS,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.float64]:
    """Sums of weights and of squared weights.

    Parameters
    ----------
    values
        The observable of each entry (entries).
    category
        Category of each entry, 0 <= category < `categories` (entries).
    weights
        Weight of each entry in each variation (entries x variations).
    categories
        Number of categories.
    bins, low, high
        The regular axis, in the unit of `values`.

    Returns
    -------
    NDArray[np.float64]
        2 x categories x (underflow, bins, overflow) x variations: sum of weights, then sum of
        squared weights.
    """
    n_variations = weights.shape[1]
    sums = [
        [[[0.0] * n_variations for _ in range(bins + 2)] for _ in range(categories)]
        for _ in range(2)
    ]
    for value, one, row in zip(values.tolist(), category.tolist(), weights.tolist(), strict=True):
        index = bin_of(value, bins, low, high)
        for k, weight in enumerate(row):
            sums[0][one][index][k] += weight
            sums[1][one][index][k] += weight * weight
    return np.array(sums, dtype=np.float64).reshape(2, categories, bins + 2, n_variations)


def bin_of(value: float, bins: int = BINS, low: float = LOW, high: float = HIGH) -> int:
    """Bin of a value: 0 for the underflow, bins + 1 for the overflow."""
    position = (value - low) / (high - low)
    if position < 0:
        return 0
    if position < 1:
        return 1 + int(position * bins)
    return bins + 1


bin_of_compiled = loop(bin_of)


@quiet
def columnar(
    values: NDArray[np.float64],
    category: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    categories: int = 1,
    bins: int = BINS,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.float64]:
    """As `reference`, in boost-histogram with one cell for each variation."""
    sums = []
    for cell in (weights, weights * weights):
        histogram = bh.Histogram(
            bh.axis.Integer(0, categories, underflow=False, overflow=False),
            bh.axis.Regular(bins, low, high),
            storage=bh.storage.MultiCell(weights.shape[1]),
        )
        histogram.fill(category, values, weight=cell)
        sums.append(np.moveaxis(histogram.view(flow=True), 0, -1))
    return np.stack(sums)


def compiled(
    values: NDArray[np.float64],
    category: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    categories: int = 1,
    bins: int = BINS,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.float64]:
    """As `reference`, in numba."""
    sums: NDArray[np.float64] = _fill(values, category, weights, categories, bins, low, high)
    return sums


@loop
def _fill(values, category, weights, categories, bins, low, high) -> Any:  # type: ignore[no-untyped-def]
    n_variations = weights.shape[1]
    sums = np.zeros((2, categories, bins + 2, n_variations), dtype=np.float64)
    for entry in range(len(values)):
        index = bin_of_compiled(values[entry], bins, low, high)
        for k in range(n_variations):
            add(sums, category[entry], index, k, weights[entry, k])
    return sums


@loop
def add(sums, category, index, variation, weight) -> Any:  # type: ignore[no-untyped-def]
    """Add an entry to the sums of a bin."""
    sums[0, category, index, variation] += weight
    sums[1, category, index, variation] += weight * weight
