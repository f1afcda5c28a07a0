"""Electron selection.

An electron is kept when pt > 30 GeV, abs(eta) < 2.1, cutBased == 4 (tight) and sip3d < 4.
Comparisons are made in double precision; a comparison with NaN is false, so that an electron
with NaN in any of these columns is dropped.

Source: AGC version 2 (iris-hep/analysis-grand-challenge, cms-open-data-ttbar).
"""

from __future__ import annotations

from typing import Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, rows, split

PT_MIN: Final = 30.0
ETA_MAX: Final = 2.1
TIGHT: Final = 4
SIP3D_MAX: Final = 4.0


def reference(
    pt: ak.Array,
    eta: ak.Array,
    cut_based: ak.Array,
    sip3d: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    tight: int = TIGHT,
    sip3d_max: float = SIP3D_MAX,
) -> ak.Array:
    """Which electrons are kept.

    Parameters
    ----------
    pt, eta, cut_based, sip3d
        Columns Electron_pt (GeV), Electron_eta, Electron_cutBased and Electron_sip3d
        (events x electrons).
    pt_min, eta_max, tight, sip3d_max
        The cuts.

    Returns
    -------
    ak.Array
        bool, events x electrons.
    """
    masks = [
        [
            one_pt > pt_min and abs(one_eta) < eta_max and one_id == tight and one_sip < sip3d_max
            for one_pt, one_eta, one_id, one_sip in zip(*event, strict=True)
        ]
        for event in rows(pt, eta, cut_based, sip3d)
    ]
    return from_lists(masks, np.bool_)


def columnar(
    pt: ak.Array,
    eta: ak.Array,
    cut_based: ak.Array,
    sip3d: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    tight: int = TIGHT,
    sip3d_max: float = SIP3D_MAX,
) -> ak.Array:
    """As `reference`, in awkward."""
    # np.float64 makes numpy compare in double precision; a Python number would be rounded to
    # the column's float32 first, and 2.1 would move.
    return (
        (pt > np.float64(pt_min))
        & (abs(eta) < np.float64(eta_max))
        & (cut_based == tight)
        & (sip3d < np.float64(sip3d_max))
    )


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    cut_based: ak.Array,
    sip3d: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    tight: int = TIGHT,
    sip3d_max: float = SIP3D_MAX,
) -> ak.Array:
    """As `reference`, in numba over flat contents."""
    offsets, contents = split(pt, eta, cut_based, sip3d)
    return join(offsets, electron_mask(*contents, pt_min, eta_max, tight, sip3d_max))


@loop
def electron_mask(  # type: ignore[no-untyped-def]
    pt, eta, cut_based, sip3d, pt_min=PT_MIN, eta_max=ETA_MAX, tight=TIGHT, sip3d_max=SIP3D_MAX
) -> Any:
    """Which electrons are kept, of flat columns."""
    keep = np.empty(len(pt), dtype=np.bool_)
    for i in range(len(pt)):
        # & rather than `and`: without branches the loop runs in vector instructions.
        keep[i] = (
            (pt[i] > pt_min)
            & (abs(eta[i]) < eta_max)
            & (cut_based[i] == tight)
            & (sip3d[i] < sip3d_max)
        )
    return keep
