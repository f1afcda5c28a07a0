"""Jet-lepton cleaning: which jets are not close to any lepton.

A jet is dropped when a lepton lies within dR < 0.4, dR^2 = deta^2 + dphi^2 in double precision
with dphi wrapped into [0, pi]. A jet or lepton with NaN in its direction is close to no other.

Source: query 7 of iris-hep/adl-benchmarks-index.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import from_lists, join, quiet, rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

DR_MIN: Final = 0.4


def reference(
    jet_eta: ak.Array,
    jet_phi: ak.Array,
    lepton_eta: ak.Array,
    lepton_phi: ak.Array,
    *,
    dr_min: float = DR_MIN,
) -> ak.Array:
    """Which jets are far from every lepton.

    Parameters
    ----------
    jet_eta, jet_phi
        Directions of the jets (events x jets).
    lepton_eta, lepton_phi
        Directions of the leptons (events x leptons).
    dr_min
        Distance below which a jet is dropped.

    Returns
    -------
    ak.Array
        bool, events x jets.
    """
    masks = []
    for jet_etas, jet_phis, lepton_etas, lepton_phis in rows(
        jet_eta, jet_phi, lepton_eta, lepton_phi
    ):
        leptons = list(zip(lepton_etas, lepton_phis, strict=True))
        masks.append(
            [
                not any(_close(eta, phi, *lepton, dr_min) for lepton in leptons)
                for eta, phi in zip(jet_etas, jet_phis, strict=True)
            ]
        )
    return from_lists(masks, np.bool_)


def _close(eta: float, phi: float, other_eta: float, other_phi: float, dr_min: float) -> bool:
    deta = eta - other_eta
    dphi = abs(phi - other_phi)
    if dphi > math.pi:
        dphi = 2 * math.pi - dphi
    return deta * deta + dphi * dphi < dr_min * dr_min


_close_compiled = loop(_close)


@quiet
def columnar(
    jet_eta: ak.Array,
    jet_phi: ak.Array,
    lepton_eta: ak.Array,
    lepton_phi: ak.Array,
    *,
    dr_min: float = DR_MIN,
) -> ak.Array:
    """As `reference`, in awkward."""
    jets = ak.zip({"eta": jet_eta, "phi": jet_phi})
    leptons = ak.zip({"eta": lepton_eta, "phi": lepton_phi})
    jet, lepton = ak.unzip(ak.cartesian([jets, leptons], nested=True))
    deta = ak.values_astype(jet.eta, np.float64) - lepton.eta
    dphi = abs(ak.values_astype(jet.phi, np.float64) - lepton.phi)
    dphi = ak.where(dphi > math.pi, 2 * math.pi - dphi, dphi)
    return ~ak.any(deta * deta + dphi * dphi < dr_min * dr_min, axis=2)


def compiled(
    jet_eta: ak.Array,
    jet_phi: ak.Array,
    lepton_eta: ak.Array,
    lepton_phi: ak.Array,
    *,
    dr_min: float = DR_MIN,
) -> ak.Array:
    """As `reference`, in numba over contents and offsets."""
    jet_offsets, jets = split(jet_eta, jet_phi)
    lepton_offsets, leptons = split(lepton_eta, lepton_phi)
    far: NDArray[np.bool_] = _far(jet_offsets, *jets, lepton_offsets, *leptons, dr_min)
    return join(jet_offsets, far)


@loop
def _far(  # type: ignore[no-untyped-def]
    jet_offsets, jet_eta, jet_phi, lepton_offsets, lepton_eta, lepton_phi, dr_min
) -> Any:
    far = np.ones(len(jet_eta), dtype=np.bool_)
    for event in range(len(jet_offsets) - 1):
        for i in range(jet_offsets[event], jet_offsets[event + 1]):
            for j in range(lepton_offsets[event], lepton_offsets[event + 1]):
                if _close_compiled(
                    np.float64(jet_eta[i]),
                    np.float64(jet_phi[i]),
                    np.float64(lepton_eta[j]),
                    np.float64(lepton_phi[j]),
                    dr_min,
                ):
                    far[i] = False
                    break
    return far
