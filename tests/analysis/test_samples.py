"""Cross sections and weights against the published histograms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.samples import CROSS_SECTIONS, NOMINAL, SAMPLE_VARIATIONS, event_weight, sample_name

if TYPE_CHECKING:
    from pathlib import Path


def test_weight_of_the_published_ttbar_sample() -> None:
    # analysis-grand-challenge: 1,334,428 events in the first ttbar file.
    assert event_weight(CROSS_SECTIONS["ttbar"], 1_334_428) == pytest.approx(
        1.8475328155584265, rel=1e-14
    )


def test_no_events_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="cannot normalise a sample of 0 events"):
        event_weight(1.0, 0)


def test_only_ttbar_has_samples_of_variations() -> None:
    several = [process for process, names in SAMPLE_VARIATIONS.items() if len(names) > 1]
    assert several == ["ttbar"]
    assert sample_name("ttbar", "ME_var") == "ttbar__ME_var"


@pytest.mark.parametrize("process", CROSS_SECTIONS)
def test_published_histograms_are_whole_numbers_of_weights(
    process: str, shared_data: Path
) -> None:
    """Cross sections, luminosity and event counts are those of the published histograms."""
    folder = shared_data / "real" / "agc_reference"
    published = json.loads((folder / "histos_1_file_per_process.json").read_text())
    inputs = json.loads((folder / "nanoaod_inputs.json").read_text())
    for variation in SAMPLE_VARIATIONS[process]:
        events = inputs[process][variation]["files"][0]["nevts"]
        weight = event_weight(CROSS_SECTIONS[process], events)
        for region in ("4j1b", "4j2b"):
            suffix = "" if variation == NOMINAL else f"_{variation}"
            counts = np.array(published[f"{region}_{process}{suffix}"]["contents"]) / weight
            assert counts.sum() > 10
            np.testing.assert_allclose(counts, np.round(counts), atol=1e-7)
