"""Jet energy scale: every jet's pt is multiplied by 1.03 before the selection.

Source: AGC version 2, variation ``pt_scale_up``; only pt changes, not the jet's mass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, quiet, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE_UP: Final = 1.03


def reference(pt: ak.Array, *, scale: float = SCALE_UP) -> ak.Array:
    """Scaled transverse momenta.

    Parameters
    ----------
    pt
        Column Jet_pt in GeV (events x jets).
    scale
        The factor.

    Returns
    -------
    ak.Array
        Scaled pt in GeV, double precision (events x jets).
    """
    return from_lists([[one * scale for one in pts] for (pts,) in rows(pt)], np.float64)


@quiet
def columnar(pt: ak.Array, *, scale: float = SCALE_UP) -> ak.Array:
    """As `reference`, in awkward."""
    return pt * np.float64(scale)


def compiled(pt: ak.Array, *, scale: float = SCALE_UP) -> ak.Array:
    """As `reference`, in numba over flat contents."""
    offsets, (contents,) = split(pt)
    scaled: NDArray[np.float64] = _scale(contents, scale)
    return join(offsets, scaled)


@loop
def _scale(pt, scale) -> Any:  # type: ignore[no-untyped-def]
    scaled = np.empty(len(pt), dtype=np.float64)
    for i in range(len(pt)):
        scaled[i] = scale_pt(pt[i], scale)
    return scaled


@loop
def scale_pt(pt, scale=SCALE_UP) -> Any:  # type: ignore[no-untyped-def]
    """Scaled transverse momentum of a jet."""
    return pt * scale
