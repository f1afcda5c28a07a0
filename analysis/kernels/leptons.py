"""Lepton counting: the channel of an event.

The single-lepton channel requires exactly one selected lepton (AGC version 2); the channel is its
flavour, electron or muon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEITHER: Final = 0
ELECTRON: Final = 1
MUON: Final = 2
SEVERAL: Final = 3
"""More than one lepton: an intermediate value, which becomes NEITHER."""


def reference(electron_mask: ak.Array, muon_mask: ak.Array) -> NDArray[np.int8]:
    """Channel of each event.

    Parameters
    ----------
    electron_mask, muon_mask
        Which electrons (events x electrons) and muons (events x muons) are selected.

    Returns
    -------
    NDArray[np.int8]
        ELECTRON or MUON where exactly one lepton is selected, else NEITHER (events).
    """
    channels = []
    for electrons, muons in rows(electron_mask, muon_mask):
        n_electrons, n_muons = sum(electrons), sum(muons)
        one_lepton = n_electrons + n_muons == 1
        channels.append((ELECTRON if n_electrons else MUON) if one_lepton else NEITHER)
    return np.array(channels, dtype=np.int8)


def columnar(electron_mask: ak.Array, muon_mask: ak.Array) -> NDArray[np.int8]:
    """As `reference`, in awkward."""
    n_electrons = ak.to_numpy(ak.count_nonzero(electron_mask, axis=1))
    n_muons = ak.to_numpy(ak.count_nonzero(muon_mask, axis=1))
    one_lepton = n_electrons + n_muons == 1
    channels: NDArray[np.int8] = one_lepton * np.where(
        n_electrons, np.int8(ELECTRON), np.int8(MUON)
    )
    return channels


def compiled(electron_mask: ak.Array, muon_mask: ak.Array) -> NDArray[np.int8]:
    """As `reference`, in numba over contents and offsets."""
    electron_offsets, (electrons,) = split(electron_mask)
    muon_offsets, (muons,) = split(muon_mask)
    channels: NDArray[np.int8] = lepton_channel(
        electron_offsets, electrons.view(np.bool_), muon_offsets, muons.view(np.bool_)
    )
    return channels


@loop
def lepton_channel(electron_offsets, electrons, muon_offsets, muons) -> Any:  # type: ignore[no-untyped-def]
    """Channel of each event, of offsets and masks."""
    channels = np.zeros(len(electron_offsets) - 1, dtype=np.int8)
    _count(electron_offsets, electrons, ELECTRON, channels)
    _count(muon_offsets, muons, MUON, channels)
    for event in range(len(channels)):
        if channels[event] == SEVERAL:
            channels[event] = NEITHER
    return channels


@loop
def _count(offsets, selected, channel, channels) -> Any:  # type: ignore[no-untyped-def]
    # Loop over leptons, not events: few leptons are selected, so the processor predicts the
    # branch, and the event of a lepton is found by advancing an index.
    event = 0
    for i in range(len(selected)):
        if selected[i]:
            while offsets[event + 1] <= i:
                event += 1
            channels[event] = channel if channels[event] == NEITHER else SEVERAL
