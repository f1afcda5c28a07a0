"""The trijet system of largest pt that holds a b-tagged jet, and its mass.

The reconstructed hadronic top (b j j) of the 4j2b region. Among all combinations of three
selected jets of which at least one has btag > 0.5; of equals the first in lexicographic order.
A combination with a jet whose kinematics are not finite is not a candidate.

Source: AGC version 2 (iris-hep/analysis-grand-challenge, cms-open-data-ttbar).
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
    cartesian_reference,
    longitudinal_compiled,
    mass_agrees,
    mass_columnar,
    mass_compiled,
    mass_reference,
    scratch,
    transverse_columnar,
    transverse_compiled,
)
from analysis.kernels._layout import quiet, rows, split
from analysis.kernels.regions import BTAG_MIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

Trijet = tuple["NDArray[np.int64]", "NDArray[np.float64]"]

NO_PT2: Final = -1.0
"""Below every squared pt."""


def reference(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    btag: ak.Array,
    *,
    btag_min: float = BTAG_MIN,
) -> Trijet:
    """Indices and mass of the trijet of each event.

    Parameters
    ----------
    pt, eta, phi, mass, btag
        Kinematics and b-tag discriminant of the selected jets, pt and mass in GeV
        (events x jets).
    btag_min
        Discriminant above which a jet is b-tagged.

    Returns
    -------
    indices
        int64, events x 3: indices of the jets within the event; -1 where there is no candidate.
    mass
        float64, events: mass of the system in GeV; NaN where there is none.
    """
    chosen, masses = [], []
    for *kinematics, tags in rows(pt, eta, phi, mass, btag):
        vectors = [cartesian_reference(*one) for one in zip(*kinematics, strict=True)]
        best, indices, best_mass = NO_PT2, (NONE, NONE, NONE), math.nan
        for i, j, k in combinations(range(len(vectors)), 3):
            tagged = tags[i] > btag_min or tags[j] > btag_min or tags[k] > btag_min
            system = vectors[i] + vectors[j] + vectors[k]
            if tagged and system.pt2 > best:
                best, indices, best_mass = system.pt2, (i, j, k), mass_reference(system)
        chosen.append(indices)
        masses.append(best_mass)
    return np.array(chosen, dtype=np.int64).reshape(-1, 3), np.array(masses, dtype=np.float64)


@quiet
def columnar(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    btag: ak.Array,
    *,
    btag_min: float = BTAG_MIN,
) -> Trijet:
    """As `reference`, in awkward."""
    offsets, (*kinematics, tags) = split(pt, eta, phi, mass, btag)
    px, py = transverse_columnar(*kinematics)
    tagged = tags > np.float64(btag_min)
    trijet_offsets, (i, j, k) = combine(offsets, 3)
    # Only the transverse components are needed to choose, the rest for what is chosen.
    x = px[i] + px[j] + px[k]
    y = py[i] + py[j] + py[k]
    pt2 = np.where(tagged[i] | tagged[j] | tagged[k], x * x + y * y, NO_PT2)
    picked = pick_largest(trijet_offsets, pt2, NO_PT2)
    chosen = picked[picked != NONE]
    first, second, third = (
        cartesian_columnar(*(column[jet[chosen]] for column in kinematics)) for jet in (i, j, k)
    )
    masses = np.full(len(picked), np.nan)
    masses[picked != NONE] = mass_columnar(first + second + third)
    return local_indices(offsets, picked, (i, j, k)), masses


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    btag: ak.Array,
    *,
    btag_min: float = BTAG_MIN,
) -> Trijet:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, eta, phi, mass, btag)
    indices, masses = _largest(offsets, *contents, btag_min)
    return indices, masses


@loop
def _largest(offsets, pt, eta, phi, mass, btag, btag_min) -> Any:  # type: ignore[no-untyped-def]
    n = np.diff(offsets)
    indices = np.full((len(n), 3), NONE, dtype=np.int64)
    masses = np.full(len(n), np.nan, dtype=np.float64)
    px, py, _, _ = scratch(offsets)
    for first in range(0, len(n), BLOCK):
        last = min(first + BLOCK, len(n))
        block = slice(offsets[first], offsets[last])
        pts, etas, jet_masses = pt[block], eta[block], mass[block]
        transverse_compiled(pts, etas, phi[block], jet_masses, px, py)
        tagged = btag[block] > btag_min
        for event in range(first, last):
            start = offsets[event] - offsets[first]
            i, j, k = largest_trijet(px, py, tagged, start, start + n[event])
            if i != NONE:
                indices[event, 0] = i - start
                indices[event, 1] = j - start
                indices[event, 2] = k - start
                masses[event] = mass_of_trijet(px, py, pts, etas, jet_masses, i, j, k)
    return indices, masses


@loop
def largest_trijet(px, py, tagged, start, stop) -> Any:  # type: ignore[no-untyped-def]
    """Indices of the trijet of the jets from `start` to `stop`; NONE if there is none."""
    first, second, third = NONE, NONE, NONE
    best = NO_PT2
    for i in range(start, stop):
        for j in range(i + 1, stop):
            x2, y2 = px[i] + px[j], py[i] + py[j]
            tagged2 = tagged[i] | tagged[j]
            for k in range(j + 1, stop):
                x, y = x2 + px[k], y2 + py[k]
                pt2 = x * x + y * y
                if pt2 > best and (tagged2 | tagged[k]):
                    best = pt2
                    first, second, third = i, j, k
    return first, second, third


@loop
def mass_of_trijet(px, py, pt, eta, mass, i, j, k) -> Any:  # type: ignore[no-untyped-def]
    """Mass of three jets, of which only these need their other components."""
    pz3 = 0.0
    energy3 = 0.0
    for jet in (i, j, k):
        pz, energy = longitudinal_compiled(pt[jet], eta[jet], mass[jet])
        pz3 += pz
        energy3 += energy
    return mass_compiled(px[i] + px[j] + px[k], py[i] + py[j] + py[k], pz3, energy3)


def agree(
    got: Trijet,
    want: Trijet,
    pt: ak.Array,
    eta: ak.Array,
    phi: ak.Array,
    mass: ak.Array,
    btag: ak.Array,
    *,
    btag_min: float = BTAG_MIN,
) -> bool:
    """Whether results are equal within rounding.

    Another trijet may be picked where the pt^2 of two are equal within ROUNDING x the square of
    the sum of the jets' pt (+ TINY); the mass of each pick is right within rounding
    (`mass_agrees`).
    """
    offsets, (*kinematics, tags) = split(pt, eta, phi, mass, btag)
    vectors = cartesian_columnar(*kinematics)
    jet_pt = abs(kinematics[0].astype(np.float64))

    def pt2(i: Any, j: Any, k: Any) -> tuple[Any, Any]:
        system = vectors.take(i) + vectors.take(j) + vectors.take(k)
        bound = ROUNDING * (jet_pt[i] + jet_pt[j] + jet_pt[k]) ** 2 + TINY
        tagged = (tags[i] > btag_min) | (tags[j] > btag_min) | (tags[k] > btag_min)
        return np.where(tagged, system.pt2, np.nan), bound

    if not picks_agree(got[0], want[0], offsets, tuple(kinematics), pt2):
        return False
    for indices, masses in (got, want):
        some = indices[:, 0] != NONE
        i, j, k = (offsets[:-1][some, None] + indices[some]).T
        system = vectors.take(i) + vectors.take(j) + vectors.take(k)
        right = mass_agrees(masses[some], mass_columnar(system), system.energy)
        if not np.all(right) or not np.all(np.isnan(masses[~some])):
            return False
    return True
