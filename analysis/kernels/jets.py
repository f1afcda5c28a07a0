"""Jet selection.

A jet is kept when pt > 30 GeV, abs(eta) < 2.4 and jetId has bit 4 (tight lepton veto).
Comparisons are made in double precision; a comparison with NaN is false, so that a jet with
NaN in pt or eta is dropped.

Source: AGC version 2 (iris-hep/analysis-grand-challenge, cms-open-data-ttbar).
"""

from __future__ import annotations

from typing import Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

PT_MIN: Final = 30.0
ETA_MAX: Final = 2.4
TIGHT_LEPTON_VETO: Final = 4


def reference(
    pt: ak.Array,
    eta: ak.Array,
    jet_id: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    id_bit: int = TIGHT_LEPTON_VETO,
) -> ak.Array:
    """Which jets are kept.

    Parameters
    ----------
    pt, eta, jet_id
        Columns Jet_pt (GeV), Jet_eta and Jet_jetId (events x jets).
    pt_min, eta_max
        The cuts.
    id_bit
        Bit (as a number: 1, 2, 4, ...) that jetId must hold.

    Returns
    -------
    ak.Array
        bool, events x jets.
    """
    masks = [
        [
            one_pt > pt_min and abs(one_eta) < eta_max and bool(one_id & id_bit)
            for one_pt, one_eta, one_id in zip(*event, strict=True)
        ]
        for event in rows(pt, eta, jet_id)
    ]
    return from_lists(masks, np.bool_)


def columnar(
    pt: ak.Array,
    eta: ak.Array,
    jet_id: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    id_bit: int = TIGHT_LEPTON_VETO,
) -> ak.Array:
    """As `reference`, in awkward."""
    # np.float64: compare in double precision, see electrons.columnar.
    return (pt > np.float64(pt_min)) & (abs(eta) < np.float64(eta_max)) & ((jet_id & id_bit) != 0)


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    jet_id: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    id_bit: int = TIGHT_LEPTON_VETO,
) -> ak.Array:
    """As `reference`, in numba over flat contents."""
    offsets, contents = split(pt, eta, jet_id)
    return join(offsets, _mask(*contents, pt_min, eta_max, id_bit))


@loop
def _mask(pt, eta, jet_id, pt_min, eta_max, id_bit):  # type: ignore[no-untyped-def]
    keep = np.empty(len(pt), dtype=np.bool_)
    for i in range(len(pt)):
        keep[i] = keep_jet(pt[i], eta[i], jet_id[i], pt_min, eta_max, id_bit)
    return keep


@loop
def keep_jet(  # type: ignore[no-untyped-def]
    pt, eta, jet_id, pt_min=PT_MIN, eta_max=ETA_MAX, id_bit=TIGHT_LEPTON_VETO
) -> Any:
    """Whether a jet is kept."""
    # & rather than `and`: without branches a loop runs in vector instructions.
    return (pt > pt_min) & (abs(eta) < eta_max) & ((jet_id & id_bit) != 0)
