"""The ttbar processor: one answer in every implementation, chunking, order and executor."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from analysis import histograms, plots, ttbar
from analysis.cli._options import TtbarImplementation
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors.worker import HASH_SEED
from analysis.files import histogram_io
from analysis.files.fileset import read_fileset
from analysis.idiomatic import IdiomaticProcessor
from analysis.inference import build, read
from analysis.samples import (
    CROSS_SECTIONS,
    KINEMATIC_VARIATIONS,
    SAMPLE_VARIATIONS,
    event_weight,
    sample_name,
)
from tests.conftest import EVENTS
from tests.support.cli import analysis
from tests.support.jobs import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coffea.processor import ProcessorABC

    from analysis.ttbar import Implementation

REAL = "NanoAODv5_TTJets_1000.root"


def process(
    fileset: Mapping[str, Any],
    processor: ProcessorABC,
    *,
    executor: str = "iterative",
    workers: int = 1,
    chunksize: int = 1000,
) -> Any:
    """What the processor accumulates over a file set."""
    with open_executor(executor, workers=workers) as ready:
        return run(fileset, processor, ready, ttbar.INPUTS, chunksize=chunksize).accumulated


def assert_same(got: Any, want: Any) -> None:
    """Counts exactly; unit weights to the last bit; other weights to 1e-12 (order of addition)."""
    assert got["cutflow"] == want["cutflow"]
    assert set(got["histograms"]) == set(want["histograms"])
    for sample, histogram in want["histograms"].items():
        assert set(got["histograms"][sample].axes["variation"]) == set(histogram.axes["variation"])
        for variation in histogram.axes["variation"]:
            where = {"process": 0, "variation": variation}
            one, other = (side["histograms"][sample][where] for side in (got, want))
            exact = not variation.startswith(("btag_var", "scale_var"))
            for field in ("values", "variances"):
                np.testing.assert_allclose(
                    getattr(one, field)(flow=True),
                    getattr(other, field)(flow=True),
                    rtol=0 if exact else 1e-12,
                    err_msg=f"{sample} {variation}",
                )


@pytest.fixture(scope="module")
def expected(synthetic_fileset: dict[str, Any]) -> Any:
    """Columnar result over all synthetic samples, one chunk a file."""
    return process(synthetic_fileset, ttbar.TtbarProcessor("columnar"), chunksize=EVENTS)


def only(accumulated: Any, fileset: Mapping[str, Any]) -> Any:
    """The part of a result that belongs to the samples of a file set."""
    cutflow: dict[str, Any] = {}
    for dataset in fileset.values():
        process_name, variation = (dataset["metadata"][key] for key in ("process", "variation"))
        steps = accumulated["cutflow"][process_name][variation]
        cutflow.setdefault(process_name, {})[variation] = steps
    return {
        "histograms": {name: accumulated["histograms"][name] for name in fileset},
        "cutflow": cutflow,
    }


@pytest.fixture
def some(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """A sample with all variations, one without, and another process."""
    names = ("ttbar__nominal", "ttbar__ME_var", "single_top_tW__nominal")
    return {name: synthetic_fileset[name] for name in names}


@pytest.fixture
def real_fileset(shared_data: Path) -> dict[str, Any]:
    """1000 simulated CMS ttbar events."""
    return {
        "ttbar__nominal": {
            "files": {str(shared_data / "real" / REAL): "Events"},
            "metadata": {
                "process": "ttbar",
                "variation": "nominal",
                "xsec": CROSS_SECTIONS["ttbar"],
            },
        }
    }


@pytest.mark.parametrize("name", ["columnar", "compiled", "fused"])
def test_implementations_agree_on_real_events(
    name: Implementation, real_fileset: dict[str, Any]
) -> None:
    want = process(real_fileset, ttbar.TtbarProcessor("reference"))
    got = process(real_fileset, ttbar.TtbarProcessor(name))
    assert_same(got, want)
    nominal = got["cutflow"]["ttbar"]["nominal"]["nominal"]
    # 190 of the 1000 events have one lepton (an independent count).
    assert nominal["all"] == 1000
    assert nominal["one_lepton"] == 190


def test_published_processor_agrees_on_real_events(real_fileset: dict[str, Any]) -> None:
    """The kernels against the published analysis in coffea's vectors, which share no code."""
    want = process(real_fileset, IdiomaticProcessor())
    assert_same(process(real_fileset, ttbar.TtbarProcessor("columnar", "nominal")), want)


def test_published_processor_agrees_on_every_sample(synthetic_fileset: dict[str, Any]) -> None:
    want = process(synthetic_fileset, IdiomaticProcessor(), chunksize=EVENTS)
    assert_same(process(synthetic_fileset, ttbar.TtbarProcessor("compiled", "nominal")), want)


@pytest.mark.parametrize("name", ["reference", "compiled", "fused"])
def test_implementations_agree_on_every_sample(
    name: Implementation, synthetic_fileset: dict[str, Any], expected: Any
) -> None:
    got = process(synthetic_fileset, ttbar.TtbarProcessor(name), chunksize=EVENTS)
    assert_same(got, expected)


@pytest.mark.parametrize("name", ["compiled", "fused"])
@pytest.mark.parametrize("chunksize", [337, 1000, 1999])
def test_chunking_changes_nothing(
    name: Implementation, chunksize: int, some: dict[str, Any], expected: Any
) -> None:
    got = process(some, ttbar.TtbarProcessor(name), chunksize=chunksize)
    assert_same(got, only(expected, some))


def test_order_of_files_changes_nothing(synthetic_fileset: dict[str, Any], expected: Any) -> None:
    backwards = {
        name: {**dataset, "files": dict(reversed(dataset["files"].items()))}
        for name, dataset in reversed(synthetic_fileset.items())
    }
    assert_same(process(backwards, ttbar.TtbarProcessor("compiled")), expected)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_change_nothing(workers: int, some: dict[str, Any], expected: Any) -> None:
    got = process(
        some,
        ttbar.TtbarProcessor("compiled"),
        executor="futures",
        workers=workers,
        chunksize=700,
    )
    assert_same(got, only(expected, some))


def test_cutflow(expected: Any) -> None:
    for process_name, samples in SAMPLE_VARIATIONS.items():
        for variation in samples:
            shifts = expected["cutflow"][process_name][variation]
            nominal_sample = variation == "nominal"
            assert set(shifts) == {
                "nominal",
                *(KINEMATIC_VARIATIONS if nominal_sample else ()),
            }
            for steps in shifts.values():
                assert tuple(steps) == ttbar.STEPS
                assert steps["all"] == EVENTS
                assert steps["all"] > steps["one_lepton"] >= steps["four_jets"]
                assert steps["four_jets"] >= steps["4j1b"] + steps["4j2b"]
    shifts = expected["cutflow"]["ttbar"]["nominal"]
    assert shifts["pt_scale_up"]["four_jets"] > shifts["nominal"]["four_jets"]
    assert len({shift["one_lepton"] for shift in shifts.values()}) == 1


def test_histograms_count_the_cutflow(expected: Any) -> None:
    for sample, histogram in expected["histograms"].items():
        process_name, _, variation = sample.partition("__")
        for shift, steps in expected["cutflow"][process_name][variation].items():
            name = variation if shift == "nominal" else shift
            for region in histograms.REGIONS:
                one = histogram[{"region": region, "process": 0, "variation": name}]
                assert one.values(flow=True).sum() == steps[region]


def test_weight_variations_go_up_and_down(synthetic_fileset: dict[str, Any]) -> None:
    # Few W+jets events pass, so ttbar events stand for them here.
    ttbar_sample = synthetic_fileset["ttbar__nominal"]
    metadata = {**ttbar_sample["metadata"], "process": "wjets"}
    fileset = {"wjets__nominal": {**ttbar_sample, "metadata": metadata}}
    accumulated = process(fileset, ttbar.TtbarProcessor("compiled"))
    histogram = accumulated["histograms"]["wjets__nominal"]
    total = {
        variation: histogram[{"variation": variation}].values(flow=True).sum()
        for variation in histogram.axes["variation"]
    }
    assert total["nominal"] > 50
    assert total["scale_var_up"] == pytest.approx(1.025 * total["nominal"])
    assert total["scale_var_down"] == pytest.approx(0.975 * total["nominal"])
    for i in range(4):
        up, down = total[f"btag_var_{i}_up"], total[f"btag_var_{i}_down"]
        assert up > total["nominal"] > down
        assert up + down == pytest.approx(2 * total["nominal"])


def test_normalised_to_the_luminosity(expected: Any, synthetic_fileset: dict[str, Any]) -> None:
    scaled = ttbar.normalise(expected, synthetic_fileset)
    for process_name, samples in SAMPLE_VARIATIONS.items():
        for variation in samples:
            name = sample_name(process_name, variation)
            weight = event_weight(CROSS_SECTIONS[process_name], EVENTS)
            raw = expected["histograms"][name]
            np.testing.assert_allclose(scaled[name].values(), raw.values() * weight)
            np.testing.assert_allclose(scaled[name].variances(), raw.variances() * weight**2)


def test_nevts_given_and_counted(expected: Any, synthetic_fileset: dict[str, Any]) -> None:
    fileset = copy.deepcopy(synthetic_fileset)
    for dataset in fileset.values():
        del dataset["metadata"]["nevts"]
    counted = ttbar.normalise(expected, fileset)["ttbar__nominal"].sum(flow=True).value
    given = ttbar.normalise(expected, synthetic_fileset)["ttbar__nominal"].sum(flow=True).value
    assert counted == given
    fileset["ttbar__nominal"]["metadata"]["nevts"] = 10 * EVENTS
    tenth = ttbar.normalise(expected, fileset)["ttbar__nominal"].sum(flow=True).value
    assert tenth == pytest.approx(given / 10)


def test_one_sample_in_two_data_sets(expected: Any, synthetic_fileset: dict[str, Any]) -> None:
    """A sample split into data sets is normalised to the events of both."""
    whole = synthetic_fileset["ttbar__nominal"]
    halves = {}
    for i, (path, tree) in enumerate(whole["files"].items()):
        metadata = {**whole["metadata"], "nevts": EVENTS // 2}
        halves[f"half {i}"] = {"files": {path: tree}, "metadata": metadata}
    got = process(halves, ttbar.TtbarProcessor("compiled"))
    one, other = ttbar.normalise(got, halves), ttbar.normalise(expected, synthetic_fileset)
    np.testing.assert_allclose(
        one["ttbar__nominal"].values(), other["ttbar__nominal"].values(), rtol=1e-12
    )
    halves["half 1"]["metadata"]["xsec"] = 1.0
    with pytest.raises(InputError, match="different cross sections"):
        ttbar.normalise(got, halves)


@pytest.mark.parametrize("process_name", ["TTTo2L2Nu__2018", "tt/2l", "a;1", "é\tb"])
def test_any_name_is_normalised(
    process_name: str, expected: Any, synthetic_fileset: dict[str, Any]
) -> None:
    whole = synthetic_fileset["ttbar__nominal"]
    metadata = {**whole["metadata"], "process": process_name}
    fileset = {"any": {**whole, "metadata": metadata}}
    ttbar.check(fileset)
    got = process(fileset, ttbar.TtbarProcessor("compiled"))
    (scaled,) = ttbar.normalise(got, fileset).values()
    want = ttbar.normalise(expected, synthetic_fileset)["ttbar__nominal"]
    np.testing.assert_allclose(scaled.values(flow=True), want.values(flow=True), rtol=1e-12)
    cutflow = ttbar.whole_cutflow(got["cutflow"], fileset)
    assert cutflow[process_name]["nominal"]["nominal"]["all"] == EVENTS


@pytest.mark.parametrize("name", ["compiled", "fused"])
def test_real_data_weigh_one_and_have_no_variations(
    name: Implementation, synthetic_fileset: dict[str, Any]
) -> None:
    files = synthetic_fileset["ttbar__nominal"]["files"]
    metadata = {"process": "SingleMuon", "variation": "nominal", "isData": True}
    # Whatever is beside it: an event of data is an event.
    fileset = {
        "Run2015C": {"files": dict([next(iter(files.items()))]), "metadata": metadata},
        "Run2015D": {
            "files": dict(list(files.items())[1:]),
            "metadata": {**metadata, "xsec": 3.0, "nevts": 7},
        },
    }
    assert len(ttbar.check(fileset)) == len(histograms.REGIONS)
    assert ttbar.real_data(fileset) == ["SingleMuon"]
    got = process(fileset, ttbar.TtbarProcessor(name))
    (scaled,) = ttbar.normalise(got, fileset).values()
    steps = got["cutflow"]["SingleMuon"]["nominal"]["nominal"]
    assert list(scaled.axes["variation"]) == ["nominal"]
    assert scaled.sum(flow=True).value == steps["4j1b"] + steps["4j2b"] > 0
    assert scaled.sum(flow=True).variance == scaled.sum(flow=True).value


@pytest.mark.parametrize("end", [".json", ".uhi.json", ".root", ".coffea"])
def test_any_process_goes_on_to_model_and_picture(
    end: str, expected: Any, synthetic_fileset: dict[str, Any], tmp_path: Path
) -> None:
    """A process that the AGC has not, with a name that is hard to take apart, and real data."""
    files = synthetic_fileset["single_top_tW__nominal"]["files"]
    name = "TTTo2L2Nu__2018" if end == ".root" else "tt/2l;1_é"
    more = {
        "one": {
            "files": files,
            "metadata": {"process": name, "variation": "nominal", "xsec": 9.0},
        },
        "up": {"files": files, "metadata": {"process": name, "variation": "tune_up", "xsec": 9.9}},
        "seen": {
            "files": synthetic_fileset["ttbar__nominal"]["files"],
            "metadata": {"process": "SingleMuon", "variation": "nominal", "isData": True},
        },
    }
    got = process(more, ttbar.TtbarProcessor("compiled"))
    accumulated = {key: {**expected[key], **got[key]} for key in expected}
    scaled = ttbar.normalise(accumulated, {**synthetic_fileset, **more})
    path = tmp_path / f"out{end}"
    histogram_io.write(
        path,
        histograms.named(scaled),
        {"names": histograms.names(scaled), "data": ttbar.real_data(more)},
    )
    templates = read(path, data="SingleMuon")
    spec = build(templates).spec
    for channel in spec["channels"]:
        assert name in {one["name"] for one in channel["samples"]}
        assert "SingleMuon" not in {one["name"] for one in channel["samples"]}
    (sample,) = (one for one in channel["samples"] if one["name"] == name)
    parameters = {one["name"] for one in sample["modifiers"]}
    assert {f"{name}_normalisation", f"{name}_tune", "jet_energy_scale"} <= parameters
    # An event is an event, so that 4j1b has the cutflow's from 110 GeV up.
    seen = sum(region.data.sum() for region in templates.regions.values())
    assert (
        0
        < seen
        <= sum(
            got["cutflow"]["SingleMuon"]["nominal"]["nominal"][region]
            for region in histograms.REGIONS
        )
    )
    assert seen == round(seen)
    (picture, *_) = plots.before_fit(histogram_io.read(path, "SingleMuon"))
    assert list(picture.samples)[-1] == name
    assert picture.samples[name].sum() > 0
    assert picture.data_name == "SingleMuon"
    # Pseudodata are still there, and are no prediction.
    assert plots.before_fit(histogram_io.read(path)).__next__().data is not None
    # What is predicted can be taken for data, as events that are made for it.
    (picture, *_) = plots.before_fit(histogram_io.read(path, name))
    assert name not in picture.samples


def _of(process_name: str, variation: str = "nominal", **more: Any) -> dict[str, Any]:
    return {
        "files": {},
        "metadata": {"process": process_name, "variation": variation, "xsec": 1.0, **more},
    }


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ([_of("ttbar", "ME_var"), _of("ttbar_ME_var")], "would both be called 4j1b_ttbar_ME_var"),
        ([_of("a__b", "c"), _of("a", "b__c")], "would both be called a__b__c"),
        ([_of("ttbar"), _of("ttbar", "pt_scale_up")], "called 4j1b_ttbar_pt_scale_up"),
        ([_of("pseudodata")], "'pseudodata' has the name that is made"),
        ([_of("x", isData=True), _of("x")], "real data in one data set and simulated"),
    ],
)
def test_names_that_are_not_told_apart(datasets: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ttbar.check({str(number): one for number, one in enumerate(datasets)})


def test_names_are_looked_at_before_the_events(synthetic: Path, tmp_path: Path) -> None:
    fileset = json.loads((synthetic / "fileset.json").read_text())
    one = fileset["ttbar__nominal"]
    one["metadata"]["process"] = "tt/2l"
    # Nor are files opened: this one is not there.
    one["files"] = {"/missing.root": "Events"}
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps({"one": one}))
    outcome = analysis("run", path, "-o", tmp_path / "out.root")
    assert outcome.exit_code == 2
    assert "a ROOT file has no histogram 4j1b_tt/2l" in outcome.error
    one["metadata"]["process"] = "pseudodata"
    path.write_text(json.dumps({"one": one}))
    assert "'pseudodata' has the name" in analysis("run", path, "-o", tmp_path / "o.json").error


def test_unknown_implementation_and_variations() -> None:
    with pytest.raises(InputError, match="use one of reference, columnar, compiled, fused"):
        ttbar.TtbarProcessor("fortran")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no variations 'some'"):
        ttbar.TtbarProcessor("columnar", "some")  # type: ignore[arg-type]


def test_command_line_knows_every_implementation() -> None:
    assert get_args(TtbarImplementation) == ttbar.IMPLEMENTATIONS


def test_command_line(synthetic: Path, tmp_path: Path) -> None:
    """The whole of OUT.json, by the command of the README."""
    output = tmp_path / "out.json"
    result = analysis("run", synthetic / "fileset.json", "--output", output, "--chunksize", 1500)
    assert result.exit_code == 0, result.error
    assert "4j2b" in result.output
    written = json.loads(output.read_text())
    assert set(written) == {
        "schema",
        "names",
        "data",
        "cutflow",
        "histograms",
        "channels",
        "provenance",
    }
    assert written["schema"] == 1
    assert len(written["histograms"]) == 124
    assert set(written["channels"]) == {"electron", "muon"}
    assert written["cutflow"]["ttbar"]["nominal"]["pt_res_up"]["all"] == EVENTS
    one = written["histograms"]["4j1b_ttbar_pt_scale_up"]
    assert [len(one[field]) for field in ("edges", "values", "variances")] == [26, 27, 27]
    for versions in ("coffea", "awkward", "uproot", "numba", "numpy", "hist"):
        assert written["provenance"]["versions"][versions]
    nominal = tmp_path / "nominal.json"
    result = analysis(
        "run",
        *(synthetic / "fileset.json", "--output", nominal, "--variations", "nominal"),
        *("--implementation", "compiled", "--executor", "futures", "--workers", 2),
    )
    assert result.exit_code == 0, result.error
    other = json.loads(nominal.read_text())
    executor = other["provenance"]["executor"]
    assert executor == {
        "name": "futures",
        "workers": 2,
        "hash_seed": HASH_SEED,
        "allocator": True,
    }
    assert len(other["histograms"]) == 20
    for name, histogram in other["histograms"].items():
        assert histogram == written["histograms"][name]


@pytest.mark.parametrize("data_format", ["rntuple", "parquet"])
def test_other_formats_give_the_same(data_format: str, tmp_path: Path, expected: Any) -> None:
    arguments = ("--events", EVENTS, "--seed", 7, "--processes", "ttbar")
    result = analysis("make-data", tmp_path, *arguments, "--format", data_format)
    assert result.exit_code == 0, result.error
    fileset = read_fileset(tmp_path / "fileset.json")
    for name in ("compiled", "fused"):
        got = process(fileset, ttbar.TtbarProcessor(name))
        assert_same(got, only(expected, fileset))
