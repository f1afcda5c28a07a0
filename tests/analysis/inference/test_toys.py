"""Fits return the values that toys and simulated data were made with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.stats

from analysis.inference import (
    Model,
    build,
    fit,
    open_backend,
    read,
)
from analysis.inference.minimum import covariance, minimum
from analysis.samples import CROSS_SECTIONS, LUMINOSITY, NOMINAL
from perf.cases.inference import synthetic_templates
from tests.support.cli import analysis

if TYPE_CHECKING:
    from collections.abc import Callable


from tests.analysis.inference.conftest import fast


@pytest.mark.slow
def test_pulls_of_toys(models: Callable[..., Model]) -> None:
    with open_backend("jax"):
        model = models(synthetic_templates())
        truth = model.nominal
        # Three times 200: the width of 200 pulls is known to 0.05 only, half of what is allowed.
        toys = model.toys(truth, 600, np.random.default_rng(1))
        pulls = []
        for toy in toys:
            values, _, hessian = minimum(model, toy)
            variance = covariance(model, values, hessian)[model.poi, model.poi]
            pulls.append((values - truth)[model.poi] / np.sqrt(variance))
    assert np.mean(pulls) == pytest.approx(0, abs=0.15)
    assert np.std(pulls, ddof=1) == pytest.approx(1, abs=0.1)


def test_toys_are_drawn_from_the_model(models: Callable[..., Model]) -> None:
    with open_backend("numpy"):
        model = models(synthetic_templates())
        toys = model.toys(model.nominal, 4000, np.random.default_rng(2))
        expected = model.asimov()
    main = model.pdf.config.nmaindata
    widths = np.concatenate([np.sqrt(expected[:main]), _widths(model)])
    distance = (toys.mean(axis=0) - expected) / widths * np.sqrt(len(toys))
    assert scipy.stats.kstest(distance, "norm").pvalue > 1e-3
    np.testing.assert_allclose(toys.std(axis=0), widths, rtol=0.06)


def _widths(model: Model) -> list[float]:
    config = model.pdf.config
    return [w for name in config.auxdata_order for w in config.param_set(name).width()]


OBSERVED = dict.fromkeys(CROSS_SECTIONS, 10_000) | {"ttbar": 150_000, "wjets": 50_000}
"""Events that the data are made of, before the selection."""

SIMULATED = 100_000
"""Of each sample of ttbar, and half as many of the others."""

STRENGTH = 3.0
"""Of ttbar in the data, over that which is expected."""


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Histograms of the processor, with data of other events and more ttbar than expected."""
    from analysis.synthetic import write_fileset

    folder = tmp_path_factory.mktemp("injected")
    fileset: dict[str, Any] = {}
    files: dict[str, str] = {}
    for process, observed in OBSERVED.items():
        signal = process == "ttbar"
        part = folder / process
        simulated = SIMULATED if signal else SIMULATED // 2
        samples = write_fileset(part / "mc", events=simulated, seed=11, processes=[process])
        for name, one in samples.items():
            # So that an event of the data weighs 1.
            expected = observed / STRENGTH if signal else observed
            metadata = one["metadata"] | {"xsec": expected / LUMINOSITY}
            fileset[name] = {**one, "metadata": metadata}
        data = write_fileset(
            part / "data", events=observed, seed=12, processes=[process], variations=[NOMINAL]
        )
        files |= data[f"{process}__nominal"]["files"]
    section = sum(OBSERVED.values()) / LUMINOSITY
    metadata = {"process": "data", "variation": NOMINAL, "xsec": section}
    fileset["data__nominal"] = {"files": files, "metadata": metadata}
    (folder / "fileset.json").write_text(json.dumps(fileset))
    outcome = analysis(
        "run", folder / "fileset.json", "--implementation", "compiled", "-o", folder / "OUT.json"
    )
    assert outcome.exit_code == 0, outcome.error
    return folder / "OUT.json"


@pytest.mark.parametrize("backend", ["numpy", "jax"])
def test_fit_returns_the_injected_cross_section(
    injected: Path, backend: str, tmp_path: Path
) -> None:
    outcome = analysis(
        "fit",
        injected,
        *("--data", "data", "--no-ranking", "--backend", backend, "-o", tmp_path / "FIT.json"),
    )
    assert outcome.exit_code == 0, outcome.error
    found = json.loads((tmp_path / "FIT.json").read_text())["parameters"]["ttbar_norm"]
    # Far from 1, the value that the model is built around, and near the truth.
    assert abs(found["value"] - STRENGTH) < 2 * found["uncertainty"]
    assert abs(found["value"] - 1) > 2 * found["uncertainty"]


@fast
@pytest.mark.usefixtures("combination")
def test_fit_returns_the_scale_of_a_cross_section(injected: Path, tmp_path: Path) -> None:
    """Of the same events, so that nothing but the strength can differ."""
    fileset = json.loads((injected.parent / "fileset.json").read_text())
    nominal = {name: fileset[name] for name in fileset if name.endswith(f"__{NOMINAL}")}
    del nominal["data__nominal"]
    nominal["ttbar__nominal"]["metadata"]["xsec"] *= 1.3
    (tmp_path / "fileset.json").write_text(json.dumps(nominal))
    outcome = analysis(
        *("run", tmp_path / "fileset.json", "--implementation", "compiled"),
        *("--variations", "nominal", "-o", tmp_path / "OUT.json"),
    )
    assert outcome.exit_code == 0, outcome.error
    filled = json.loads((tmp_path / "OUT.json").read_text())["histograms"]
    templates = read(injected, data="data")
    regions = {}
    for name, region in templates.regions.items():
        every = [filled[f"{name}_{process}"]["values"] for process in CROSS_SECTIONS]
        total = np.sum(every, axis=0)
        centres = np.arange(60, 550, 20)
        data, _ = np.histogram(centres, region.edges, weights=total[1:-1])
        regions[name] = replace(region, data=data)
    result = fit(build(replace(templates, regions=regions)))
    assert result.parameters["ttbar_norm"].value == pytest.approx(1.3, abs=1e-4)
    assert result.goodness_of_fit.chi2 == pytest.approx(0, abs=1e-6)
