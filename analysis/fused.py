"""The ttbar analysis fused: all regions, channels and variations in one compiled pass over events.

Kernels make arrays of what they select, one after the other. Here the jets of an event with one
lepton go through all of them at once, in memory that stays in the cache. There are no definitions
here: it calls compiled functions of the kernels. Each bin is summed in the order of the events, as
by the kernels, so that results are those of `compiled` to the last bit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis import histograms
from analysis.kernels import KERNELS
from analysis.kernels._combinations import NONE
from analysis.kernels._compile import loop
from analysis.kernels._four_vectors import transverse_compiled
from analysis.kernels._layout import flat, split
from analysis.kernels.btag_weights import VARIATIONS as BTAG_VARIATIONS
from analysis.kernels.btag_weights import weigh
from analysis.kernels.electrons import electron_mask
from analysis.kernels.histogram import BINS, add, bin_of_compiled
from analysis.kernels.ht import sum_pt
from analysis.kernels.jet_resolution import smear_pt
from analysis.kernels.jet_scale import scale_pt
from analysis.kernels.jets import keep_jet
from analysis.kernels.leptons import ELECTRON, NEITHER, lepton_channel
from analysis.kernels.muons import muon_mask
from analysis.kernels.regions import (
    FEW_JETS,
    FOUR_JETS_ONE_B,
    FOUR_JETS_TWO_B,
    is_tagged,
    region_of,
)
from analysis.kernels.trijet_pt import largest_trijet, mass_of_trijet
from analysis.samples import KINEMATIC_VARIATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

IDENTITY: Final = ("run", "luminosityBlock", "event")
"""Columns that the jet resolution is drawn with."""

JET_FIELDS: Final = ("pt", "eta", "phi", "mass", "jetId", "btagCSVV2")

N_CATEGORIES: Final = len(histograms.CHANNELS) * len(histograms.REGIONS)
N_REGIONS: Final = len(histograms.REGIONS)
N_BTAGS: Final = len(BTAG_VARIATIONS)

# Places in KINEMATIC_VARIATIONS, after the nominal one.
SCALED: Final = 1
SMEARED: Final = 2


def fill(
    columns: Mapping[str, Any], scales: Sequence[float], *, every_variation: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As `analysis.ttbar.fill_by_kernels`, in one pass."""
    electrons, muons = (
        split(*(columns[name] for name in KERNELS[kernel].inputs))
        for kernel in ("electrons", "muons")
    )
    jets = split(*(columns[f"Jet_{field}"] for field in JET_FIELDS))
    channel = _channel(electrons.offsets, electrons.contents, muons.offsets, muons.contents)
    # The types that NanoAOD has, so that one compilation serves both.
    identity = [np.empty(0, dtype) for dtype in (np.uint32, np.uint32, np.uint64)]
    shifts, weights = 1, 1
    if every_variation:
        identity = [flat(columns[name]) for name in IDENTITY]
        shifts += len(KINEMATIC_VARIATIONS)
        weights += N_BTAGS + len(scales)
    sums = np.zeros((2, N_CATEGORIES, BINS + 2, weights + shifts - 1))
    regions = np.zeros((shifts, FOUR_JETS_TWO_B + 1), dtype=np.int64)
    factors = np.array(scales, dtype=np.float64)
    _pass(channel, jets.offsets, *jets.contents, *identity, factors, sums, regions)
    return sums, regions


@loop
def _channel(electron_offsets, electrons, muon_offsets, muons) -> Any:  # type: ignore[no-untyped-def]
    # Leptons first, in flat loops of vector instructions: few events have one.
    electron, muon = electron_mask(*electrons), muon_mask(*muons)
    return lepton_channel(electron_offsets, electron, muon_offsets, muon)


@loop
def _pass(  # type: ignore[no-untyped-def]
    channel,
    offsets,
    pt,
    eta,
    phi,
    mass,
    jet_id,
    btag,
    run,
    luminosity_block,
    number,
    scales,
    sums,
    regions,
) -> Any:
    shifts = len(regions)
    events = np.flatnonzero(channel != NEITHER)
    most = 0
    for event in events:
        most = max(most, offsets[event + 1] - offsets[event])
    # Of an event: indices of the selected jets and their pt, and what else their trijet needs.
    chosen = np.empty(most, dtype=np.int64)
    chosen_pt = np.empty(most, dtype=np.float64)
    tagged = np.empty(most, dtype=np.bool_)
    scratch = np.empty((5, most), dtype=np.float64)
    weights = np.empty((1, N_BTAGS), dtype=np.float64)
    for event in events:
        start, stop = offsets[event], offsets[event + 1]
        if region_of(stop - start, 0) == FEW_JETS:  # whichever are selected
            regions[:, FEW_JETS] += 1
            continue
        for shift in range(shifts):
            n_jets = 0
            n_btags = 0
            for jet in range(start, stop):
                one = np.float64(pt[jet])
                one = _shifted(shift, run, luminosity_block, number, event, jet - start, one)
                keep = keep_jet(one, eta[jet], jet_id[jet])
                # The next jet takes the place of one that is not kept: no branch to predict.
                chosen[n_jets] = jet
                chosen_pt[n_jets] = one
                n_jets += keep
                n_btags += keep & is_tagged(btag[jet])
            region = region_of(n_jets, n_btags)
            regions[shift, region] += 1
            if region == FOUR_JETS_ONE_B:
                value = sum_pt(chosen_pt, 0, n_jets)
            elif region == FOUR_JETS_TWO_B:
                jets = chosen[:n_jets]
                value = _trijet(chosen_pt[:n_jets], eta, phi, mass, btag, jets, tagged, scratch)
            else:
                continue
            category = region - FOUR_JETS_ONE_B + N_REGIONS * (channel[event] - ELECTRON)
            index = bin_of_compiled(value)
            if shift > 0:
                add(sums, category, index, sums.shape[3] - shifts + shift, 1.0)
                continue
            add(sums, category, index, 0, 1.0)
            if shifts > 1:
                weigh(chosen_pt, 0, n_jets, weights, 0)
                for b in range(N_BTAGS):
                    add(sums, category, index, 1 + b, weights[0, b])
                for s in range(len(scales)):
                    add(sums, category, index, 1 + N_BTAGS + s, scales[s])


@loop
def _shifted(shift, run, luminosity_block, number, event, jet, pt) -> Any:  # type: ignore[no-untyped-def]
    """What becomes of the pt of a jet of an event, by its index there."""
    if shift == SCALED:
        return scale_pt(pt)
    if shift == SMEARED:
        return smear_pt(run[event], luminosity_block[event], number[event], jet, pt)
    return pt


@loop
def _trijet(pt, eta, phi, mass, btag, chosen, tagged, scratch) -> Any:  # type: ignore[no-untyped-def]
    """Mass of the trijet of the chosen jets, of which `pt` is that of these."""
    etas, phis, masses, px, py = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for i in range(len(chosen)):
        etas[i] = eta[chosen[i]]
        phis[i] = phi[chosen[i]]
        masses[i] = mass[chosen[i]]
        tagged[i] = is_tagged(btag[chosen[i]])
    n = len(chosen)
    transverse_compiled(pt, etas[:n], phis[:n], masses[:n], px, py)
    i, j, k = largest_trijet(px, py, tagged, 0, n)
    return mass_of_trijet(px, py, pt, etas, masses, i, j, k) if i != NONE else math.nan
