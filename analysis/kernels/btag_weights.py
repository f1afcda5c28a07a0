"""The four b-tag weight variations, up and down.

Variation i changes an event's weight to 1 +- 0.075 pt_i / 50 GeV, with pt_i the pt of the i-th
selected jet in the order of the file (i = 0..3). The selection does not change. An event
without an i-th jet keeps weight 1.

Source: AGC version 2 (``corrections.json``, event_systematics / btag_var).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOPE: Final = 0.075
PT_UNIT: Final = 50.0
N_JETS: Final = 4
VARIATIONS: Final = tuple(
    f"btag_var_{i}_{direction}" for i in range(N_JETS) for direction in ("up", "down")
)
"""Names of the columns of weights."""


def reference(pt: ak.Array, *, slope: float = SLOPE) -> NDArray[np.float64]:
    """Weights of each event.

    Parameters
    ----------
    pt
        Transverse momentum of the selected jets in GeV (events x jets).
    slope
        Relative change of the weight per 50 GeV.

    Returns
    -------
    NDArray[np.float64]
        Events x 8, the columns named by VARIATIONS.
    """
    weights = []
    for (pts,) in rows(pt):
        row = []
        for i in range(N_JETS):
            shift = slope * pts[i] / PT_UNIT if i < len(pts) else 0.0
            row += [1.0 + shift, 1.0 - shift]
        weights.append(row)
    return np.array(weights, dtype=np.float64).reshape(-1, 2 * N_JETS)


def columnar(pt: ak.Array, *, slope: float = SLOPE) -> NDArray[np.float64]:
    """As `reference`, in awkward."""
    first = ak.fill_none(ak.pad_none(pt, N_JETS, axis=1, clip=True), 0.0)
    shifts = np.float64(slope) * ak.to_numpy(first) / PT_UNIT
    weights: NDArray[np.float64] = np.stack([1.0 + shifts, 1.0 - shifts], axis=-1)
    return weights.reshape(-1, 2 * N_JETS)


def compiled(pt: ak.Array, *, slope: float = SLOPE) -> NDArray[np.float64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, (contents,) = split(pt)
    weights: NDArray[np.float64] = _weights(offsets, contents, slope)
    return weights


@loop
def _weights(offsets, pt, slope) -> Any:  # type: ignore[no-untyped-def]
    weights = np.empty((len(offsets) - 1, 2 * N_JETS), dtype=np.float64)
    for event in range(len(weights)):
        weigh(pt, offsets[event], offsets[event + 1], weights, event, slope)
    return weights


@loop
def weigh(pt, start, stop, weights, event, slope=SLOPE) -> Any:  # type: ignore[no-untyped-def]
    """Write weights of the jets from `start` to `stop` into a row."""
    for i in range(N_JETS):
        shift = slope * pt[start + i] / PT_UNIT if i < stop - start else 0.0
        weights[event, 2 * i] = 1.0 + shift
        weights[event, 2 * i + 1] = 1.0 - shift
