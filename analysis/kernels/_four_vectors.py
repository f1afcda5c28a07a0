"""Cartesian components of (pt, eta, phi, mass), and the rounding error of a mass.

Everything is in double precision: px = pt cos(phi), py = pt sin(phi), pz = pt sinh(eta),
E^2 = pt^2 + pz^2 + mass^2. An object with a coordinate that is not finite (or whose sum of
coordinates exceeds 1.8e308) has NaN in all components. The mass of a sum of four-vectors is sqrt(max(0, E^2 - p^2)), and NaN
where the squares are not finite.

Sine, cosine and hyperbolic sine come from the C library in Python, from numpy's vector code in
awkward, and from `_trigonometry` in numba; they may differ in the last bits. All else is rounded
alike.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._trigonometry import ANGLE_MAX, sine_cosine

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK: Final = 256
"""Events whose objects a compiled kernel converts at a time: enough for vector instructions, few
enough for their components to stay in the first-level cache."""

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
def scratch(offsets) -> Any:  # type: ignore[no-untyped-def]
    """Four arrays, long enough for the components of any block of BLOCK events."""
    size = 0
    for first in range(0, len(offsets) - 1, BLOCK):
        last = min(first + BLOCK, len(offsets) - 1)
        size = max(size, offsets[last] - offsets[first])
    return (
        np.empty(size, dtype=np.float64),
        np.empty(size, dtype=np.float64),
        np.empty(size, dtype=np.float64),
        np.empty(size, dtype=np.float64),
    )


@loop
def transverse_compiled(pt, eta, phi, mass, px, py) -> Any:  # type: ignore[no-untyped-def]
    """Write px and py of objects into arrays at least as long."""
    far = False
    for i in range(len(pt)):
        sine, cosine = sine_cosine(np.float64(phi[i]))
        finite = math.isfinite(np.float64(pt[i]) + eta[i] + phi[i] + mass[i])
        one_pt = np.float64(pt[i]) if finite else math.nan
        px[i] = one_pt * cosine
        py[i] = one_pt * sine
        far |= finite & (abs(phi[i]) > ANGLE_MAX)
    if far:  # no azimuth is, but the answer is defined
        for i in range(len(pt)):
            finite = math.isfinite(np.float64(pt[i]) + eta[i] + phi[i] + mass[i])
            if finite and abs(phi[i]) > ANGLE_MAX:
                px[i] = np.float64(pt[i]) * math.cos(np.float64(phi[i]))
                py[i] = np.float64(pt[i]) * math.sin(np.float64(phi[i]))


@loop
def longitudinal_compiled(pt, eta, mass) -> Any:  # type: ignore[no-untyped-def]
    """Pz and energy of one object."""
    # np.float64, because float() of a float32 stays in single precision in numba.
    one_pt = np.float64(pt)
    one_mass = np.float64(mass)
    # An exponential costs much less than a hyperbolic sine. Near eta = 0 the difference loses digits
    # of pz, but no more than a rounding of the energy.
    growth = math.exp(np.float64(eta))
    pz = one_pt * (0.5 * (growth - 1.0 / growth))
    return pz, math.sqrt(one_pt * one_pt + pz * pz + one_mass * one_mass)


@loop
def cartesian_compiled(pt, eta, phi, mass, px, py, pz, energy) -> Any:  # type: ignore[no-untyped-def]
    """Write the components of objects into arrays at least as long."""
    transverse_compiled(pt, eta, phi, mass, px, py)
    for i in range(len(pt)):
        pz[i], energy[i] = longitudinal_compiled(pt[i], eta[i], mass[i])


@loop
def mass_compiled(px, py, pz, energy) -> Any:  # type: ignore[no-untyped-def]
    """As `mass_reference`, within a compiled loop."""
    mass2 = energy * energy - ((px * px + py * py) + pz * pz)
    return math.sqrt(max(0.0, mass2)) if math.isfinite(mass2) else math.nan


def mass_agrees(
    mass: NDArray[np.float64], other: NDArray[np.float64], energy: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether masses are equal within rounding.

    A small mass is the difference of large squares, so the bound is on the squared mass:
    ROUNDING x energy^2 + TINY, with the energy of the system in GeV.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(mass * mass - other * other) <= ROUNDING * energy * energy + TINY
    agrees: NDArray[np.bool_] = near | (np.isnan(mass) & np.isnan(other))
    return agrees


def mass_bound(mass: NDArray[np.float64], energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound on the rounding error of a mass in GeV, by that of `mass_agrees`."""
    error2 = ROUNDING * energy * energy + TINY
    # From mass^2 - error2 (not below zero) to mass: the wider side of the interval.
    bound: NDArray[np.float64] = mass - np.sqrt(np.maximum(mass * mass - error2, 0.0))
    return np.maximum(bound, np.sqrt(mass * mass + error2) - mass)
