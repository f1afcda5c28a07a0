"""Which objects lie in a range of transverse momentum and pseudorapidity.

pt > pt_min and abs(eta) < eta_max, in double precision; a comparison with NaN is false, and
abs(eta) of infinity is below no eta_max. Without eta, pt > pt_min alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

if TYPE_CHECKING:
    import awkward as ak


def reference(
    pt: ak.Array,
    eta: ak.Array | None = None,
    *,
    pt_min: float = -math.inf,
    eta_max: float = math.inf,
) -> ak.Array:
    """Which objects are in the acceptance.

    Parameters
    ----------
    pt, eta
        Transverse momentum in GeV and pseudorapidity (events x objects); eta need not be given.
    pt_min, eta_max
        The cuts; by default each passes every finite value.

    Returns
    -------
    ak.Array
        bool, events x objects.
    """
    if eta is None:
        return from_lists([[a > pt_min for a in pts] for (pts,) in rows(pt)], np.bool_)
    masks = [
        [a > pt_min and abs(b) < eta_max for a, b in zip(pts, etas, strict=True)]
        for pts, etas in rows(pt, eta)
    ]
    return from_lists(masks, np.bool_)


def columnar(
    pt: ak.Array,
    eta: ak.Array | None = None,
    *,
    pt_min: float = -math.inf,
    eta_max: float = math.inf,
) -> ak.Array:
    """As `reference`, in awkward."""
    # np.float64: compare in double precision, see electrons.columnar.
    hard = pt > np.float64(pt_min)
    return hard if eta is None else hard & (abs(eta) < np.float64(eta_max))


def compiled(
    pt: ak.Array,
    eta: ak.Array | None = None,
    *,
    pt_min: float = -math.inf,
    eta_max: float = math.inf,
) -> ak.Array:
    """As `reference`, in numba over flat contents."""
    if eta is None:
        offsets, (contents,) = split(pt)
        return join(offsets, _hard(contents, pt_min))
    offsets, both = split(pt, eta)
    return join(offsets, _mask(*both, pt_min, eta_max))


@loop
def _hard(pt, pt_min):  # type: ignore[no-untyped-def]
    keep = np.empty(len(pt), dtype=np.bool_)
    for i in range(len(pt)):
        keep[i] = pt[i] > pt_min
    return keep


@loop
def _mask(pt, eta, pt_min, eta_max):  # type: ignore[no-untyped-def]
    keep = np.empty(len(pt), dtype=np.bool_)
    for i in range(len(pt)):
        keep[i] = (pt[i] > pt_min) & (abs(eta[i]) < eta_max)
    return keep
