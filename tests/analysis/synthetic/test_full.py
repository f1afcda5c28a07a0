"""The other branches of NanoAOD."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

from analysis.synthetic import (
    SLIM_BRANCHES,
    digest,
    generate,
)


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    return generate("ttbar", "nominal", 0, 2000, seed=11, branches="full")


def test_full_holds_slim(full: dict[str, Any], ttbar: dict[str, Any]) -> None:
    for name in SLIM_BRANCHES:
        assert digest({name: full[name]}) == digest({name: ttbar[name][:2000]})
    assert 1400 <= len(full) <= 1600
    assert sum(name.startswith("HLT_") for name in full) > 550


def test_full_indices_are_valid(full: dict[str, Any]) -> None:
    from coffea.nanoevents import NanoAODSchema

    found = 0
    for name, target in NanoAODSchema.all_cross_references.items():
        if name in full:
            found += 1
            assert ak.all(full[name] >= -1), name
            assert ak.all(full[name] < full[f"n{target}"]), name
    assert found > 15
    mothers = full["GenPart_genPartIdxMother"]
    assert ak.all(mothers < ak.local_index(mothers))


def test_full_has_counters_and_both_kinds_of_bits(full: dict[str, Any]) -> None:
    for name, column in full.items():
        if isinstance(column, ak.Array):
            assert ak.all(ak.num(column) == full[f"n{name.partition('_')[0]}"]), name
    bits = np.array([full[name].mean() for name in full if name.startswith("HLT_")])
    assert 0.005 < np.median(bits) < 0.05
    fired = np.mean([full[name] for name in full if name.startswith("HLT_")], axis=0)
    independent = np.sqrt(np.sum(bits * (1 - bits))) / len(bits)
    assert fired.std() > 1.5 * independent
