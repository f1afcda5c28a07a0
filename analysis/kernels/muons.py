"""Muon selection.

A muon is kept when pt > 30 GeV, abs(eta) < 2.1, tightId, sip3d < 4 and
pfRelIso04_all < 0.15. Comparisons are made in double precision; a comparison with NaN is
false, so that a muon with NaN in any of these columns is dropped.

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
SIP3D_MAX: Final = 4.0
ISOLATION_MAX: Final = 0.15


def reference(
    pt: ak.Array,
    eta: ak.Array,
    tight_id: ak.Array,
    sip3d: ak.Array,
    isolation: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    sip3d_max: float = SIP3D_MAX,
    isolation_max: float = ISOLATION_MAX,
) -> ak.Array:
    """Which muons are kept.

    Parameters
    ----------
    pt, eta, tight_id, sip3d, isolation
        Columns Muon_pt (GeV), Muon_eta, Muon_tightId, Muon_sip3d and Muon_pfRelIso04_all
        (events x muons).
    pt_min, eta_max, sip3d_max, isolation_max
        The cuts.

    Returns
    -------
    ak.Array
        bool, events x muons.
    """
    masks = [
        [
            one_pt > pt_min
            and abs(one_eta) < eta_max
            and one_id
            and one_sip < sip3d_max
            and one_iso < isolation_max
            for one_pt, one_eta, one_id, one_sip, one_iso in zip(*event, strict=True)
        ]
        for event in rows(pt, eta, tight_id, sip3d, isolation)
    ]
    return from_lists(masks, np.bool_)


def columnar(
    pt: ak.Array,
    eta: ak.Array,
    tight_id: ak.Array,
    sip3d: ak.Array,
    isolation: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    sip3d_max: float = SIP3D_MAX,
    isolation_max: float = ISOLATION_MAX,
) -> ak.Array:
    """As `reference`, in awkward."""
    # np.float64: compare in double precision, see electrons.columnar.
    return (
        (pt > np.float64(pt_min))
        & (abs(eta) < np.float64(eta_max))
        & tight_id
        & (sip3d < np.float64(sip3d_max))
        & (isolation < np.float64(isolation_max))
    )


def compiled(
    pt: ak.Array,
    eta: ak.Array,
    tight_id: ak.Array,
    sip3d: ak.Array,
    isolation: ak.Array,
    *,
    pt_min: float = PT_MIN,
    eta_max: float = ETA_MAX,
    sip3d_max: float = SIP3D_MAX,
    isolation_max: float = ISOLATION_MAX,
) -> ak.Array:
    """As `reference`, in numba over flat contents."""
    offsets, contents = split(pt, eta, tight_id, sip3d, isolation)
    return join(offsets, muon_mask(*contents, pt_min, eta_max, sip3d_max, isolation_max))


@loop
def muon_mask(  # type: ignore[no-untyped-def]
    pt,
    eta,
    tight_id,
    sip3d,
    isolation,
    pt_min=PT_MIN,
    eta_max=ETA_MAX,
    sip3d_max=SIP3D_MAX,
    isolation_max=ISOLATION_MAX,
) -> Any:
    """Which muons are kept, of flat columns."""
    keep = np.empty(len(pt), dtype=np.bool_)
    for i in range(len(pt)):
        # & rather than `and`: without branches the loop runs in vector instructions.
        keep[i] = (
            (pt[i] > pt_min)
            & (abs(eta[i]) < eta_max)
            & tight_id[i]
            & (sip3d[i] < sip3d_max)
            & (isolation[i] < isolation_max)
        )
    return keep
