"""Pictures show the numbers that they are made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import StepPatch

from analysis import histograms, plots
from analysis.files import histogram_io
from analysis.histograms import CHANNELS
from tests.analysis.test_bad_input import assert_one_sentence
from tests.support.cli import analysis

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.plots import Plot

EDGES = np.array([50.0, 70.0, 90.0, 110.0])


def one(values: list[float], variances: list[float] | None = None) -> dict[str, Any]:
    """A histogram of three bins, with flow that must not be seen."""
    return {
        "edges": EDGES.tolist(),
        "values": [1e9, *values, 1e9],
        "variances": [1e9, *(variances or [0.0] * len(values)), 1e9],
    }


@pytest.fixture
def content() -> dict[str, Any]:
    """Two processes with variations up and down, up alone, of one of them and of a sample."""
    region = {
        "4j1b_ttbar": one([100, 200, 50], [9, 16, 1]),
        "4j1b_wjets": one([10, 20, 5], [16, 0, 3]),
        # Both move together: +7 and -11.
        "4j1b_ttbar_btag_var_0_up": one([105, 200, 50]),
        "4j1b_wjets_btag_var_0_up": one([12, 20, 5]),
        "4j1b_ttbar_btag_var_0_down": one([90, 200, 50]),
        "4j1b_wjets_btag_var_0_down": one([9, 20, 5]),
        # In opposite directions: nothing is left in the first bin.
        "4j1b_ttbar_pt_res_up": one([103, 203, 50]),
        "4j1b_wjets_pt_res_up": one([7, 20, 5]),
        "4j1b_ttbar_ME_var": one([100, 200, 62]),
        "4j1b_ttbar_scaleup": one([100, 201, 50]),
        "4j1b_ttbar_scaledown": one([100, 198, 50]),
        "4j1b_wjets_scale_var_up": one([10, 26, 5]),
        "4j1b_pseudodata": one([121, 0, 49]),
    }
    return {"histograms": region, "channels": {name: {} for name in CHANNELS}}


def test_band_is_the_sum_in_quadrature(content: dict[str, Any]) -> None:
    (picture,) = plots.before_fit(histogram_io.parse(content, "a test"))
    assert list(picture.samples) == ["wjets", "ttbar"]
    np.testing.assert_array_equal(picture.edges, EDGES)
    np.testing.assert_array_equal(picture.total, [110, 220, 55])
    statistical = np.array([25, 16, 4])
    systematic = np.array([11**2, 3**2 + 2**2 + 6**2, 12**2])
    np.testing.assert_allclose(picture.uncertainty, np.sqrt(statistical + systematic), rtol=1e-12)
    np.testing.assert_array_equal(picture.data, [121, 0, 49])


def test_other_processes_and_data_are_drawn(content: dict[str, Any]) -> None:
    """A process that the AGC has not is on top, its own variations move nothing else."""
    content["histograms"] |= {
        "4j1b__qcd$": one([5, 6, 7], [1, 1, 1]),
        "4j1b__qcd$_scaleup": one([7, 6, 7]),
        "4j1b_SingleMuon": one([100, 0, 40]),
    }
    known = {name: list(one_) for name, one_ in histograms.known_names().items()}
    content["names"] = known | {
        "4j1b__qcd$": ["4j1b", "_qcd$", "nominal"],
        "4j1b__qcd$_scaleup": ["4j1b", "_qcd$", "scaleup"],
        "4j1b_SingleMuon": ["4j1b", "SingleMuon", "nominal"],
    }
    content["data"] = ["SingleMuon"]
    (picture,) = plots.before_fit(histogram_io.parse(content, "a test", "SingleMuon"))
    assert list(picture.samples) == ["wjets", "ttbar", "_qcd$"]
    np.testing.assert_array_equal(picture.total, [115, 226, 62])
    np.testing.assert_array_equal(picture.data, [100, 0, 40])
    variance = 25 + 1 + 11**2 + 2**2
    assert picture.uncertainty[0] == pytest.approx(np.sqrt(variance))
    legend = plots.draw(picture).axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert "SingleMuon" in labels
    assert r" _qcd\$" in labels
    (other,) = plots.before_fit(histogram_io.parse(content, "a test"))
    np.testing.assert_array_equal(other.data, [121, 0, 49])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"variances": [0, 1, -1, 1, 0]}, ("4j1b_wjets is negative in bin 2", "variances: -1")),
        ({"variances": [0, 1, np.nan, 1, 0]}, ("4j1b_wjets is not finite",)),
        ({"variances": [0, 1, 1, np.inf, 0]}, ("4j1b_wjets is not finite in bin 3",)),
        ({"values": [0, np.nan, 1, 1, 0]}, ("4j1b_wjets is not finite in bin 1",)),
        ({"variances": None}, ("4j1b_wjets has no variances",)),
        ({"edges": [50, 70, 90, 111]}, ("have different bins",)),
        ({"values": [1]}, ("1 values for 3 bins",)),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(
    content: dict[str, Any], tmp_path: Path, spoil: dict[str, Any], words: tuple[str, ...]
) -> None:
    content["histograms"]["4j1b_wjets"] |= spoil
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content))
    assert_one_sentence(analysis("plot", path, "-o", tmp_path), *words)


def test_published_histograms_have_no_channels(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content["histograms"]))
    assert_one_sentence(analysis("plot", path, "-o", tmp_path), "no histograms of channels")


@pytest.mark.parametrize(
    ("variation", "source"),
    [
        ("pt_scale_up", "pt_scale"),
        ("btag_var_0_down", "btag_var_0"),
        ("scaleup", "scale"),
        ("scaledown", "scale"),
        ("scale_var_up", "scale_var"),
        ("ME_var", "ME_var"),
    ],
)
def test_sources(variation: str, source: str) -> None:
    assert histograms.side_of(variation)[0] == source


def drawn(picture: Plot) -> tuple[list[Any], list[Any], list[Any]]:
    """Steps of the upper part, and points of both, as they are drawn."""
    main, below = plots.draw(picture).axes

    def points(axes: Any) -> list[Any]:
        return [
            np.asarray(container.lines[0].get_ydata(), dtype=float)
            for container in axes.containers
            if isinstance(container, ErrorbarContainer)
        ]

    steps = [patch for patch in main.patches if isinstance(patch, StepPatch)]
    return steps, points(main), points(below)


def test_what_is_drawn(content: dict[str, Any]) -> None:
    (picture,) = plots.before_fit(histogram_io.parse(content, "a test"))
    steps, (data,), (ratio,) = drawn(picture)
    wjets, ttbar, band = (
        next(one for one in steps if one.get_label() == label)
        for label in (*(plots.LABELS[name] for name in picture.samples), "uncertainty")
    )
    np.testing.assert_allclose(wjets.get_data().values, picture.samples["wjets"])
    np.testing.assert_allclose(ttbar.get_data().values, picture.total)
    np.testing.assert_allclose(ttbar.get_data().edges, EDGES)
    np.testing.assert_allclose(band.get_data().values, picture.total + picture.uncertainty)
    np.testing.assert_allclose(band.get_data().baseline, picture.total - picture.uncertainty)
    np.testing.assert_allclose(data, [121, 0, 49])
    np.testing.assert_allclose(ratio, [1.1, 0, 49 / 55])


def test_without_data_and_in_empty_bins(content: dict[str, Any]) -> None:
    del content["histograms"]["4j1b_pseudodata"]
    content["histograms"] = {
        name: one([0, 20, 5]) for name in content["histograms"] if name.endswith("wjets")
    }
    (picture,) = plots.before_fit(histogram_io.parse(content, "a test"))
    _, data, ratio = drawn(picture)
    assert picture.data is None
    assert data == ratio == []


def test_a_run_is_drawn(synthetic: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.root"
    assert analysis("run", synthetic / "fileset.json", "-o", output).exit_code == 0
    folder = tmp_path / "made" / "pictures"
    outcome = analysis("plot", output, "--output", folder)
    assert outcome.exit_code == 0, outcome.error
    names = [
        f"before_{region}{channel}.png"
        for region in histograms.REGIONS
        for channel in ("", "_electron", "_muon")
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
    assert sorted(outcome.output.split()) == sorted(str(folder / name) for name in names)
    # Regions are the sums of their channels.
    totals = {one.name: one.total for one in plots.before_fit(histogram_io.read(output))}
    for region in histograms.REGIONS:
        both = sum(totals[f"before_{region}_{channel}"] for channel in CHANNELS)
        np.testing.assert_allclose(totals[f"before_{region}"], both)


def a_fit() -> dict[str, Any]:
    """What `python -m analysis fit` writes, as far as it is drawn."""
    region = {
        "edges": EDGES.tolist(),
        "data": [12, 30, 7],
        "samples": {"ttbar": [10, 20, 5], "other": [1, 1, 1], "wjets": [1, 2, 3]},
        "uncertainty": [2, 3, 4],
    }
    after = {**region, "samples": {"ttbar": [9, 25, 4]}, "uncertainty": [1, 1, 1]}
    return {"prediction": {"prefit": {"4j2b": region}, "postfit": {"4j2b": after}}}


def test_before_and_after_the_fit(content: dict[str, Any], tmp_path: Path) -> None:
    fit, histograms_ = tmp_path / "fit.json", tmp_path / "out.json"
    fit.write_text(json.dumps(a_fit()))
    before, after = plots.of_fit(fit)
    assert list(before.samples) == ["wjets", "ttbar", "other"]
    np.testing.assert_array_equal(before.total, [12, 23, 9])
    np.testing.assert_array_equal(after.total, [9, 25, 4])
    np.testing.assert_array_equal(after.uncertainty, [1, 1, 1])
    np.testing.assert_array_equal(after.data, [12, 30, 7])
    content["channels"] = {name: {} for name in CHANNELS}
    histograms_.write_text(json.dumps(content))
    outcome = analysis("plot", histograms_, "-o", tmp_path, "--fit", fit, "--format", "svg")
    assert outcome.exit_code == 0, outcome.error
    names = [path.rpartition("/")[2] for path in outcome.output.split()]
    assert names == ["before_4j1b.svg", "prefit_4j2b.svg", "postfit_4j2b.svg"]
    for spoil, words in (
        ({}, ("does not hold a fit", "prediction")),
        ({"uncertainty": [1]}, ("does not hold a fit", "postfit.4j2b", "numbers of bins differ")),
    ):
        spoilt = a_fit() if spoil else {}
        if spoil:
            spoilt["prediction"]["postfit"]["4j2b"] |= spoil
        fit.write_text(json.dumps(spoilt))
        assert_one_sentence(analysis("plot", histograms_, "-o", tmp_path, "--fit", fit), *words)
    assert_one_sentence(
        analysis("plot", histograms_, "-o", tmp_path, "--fit", tmp_path / "no"), "cannot be read"
    )


def test_bad_input(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps(content))
    assert_one_sentence(
        analysis("plot", path, "-o", tmp_path, "--format", "bmp"), "'bmp'", "png, pdf, svg"
    )
    assert_one_sentence(analysis("plot", path, "-o", path), "is not a folder")
    content["channels"] = {name: {} for name in CHANNELS}
    content["histograms"] = {"4j1b_ttbar_ME_var": one([1, 2, 3])}
    path.write_text(json.dumps(content))
    assert_one_sentence(analysis("plot", path, "-o", tmp_path), "no nominal histogram")
    assert_one_sentence(analysis("plot", tmp_path / "no.root", "-o", tmp_path), "there is no")
