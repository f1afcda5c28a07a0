"""Jet energy resolution: every jet's pt is multiplied by normal(1, 0.05) before the selection.

The published code (AGC version 2, variation ``pt_res_up``) does not seed its generator. Here
the random number is a pure function of (run, luminosityBlock, event, index of the jet in the
event), so that every chunking and every executor gives the same answer: see
`analysis.kernels._random`. Only pt changes, not the jet's mass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import flat, from_lists, join, quiet, rows, split
from analysis.kernels._random import (
    MASK,
    normal_columnar,
    normal_compiled,
    normal_reference,
    philox_columnar,
    philox_compiled,
    philox_reference,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESOLUTION: Final = 0.05
STREAM: Final = 0x4A4552
"""Second word of the key: another use of the generator takes another ("JER" in ASCII)."""


def reference(
    run: ak.Array,
    luminosity_block: ak.Array,
    event: ak.Array,
    pt: ak.Array,
    *,
    resolution: float = RESOLUTION,
) -> ak.Array:
    """Smeared transverse momenta.

    Parameters
    ----------
    run, luminosity_block, event
        Columns run, luminosityBlock and event (events), integers.
    pt
        Column Jet_pt in GeV (events x jets): all jets, since their index is counted.
    resolution
        Standard deviation of the factor.

    Returns
    -------
    ak.Array
        Smeared pt in GeV, double precision (events x jets).
    """
    smeared = []
    for one_run, one_block, one_event, pts in rows(run, luminosity_block, event, pt):
        counter = one_event & MASK, one_event >> 32 & MASK, one_block & MASK
        key = one_run & MASK, STREAM
        normals = [normal_reference(philox_reference((*counter, j), key)) for j in range(len(pts))]
        smeared.append([p * (1.0 + resolution * z) for p, z in zip(pts, normals, strict=True)])
    return from_lists(smeared, np.float64)


@quiet
def columnar(
    run: ak.Array,
    luminosity_block: ak.Array,
    event: ak.Array,
    pt: ak.Array,
    *,
    resolution: float = RESOLUTION,
) -> ak.Array:
    """As `reference`, in awkward."""
    offsets, (contents,) = split(pt)
    counts = np.diff(offsets)
    mask = np.uint64(MASK)
    one_event = flat(event).astype(np.uint64)

    def per_jet(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return np.repeat(words, counts)

    counter = (
        per_jet(one_event & mask),
        per_jet(one_event >> np.uint64(32)),
        per_jet(flat(luminosity_block).astype(np.uint64) & mask),
        (np.arange(len(contents)) - np.repeat(offsets[:-1], counts)).astype(np.uint64),
    )
    key = per_jet(flat(run).astype(np.uint64) & mask), np.uint64(STREAM)
    high, low, _, _ = philox_columnar(counter, key)
    return join(offsets, contents * (1.0 + resolution * normal_columnar(high, low)))


def compiled(
    run: ak.Array,
    luminosity_block: ak.Array,
    event: ak.Array,
    pt: ak.Array,
    *,
    resolution: float = RESOLUTION,
) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    offsets, (contents,) = split(pt)
    smeared: NDArray[np.float64] = _smear(
        flat(run).astype(np.uint64),
        flat(luminosity_block).astype(np.uint64),
        flat(event).astype(np.uint64),
        offsets,
        contents,
        resolution,
    )
    return join(offsets, smeared)


@loop
def _smear(run, luminosity_block, event, offsets, pt, resolution) -> Any:  # type: ignore[no-untyped-def]
    smeared = np.empty(len(pt), dtype=np.float64)
    for i in range(len(event)):
        for j in range(offsets[i], offsets[i + 1]):
            smeared[j] = smear_pt(
                run[i], luminosity_block[i], event[i], j - offsets[i], pt[j], resolution
            )
    return smeared


@loop
def smear_pt(run, luminosity_block, event, jet, pt, resolution=RESOLUTION) -> Any:  # type: ignore[no-untyped-def]
    """Smeared transverse momentum of a jet of an event, by its index there."""
    mask = np.uint64(MASK)
    high, low, _, _ = philox_compiled(
        np.uint64(event) & mask,
        np.uint64(event) >> np.uint64(32),
        np.uint64(luminosity_block) & mask,
        np.uint64(jet),
        np.uint64(run) & mask,
        np.uint64(STREAM),
    )
    return pt * (1.0 + resolution * normal_compiled(high, low))
