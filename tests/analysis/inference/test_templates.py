"""Histograms that are not as they should be, and other processes and variations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyhf
import pytest

from analysis.errors import InputError
from analysis.inference import (
    Templates,
    build,
    open_backend,
    read,
    significance,
)
from analysis.inference.templates import Region, Template, merged
from analysis.inference.workspace import SYSTEMATICS, workspace
from analysis.samples import CROSS_SECTIONS, NOMINAL
from perf.cases.inference import synthetic_templates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def _edited(
    path: Path, folder: Path, edit: Callable[[dict[str, Any]], Any]
) -> tuple[Path, dict[str, Any]]:
    content = json.loads(path.read_text())
    edit(content)
    (folder / "edited.json").write_text(json.dumps(content))
    return folder / "edited.json", content


def _set(name: str, key: str, number: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        content[name][key][number] = value

    return edit


def _zero(*names: str) -> Callable[[dict[str, Any]], None]:
    def edit(content: dict[str, Any]) -> None:
        for name in names:
            content[name]["contents"] = [0.0] * 27

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_set("4j1b_ttbar", "contents", 5, float("nan")), "4j1b_ttbar is not finite in bin 5"),
        (_set("4j2b_wjets", "contents", 7, -3.0), "4j2b_wjets is negative in bin 7 of 25"),
        (
            _set("4j1b_wjets", "contents", 7, "many"),
            r"at histograms.4j1b_wjets.contents.7: Input should be a valid number",
        ),
        (_set("4j1b_wjets", "edges", 3, 111.0), "4j1b_wjets has bins from 50 to 550"),
        (_set("4j1b_wjets", "edges", 9, 231.0), "4j1b_wjets has other bins than the data"),
        (lambda c: c["4j1b_ttbar"]["contents"].pop(), "has 26 values for 25 bins"),
        (lambda c: c.pop("4j2b_ttbar"), "no 4j2b_ttbar: run the analysis over a file set with"),
        (lambda c: c.pop("4j2b_pseudodata"), "no 4j2b_pseudodata: it is made of the ttbar"),
        (lambda c: c.pop("4j1b_ttbar_ME_var"), "no 4j1b_ttbar_ME_var: run the analysis with all"),
        (_zero("4j1b_ttbar", "4j2b_ttbar"), "no events of ttbar"),
        (_zero("4j1b_pseudodata", "4j2b_pseudodata"), "the data in .* have no events"),
        (_zero(*(f"4j1b_{one}" for one in CROSS_SECTIONS)), "no simulated event in 4j1b"),
    ],
)
def test_histograms_that_no_model_can_be_made_of(
    reference_files: tuple[Path, Path],
    tmp_path: Path,
    edit: Callable[[dict[str, Any]], Any],
    message: str,
) -> None:
    histograms, inputs = reference_files
    path, _ = _edited(histograms, tmp_path, edit)
    with pytest.raises(InputError, match=message):
        build(read(path, inputs=inputs, files_per_process=1))


def test_files_that_are_no_histograms(reference_files: tuple[Path, Path], tmp_path: Path) -> None:
    histograms, inputs = reference_files
    with pytest.raises(InputError, match=r"there is no .*missing.json: write it with"):
        read(tmp_path / "missing.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read(tmp_path / "folder.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(InputError, match="does not hold the histograms of a run, make it anew"):
        read(tmp_path / "text.json")
    with pytest.raises(InputError, match="does not hold the histograms of a run: at"):
        read(inputs)
    with pytest.raises(InputError, match="no variances: give --inputs"):
        read(histograms)
    with pytest.raises(InputError, match="needs --files-per-process"):
        read(histograms, inputs=inputs)
    with pytest.raises(InputError, match="does not list files of ttbar"):
        read(histograms, inputs=histograms, files_per_process=1)
    with pytest.raises(InputError, match="no 4j1b_real: name another process by --data"):
        read(histograms, inputs=inputs, files_per_process=1, data="real")
    with pytest.raises(InputError, match="ttbar is a process that the model predicts"):
        read(histograms, inputs=inputs, files_per_process=1, data="ttbar")
    with pytest.raises(InputError, match="no process 'higgs': use one of ttbar"):
        build(synthetic_templates(), "higgs")


def _templates(nominal: NDArray[np.float64], up: float = 1.1) -> Templates:
    """One region in which each process has the same."""
    template = Template(nominal, nominal)
    templates = {}
    for process in CROSS_SECTIONS:
        templates[process, NOMINAL] = template
        for systematic in SYSTEMATICS:
            for name in (systematic.up, systematic.down):
                if name and systematic.acts_on(process):
                    templates[process, name] = Template(up * nominal, None)
    edges = np.linspace(110, 550, len(nominal) + 1)
    return Templates("a test", {"4j1b": Region(edges, 5 * nominal, templates)})


def test_bins_without_simulated_events_are_merged_with_the_next() -> None:
    fewer = merged(_templates(np.array([0, 2, 0, 0, 3, 4, 0.0])))
    region = fewer.regions["4j1b"]
    step = 440 / 7
    np.testing.assert_allclose(region.edges, 110 + step * np.array([0, 2, 5, 7]))
    np.testing.assert_allclose(region.templates["ttbar", NOMINAL].values, [2, 3, 4])
    np.testing.assert_allclose(region.data, [10, 15, 20])
    assert len(fewer.notes) == 1
    assert fewer.notes[0].startswith("4 of 7 bins of 4j1b hold no simulated event")
    whole = _templates(np.array([1.0, 2.0]))
    assert merged(whole).notes == ()


def test_bins_with_nothing_but_signal_are_merged_to_test_its_absence() -> None:
    everywhere, but_one = (_templates(np.array([1.0, n, 3.0, 4.0])) for n in (2.0, 0.0))
    mixed = {
        key: (everywhere if key[0] == "ttbar" else but_one).regions["4j1b"].templates[key]
        for key in everywhere.regions["4j1b"].templates
    }
    region = replace(everywhere.regions["4j1b"], templates=mixed)
    templates = replace(everywhere, regions={"4j1b": region})
    fewer = merged(templates, "ttbar")
    np.testing.assert_allclose(fewer.regions["4j1b"].edges, [110, 220, 440, 550])
    (note,) = fewer.notes
    assert note.startswith("1 of 4 bins of 4j1b hold no simulated event but of ttbar")
    assert merged(templates, "wjets").notes == ()
    with open_backend("numpy"):
        assert significance(build(fewer)).observed > 0
        with pytest.raises(InputError, match="nothing but signal"):
            significance(build(templates))


def _with_another(templates: Templates, process: str, variations: tuple[str, ...]) -> Templates:
    """A process like tW, and so many variations of 10 % each."""
    regions = {}
    for name, region in templates.regions.items():
        nominal = region.templates["single_top_tW", NOMINAL]
        more = {(process, one): Template(1.1 * nominal.values, None) for one in variations}
        regions[name] = replace(
            region, templates={**region.templates, (process, NOMINAL): nominal, **more}
        )
    return replace(templates, regions=regions)


def test_another_process_is_in_the_model() -> None:
    shared = ("pt_scale_up", "btag_var_0_up", "btag_var_0_down")
    own = ("hdamp_up", "hdamp_down", "tune", "scaledown")
    templates = _with_another(synthetic_templates(), "qcd__HT", (*shared, *own))
    spec, notes = workspace(templates)
    pyhf.schema.validate(spec, "workspace.json")
    for channel in spec["channels"]:
        (sample,) = (one for one in channel["samples"] if one["name"] == "qcd__HT")
        by_name = {(one["name"], one["type"]): one["data"] for one in sample["modifiers"]}
        assert by_name["qcd__HT_normalisation", "normsys"] == {"hi": 1.5, "lo": 0.5}
        assert {name for name, kind in by_name if kind == "histosys"} == {
            "jet_energy_scale",
            "btag_0",
            "qcd__HT_hdamp",
            "qcd__HT_tune",
            "qcd__HT_scale",
        }
        for mirrored, side in (("qcd__HT_tune", "hi"), ("qcd__HT_scale", "lo")):
            found = by_name[mirrored, "normsys"]
            assert found[side] == pytest.approx(1.1)
            assert found["lo" if side == "hi" else "hi"] == pytest.approx(0.9)
    assert any("jet_energy_resolution was left out of qcd__HT" in note for note in notes)
    # The AGC's own are as without it.
    ours = build(synthetic_templates()).spec
    for channel, other in zip(spec["channels"], ours["channels"], strict=True):
        assert [one for one in channel["samples"] if one["name"] != "qcd__HT"] == other["samples"]


def test_another_process_can_be_the_signal() -> None:
    model = build(_with_another(synthetic_templates(), "qcd", ()), "qcd")
    assert model.names[model.poi] == "qcd_norm"
    assert "qcd_normalisation" not in model.names


def test_another_variation_of_the_agc_is_in_the_model() -> None:
    templates = synthetic_templates()
    regions = {
        name: replace(
            region,
            templates={
                **region.templates,
                ("ttbar", "hdamp"): region.templates["ttbar", "ME_var"],
            },
        )
        for name, region in templates.regions.items()
    }
    assert "ttbar_hdamp" in build(replace(templates, regions=regions)).names


@pytest.mark.parametrize(
    ("process", "variations"),
    [
        ("qcd", ("tune", "tuneup")),
        ("qcd", ("tune", "tunedown")),
        ("qcd", ("tune_up", "tuneup")),
        ("qcd", ("normalisation",)),
    ],
)
def test_two_uncertainties_are_not_one_parameter(
    process: str, variations: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="same parameter"):
        build(_with_another(synthetic_templates(), process, variations))


def test_what_too_few_events_make_impossible_is_left_out_and_said() -> None:
    # More than twice as many cannot be mirrored; that leaves the two-sided ones.
    spec, notes = workspace(_templates(np.array([1.0, 2.0]), up=2.5))
    kept = {one["name"] for one in spec["channels"][0]["samples"][0]["modifiers"]}
    assert "jet_energy_scale" not in kept
    assert "btag_0" in kept
    assert any("jet_energy_scale was left out of ttbar in 4j1b" in note for note in notes)
