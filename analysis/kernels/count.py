"""How many objects of each event a mask keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reference(mask: ak.Array) -> NDArray[np.int64]:
    """Number of objects kept.

    Parameters
    ----------
    mask
        bool, events x objects.

    Returns
    -------
    NDArray[np.int64]
        Events.
    """
    return np.array([sum(keeps) for (keeps,) in rows(mask)], dtype=np.int64)


def columnar(mask: ak.Array) -> NDArray[np.int64]:
    """As `reference`, in awkward."""
    counts: NDArray[np.int64] = ak.to_numpy(ak.count_nonzero(mask, axis=1))
    return counts


def compiled(mask: ak.Array) -> NDArray[np.int64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, (keeps,) = split(mask)
    counts: NDArray[np.int64] = _count(offsets, keeps.view(np.bool_))
    return counts


@loop
def _count(offsets, keeps) -> Any:  # type: ignore[no-untyped-def]
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    for event in range(len(counts)):
        for i in range(offsets[event], offsets[event + 1]):
            counts[event] += keeps[i]
    return counts
