"""Cartesian components of (pt, eta, phi, mass), and what rounding does to a mass.

Everything is in double precision: px = pt cos(phi), py = pt sin(phi), pz = pt sinh(eta),
E^2 = pt^2 + pz^2 + mass^2. An object of which a coordinate is not finite (or their sum, beyond
1.8e308) has NaN in all. The mass of a sum of four-vectors is sqrt(max(0, E^2 - p^2)), and NaN
where the squares are not finite.

Sine, cosine and hyperbolic sine come from the C library in Python and numba, and from numpy's
vector code in awkward; they may differ in the last bits. All else is rounded alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.compiling import loop

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDING: Final = 64 * 2.0**-52
"""Bound on a relative rounding error: each component carries at most about 4 + 1 units in the
last place (numpy states 4 for its vector functions), a sum of three some 16, squares twice."""

TINY: Final = 2.0**-1022
"""Bound on the rounding of squares too small to have all their digits, in GeV^2."""


class FourVector(NamedTuple):
    """Cartesian components in GeV: numbers, numpy arrays or awkward arrays."""

    px: Any
    py: Any
    pz: Any
    energy: Any

    def __add__(self, other: FourVector) -> FourVector:  # type: ignore[override]
        """Sum of two four-vectors, component by component."""
        return FourVector(*(a + b for a, b in zip(self, other, strict=True)))

    def take(self, indices: Any) -> FourVector:
        """Four-vectors at these flat indices, of numpy arrays."""
        return FourVector(*(component[indices] for component in self))

    @property
    def pt2(self) -> Any:
        """Squared transverse momentum in GeV^2."""
        return self.px * self.px + self.py * self.py

    @property
    def mass2(self) -> Any:
        """Squared mass in GeV^2, before rounding below zero is cut off."""
        return self.energy * self.energy - (self.pt2 + self.pz * self.pz)


def cartesian_reference(pt: float, eta: float, phi: float, mass: float) -> FourVector:
    """Cartesian components of one object."""
    if not math.isfinite(pt + eta + phi + mass):
        return FourVector(math.nan, math.nan, math.nan, math.nan)
    try:
        pz = pt * math.sinh(eta)
    except OverflowError:  # Python raises where C gives infinity
        pz = pt * math.copysign(math.inf, eta)
    return FourVector(
        pt * math.cos(phi),
        pt * math.sin(phi),
        pz,
        math.sqrt(pt * pt + pz * pz + mass * mass),
    )


def mass_reference(vector: FourVector) -> float:
    """Mass of one four-vector in GeV; NaN where a component is not finite."""
    mass2 = vector.mass2
    return math.sqrt(max(0.0, mass2)) if math.isfinite(mass2) else math.nan


def transverse_columnar(
    pt: NDArray[Any], eta: NDArray[Any], phi: NDArray[Any], mass: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Px and py of `cartesian_columnar`, alone."""
    pt, eta, phi, mass = (np.asarray(column, np.float64) for column in (pt, eta, phi, mass))
    with np.errstate(invalid="ignore"):
        pt = np.where(np.isfinite(pt + eta + phi + mass), pt, np.nan)
        return pt * np.cos(phi), pt * np.sin(phi)


def cartesian_columnar(
    pt: NDArray[Any], eta: NDArray[Any], phi: NDArray[Any], mass: NDArray[Any]
) -> FourVector:
    """Cartesian components of flat arrays of objects."""
    pt, eta, phi, mass = (np.asarray(column, np.float64) for column in (pt, eta, phi, mass))
    with np.errstate(invalid="ignore", over="ignore"):
        pt = np.where(np.isfinite(pt + eta + phi + mass), pt, np.nan)
        pz = pt * np.sinh(eta)
        return FourVector(
            pt * np.cos(phi), pt * np.sin(phi), pz, np.sqrt(pt * pt + pz * pz + mass * mass)
        )


def mass_columnar(vector: FourVector) -> Any:
    """As `mass_reference`, for arrays."""
    with np.errstate(invalid="ignore", over="ignore"):
        mass2 = vector.mass2
        # A comparison with NaN is false and infinity minus itself is NaN: both give NaN.
        return np.sqrt(np.maximum(mass2, 0.0) + (mass2 - mass2))


@loop
def cartesian_compiled(pt, eta, phi, mass) -> Any:  # type: ignore[no-untyped-def]
    """As `cartesian_reference`, for one object within a compiled loop."""
    # np.float64() is double precision in numba, whatever the column's type.
    pt = np.float64(pt)
    eta = np.float64(eta)
    phi = np.float64(phi)
    mass = np.float64(mass)
    if not math.isfinite(pt + eta + phi + mass):
        return math.nan, math.nan, math.nan, math.nan
    pz = pt * math.sinh(eta)
    return (
        pt * math.cos(phi),
        pt * math.sin(phi),
        pz,
        math.sqrt(pt * pt + pz * pz + mass * mass),
    )


@loop
def transverse_compiled(pt, eta, phi, mass) -> Any:  # type: ignore[no-untyped-def]
    """Px and py of `cartesian_compiled`, alone."""
    pt = np.float64(pt)
    phi = np.float64(phi)
    if not math.isfinite(pt + np.float64(eta) + phi + np.float64(mass)):
        return math.nan, math.nan
    return pt * math.cos(phi), pt * math.sin(phi)


@loop
def scratch(counts) -> Any:  # type: ignore[no-untyped-def]
    """Four arrays that hold the components of one event's objects, whichever event it is."""
    n_max = 0
    for count in counts:
        n_max = max(n_max, count)
    return (
        np.empty(n_max, dtype=np.float64),
        np.empty(n_max, dtype=np.float64),
        np.empty(n_max, dtype=np.float64),
        np.empty(n_max, dtype=np.float64),
    )


@loop
def mass_compiled(px, py, pz, energy) -> Any:  # type: ignore[no-untyped-def]
    """As `mass_reference`, within a compiled loop."""
    mass2 = energy * energy - ((px * px + py * py) + pz * pz)
    return math.sqrt(max(0.0, mass2)) if math.isfinite(mass2) else math.nan


def mass_agrees(
    mass: NDArray[np.float64], other: NDArray[np.float64], energy: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether masses are equal within what rounding can do to them.

    A small mass is the difference of large squares, so the bound is on the squared mass:
    ROUNDING x energy^2 + TINY, with the energy of the system in GeV.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(mass * mass - other * other) <= ROUNDING * energy * energy + TINY
    agrees: NDArray[np.bool_] = near | (np.isnan(mass) & np.isnan(other))
    return agrees


def mass_bound(mass: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """What rounding can do to a mass, in GeV, by the bound of `mass_agrees`."""
    error2 = ROUNDING * energy * energy + TINY
    # From mass^2 - error2 (not below zero) to mass: the wider side of the interval.
    bound: NDArray[np.float64] = mass - np.sqrt(np.maximum(mass * mass - error2, 0.0))
    return np.maximum(bound, np.sqrt(mass * mass + error2) - mass)
