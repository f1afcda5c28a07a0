"""Files of synthetic events: read back, whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from analysis.errors import InputError
from analysis.samples import CROSS_SECTIONS, SAMPLE_VARIATIONS
from analysis.synthetic import (
    COMPRESSION_LEVELS,
    FORMATS,
    digest,
    generate,
    write_fileset,
    writer,
)


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
    "format_",
    ["parquet", *(pytest.param(one, marks=pytest.mark.slow) for one in ("ttree", "rntuple"))],
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


# --- interruptions


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


# --- bad input


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
