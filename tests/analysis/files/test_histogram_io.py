"""Histograms on disk: the same from every format, whole or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import coffea.util
import hist
import numpy as np
import pytest
import uhi.io.json
import uproot

from analysis import histograms
from analysis.errors import InputError
from analysis.files import histogram_io
from tests.analysis.test_bad_input import assert_one_sentence
from tests.support.cli import analysis

if TYPE_CHECKING:
    from pathlib import Path

ENDS = (".json", ".uhi.json", ".root", ".coffea")
ABOUT = {
    "schema": 1,
    "names": {
        "4j1b_ttbar": ["4j1b", "ttbar", "nominal"],
        "4j2b_ttbar": ["4j2b", "ttbar", "nominal"],
        "4j1b_ttbar_pt_scale_up": ["4j1b", "ttbar", "pt_scale_up"],
        "4j2b_ttbar_pt_scale_up": ["4j2b", "ttbar", "pt_scale_up"],
    },
    "cutflow": {"ttbar": {"all": 7}},
    "provenance": {"text": "é" * 300},
}


@pytest.fixture
def named() -> dict[str, hist.Hist]:
    """Two histograms with random sums in all bins, flow included."""
    rng = np.random.default_rng(4)
    sample = histograms.new("ttbar", ["nominal", "pt_scale_up"])
    view = sample.view(flow=True)
    for field in ("value", "variance"):
        view[field] = rng.uniform(1, 1e6, view.shape)
    return histograms.named({"ttbar__nominal": sample})


@pytest.mark.parametrize("end", ENDS)
def test_what_is_read_is_what_was_written(
    named: dict[str, hist.Hist], tmp_path: Path, end: str
) -> None:
    path = tmp_path / f"out{end}"
    histogram_io.write(path, named, ABOUT)
    content = histogram_io.read(path).content
    assert {key: content[key] for key in ABOUT} == ABOUT
    want = histograms.plain(named)
    assert content["histograms"].keys() == {
        f"{region}_ttbar{variation}"
        for region in histograms.REGIONS
        for variation in ("", "_pt_scale_up")
    }
    # To the last bit, and nothing but what was written.
    assert {key: content[key] for key in want} == want
    assert list(tmp_path.iterdir()) == [path]


def test_root_files_hold_weighted_histograms_of_root(
    named: dict[str, hist.Hist], tmp_path: Path
) -> None:
    histogram_io.write(tmp_path / "out.root", named)
    with uproot.open(tmp_path / "out.root") as file:
        assert file.classnames()["4j1b_ttbar_pt_scale_up;1"] == "TH1D"
        assert file.classnames()["muon/4j2b_ttbar;1"] == "TH1D"
        one = file["muon/4j2b_ttbar"]
        want = named["4j2b_ttbar"][{"channel": "muon"}]
        np.testing.assert_array_equal(one.values(flow=True), want.values(flow=True))
        np.testing.assert_array_equal(one.variances(flow=True), want.variances(flow=True))
        # A regular axis, of which uproot and hist work out the edges each in its way.
        np.testing.assert_allclose(one.axis().edges(), want.axes[0].edges, rtol=1e-15)
        assert one.member("fXaxis").member("fTitle") == "Observable [GeV]"


def test_other_packages_read_uhi_and_coffea_files(
    named: dict[str, hist.Hist], tmp_path: Path
) -> None:
    histogram_io.write(tmp_path / "out.uhi.json", named)
    histogram_io.write(tmp_path / "out.coffea", named)
    text = (tmp_path / "out.uhi.json").read_text()
    from_uhi = json.loads(text, object_hook=uhi.io.json.object_hook)["histograms"]
    from_coffea = coffea.util.load(str(tmp_path / "out.coffea"))["histograms"]
    for name, one in named.items():
        assert hist.Hist(from_uhi[name]) == one
        assert from_coffea[name] == one


def test_run_writes_every_format(synthetic_fileset: dict[str, Any], tmp_path: Path) -> None:
    found: list[Any] = []
    fileset = tmp_path / "fileset.json"
    names = ("ttbar__nominal", "ttbar__ME_var", "ttbar__PS_var", "wjets__nominal")
    fileset.write_text(json.dumps({name: synthetic_fileset[name] for name in names}))
    for end in ENDS:
        output = tmp_path / f"out{end}"
        outcome = analysis("run", fileset, "--output", output)
        assert outcome.exit_code == 0, outcome.error
        found.append(histogram_io.read(output).content)
    assert all(one == found[0] for one in found)
    assert found[0].keys() == {
        "schema",
        "cutflow",
        "histograms",
        "channels",
        "provenance",
        "names",
        "data",
    }
    assert sum(found[0]["histograms"]["4j2b_pseudodata"]["values"]) > 0


def test_a_name_of_no_format_is_said_before_the_run(synthetic: Path, tmp_path: Path) -> None:
    outcome = analysis("run", synthetic / "fileset.json", "-o", tmp_path / "out.hdf5")
    assert_one_sentence(outcome, "out.hdf5", ".uhi.json, .json, .root, .coffea")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"histograms": {"a": 1}}', b"root\x00"])
def test_other_content(tmp_path: Path, end: str, content: bytes) -> None:
    path = tmp_path / f"out{end}"
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not hold the histograms of a run"):
        histogram_io.read(path)


class _Spy:
    """What runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("where", ["histograms", "beside"])
def test_no_code_is_run_by_reading(
    named: dict[str, hist.Hist], tmp_path: Path, where: str
) -> None:
    path, touched = tmp_path / "out.coffea", tmp_path / "touched"
    content = {"histograms": {**named}, "beside": 1}
    content[where] = _Spy(touched)
    coffea.util.save(content, str(path))
    with pytest.raises(InputError, match="histograms need none"):
        histogram_io.read(path)
    assert not touched.exists()
    coffea.util.load(str(path))
    assert touched.exists()


@pytest.mark.parametrize("end", [".json", ".uhi.json"])
def test_deeply_nested_json_is_one_sentence(tmp_path: Path, end: str) -> None:
    path, fit = tmp_path / f"out{end}", tmp_path / "fit.json"
    path.write_text("[" * 200_000)
    fit.write_text("[" * 200_000)
    for command in ("plot", "fit", "limit"):
        outcome = analysis(command, path, "-o", tmp_path / "made")
        assert_one_sentence(outcome, "does not hold the histograms of a run")
    inputs = ("--inputs", fit, "--files-per-process", 1)
    path.write_text(json.dumps({"4j1b_ttbar": {"edges": [1, 2], "contents": [1]}}))
    if end == ".json":
        outcome = analysis("fit", path, "-o", tmp_path / "made", *inputs)
        assert_one_sentence(outcome, "is not JSON")


@pytest.mark.parametrize("end", ENDS)
def test_names_are_read_as_they_were_given(tmp_path: Path, end: str) -> None:
    """Nothing of a name is taken for an end of another: only the table beside them counts."""
    samples = {
        name: histograms.new(process, variations)
        for name, process, variations in (
            ("ttbar__nominal", "ttbar", ["nominal", "pt_scale_up"]),
            ("TTTo2L2Nu__2018__nominal", "TTTo2L2Nu__2018", ["nominal"]),
            ("ttbar_pt__up", "ttbar_pt", ["up"]),
            ("é\tb__nominal", "é\tb", ["nominal"]),
        )
    }
    path = tmp_path / f"out{end}"
    histogram_io.write(
        path,
        histograms.named(samples),
        {"names": histograms.names(samples), "data": ["TTTo2L2Nu__2018"]},
    )
    run = histogram_io.read(path, "TTTo2L2Nu__2018")
    assert set(run.histograms) == {
        histograms.Name(region, process, variation)
        for region in histograms.REGIONS
        for process, variation in (
            ("ttbar", "nominal"),
            ("ttbar", "pt_scale_up"),
            ("TTTo2L2Nu__2018", "nominal"),
            ("ttbar_pt", "up"),
            ("é\tb", "nominal"),
        )
    }
    assert run.processes == ("ttbar", "ttbar_pt", "é\tb")
    with pytest.raises(InputError, match="ttbar is a process that the model predicts"):
        histogram_io.read(path, "ttbar")


def test_a_name_that_nothing_explains_is_refused() -> None:
    one = {"edges": [0, 1], "values": [1]}
    content = {"4j1b_ttbar_pt_scale_up": one, "4j1b_qcd": one}
    with pytest.raises(InputError, match="does not say which process 4j1b_qcd is of"):
        histogram_io.parse(content, "a test")
    run = histogram_io.parse(content, "a test", "qcd")
    assert run.processes == ("ttbar",)
    assert histograms.Name("4j1b", "ttbar", "pt_scale_up") in run.histograms


@pytest.mark.parametrize("process", ["tt/2l", "a;1"])
def test_root_has_no_such_names(tmp_path: Path, process: str) -> None:
    name = histograms.Name("4j1b", process, "nominal").published
    with pytest.raises(InputError, match="a ROOT file has no histogram"):
        histogram_io.check(tmp_path / "out.root", [name])
    histogram_io.check(tmp_path / "out.json", [name])


@pytest.mark.parametrize("end", ENDS)
def test_no_file(tmp_path: Path, end: str) -> None:
    with pytest.raises(InputError, match=r"there is no .*analysis run"):
        histogram_io.read(tmp_path / f"out{end}")


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_what_cannot_be_written(
    named: dict[str, hist.Hist], tmp_path: Path, end: str
) -> None:
    path = tmp_path / f"out{end}"
    histogram_io.write(path, named)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        histogram_io.write(path, named, {"about": object()} if end != ".coffea" else 3)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot be written"):
        histogram_io.write(tmp_path / "none" / path.name, named)
