"""HT: the scalar sum of the transverse momenta of the jets of an event, in GeV.

Summed in double precision, jet by jet in their order, so that all implementations round alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reference(pt: ak.Array) -> NDArray[np.float64]:
    """HT of each event.

    Parameters
    ----------
    pt
        Transverse momentum of the jets in GeV (events x jets).

    Returns
    -------
    NDArray[np.float64]
        HT in GeV (events); 0 for an event without jets, NaN if a jet's pt is NaN.
    """
    sums = []
    for (pts,) in rows(pt):
        total = 0.0
        for one in pts:  # not sum(), which compensates for rounding from Python 3.12 on
            total += one
        sums.append(total)
    return np.array(sums, dtype=np.float64)


def columnar(pt: ak.Array) -> NDArray[np.float64]:
    """As `reference`, in awkward."""
    sums: NDArray[np.float64] = ak.to_numpy(ak.sum(ak.values_astype(pt, np.float64), axis=1))
    return sums


def compiled(pt: ak.Array) -> NDArray[np.float64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, (contents,) = split(pt)
    sums: NDArray[np.float64] = _sum(offsets, contents)
    return sums


@loop
def _sum(offsets, pt) -> Any:  # type: ignore[no-untyped-def]
    sums = np.empty(len(offsets) - 1, dtype=np.float64)
    for event in range(len(sums)):
        sums[event] = sum_pt(pt, offsets[event], offsets[event + 1])
    return sums


@loop
def sum_pt(pt, start, stop) -> Any:  # type: ignore[no-untyped-def]
    """HT of the jets from `start` to `stop`."""
    total = 0.0
    for i in range(start, stop):
        total += pt[i]
    return total
