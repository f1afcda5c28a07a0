"""Whether an event has an opposite-charge pair with a mass in a window.

Strictly inside the window, and strictly opposite in sign; a pair whose mass is not finite does
not count.

Source: query 5 of iris-hep/adl-benchmarks-index (muons, 60 to 120 GeV).
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._combinations import combine
from analysis.kernels._compile import loop
from analysis.kernels._four_vectors import (
    BLOCK,
    cartesian_columnar,
    cartesian_compiled,
    cartesian_reference,
    mass_bound,
    mass_columnar,
    mass_compiled,
    mass_reference,
    scratch,
)
from analysis.kernels._layout import join, quiet, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOW: Final = 60.0
HIGH: Final = 120.0


def reference(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.bool_]:
    """Which events have such a pair.

    Parameters
    ----------
    pt, eta, phi, mass, charge
        Kinematics and charge of one collection, pt and mass in GeV (events x objects).
    low, high
        The window in GeV.

    Returns
    -------
    NDArray[np.bool_]
        Events.
    """
    found = []
    for *kinematics, charges in rows(pt, eta, phi, mass, charge):
        vectors = [cartesian_reference(*one) for one in zip(*kinematics, strict=True)]
        objects = zip(vectors, charges, strict=True)
        found.append(
            any(
                q1 * q2 < 0 and low < mass_reference(p1 + p2) < high
                for (p1, q1), (p2, q2) in combinations(objects, 2)
            )
        )
    return np.array(found, dtype=np.bool_)


@quiet
def columnar(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.bool_]:
    """As `reference`, in awkward."""
    offsets, (*kinematics, charges) = split(pt, eta, phi, mass, charge)
    pair_offsets, (i, j) = combine(offsets, 2)
    vectors = cartesian_columnar(*kinematics)
    masses = mass_columnar(vectors.take(i) + vectors.take(j))
    good = (charges[i] * charges[j] < 0) & (masses > low) & (masses < high)
    found: NDArray[np.bool_] = ak.to_numpy(ak.any(join(pair_offsets, good), axis=1))
    return found


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> NDArray[np.bool_]:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, eta, phi, mass, charge)
    found: NDArray[np.bool_] = _found(offsets, *contents, low, high)
    return found


@loop
def _found(offsets, pt, eta, phi, mass, charge, low, high) -> Any:  # type: ignore[no-untyped-def]
    n_events = len(offsets) - 1
    found = np.zeros(n_events, dtype=np.bool_)
    px, py, pz, energy = scratch(offsets)
    for first in range(0, n_events, BLOCK):
        last = min(first + BLOCK, n_events)
        block = slice(offsets[first], offsets[last])
        cartesian_compiled(pt[block], eta[block], phi[block], mass[block], px, py, pz, energy)
        charges = charge[block]
        for event in range(first, last):
            start, stop = offsets[event] - offsets[first], offsets[event + 1] - offsets[first]
            for i in range(start, stop):
                for j in range(i + 1, stop):
                    if charges[i] * charges[j] < 0:
                        pair = mass_compiled(
                            px[i] + px[j], py[i] + py[j], pz[i] + pz[j], energy[i] + energy[j]
                        )
                        found[event] |= low < pair < high
    return found


def agree(
    got: NDArray[np.bool_],
    want: NDArray[np.bool_],
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    *,
    low: float = LOW,
    high: float = HIGH,
) -> bool:
    """Whether results are equal, except where rounding can move a mass across an edge of the window."""
    if got.shape != want.shape:
        return False
    differ = got != want
    offsets, (*kinematics, charges) = split(pt, eta, phi, mass, charge)
    pair_offsets, (i, j) = combine(offsets, 2)
    vectors = cartesian_columnar(*kinematics)
    pairs = vectors.take(i) + vectors.take(j)
    masses = mass_columnar(pairs)
    to_edge = np.minimum(abs(masses - low), abs(masses - high))
    near = to_edge <= mass_bound(masses, pairs.energy)
    at_edge = join(pair_offsets, near & (charges[i] * charges[j] < 0))
    return bool(np.all(ak.to_numpy(ak.any(at_edge, axis=1))[differ]))
