"""Names, pseudodata and bookkeeping of the ttbar histograms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import hist
import numpy as np
import pytest

from analysis import histograms
from analysis.kernels.btag_weights import VARIATIONS as BTAG_VARIATIONS
from analysis.samples import (
    KINEMATIC_VARIATIONS,
    NOMINAL,
    SAMPLE_VARIATIONS,
    SCALE_PROCESS,
    SCALE_WEIGHTS,
    sample_name,
)

if TYPE_CHECKING:
    from pathlib import Path


def _filled(process: str, variations: list[str], seed: int) -> hist.Hist:
    histogram = histograms.new(process, variations)
    rng = np.random.default_rng(seed)
    for channel in histograms.CHANNELS:
        for region in histograms.REGIONS:
            for variation in variations:
                histogram.fill(
                    channel=channel,
                    region=region,
                    process=process,
                    variation=variation,
                    observable=rng.uniform(0, 700, 40),
                    weight=rng.uniform(0.5, 1.5, 40),
                )
    return histogram


@pytest.fixture
def every_sample() -> dict[str, hist.Hist]:
    """Random histograms of all samples, with the variations that the processor gives them."""
    samples = {}
    for seed, process in enumerate(SAMPLE_VARIATIONS):
        for variation in SAMPLE_VARIATIONS[process]:
            names = [variation]
            if variation == NOMINAL:
                names += [*KINEMATIC_VARIATIONS, *BTAG_VARIATIONS]
                names += SCALE_WEIGHTS if process == SCALE_PROCESS else []
            samples[sample_name(process, variation)] = _filled(process, names, seed)
    return samples


def test_names_are_the_published_ones(
    every_sample: dict[str, hist.Hist], shared_data: Path
) -> None:
    reference = shared_data / "real" / "agc_reference" / "histos_1_file_per_process.json"
    published = json.loads(reference.read_text())
    ours = histograms.plain(histograms.named(every_sample))["histograms"]
    assert set(ours) == set(published)
    assert len(ours) == 124
    for name, histogram in ours.items():
        assert histogram["edges"] == pytest.approx(published[name]["edges"], rel=1e-14)


def test_channels_add_up_and_flow_is_kept(every_sample: dict[str, hist.Hist]) -> None:
    result = histograms.plain(histograms.named(every_sample))
    for name, total in result["histograms"].items():
        parts = [result["channels"][channel][name] for channel in histograms.CHANNELS]
        for field in ("values", "variances"):
            assert len(total[field]) == 27
            np.testing.assert_allclose(total[field], sum(np.array(p[field]) for p in parts))
    nominal = result["histograms"]["4j1b_ttbar"]["values"]
    assert nominal[0] > 0
    assert nominal[-1] > 0


def test_pseudodata(every_sample: dict[str, hist.Hist]) -> None:
    ours = histograms.plain(histograms.named(every_sample))["histograms"]
    for region in histograms.REGIONS:
        me, ps, w = (
            np.array(ours[f"{region}_{name}"]["values"])
            for name in ("ttbar_ME_var", "ttbar_PS_var", "wjets")
        )
        values = ours[f"{region}_pseudodata"]["values"]
        np.testing.assert_allclose(values, (me + ps) / 2 + w, rtol=1e-12)
        me, ps, w = (
            np.array(ours[f"{region}_{name}"]["variances"])
            for name in ("ttbar_ME_var", "ttbar_PS_var", "wjets")
        )
        variances = ours[f"{region}_pseudodata"]["variances"]
        np.testing.assert_allclose(variances, (me + ps) / 4 + w, rtol=1e-12)


def test_no_pseudodata_without_its_samples(every_sample: dict[str, hist.Hist]) -> None:
    del every_sample["ttbar__PS_var"]
    assert histograms.pseudodata(every_sample) is None
    assert "4j1b_pseudodata" not in histograms.plain(histograms.named(every_sample))["histograms"]


def test_named_histograms_hold_every_part(every_sample: dict[str, hist.Hist]) -> None:
    named = histograms.named(every_sample)
    for sample, part in every_sample.items():
        process, _, _ = sample.partition("__")
        for variation in part.axes["variation"]:
            for region in histograms.REGIONS:
                where = {"region": region, "process": process, "variation": variation}
                name = histograms.Name(**where).published
                np.testing.assert_array_equal(
                    named[name].view(flow=True), part[where].view(flow=True)
                )


def test_sums_of_the_kernel_land_in_their_cells() -> None:
    rng = np.random.default_rng(1)
    sums = rng.uniform(size=(2, 4, 27, 3))
    histogram = histograms.new("ttbar", ["a", "b", "c"])
    histograms.add_sums(histogram, sums)
    for c, channel in enumerate(histograms.CHANNELS):
        for r, region in enumerate(histograms.REGIONS):
            for v, variation in enumerate("abc"):
                one = histogram[
                    {"channel": channel, "region": region, "process": 0, "variation": variation}
                ]
                np.testing.assert_array_equal(one.values(flow=True), sums[0, r + 2 * c, :, v])
                np.testing.assert_array_equal(one.variances(flow=True), sums[1, r + 2 * c, :, v])


def test_sums_go_by_the_names_of_axes() -> None:
    sums = np.random.default_rng(2).uniform(size=(2, 4, 27, 2))
    plain = histograms.new("ttbar", ["a", "b"])
    histograms.add_sums(plain, sums)
    backwards = hist.Hist(*reversed(plain.axes), storage=hist.storage.Weight())
    histograms.add_sums(backwards, sums)
    assert backwards.project(*plain.axes.name) == plain
    assert plain.sum(flow=True).value == pytest.approx(sums[0].sum())


@pytest.mark.parametrize("bins", [1, 2])
def test_sums_do_not_spread_over_an_axis_that_is_new(bins: int) -> None:
    channel, *others = histograms.new("ttbar", ["nominal"]).axes
    more = hist.axis.Integer(0, bins, name="more", flow=False)
    histogram = hist.Hist(channel, more, *others, storage=hist.storage.Weight())
    with pytest.raises(ValueError, match="more"):
        histograms.add_sums(histogram, np.ones((2, 4, 27, 1)))
    assert histogram.sum(flow=True).value == 0
    with pytest.raises(ValueError, match="do not fit"):
        histograms.add_sums(histograms.new("ttbar", ["a", "b"]), np.ones((2, 4, 27, 1)))


def test_pseudodata_go_by_the_names_of_axes(every_sample: dict[str, hist.Hist]) -> None:
    want = histograms.pseudodata(every_sample)
    swapped = {
        name: one.project("region", "channel", "observable", "variation", "process")
        for name, one in every_sample.items()
    }
    assert histograms.pseudodata(swapped) == want


def test_known_names_are_the_published_ones(every_sample: dict[str, hist.Hist]) -> None:
    want = histograms.names(every_sample)
    assert {name: list(one) for name, one in histograms.known_names().items()} == want
    assert len(want) == 124
