"""The commands fit and limit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyhf
import pytest

from tests.analysis.inference.conftest import REFERENCE_TWICE_NLL, REFERENCE_VALUE
from tests.support.cli import analysis


@pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])
def test_fit_writes_all_that_is_learnt(
    reference_files: tuple[Path, Path], backend: str, tmp_path: Path
) -> None:
    histograms, inputs = reference_files
    outcome = analysis(
        "fit",
        histograms,
        *("--inputs", inputs, "--files-per-process", 1, "--backend", backend),
        *("--output", tmp_path / "FIT.json", "--workspace", tmp_path / "WORKSPACE.json"),
        *(("--no-ranking",) if backend == "numpy" else ()),
    )
    assert outcome.exit_code == 0, outcome.error
    assert outcome.error == ""
    assert "ttbar_norm = 0.96" in outcome.output
    found = json.loads((tmp_path / "FIT.json").read_text())
    assert found["parameters"]["ttbar_norm"]["value"] == pytest.approx(REFERENCE_VALUE, rel=0.01)
    assert found["parameters"]["ttbar_norm"]["uncertainty"] == pytest.approx(0.108, abs=0.001)
    assert found["twice_nll"] == pytest.approx(REFERENCE_TWICE_NLL, abs=0.1)
    assert len(found["parameters"]) == len(found["correlation"]["names"]) == 34
    assert np.shape(found["correlation"]["matrix"]) == (34, 34)
    assert len(found["ranking"]) == (33 if backend == "jax" else 0)
    assert min(found["scan"]["delta"]) == pytest.approx(0, abs=1e-6)
    after = found["prediction"]["postfit"]["4j2b"]
    assert len(after["samples"]["ttbar"]) == len(after["uncertainty"]) == 11
    assert found["provenance"]["backend"] == backend
    spec = json.loads((tmp_path / "WORKSPACE.json").read_text())
    pyhf.schema.validate(spec, "workspace.json")


# Its fits take 20 s; the limit of test_workflow.py stands for it.
@pytest.mark.slow
def test_limit_writes_and_prints(reference_files: tuple[Path, Path], tmp_path: Path) -> None:
    histograms, inputs = reference_files
    outcome = analysis(
        "limit",
        histograms,
        *("--inputs", inputs, "--files-per-process", 1, "--signal", "single_top_tW"),
        *("--output", tmp_path / "LIMIT.json"),
    )
    assert outcome.exit_code == 0, outcome.error
    found = json.loads((tmp_path / "LIMIT.json").read_text())
    assert found["limit"]["poi"] == "single_top_tW_norm"
    assert len(found["limit"]["expected"]) == 5
    assert found["significance"]["expected"] > 0
    assert "upper limit (CLs)" in outcome.output


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    missing = tmp_path / "OUT.json"
    outcome = analysis("fit", missing, "-o", tmp_path / "FIT.json")
    assert outcome.exit_code == 2
    assert outcome.error.startswith("error: there is no ")
    outcome = analysis("limit", missing, "-o", tmp_path / "no" / "LIMIT.json")
    assert outcome.exit_code == 2
    assert "there is no folder" in outcome.error
