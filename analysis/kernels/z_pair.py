"""The same-flavour opposite-charge lepton pair with the mass closest to the Z boson's.

In events with at least three leptons; of equals the first pair in lexicographic order. A pair
whose mass is not finite is not a candidate.

Source: query 8 of iris-hep/adl-benchmarks-index (target 91.2 GeV).
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._combinations import (
    NONE,
    combine,
    local_indices,
    pick_largest,
    picks_agree,
)
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
from analysis.kernels._layout import quiet, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET: Final = 91.2
LEPTONS_MIN: Final = 3


def reference(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    flavour: ak.Array,
    *,
    target: float = TARGET,
    leptons_min: int = LEPTONS_MIN,
) -> NDArray[np.int64]:
    """Indices of the pair of each event.

    Parameters
    ----------
    pt, eta, phi, mass, charge
        Kinematics and charge of the leptons, pt and mass in GeV (events x leptons).
    flavour
        A number that is the same for leptons of one flavour (events x leptons).
    target
        The mass in GeV.
    leptons_min
        Number of leptons asked for.

    Returns
    -------
    NDArray[np.int64]
        Events x 2: indices of the leptons within the event; -1 where there is no pair.
    """
    chosen = []
    for *kinematics, charges, flavours in rows(pt, eta, phi, mass, charge, flavour):
        vectors = [cartesian_reference(*one) for one in zip(*kinematics, strict=True)]
        best, indices = math.inf, (NONE, NONE)
        for i, j in combinations(range(len(vectors)), 2):
            candidate = flavours[i] == flavours[j] and charges[i] * charges[j] < 0
            distance = abs(mass_reference(vectors[i] + vectors[j]) - target)
            if candidate and distance < best:
                best, indices = distance, (i, j)
        chosen.append(indices if len(vectors) >= leptons_min else (NONE, NONE))
    return np.array(chosen, dtype=np.int64).reshape(-1, 2)


@quiet
def columnar(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    flavour: ak.Array,
    *,
    target: float = TARGET,
    leptons_min: int = LEPTONS_MIN,
) -> NDArray[np.int64]:
    """As `reference`, in awkward."""
    offsets, (*kinematics, charges, flavours) = split(pt, eta, phi, mass, charge, flavour)
    pair_offsets, (i, j) = combine(offsets, 2)
    vectors = cartesian_columnar(*kinematics)
    distance = abs(mass_columnar(vectors.take(i) + vectors.take(j)) - target)
    candidate = (flavours[i] == flavours[j]) & (charges[i] * charges[j] < 0)
    picked = pick_largest(pair_offsets, np.where(candidate, -distance, np.nan), -math.inf)
    picked = np.where(np.diff(offsets) >= leptons_min, picked, NONE)
    return local_indices(offsets, picked, (i, j))


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    flavour: ak.Array,
    *,
    target: float = TARGET,
    leptons_min: int = LEPTONS_MIN,
) -> NDArray[np.int64]:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, eta, phi, mass, charge, flavour)
    indices: NDArray[np.int64] = _closest(offsets, *contents, target, leptons_min)
    return indices


@loop
def _closest(offsets, pt, eta, phi, mass, charge, flavour, target, leptons_min) -> Any:  # type: ignore[no-untyped-def]
    n = np.diff(offsets)
    indices = np.full((len(n), 2), NONE, dtype=np.int64)
    px, py, pz, energy = scratch(offsets)
    for first in range(0, len(n), BLOCK):
        last = min(first + BLOCK, len(n))
        block = slice(offsets[first], offsets[last])
        cartesian_compiled(pt[block], eta[block], phi[block], mass[block], px, py, pz, energy)
        charges = charge[block]
        flavours = flavour[block]
        for event in range(first, last):
            if n[event] < leptons_min:
                continue
            start = offsets[event] - offsets[first]
            stop = start + n[event]
            best = np.inf
            for i in range(start, stop):
                for j in range(i + 1, stop):
                    if flavours[i] == flavours[j] and charges[i] * charges[j] < 0:
                        pair = mass_compiled(
                            px[i] + px[j], py[i] + py[j], pz[i] + pz[j], energy[i] + energy[j]
                        )
                        distance = abs(pair - target)
                        if distance < best:
                            best = distance
                            indices[event, 0] = i - start
                            indices[event, 1] = j - start
    return indices


def agree(
    got: NDArray[np.int64],
    want: NDArray[np.int64],
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    charge: ak.Array,
    flavour: ak.Array,
    *,
    target: float = TARGET,
    leptons_min: int = LEPTONS_MIN,  # noqa: ARG001  (one signature for all)
) -> bool:
    """Whether the same pairs are picked, or pairs equally close within rounding."""
    offsets, (*kinematics, charges, flavours) = split(pt, eta, phi, mass, charge, flavour)
    vectors = cartesian_columnar(*kinematics)

    def distance(i: Any, j: Any) -> tuple[Any, Any]:
        candidate = (flavours[i] == flavours[j]) & (charges[i] * charges[j] < 0)
        pairs = vectors.take(i) + vectors.take(j)
        masses = mass_columnar(pairs)
        return np.where(candidate, abs(masses - target), np.nan), mass_bound(masses, pairs.energy)

    return picks_agree(got, want, offsets, tuple(kinematics), distance)
