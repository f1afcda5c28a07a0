"""Invariant mass of every pair of objects of an event, in GeV.

Pairs in lexicographic order: (0, 1), (0, 2), ..., (1, 2), ... Formulae and the bound on
rounding: `analysis.kernels._four_vectors`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import awkward as ak
import numpy as np

from analysis.kernels._combinations import combine
from analysis.kernels._compile import loop
from analysis.kernels._four_vectors import (
    BLOCK,
    cartesian_columnar,
    cartesian_compiled,
    cartesian_reference,
    mass_agrees,
    mass_columnar,
    mass_compiled,
    mass_reference,
    scratch,
)
from analysis.kernels._layout import from_lists, join, quiet, rows, split


def reference(pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array) -> ak.Array:
    """Mass of each pair.

    Parameters
    ----------
    pt, eta, phi, mass
        Kinematics of one collection, pt and mass in GeV (events x objects).

    Returns
    -------
    ak.Array
        Mass in GeV, double precision (events x pairs); NaN if a component is not finite.
    """
    masses = []
    for event in rows(pt, eta, phi, mass):
        vectors = [cartesian_reference(*one) for one in zip(*event, strict=True)]
        masses.append([mass_reference(a + b) for a, b in combinations(vectors, 2)])
    return from_lists(masses, np.float64)


@quiet
def columnar(pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array) -> ak.Array:
    """As `reference`, in awkward."""
    offsets, contents = split(pt, eta, phi, mass)
    vectors = cartesian_columnar(*(column.astype(np.float64) for column in contents))
    pair_offsets, (i, j) = combine(offsets, 2)
    return join(pair_offsets, mass_columnar(vectors.take(i) + vectors.take(j)))


def compiled(pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    offsets, contents = split(pt, eta, phi, mass)
    return join(*_masses(offsets, *contents))


@loop
def _masses(offsets, pt, eta, phi, mass) -> Any:  # type: ignore[no-untyped-def]
    n = np.diff(offsets)
    pair_offsets = np.zeros(len(offsets), dtype=np.int64)
    pair_offsets[1:] = np.cumsum(n * (n - 1) // 2)
    masses = np.empty(pair_offsets[-1], dtype=np.float64)
    px, py, pz, energy = scratch(offsets)
    pair = 0
    for first in range(0, len(n), BLOCK):
        last = min(first + BLOCK, len(n))
        block = slice(offsets[first], offsets[last])
        cartesian_compiled(pt[block], eta[block], phi[block], mass[block], px, py, pz, energy)
        for event in range(first, last):
            start = offsets[event] - offsets[first]
            stop = start + n[event]
            for i in range(start, stop):
                for j in range(i + 1, stop):
                    masses[pair] = mass_compiled(
                        px[i] + px[j], py[i] + py[j], pz[i] + pz[j], energy[i] + energy[j]
                    )
                    pair += 1
    return pair_offsets, masses


def agree(
    got: ak.Array, want: ak.Array, pt: ak.Array, eta: ak.Array, phi: ak.Array, mass: ak.Array
) -> bool:
    """Whether two results are equal within rounding (`mass_agrees`)."""
    offsets, contents = split(pt, eta, phi, mass)
    energy = cartesian_columnar(*contents).energy
    pair_offsets, (i, j) = combine(offsets, 2)
    (got_offsets, (masses,)), (want_offsets, (others,)) = split(got), split(want)
    same_pairs = np.array_equal(got_offsets, pair_offsets) and np.array_equal(
        want_offsets, pair_offsets
    )
    return same_pairs and bool(np.all(mass_agrees(masses, others, energy[i] + energy[j])))
