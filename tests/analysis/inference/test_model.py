"""The model: that of the Analysis Grand Challenge, and what it adds for other processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyhf

from analysis.histograms import REGIONS
from analysis.inference import (
    Templates,
    build,
)
from analysis.inference.workspace import SYSTEMATICS
from analysis.samples import CROSS_SECTIONS, LUMINOSITY, NOMINAL


def test_model_is_the_published_one(reference: Templates) -> None:
    model = build(reference)
    pyhf.schema.validate(model.spec, "workspace.json")
    assert len(model.names) == 34
    assert model.names[model.poi] == "ttbar_norm"
    assert model.notes == ()
    modifiers = dict(model.pdf.config.modifiers)
    assert sorted(modifiers.values()).count("staterror") == len(REGIONS)
    assert {one.name for one in SYSTEMATICS} < set(modifiers)
    for region in REGIONS:
        assert model.pdf.config.channel_nbins[region] == 11
        np.testing.assert_allclose(model.edges[region], np.arange(110, 551, 40), rtol=1e-14)


def test_bins_are_merged_from_110_gev_up(
    reference: Templates, reference_files: tuple[Path, Path]
) -> None:
    published = json.loads(reference_files[0].read_text())["4j2b_ttbar"]
    contents = np.array(published["contents"])
    # Underflow and three bins below 110 GeV come first, overflow last.
    expected = contents[4:-1].reshape(11, 2).sum(axis=1)
    template = reference.regions["4j2b"].templates["ttbar", NOMINAL]
    np.testing.assert_allclose(template.values, expected)
    weight = CROSS_SECTIONS["ttbar"] * LUMINOSITY / 1_334_428
    assert template.variances is not None
    np.testing.assert_allclose(template.variances, expected * weight)


def test_cabinetry_makes_the_same_workspace(
    reference: Templates, reference_files: tuple[Path, Path], tmp_path: Path
) -> None:
    theirs = _cabinetry_workspace(reference, reference_files[0], tmp_path)
    ours = build(reference).spec
    for channel in ours["channels"]:
        (other,) = (one for one in theirs["channels"] if one["name"] == channel["name"])
        for sample in channel["samples"]:
            (same,) = (one for one in other["samples"] if one["name"] == sample["name"])
            np.testing.assert_allclose(same["data"], sample["data"])
            by_name = {(one["name"], one["type"]): one["data"] for one in same["modifiers"]}
            assert len(by_name) == len(sample["modifiers"])
            for modifier in sample["modifiers"]:
                _assert_close(modifier["data"], by_name[modifier["name"], modifier["type"]])
    _assert_close(
        {one["name"]: one["data"] for one in ours["observations"]},
        {one["name"]: one["data"] for one in theirs["observations"]},
    )
    assert ours["measurements"][0]["config"]["poi"] == theirs["measurements"][0]["config"]["poi"]


def _assert_close(got: Any, want: Any) -> None:
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key, value in want.items():
            _assert_close(got[key], value)
    elif want is not None:
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def _cabinetry_workspace(templates: Templates, path: Path, folder: Path) -> dict[str, Any]:
    """The published histograms through cabinetry, with our names in its configuration."""
    import cabinetry
    import hist
    import uproot

    published = json.loads(path.read_text())
    with uproot.recreate(folder / "histograms.root") as file:
        for name, one in published.items():
            region, _, rest = name.partition("_")
            weights = [
                template.variances.sum() / template.values.sum()
                for process, template in templates.regions[region].nominal.items()
                if rest.startswith(process) and template.variances is not None
            ]
            full = hist.Hist(hist.axis.Regular(25, 50, 550), storage=hist.storage.Weight())
            full.view(flow=True).value = one["contents"]
            full.view(flow=True).variance = np.array(one["contents"]) * (weights or [1.0])[0]
            file[name] = full[110j :: hist.rebin(2)]
    mirrored = {"Symmetrize": True}
    configuration = {
        "General": {
            "Measurement": "ttbar",
            "POI": "ttbar_norm",
            "HistogramFolder": str(folder / "templates"),
            "InputPath": f"{folder}/histograms.root:{{RegionPath}}_{{SamplePath}}{{VariationPath}}",
            "VariationPath": "",
        },
        "Regions": [{"Name": one, "RegionPath": one} for one in REGIONS],
        "Samples": [
            {"Name": "pseudodata", "SamplePath": "pseudodata", "Data": True},
            *({"Name": one, "SamplePath": one} for one in CROSS_SECTIONS),
        ],
        "Systematics": [
            *(
                {
                    "Name": one.name,
                    "Type": "NormPlusShape",
                    "Up": {"VariationPath": f"_{one.up}"},
                    "Down": {"VariationPath": f"_{one.down}"} if one.down else mirrored,
                    "Samples": list(one.samples or CROSS_SECTIONS),
                }
                for one in SYSTEMATICS
            ),
            {
                "Name": "luminosity",
                "Type": "Normalization",
                "Up": {"Normalization": 0.03},
                "Down": {"Normalization": -0.03},
            },
        ],
        "NormFactors": [
            {"Name": "ttbar_norm", "Samples": "ttbar", "Nominal": 1.0, "Bounds": [0, 10]}
        ],
    }
    cabinetry.templates.collect(configuration, method="uproot")
    cabinetry.templates.postprocess(configuration)
    spec: dict[str, Any] = cabinetry.workspace.build(configuration)
    return spec
