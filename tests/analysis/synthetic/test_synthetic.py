"""The synthetic events: determinism, physics, and files that are whole and read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import InputError
from analysis.samples import CROSS_SECTIONS, SAMPLE_VARIATIONS
from analysis.synthetic import (
    COMPRESSION_LEVELS,
    FORMATS,
    SLIM_BRANCHES,
    digest,
    generate,
    write_fileset,
    writer,
)
from analysis.synthetic.columns import MANTISSA_BITS, truncate
from analysis.synthetic.events import BLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTERS = ("nElectron", "nMuon", "nJet")
PUBLISHED_RATES = {
    # Events in 4j1b and 4j2b over all events, from the published AGC histograms.
    ("ttbar", "nominal"): (0.00951, 0.02144),
    ("ttbar", "scaledown"): (0.00920, 0.01952),
    ("ttbar", "scaleup"): (0.00957, 0.02226),
    ("ttbar", "ME_var"): (0.01227, 0.02528),
    ("ttbar", "PS_var"): (0.01055, 0.02048),
    ("single_top_s_chan", "nominal"): (0.000734, 0.001706),
    ("single_top_t_chan", "nominal"): (0.000673, 0.001256),
    ("single_top_tW", "nominal"): (0.00696, 0.00924),
    ("wjets", "nominal"): (0.000116, 0.0000384),
}


@pytest.fixture(scope="module")
def ttbar() -> dict[str, Any]:
    return generate("ttbar", "nominal", 0, 60_000, seed=11)


def collection(columns: Mapping[str, Any], name: str) -> Any:
    fields = {k.partition("_")[2]: v for k, v in columns.items() if k.startswith(f"{name}_")}
    return ak.zip(fields, with_name="Momentum4D", behavior=vector_behavior())


def vector_behavior() -> Any:
    import vector

    return vector.backends.awkward.behavior


def selected(columns: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Selected jets, and masks of the regions 4j1b and 4j2b."""
    electron, muon, jet = (collection(columns, name) for name in ("Electron", "Muon", "Jet"))
    electrons = ak.sum(
        (electron.pt > 30)
        & (abs(electron.eta) < 2.1)
        & (electron.cutBased == 4)
        & (electron.sip3d < 4),
        axis=1,
    )
    muons = ak.sum(
        (muon.pt > 30)
        & (abs(muon.eta) < 2.1)
        & muon.tightId
        & (muon.sip3d < 4)
        & (muon.pfRelIso04_all < 0.15),
        axis=1,
    )
    jet = jet[(jet.pt > 30) & (abs(jet.eta) < 2.4) & (jet.jetId & 4 > 0)]
    tagged = ak.sum(jet.btagCSVV2 > 0.5, axis=1)
    event = (electrons + muons == 1) & (ak.num(jet) >= 4)
    return jet, event & (tagged == 1), event & (tagged >= 2)


def written(path: str | Path, format_: str) -> dict[str, Any]:
    """All columns of a file, counters of a TTree with their type of NanoAOD."""
    if format_ == "parquet":
        array = ak.from_parquet(path)
        return {name: array[name] for name in array.fields}
    with uproot.open(path) as file:
        array = file["Events"].arrays()
    columns = {name: array[name] for name in array.fields}
    if format_ == "ttree":
        # uproot writes a TTree's counters as int32 whatever they are.
        counters = {k: v for k, v in columns.items() if k.startswith("n") and v.ndim == 1}
        columns |= {k: ak.to_numpy(v).astype(np.uint32) for k, v in counters.items()}
    return columns


def events_of(path: str, format_: str) -> Any:
    """Events as coffea's schema reads them."""
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    class Schema(NanoAODSchema):  # type: ignore[misc, unused-ignore]
        warn_missing_crossrefs = False

    if format_ == "parquet":
        return NanoEventsFactory.from_parquet(path, schemaclass=Schema).events()
    return NanoEventsFactory.from_root({path: "Events"}, schemaclass=Schema).events()


# Determinism


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


# Types and precision


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


# Physics


@pytest.mark.parametrize(("process", "variation"), PUBLISHED_RATES)
def test_pass_rates(process: str, variation: str) -> None:
    events = {"wjets": 400_000, "ttbar": 60_000, "single_top_tW": 60_000}.get(process, 150_000)
    factor = 3.0 if process == "wjets" else 1.5
    columns = generate(process, variation, 0, events, seed=5)
    _, one, two = selected(columns)
    for mask, published in zip((one, two), PUBLISHED_RATES[process, variation], strict=True):
        assert published / factor < ak.sum(mask) / events < published * factor


def test_variations_move_as_published() -> None:
    def rates(variation: str) -> tuple[float, float, float]:
        jet, one, two = selected(generate("ttbar", variation, 0, 100_000, seed=8))
        ht = ak.sum(jet.pt, axis=1)[one]
        return ak.sum(one), ak.sum(two), ak.mean(np.minimum(ht, 550))

    nominal, harder, shower = rates("nominal"), rates("ME_var"), rates("PS_var")
    assert 1.05 < harder[0] / nominal[0] < 1.5  # published 1.29
    assert 1.05 < harder[1] / nominal[1] < 1.4  # published 1.18
    assert harder[2] - nominal[2] > 8  # published 19 GeV
    assert shower[1] / nominal[1] < 1.0  # published 0.955
    assert shower[2] < nominal[2]  # published -11 GeV


def trijet_masses(columns: Mapping[str, Any]) -> Any:
    jet, _, two = selected(columns)
    first, second, third = ak.unzip(ak.combinations(jet[two], 3))
    system = first + second + third
    tags = np.maximum(np.maximum(first.btagCSVV2, second.btagCSVV2), third.btagCSVV2)
    system = system[tags > 0.5]
    return ak.flatten(system[ak.argmax(system.pt, axis=1, keepdims=True)].mass)


def test_top_mass_is_a_peak(ttbar: dict[str, Any]) -> None:
    counts, edges = np.histogram(ak.to_numpy(trijet_masses(ttbar)), np.arange(50, 551, 20))
    peak = edges[np.argmax(counts)]
    assert 140 <= peak <= 180  # the published peak lies in the bins 150-190
    inside = counts[(edges[:-1] >= 150) & (edges[:-1] < 190)].mean()
    beside = counts[(edges[:-1] >= 230) & (edges[:-1] < 310)].mean()
    assert inside > 2 * beside  # published 0.138 against 0.056

    flat = generate("wjets", "nominal", 0, 400_000, seed=9)
    flat["Jet_btagCSVV2"] = ak.ones_like(flat["Jet_btagCSVV2"])
    masses = ak.to_numpy(trijet_masses(flat))
    background = np.histogram(masses, np.arange(50, 551, 20))[0]
    inside = background[5:7].mean()
    beside = background[9:13].mean()
    assert inside < 2 * beside


def test_w_mass_is_a_peak(ttbar: dict[str, Any]) -> None:
    jet, one, two = selected(ttbar)
    jet = jet[(one | two)]
    jet = jet[jet.btagCSVV2 < 0.5]
    first, second = ak.unzip(ak.combinations(jet[ak.num(jet) == 2], 2))
    counts, edges = np.histogram(
        ak.to_numpy(ak.flatten((first + second).mass)), np.arange(0, 201, 10)
    )
    assert 60 <= edges[np.argmax(counts)] <= 90
    assert counts[7:9].mean() > 2 * counts[12:16].mean()


def test_like_real_ttbar(ttbar: dict[str, Any], shared_data: Path) -> None:
    with uproot.open(shared_data / "real" / "NanoAODv5_TTJets_1000.root") as file:
        real = {name: file["Events"][name].array() for name in SLIM_BRANCHES}

    def central(columns: Mapping[str, Any]) -> Any:
        jet = collection(columns, "Jet")
        return jet[(jet.pt > 30) & (abs(jet.eta) < 2.4)]

    def flat(values: Any) -> Any:
        return ak.to_numpy(ak.flatten(values, axis=None)).astype(float)

    quantities: dict[str, tuple[Any, list[float]]] = {
        "nJet": (lambda c: c["nJet"], [0, 5, 7, 8, 9, 10, 11, 13, 40]),
        "central jets": (lambda c: ak.num(central(c)), [0, 2, 3, 4, 5, 6, 7, 30]),
        "b jets": (lambda c: ak.sum(central(c).btagCSVV2 > 0.5, axis=1), [0, 1, 2, 3, 20]),
        "nElectron": (lambda c: c["nElectron"], [0, 1, 2, 3, 20]),
        "nMuon": (lambda c: c["nMuon"], [0, 1, 2, 3, 20]),
        "jet pt": (lambda c: c["Jet_pt"], [15, 20, 30, 50, 80, 120, 200, 2000]),
        "jet eta": (lambda c: abs(c["Jet_eta"]), [0, 1, 2, 2.4, 3.2, 6]),
        "jet mass": (lambda c: c["Jet_mass"], [0, 4, 6, 8, 12, 20, 500]),
        "b-tag": (lambda c: central(c).btagCSVV2, [-11, -1, 0.2, 0.5, 0.8, 0.95, 1.1]),
        "HT": (lambda c: ak.sum(central(c).pt, axis=1), [0, 150, 250, 350, 450, 600, 9999]),
        "electron pt": (lambda c: c["Electron_pt"], [0, 7, 10, 15, 20, 30, 60, 999]),
        "muon pt": (lambda c: c["Muon_pt"], [0, 5, 10, 20, 30, 60, 999]),
        "muon isolation": (lambda c: c["Muon_pfRelIso04_all"], [0, 0.15, 1, 5, 99]),
        "electron sip3d": (lambda c: c["Electron_sip3d"], [0, 1, 2, 4, 16, 9999]),
        "muon sip3d": (lambda c: c["Muon_sip3d"], [0, 1, 2, 4, 16, 9999]),
        "MET": (lambda c: c["MET_pt"], [0, 20, 40, 60, 80, 120, 999]),
    }
    for name, (quantity, edges) in quantities.items():
        seen = np.histogram(flat(quantity(real)), edges)[0] / len(real["nJet"])
        made = np.histogram(flat(quantity(ttbar)), edges)[0] / len(ttbar["nJet"])
        # Three deviations of 1000 events and a quarter of the value.
        tolerance = 3 * np.sqrt(seen / len(real["nJet"])) + 0.25 * seen + 0.003
        assert np.all(np.abs(made - seen) < tolerance), (name, seen, made)
        assert made.sum() == pytest.approx(seen.sum(), rel=0.1), name


# All branches


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


# Files

CHOICES = [
    (format_, compression)
    for format_ in FORMATS
    for compression in COMPRESSION_LEVELS
    if (format_, compression) != ("parquet", "lzma")
]


@pytest.mark.parametrize(("format_", "compression"), CHOICES)
def test_round_trip(tmp_path: Path, format_: str, compression: str) -> None:
    fileset = write_fileset(
        tmp_path,
        events=250,
        seed=4,
        processes=["single_top_tW"],
        compression=compression,
        format=format_,
        events_per_file=150,
        cluster=60,
    )
    sample = fileset["single_top_tW__nominal"]
    assert sample["metadata"] == {
        "process": "single_top_tW",
        "variation": "nominal",
        "nevts": 250,
        "xsec": CROSS_SECTIONS["single_top_tW"],
    }
    assert json.loads((tmp_path / "fileset.json").read_text()) == fileset
    recorded = json.loads((tmp_path / "provenance.json").read_text())["files"]
    assert len(sample["files"]) == 2
    for (path, tree), (start, stop) in zip(
        sample["files"].items(), ((0, 150), (150, 250)), strict=True
    ):
        assert tree == "Events"
        expected = generate("single_top_tW", "nominal", start, stop, seed=4)
        assert digest(written(path, format_)) == digest(expected)
        assert recorded[Path(path).name]["digest"] == digest(expected)
        events = events_of(path, format_)
        assert ak.all(events.Jet.pt == expected["Jet_pt"])
        assert ak.all(events.Muon.tightId == expected["Muon_tightId"])
        assert ak.all(events.Electron.cutBased == expected["Electron_cutBased"])
        assert ak.all(events.MET.phi == expected["MET_phi"])
        assert ak.all(events.event == expected["event"])
    assert not list(tmp_path.glob(f"{writer.PART_PREFIX}*"))


# coffea says so of the real files, too.
@pytest.mark.filterwarnings("ignore:Branch .* already exists:RuntimeWarning")
@pytest.mark.parametrize(
    "format_", ["ttree", "parquet", pytest.param("rntuple", marks=pytest.mark.slow)]
)
def test_full_round_trip(tmp_path: Path, format_: str) -> None:
    compression = "zlib" if format_ == "ttree" else "zstd"
    events = 6000 if format_ == "ttree" else 500
    fileset = write_fileset(
        tmp_path,
        events=events,
        seed=4,
        processes=["single_top_tW"],
        compression=compression,
        format=format_,
        branches="full",
    )
    (path,) = fileset["single_top_tW__nominal"]["files"]
    expected = generate("single_top_tW", "nominal", 0, events, seed=4, branches="full")
    assert digest(written(path, format_)) == digest(expected)
    events_read = events_of(path, format_)
    assert ak.all(events_read.Jet.pt == expected["Jet_pt"])
    assert ak.all(events_read.GenPart.pdgId == expected["GenPart_pdgId"])
    assert ak.all(events_read.Electron.matched_jet.pt > 0)
    if format_ == "ttree":
        with uproot.open(path) as file:
            assert 1500 < file["Events"].compressed_bytes / events < 3000


def test_clusters_are_baskets(tmp_path: Path) -> None:
    for format_ in FORMATS:
        directory = tmp_path / format_
        (path,) = write_fileset(
            directory, events=250, seed=1, processes=["wjets"], format=format_, cluster=100
        )["wjets__nominal"]["files"]
        if format_ == "parquet":
            import pyarrow.parquet as pq

            assert pq.ParquetFile(path).num_row_groups == 3
            continue
        with uproot.open(path) as file:
            if format_ == "ttree":
                assert file["Events"]["Jet_pt"].num_baskets == 3
                assert file["Events"]["MET_pt"].num_baskets == 3
            else:
                assert file["Events"].num_entries == 250


def test_every_sample_is_written_by_default(tmp_path: Path) -> None:
    fileset = write_fileset(tmp_path, events=20, seed=1)
    assert list(fileset) == [f"{p}__{v}" for p, vs in SAMPLE_VARIATIONS.items() for v in vs]


def test_runner_reads_the_fileset(tmp_path: Path) -> None:
    from coffea import processor
    from coffea.nanoevents import NanoAODSchema

    class Schema(NanoAODSchema):  # type: ignore[misc, unused-ignore]
        warn_missing_crossrefs = False

    class Count(processor.ProcessorABC):  # type: ignore[misc, unused-ignore]
        def process(self, events: Any) -> Any:
            return {"events": len(events), "jets": int(ak.sum(ak.num(events.Jet)))}

        def postprocess(self, accumulator: Any) -> Any:
            return accumulator

    expected = generate("wjets", "nominal", 0, 100, seed=1)
    for format_ in FORMATS:
        fileset = write_fileset(
            tmp_path / format_, events=100, seed=1, processes=["wjets"], format=format_
        )
        run = processor.Runner(
            executor=processor.IterativeExecutor(status=False),
            schema=Schema,
            chunksize=50,
            format="parquet" if format_ == "parquet" else "root",
        )
        result = run(fileset, processor_instance=Count())
        assert result == {"events": 100, "jets": int(expected["nJet"].sum())}


# Interruptions


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fileset(tmp_path, events=30, seed=1, processes=["wjets", "single_top_tW"])
    whole = (tmp_path / "wjets__nominal_0.root").read_bytes()
    calls = 0

    def failing(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            message = "disk on fire"
            raise RuntimeError(message)
        return generate(*args, **options)

    monkeypatch.setattr(writer, "generate", failing)
    for format_ in FORMATS:
        calls = 0
        directory = tmp_path / format_
        with pytest.raises(RuntimeError, match="disk on fire"):
            write_fileset(
                directory, events=30, seed=1, processes=["wjets"], format=format_, cluster=10
            )
        assert list(directory.iterdir()) == []
    calls = 0
    with pytest.raises(RuntimeError, match="disk on fire"):
        write_fileset(tmp_path, events=30, seed=2, processes=["wjets"], cluster=10)
    assert (tmp_path / "wjets__nominal_0.root").read_bytes() == whole
    assert not (tmp_path / "fileset.json").exists()


def test_a_killed_write_leaves_no_whole_looking_file(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from analysis.synthetic import write_fileset;"
        "write_fileset(pathlib.Path(sys.argv[1]), events=50_000_000, seed=1,"
        " processes=['wjets'], events_per_file=50_000_000, cluster=2000)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3]
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            parts = list(tmp_path.glob(f"{writer.PART_PREFIX}wjets*"))
            if parts and parts[0].stat().st_size > 1_000_000:
                break
            time.sleep(0.05)
        else:
            pytest.fail("nothing was written in a minute")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".part-wjets__nominal_0.root"]
    fileset = write_fileset(tmp_path, events=20, seed=1, processes=["wjets"])
    assert not list(tmp_path.glob(f"{writer.PART_PREFIX}*"))
    (path,) = fileset["wjets__nominal"]["files"]
    assert digest(written(path, "ttree")) == digest(generate("wjets", "nominal", 0, 20, seed=1))


def test_whole_files_are_kept(tmp_path: Path) -> None:
    def write(**options: Any) -> dict[str, int]:
        chosen: dict[str, Any] = {"events": 40, "seed": 1, "processes": ["ttbar"]} | options
        write_fileset(tmp_path, **chosen)
        return {path.name: path.stat().st_ino for path in tmp_path.glob("*.root")}

    first = write()
    assert write() == first
    lost = tmp_path / "ttbar__ME_var_0.root"
    lost.unlink()
    cut = tmp_path / "ttbar__PS_var_0.root"
    os.truncate(cut, cut.stat().st_size - 1)
    second = write()
    kept = {"ttbar__nominal_0.root", "ttbar__scaleup_0.root", "ttbar__scaledown_0.root"}
    assert {name for name in first if second[name] == first[name]} >= kept
    for path in (lost, cut):
        variation = path.name.removeprefix("ttbar__").removesuffix("_0.root")
        assert digest(written(path, "ttree")) == digest(
            generate("ttbar", variation, 0, 40, seed=1)
        )
    nominal = tmp_path / "ttbar__nominal_0.root"
    for options in ({"seed": 2}, {"events": 41}, {"compression": "lz4"}, {"cluster": 10}):
        before = nominal.stat().st_mtime_ns
        write(**options)
        assert nominal.stat().st_mtime_ns != before, options
    (tmp_path / "provenance.json").write_text("{")
    before = nominal.stat().st_mtime_ns
    write(cluster=10)
    assert nominal.stat().st_mtime_ns != before


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"processes": ["qcd"]}, ["'qcd'", "ttbar", "wjets"]),
        ({"processes": []}, ["ttbar", "wjets"]),
        ({"format": "hdf5"}, ["'hdf5'", "ttree", "rntuple", "parquet"]),
        ({"compression": "brotli"}, ["'brotli'", "zstd", "lzma", "none"]),
        ({"compression": "lzma", "format": "parquet"}, ["parquet", "zstd"]),
        ({"branches": "all"}, ["'all'", "slim", "full"]),
        ({"events": 0}, ["0 events", "at least 1"]),
        ({"cluster": 0}, ["cluster", "at least 1"]),
        ({"events_per_file": -1}, ["-1", "at least 1"]),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        write_fileset(tmp_path / "new", **({"events": 10, "seed": 1} | options))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert not (tmp_path / "new").exists()


def test_bad_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is not a folder: name another"):
        write_fileset(file, events=1, seed=1)
    with pytest.raises(InputError, match="is not a folder: name another"):
        write_fileset(file / "below", events=1, seed=1)


def test_bad_samples() -> None:
    with pytest.raises(InputError, match="nominal, scaledown"):
        generate("ttbar", "up", 0, 1, seed=1)
    with pytest.raises(InputError, match="wjets has no variation"):
        generate("wjets", "scaleup", 0, 1, seed=1)
    with pytest.raises(InputError, match="0 <= start <= stop"):
        generate("wjets", "nominal", 2, 1, seed=1)
