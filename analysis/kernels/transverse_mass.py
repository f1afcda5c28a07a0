"""Transverse mass of the missing ET and the leading lepton outside a pair, in GeV.

mT = 2 sqrt(pt MET) |sin(dphi / 2)|, which equals sqrt(2 pt MET (1 - cos dphi)) and does not lose
digits at small angles. The leading lepton is that of largest pt, the first of equals; a lepton
with NaN in pt does not lead.

Source: query 8 of iris-hep/adl-benchmarks-index.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._combinations import NONE, pick_largest
from analysis.kernels._compile import loop
from analysis.kernels._layout import flat, quiet, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE: Final = 16 * 2.0**-52
"""Relative: one sine, and some roundings of half a unit in the last place."""


def reference(
    pt: ak.Array,
    phi: ak.Array,
    pair: NDArray[np.int64],
    met_pt: ak.Array,
    met_phi: ak.Array,
) -> NDArray[np.float64]:
    """Transverse mass of each event.

    Parameters
    ----------
    pt, phi
        Transverse momentum in GeV and azimuth of the leptons (events x leptons).
    pair
        Indices within the event of the leptons to leave out (events x 2), as of `z_pair`.
    met_pt, met_phi
        Missing ET in GeV and its azimuth (events).

    Returns
    -------
    NDArray[np.float64]
        Transverse mass in GeV (events); NaN where there is no pair or no lepton outside it.
    """
    masses = []
    for pts, phis, (first, second), one_met, one_phi in rows(pt, phi, pair, met_pt, met_phi):
        best, mass = -math.inf, math.nan
        for i, (lepton_pt, lepton_phi) in enumerate(zip(pts, phis, strict=True)):
            if first != NONE and i not in (first, second) and lepton_pt > best:
                best, mass = lepton_pt, _mass(lepton_pt, lepton_phi, one_met, one_phi)
        masses.append(mass)
    return np.array(masses, dtype=np.float64)


def _mass(pt: float, phi: float, met_pt: float, met_phi: float) -> float:
    product, angle = pt * met_pt, (phi - met_phi) / 2
    # Where C gives NaN Python raises.
    if not product >= 0 or not math.isfinite(angle):
        return math.nan
    return 2 * math.sqrt(product) * abs(math.sin(angle))


@quiet
def columnar(
    pt: ak.Array,
    phi: ak.Array,
    pair: NDArray[np.int64],
    met_pt: ak.Array,
    met_phi: ak.Array,
) -> NDArray[np.float64]:
    """As `reference`, in awkward."""
    offsets, (pts, phis) = split(pt, phi)
    (some,) = np.nonzero(pair[:, 0] != NONE)
    candidates = pts.astype(np.float64)
    candidates[offsets[some, None] + pair[some]] = np.nan
    leading = pick_largest(offsets, candidates, -math.inf)
    (some,) = np.nonzero((pair[:, 0] != NONE) & (leading != NONE))
    lepton = leading[some]
    masses = np.full(len(leading), np.nan)
    angle = (phis[lepton].astype(np.float64) - flat(met_phi)[some]) / 2
    product = candidates[lepton] * flat(met_pt)[some]
    masses[some] = 2 * np.sqrt(product) * np.abs(np.sin(angle))
    return masses


def compiled(
    pt: ak.Array,
    phi: ak.Array,
    pair: NDArray[np.int64],
    met_pt: ak.Array,
    met_phi: ak.Array,
) -> NDArray[np.float64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, phi)
    masses: NDArray[np.float64] = _masses(
        offsets, *contents, np.ascontiguousarray(pair), flat(met_pt), flat(met_phi)
    )
    return masses


@loop
def _masses(offsets, pt, phi, pair, met_pt, met_phi) -> Any:  # type: ignore[no-untyped-def]
    masses = np.full(len(offsets) - 1, np.nan, dtype=np.float64)
    for event in range(len(masses)):
        if pair[event, 0] == NONE:
            continue
        best = -np.inf
        leading = NONE
        for i in range(offsets[event + 1] - offsets[event]):
            lepton = offsets[event] + i
            if i != pair[event, 0] and i != pair[event, 1] and pt[lepton] > best:
                best = np.float64(pt[lepton])
                leading = lepton
        if leading != NONE:
            angle = (np.float64(phi[leading]) - np.float64(met_phi[event])) / 2
            masses[event] = 2 * math.sqrt(best * met_pt[event]) * abs(math.sin(angle))
    return masses


def agree(got: NDArray[np.float64], want: NDArray[np.float64], *_: Any) -> bool:
    """Whether transverse masses are equal to a relative TOLERANCE."""
    return got.shape == want.shape and np.allclose(
        got, want, rtol=TOLERANCE, atol=0, equal_nan=True
    )
