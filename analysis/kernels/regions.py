"""Region of an event, by its selected jets and how many of them are b-tagged.

At least four selected jets; 4j1b has exactly one b-tagged jet, 4j2b at least two. A jet is
b-tagged when btagCSVV2 > 0.5 (in double precision; NaN is not tagged).

Source: AGC version 2 (iris-hep/analysis-grand-challenge, cms-open-data-ttbar).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

from analysis.kernels._compile import loop
from analysis.kernels._layout import rows, split

if TYPE_CHECKING:
    from numpy.typing import NDArray

JETS_MIN: Final = 4
BTAG_MIN: Final = 0.5

FEW_JETS: Final = 0
FOUR_JETS: Final = 1
FOUR_JETS_ONE_B: Final = 2
FOUR_JETS_TWO_B: Final = 3


def reference(
    jet_mask: ak.Array, btag: ak.Array, *, jets_min: int = JETS_MIN, btag_min: float = BTAG_MIN
) -> NDArray[np.int8]:
    """Region of each event.

    Parameters
    ----------
    jet_mask
        Which jets are selected (bool, events x jets).
    btag
        Column Jet_btagCSVV2 (events x jets).
    jets_min
        Number of selected jets asked for.
    btag_min
        Discriminant above which a jet is b-tagged.

    Returns
    -------
    NDArray[np.int8]
        FEW_JETS, or with enough jets FOUR_JETS, FOUR_JETS_ONE_B or FOUR_JETS_TWO_B for no, one
        or more b-tagged jets (events).
    """
    regions = []
    for selected, values in rows(jet_mask, btag):
        n_btags = sum(
            keep and value > btag_min for keep, value in zip(selected, values, strict=True)
        )
        regions.append(FOUR_JETS + min(n_btags, 2) if sum(selected) >= jets_min else FEW_JETS)
    return np.array(regions, dtype=np.int8)


def columnar(
    jet_mask: ak.Array, btag: ak.Array, *, jets_min: int = JETS_MIN, btag_min: float = BTAG_MIN
) -> NDArray[np.int8]:
    """As `reference`, in awkward."""
    enough = ak.to_numpy(ak.count_nonzero(jet_mask, axis=1)) >= jets_min
    n_btags = ak.to_numpy(ak.count_nonzero(jet_mask & (btag > np.float64(btag_min)), axis=1))
    return np.where(enough, FOUR_JETS + np.minimum(n_btags, 2), FEW_JETS).astype(np.int8)


def compiled(
    jet_mask: ak.Array, btag: ak.Array, *, jets_min: int = JETS_MIN, btag_min: float = BTAG_MIN
) -> NDArray[np.int8]:
    """As `reference`, in numba over contents and offsets."""
    offsets, (selected, values) = split(jet_mask, btag)
    regions: NDArray[np.int8] = _region(
        offsets, selected.view(np.bool_), values, jets_min, btag_min
    )
    return regions


@loop
def _region(offsets, selected, btag, jets_min, btag_min) -> Any:  # type: ignore[no-untyped-def]
    regions = np.empty(len(offsets) - 1, dtype=np.int8)
    for event in range(len(regions)):
        n_jets = 0
        n_btags = 0
        for i in range(offsets[event], offsets[event + 1]):
            n_jets += selected[i]
            n_btags += selected[i] & is_tagged(btag[i], btag_min)
        regions[event] = region_of(n_jets, n_btags, jets_min)
    return regions


@loop
def is_tagged(btag, btag_min=BTAG_MIN) -> Any:  # type: ignore[no-untyped-def]
    """Whether a jet is b-tagged."""
    return btag > btag_min


@loop
def region_of(n_jets, n_btags, jets_min=JETS_MIN) -> Any:  # type: ignore[no-untyped-def]
    """Region of an event with so many selected jets, and so many of them b-tagged."""
    return FOUR_JETS + min(n_btags, 2) if n_jets >= jets_min else FEW_JETS
