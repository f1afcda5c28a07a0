"""The trijet system with the mass closest to a target, and its transverse momentum.

Among all combinations of three jets of an event; of equals the first in lexicographic order. A
combination whose mass is not finite is not a candidate.

Source: query 6 of iris-hep/adl-benchmarks-index (target 172.5 GeV).
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
    ROUNDING,
    TINY,
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

TARGET: Final = 172.5

Trijet = tuple["NDArray[np.int64]", "NDArray[np.float64]"]


def reference(
    pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array, *, target: float = TARGET
) -> Trijet:
    """Indices and transverse momentum of the trijet of each event.

    Parameters
    ----------
    pt, eta, phi, mass
        Kinematics of the jets, pt and mass in GeV (events x jets).
    target
        The mass in GeV.

    Returns
    -------
    indices
        int64, events x 3: indices of the jets within the event; -1 where there is no candidate.
    pt
        float64, events: transverse momentum of the system in GeV; NaN where there is none.
    """
    chosen, pts = [], []
    for event in rows(pt, eta, phi, mass):
        vectors = [cartesian_reference(*one) for one in zip(*event, strict=True)]
        best, indices, best_pt = math.inf, (NONE, NONE, NONE), math.nan
        for i, j, k in combinations(range(len(vectors)), 3):
            system = vectors[i] + vectors[j] + vectors[k]
            distance = abs(mass_reference(system) - target)
            if distance < best:
                best, indices, best_pt = distance, (i, j, k), math.sqrt(system.pt2)
        chosen.append(indices)
        pts.append(best_pt)
    return np.array(chosen, dtype=np.int64).reshape(-1, 3), np.array(pts, dtype=np.float64)


@quiet
def columnar(
    pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array, *, target: float = TARGET
) -> Trijet:
    """As `reference`, in awkward."""
    offsets, contents = split(pt, eta, phi, mass)
    vectors = cartesian_columnar(*contents)
    trijet_offsets, trijets = combine(offsets, 3)
    first, second, third = (vectors.take(jet) for jet in trijets)
    system = first + second + third
    # The largest of the negative distances, because pick_largest leaves out NaN.
    picked = pick_largest(trijet_offsets, -abs(mass_columnar(system) - target), -math.inf)
    system_pt = np.full(len(picked), np.nan)
    some = picked != NONE
    system_pt[some] = np.sqrt(system.pt2[picked[some]])
    return local_indices(offsets, picked, trijets), system_pt


def compiled(
    pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array, *, target: float = TARGET
) -> Trijet:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, eta, phi, mass)
    indices, system_pt = _closest(offsets, *contents, target)
    return indices, system_pt


@loop
def _closest(offsets, pt, eta, phi, mass, target) -> Any:  # type: ignore[no-untyped-def]
    n = np.diff(offsets)
    indices = np.full((len(n), 3), NONE, dtype=np.int64)
    system_pt = np.full(len(n), np.nan, dtype=np.float64)
    px, py, pz, energy = scratch(offsets)
    for first in range(0, len(n), BLOCK):
        last = min(first + BLOCK, len(n))
        block = slice(offsets[first], offsets[last])
        cartesian_compiled(pt[block], eta[block], phi[block], mass[block], px, py, pz, energy)
        for event in range(first, last):
            start = offsets[event] - offsets[first]
            stop = start + n[event]
            best = np.inf
            for i in range(start, stop):
                for j in range(i + 1, stop):
                    px2, py2, pz2 = px[i] + px[j], py[i] + py[j], pz[i] + pz[j]
                    energy2 = energy[i] + energy[j]
                    for k in range(j + 1, stop):
                        mass3 = mass_compiled(
                            px2 + px[k], py2 + py[k], pz2 + pz[k], energy2 + energy[k]
                        )
                        distance = abs(mass3 - target)
                        if distance < best:
                            best = distance
                            indices[event, 0] = i - start
                            indices[event, 1] = j - start
                            indices[event, 2] = k - start
            if best < np.inf:
                i, j, k = indices[event] + start
                x = px[i] + px[j] + px[k]
                y = py[i] + py[j] + py[k]
                system_pt[event] = np.sqrt(x * x + y * y)
    return indices, system_pt


def agree(
    got: Trijet,
    want: Trijet,
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    *,
    target: float = TARGET,
) -> bool:
    """Whether results are equal within rounding.

    Another trijet may be picked where two masses are equally close within rounding; the pt of
    each pick is right to ROUNDING x the sum of the jets' pt (+ sqrt(TINY)).
    """
    offsets, contents = split(pt, eta, phi, mass)
    vectors = cartesian_columnar(*contents)

    def distance(i: Any, j: Any, k: Any) -> tuple[Any, Any]:
        system = vectors.take(i) + vectors.take(j) + vectors.take(k)
        masses = mass_columnar(system)
        return abs(masses - target), mass_bound(masses, system.energy)

    if not picks_agree(got[0], want[0], offsets, contents, distance):
        return False
    jet_pt = abs(contents[0].astype(np.float64))
    for indices, system_pt in (got, want):
        some = indices[:, 0] != NONE
        if not np.array_equal(some, ~np.isnan(system_pt)):
            return False
        i, j, k = (offsets[:-1][some, None] + indices[some]).T
        system = vectors.take(i) + vectors.take(j) + vectors.take(k)
        bound = ROUNDING * (jet_pt[i] + jet_pt[j] + jet_pt[k]) + math.sqrt(TINY)
        if not np.all(abs(system_pt[some] - np.sqrt(system.pt2)) <= bound):
            return False
    return True
