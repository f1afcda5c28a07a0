"""NanoEvents: the schema without its warnings, and the branches that it needs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from coffea.nanoevents import NanoAODSchema

if TYPE_CHECKING:
    from collections.abc import Collection


class QuietSchema(NanoAODSchema):
    """NanoAODSchema without a warning for each branch that it makes or does not find."""

    warn_missing_crossrefs = False

    def __init__(self, base_form: Any, version: str = "latest") -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Branch .* already exists")
            super().__init__(base_form, version)


def form_of(branches: Collection[str]) -> list[str]:
    """Branches that NanoEvents needs to make events of `branches`; they need not all exist.

    They include counters, four-vectors and charges of the collections, and the event's identity.
    """
    kinematics = {
        f"{collection}_{field}"
        for collection in _collections(branches)
        for field in ("pt", "eta", "phi", "mass", "charge")
    }
    identity = {"run", "luminosityBlock", "event"}
    return sorted({*branches, *kinematics, *counters(branches), *identity})


def counters(branches: Collection[str]) -> set[str]:
    """Branches with the numbers of objects of the collections of `branches`."""
    return {f"n{collection}" for collection in _collections(branches)}


def _collections(branches: Collection[str]) -> set[str]:
    return {name.partition("_")[0] for name in branches if "_" in name}
