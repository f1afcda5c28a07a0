"""Synthetic events: the same whatever the chunks, and of the types and precision of NanoAOD."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import InputError
from analysis.samples import SAMPLE_VARIATIONS
from analysis.synthetic import (
    SLIM_BRANCHES,
    digest,
    generate,
)
from analysis.synthetic.columns import MANTISSA_BITS, truncate
from analysis.synthetic.events import BLOCK


def assert_chunks_agree(branches: str, edges: list[int]) -> None:
    whole = generate("ttbar", "PS_var", edges[0], edges[-1], seed=3, branches=branches)
    parts = [
        generate("ttbar", "PS_var", low, high, seed=3, branches=branches)
        for low, high in pairwise(edges)
    ]
    joined = {name: ak.concatenate([part[name] for part in parts]) for name in whole}
    assert digest(joined) == digest(whole)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(100, 500), max_size=4))
def test_chunks_do_not_change_the_arrays(cuts: list[int]) -> None:
    assert_chunks_agree("slim", sorted([100, *cuts, 500]))


def test_chunks_do_not_change_the_arrays_of_full() -> None:
    assert_chunks_agree("full", [100, 101, 350, 500])


def test_blocks_do_not_show() -> None:
    start, stop = BLOCK - 3, BLOCK + 3
    over = generate("wjets", "nominal", 0, stop, seed=1)
    near = generate("wjets", "nominal", start, stop, seed=1)
    assert digest({k: v[start:] for k, v in over.items()}) == digest(near)


def test_seed_and_sample_decide() -> None:
    def of(process: str, variation: str, seed: int) -> str:
        columns = generate(process, variation, 0, 50, seed=seed)
        return digest({name: columns[name] for name in ("Jet_pt", "MET_pt")})

    assert of("ttbar", "nominal", 1) == of("ttbar", "nominal", 1)
    samples = [(p, v, 1) for p, vs in SAMPLE_VARIATIONS.items() for v in vs]
    everything = [*samples, ("ttbar", "nominal", 2), ("ttbar", "nominal", -1)]
    assert len({of(*sample) for sample in everything}) == len(everything)


def test_another_process_makes_the_same_arrays() -> None:
    code = (
        "from analysis.synthetic import digest, generate;"
        "print(digest(generate('ttbar', 'nominal', 0, 1000, seed=0)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert other.stdout.strip() == digest(generate("ttbar", "nominal", 0, 1000, seed=0))


def test_no_events() -> None:
    columns = generate("ttbar", "nominal", 5, 5, seed=1)
    assert all(len(column) == 0 for column in columns.values())
    assert tuple(columns) == SLIM_BRANCHES


def test_event_numbers_are_unique() -> None:
    columns = generate("wjets", "nominal", 0, 1000, seed=1)
    rows = {
        tuple(int(columns[name][i]) for name in ("run", "luminosityBlock", "event"))
        for i in range(1000)
    }
    assert len(rows) == 1000


def test_digest_sees_content_and_nothing_else() -> None:
    columns = generate("ttbar", "nominal", 0, 100, seed=1)
    same = digest(columns)
    assert digest(dict(reversed(columns.items()))) == same
    swapped = {
        k: v.astype(v.dtype.newbyteorder(">")) if isinstance(v, np.ndarray) else v
        for k, v in columns.items()
    }
    assert digest(swapped) == same
    gathered = {k: v[np.arange(100)] for k, v in columns.items()}
    assert digest(gathered) == same

    def changed(name: str, column: Any) -> str:
        return digest(columns | {name: column})

    jets = columns["Jet_pt"]
    moved = ak.unflatten(ak.flatten(jets), np.roll(ak.to_numpy(ak.num(jets)), 1))
    assert changed("Jet_pt", moved) != same
    assert changed("Jet_pt", ak.where(jets == ak.max(jets), jets + 1, jets)) != same
    assert changed("MET_pt", columns["MET_pt"].astype(np.float64)) != same
    assert digest({k: v for k, v in columns.items() if k != "MET_pt"}) != same


# --- types and precision


def test_types_are_those_of_nanoaod(shared_data: Path) -> None:
    columns = generate("ttbar", "nominal", 0, 10, seed=1)
    with uproot.open(shared_data / "real" / "NanoAODv5_TTJets_1000.root") as file:
        real = {
            name: ak.flatten(file["Events"][name].array(), axis=None).type.content
            for name in SLIM_BRANCHES
        }
    for name in SLIM_BRANCHES:
        assert ak.flatten(columns[name], axis=None).type.content == real[name], name


@pytest.mark.parametrize("name", ["Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_btagCSVV2"])
def test_mantissas_are_cut(ttbar: dict[str, Any], name: str) -> None:
    bits = MANTISSA_BITS[name.partition("_")[2]]
    raw = ak.to_numpy(ak.flatten(ttbar[name])).view(np.uint32)
    assert not np.any(raw & np.uint32((1 << (23 - bits)) - 1))
    assert np.any(raw & np.uint32(1 << (23 - bits)))


@given(st.floats(-(2.0**99), 2.0**99, width=32), st.integers(2, 22))
def test_truncation_rounds_to_nearest(value: float, bits: int) -> None:
    cut = float(truncate(np.array([value], np.float32), bits)[0])
    assert abs(cut - value) <= max(abs(value), 2.0**-126) * 2.0 ** -(bits + 1)


def test_weights_sum_exactly(ttbar: dict[str, Any]) -> None:
    weights = ttbar["genWeight"].astype(np.float64)
    shuffled = np.random.default_rng(1).permutation(weights)
    for power in (1, 2):
        assert np.cumsum(weights**power)[-1] == np.cumsum(shuffled**power)[-1]
    assert len(np.unique(weights)) > 10
    assert weights.min() < 0


def test_collections_fall_in_pt_and_agree_with_counters(ttbar: dict[str, Any]) -> None:
    for name in ("Electron", "Muon", "Jet"):
        pt = ttbar[f"{name}_pt"]
        assert ak.all(pt[:, 1:] <= pt[:, :-1])
        assert ak.all(ak.num(pt) == ttbar[f"n{name}"])
        for attribute in (k for k in ttbar if k.startswith(f"{name}_")):
            assert ak.all(ak.num(ttbar[attribute]) == ttbar[f"n{name}"])
        assert ak.max(abs(ttbar[f"{name}_phi"])) <= np.float32(np.pi) + 1e-3
    assert ak.min(ttbar["Jet_pt"]) >= 15


def test_bad_samples() -> None:
    with pytest.raises(InputError, match="nominal, scaledown"):
        generate("ttbar", "up", 0, 1, seed=1)
    with pytest.raises(InputError, match="wjets has no variation"):
        generate("wjets", "scaleup", 0, 1, seed=1)
    with pytest.raises(InputError, match="0 <= start <= stop"):
        generate("wjets", "nominal", 2, 1, seed=1)
