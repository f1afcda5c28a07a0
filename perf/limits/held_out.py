"""Processors that the bulk reader was not made for: other schemas, collections and types.

They are analyses of nothing. What they read has lists with and without objects, numbers of an event,
booleans, bytes, and references into other collections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import awkward as ak
import numpy as np
from coffea.nanoevents import BaseSchema, NanoAODSchema

if TYPE_CHECKING:
    from collections.abc import Callable

EDGES: Final = np.linspace(0.0, 300.0, 61)
"""Of all histograms, in GeV."""


class HeldOut(NamedTuple):
    """A processor, the branches that it reads, and its schema."""

    function: Callable[[Any], dict[str, Any]]
    branches: tuple[str, ...]
    schema: type[BaseSchema]


def taus_and_photons(events: Any) -> dict[str, Any]:
    """Isolated taus, photons and the missing momentum, of branches without collections."""
    taus = (events["Tau_pt"] > 20) & (events["Tau_idMVAoldDM"] > 0) & (events["Tau_charge"] != 0)
    photons = events["Photon_pt"][events["Photon_electronVeto"] & (events["Photon_r9"] > 0.5)]
    return {
        "events": len(events),
        "taus": int(ak.sum(taus)),
        "tau pt": _histogram(events["Tau_pt"][taus]),
        "photon pt": _histogram(photons),
        "missing": _histogram(events["PuppiMET_pt"][events["PV_npvsGood"] > 0]),
    }


def fat_jets_and_partons(events: Any) -> dict[str, Any]:
    """Masses of large jets, charged partons, and the subjets that large jets refer to."""
    jets = events.FatJet[(events.FatJet.pt > 30) & (events.FatJet.tau2 < events.FatJet.tau1)]
    partons = events.GenPart[abs(events.GenPart.pdgId) < 6]
    return {
        "events": len(events),
        "partons": int(ak.sum(ak.num(partons))),
        "mass": _histogram(jets.msoftdrop),
        "parton pt": _histogram(partons.pt),
        "with subjet": int(ak.sum(jets.subJetIdx1 >= 0)),
        "mothers": int(ak.sum(partons.genPartIdxMother)),
    }


def _histogram(values: Any) -> Any:
    return np.histogram(ak.to_numpy(ak.flatten(values, axis=None)), EDGES)[0]


HELD_OUT: Final = {
    "taus and photons": HeldOut(
        taus_and_photons,
        (
            *("Tau_pt", "Tau_idMVAoldDM", "Tau_charge"),
            *("Photon_pt", "Photon_electronVeto", "Photon_r9"),
            *("PuppiMET_pt", "PV_npvsGood"),
        ),
        BaseSchema,
    ),
    "fat jets and partons": HeldOut(
        fat_jets_and_partons,
        (
            *("FatJet_pt", "FatJet_tau1", "FatJet_tau2", "FatJet_msoftdrop", "FatJet_subJetIdx1"),
            *("GenPart_pt", "GenPart_pdgId", "GenPart_genPartIdxMother"),
        ),
        NanoAODSchema,
    ),
}
