"""The ttbar processor on eight events computed by hand."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from analysis import histograms, ttbar
from analysis.errors import InputError
from analysis.fused import JET_FIELDS
from analysis.kernels import bind
from tests.analysis.kernels.known import INDEPENDENT
from tests.support.nanoevents import nano_events
from tests.support.strategies import array_of

if TYPE_CHECKING:
    from analysis.ttbar import Implementation

ELECTRON: Final = {"pt": 50.0, "eta": 0.0, "cutBased": 4, "sip3d": 0.0}
MUON: Final = {"pt": 50.0, "eta": 0.0, "tightId": True, "sip3d": 0.0, "pfRelIso04_all": 0.0}
TURN: Final = math.pi / 2
BTAG: Final = 0.9


each_implementation: Final = pytest.mark.parametrize("implementation", ttbar.IMPLEMENTATIONS)


def jets(pts: list[float], tagged: tuple[int, ...]) -> list[dict[str, Any]]:
    """Massless jets at eta 0, in steps of 90 degrees."""
    return [
        {
            "pt": pt,
            "eta": 0.0,
            "phi": number % 4 * TURN,
            "mass": 0.0,
            "jetId": 6,
            "btagCSVV2": BTAG if number in tagged else 0.1,
        }
        for number, pt in enumerate(pts)
    ]


# Electrons, muons, jets. The trijet of largest pt of [4, 3, 2, 1] x s is jets 0, 1 and 3:
# energy 8 s, momentum (4, 2) s, so the mass is s sqrt(64 - 20) = s sqrt(44).
EVENTS: Final[list[tuple[int, int, list[dict[str, Any]]]]] = [
    # electron, one tag: HT 268; scaled by 1.03 the last jet passes 30 GeV, HT 306.4
    (1, 0, jets([118.0, 60.0, 50.0, 40.0, 29.5], (0,))),
    # no lepton; two leptons
    (0, 0, jets([100.0] * 4, (0, 1))),
    (1, 1, jets([100.0] * 4, (0, 1))),
    # muon, two tags: mass 40 sqrt(44) = 265.3; scaled 273.3
    (0, 1, jets([160.0, 120.0, 80.0, 40.0], (0, 1))),
    # muon, no tag; electron, too few jets
    (0, 1, jets([100.0] * 4, ())),
    (1, 0, jets([100.0] * 3, (0,))),
    # muon, one tag: HT 650, beyond the axis
    (0, 1, jets([300.0, 200.0, 100.0, 50.0], (1,))),
    # electron, three tags: mass 80 sqrt(44) = 530.7; scaled 546.6
    (1, 0, jets([320.0, 240.0, 160.0, 80.0], (1, 2, 3))),
]
RUN, BLOCK, FIRST = 275_000, 42, 2**33 + 5

# By the jets of each event in a region: (channel, region), observable nominal and scaled, then
# the pt of the first four jets, of which the b-tag weights are made.
FILLED: Final = {
    0: ((0, 0), 268.0, (268.0 + 29.5) * 1.03, (118.0, 60.0, 50.0, 40.0)),
    3: ((1, 1), 40 * math.sqrt(44), 41.2 * math.sqrt(44), (160.0, 120.0, 80.0, 40.0)),
    6: ((1, 0), 650.0, 669.5, (300.0, 200.0, 100.0, 50.0)),
    7: ((0, 1), 80 * math.sqrt(44), 82.4 * math.sqrt(44), (320.0, 240.0, 160.0, 80.0)),
}


def columns_of(events: list[tuple[int, int, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Columns of events as of EVENTS, in single precision as files hold them."""
    columns: dict[str, Any] = {
        "run": array_of("run", [RUN] * len(events)),
        "luminosityBlock": array_of("luminosityBlock", [BLOCK] * len(events)),
        "event": array_of("event", [FIRST + number for number in range(len(events))]),
    }
    electrons, muons, _ = zip(*events, strict=True)
    for collection, one, counts in (("Electron", ELECTRON, electrons), ("Muon", MUON, muons)):
        for field, value in one.items():
            name = f"{collection}_{field}"
            columns[name] = array_of(name, [[value] * n for n in counts], "float32")
    for field in JET_FIELDS:
        name = f"Jet_{field}"
        values = [[jet[field] for jet in event[2]] for event in events]
        columns[name] = array_of(name, values, "float32")
    return columns


def processed(
    implementation: Implementation,
    process: str = "ttbar",
    variation: str = "nominal",
    variations: ttbar.Variations = "all",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Histograms by variation (values and variances, channel x region x bin), and the cutflow."""
    processor = ttbar.TtbarProcessor(implementation, variations)
    found = processor.process(
        nano_events(columns_of(EVENTS), process=process, variation=variation)
    )
    ((sample, histogram),) = found["histograms"].items()
    assert sample == f"{process}__{variation}"
    assert list(histogram.axes["process"]) == [process]
    by_variation = {
        name: histogram[{"process": 0, "variation": name}].view(flow=True)
        for name in histogram.axes["variation"]
    }
    cutflow: dict[str, Any] = found["cutflow"][process][variation]
    return by_variation, cutflow


def filled(entries: list[tuple[tuple[int, int], float, float]]) -> Any:
    """Sums of weights and of squares: 25 bins of 20 GeV from 50, with underflow and overflow."""
    sums = np.zeros((2, 2, 2, 27))
    for (channel, region), value, weight in entries:
        index = min(max(math.floor((value - 50) / 20) + 1, 0), 26)
        sums[:, channel, region, index] += weight, weight**2
    return sums


def assert_filled(view: Any, entries: list[tuple[tuple[int, int], float, float]]) -> None:
    np.testing.assert_allclose(
        [view["value"], view["variance"]], filled(entries), rtol=1e-12, atol=0
    )


def observable(pts: list[float], tagged: list[bool]) -> tuple[int | None, float]:
    """Region, and HT or the mass of the trijet, of jets as of `jets`."""
    kept = [
        (pt, (TURN * (number % 4)), tag)
        for number, (pt, tag) in enumerate(zip(pts, tagged, strict=True))
        if pt > 30
    ]
    n_tags = sum(tag for _, _, tag in kept)
    if len(kept) < 4 or not n_tags:
        return None, math.nan
    if n_tags == 1:
        return 0, sum(pt for pt, _, _ in kept)
    best = (-1.0, math.nan)
    for three in combinations(kept, 3):
        px, py = (sum(pt * f(phi) for pt, phi, _ in three) for f in (math.cos, math.sin))
        energy = sum(pt for pt, _, _ in three)
        if any(tag for _, _, tag in three):
            best = max(best, (px**2 + py**2, math.sqrt(energy**2 - px**2 - py**2)))
    return 1, best[1]


@each_implementation
def test_cutflow_and_variations(implementation: Implementation) -> None:
    histograms, cutflow = processed(implementation)
    # Eight events; the second has no lepton and the third two; the sixth has three jets; the
    # fifth has no tag.
    steps = {"all": 8, "one_lepton": 6, "four_jets": 5, "4j1b": 2, "4j2b": 2}
    assert cutflow["nominal"] == cutflow["pt_scale_up"] == steps
    assert set(cutflow) == {"nominal", "pt_scale_up", "pt_res_up"}
    btags = [f"btag_var_{i}_{side}" for i in range(4) for side in ("up", "down")]
    assert list(histograms) == ["nominal", *btags, "pt_scale_up", "pt_res_up"]


def test_regions_without_events_are_counted() -> None:
    kernels = bind("reference")
    _, regions = ttbar.fill_by_kernels(kernels, columns_of(EVENTS[:1]), (), every_variation=False)
    # Few jets, four without a tag, four with one, four with more.
    assert [counts.tolist() for counts in regions] == [[0, 0, 1, 0]]


@each_implementation
def test_nominal_and_scaled(implementation: Implementation) -> None:
    histograms, _ = processed(implementation)
    nominal = [(where, value, 1.0) for where, value, _, _ in FILLED.values()]
    assert_filled(histograms["nominal"], nominal)
    scaled = [(where, value, 1.0) for where, _, value, _ in FILLED.values()]
    assert_filled(histograms["pt_scale_up"], scaled)


@each_implementation
def test_btag_weights(implementation: Implementation) -> None:
    histograms, _ = processed(implementation)
    for i in range(4):
        for side, sign in (("up", 1), ("down", -1)):
            entries = [
                (where, value, 1 + sign * 0.075 * pts[i] / 50)
                for where, value, _, pts in FILLED.values()
            ]
            assert_filled(histograms[f"btag_var_{i}_{side}"], entries)


@each_implementation
def test_resolution_is_drawn_for_the_jets_of_the_event(implementation: Implementation) -> None:
    histograms, cutflow = processed(implementation)
    entries = []
    for number, (electrons, muons, event) in enumerate(EVENTS):
        (smeared,) = INDEPENDENT["jet_resolution"](
            *(np.array([one]) for one in (RUN, BLOCK, FIRST + number)),
            array_of("Jet_pt", [[jet["pt"] for jet in event]]),
        ).to_list()
        region, value = observable(smeared, [jet["btagCSVV2"] == BTAG for jet in event])
        if electrons + muons == 1 and region is not None:
            entries.append(((muons, region), value, 1.0))
    assert entries
    assert_filled(histograms["pt_res_up"], entries)
    assert cutflow["pt_res_up"]["4j1b"] + cutflow["pt_res_up"]["4j2b"] == len(entries)


@each_implementation
def test_scale_of_wjets(implementation: Implementation) -> None:
    histograms, _ = processed(implementation, process="wjets")
    for name, weight in (("scale_var_up", 1.025), ("scale_var_down", 0.975)):
        entries = [(where, value, weight) for where, value, _, _ in FILLED.values()]
        assert_filled(histograms[name], entries)
    assert not {name for name in processed(implementation)[0] if name.startswith("scale")}


@each_implementation
@pytest.mark.parametrize("variation", ["nominal", "ME_var"])
@pytest.mark.parametrize("variations", ["nominal", "all"])
def test_other_samples_and_nominal_runs_have_one_variation(
    implementation: Implementation, variation: str, variations: ttbar.Variations
) -> None:
    if (variation, variations) == ("nominal", "all"):
        return
    histograms, cutflow = processed(implementation, "wjets", variation, variations)
    assert list(histograms) == [variation]
    assert list(cutflow) == ["nominal"]
    entries = [(where, value, 1.0) for where, value, _, _ in FILLED.values()]
    assert_filled(histograms[variation], entries)


def test_branches_of_a_nominal_run() -> None:
    identity = ("run", "luminosityBlock", "event")
    assert ttbar.branches("all")[:3] == identity
    assert ttbar.branches("all") == (*identity, *ttbar.branches("nominal"))
    assert not set(identity) & set(ttbar.branches("nominal"))


def normalised(*datasets: dict[str, Any], nominal: int = 8) -> Any:
    """Of one histogram whose bins hold 1 and 2 events, and `nominal` events processed."""
    histogram = histograms.new("ttbar", ["nominal"])
    histogram.view(flow=True)["value"][0, 0, 0, 0, :2] = 1.0, 2.0
    histogram.view(flow=True)["variance"][0, 0, 0, 0, :2] = 1.0, 2.0
    fileset = {
        f"part {number}": {"metadata": {"process": "ttbar", "variation": "nominal", **dataset}}
        for number, dataset in enumerate(datasets)
    }
    accumulated = {
        "histograms": {"ttbar__nominal": histogram},
        "cutflow": {"ttbar": {"nominal": {"nominal": {"all": nominal}}}},
    }
    (scaled,) = ttbar.normalise(accumulated, fileset).values()
    view = scaled.view(flow=True)[0, 0, 0, 0, :2]
    return view["value"].tolist(), view["variance"].tolist()


def test_events_are_scaled_to_the_luminosity() -> None:
    # 10 pb x 3378 / pb / 5 events = 6756; the weights of events are squared in the variance.
    assert normalised({"xsec": 10.0, "nevts": 5}) == (
        [6756.0, 13512.0],
        [6756.0**2, 2 * 6756.0**2],
    )
    # Two parts of 2 and 3 events; then what was processed where a part does not say.
    assert normalised({"xsec": 10.0, "nevts": 2}, {"xsec": 10.0, "nevts": 3})[0][0] == 6756.0
    assert normalised({"xsec": 20.0, "nevts": 2}, {"xsec": 20.0})[0][0] == 8445.0
    assert normalised({"xsec": 20.0}, {"xsec": 20.0, "nevts": 2})[0][0] == 8445.0
    # Real data weigh 1; a sample that left no histogram leaves the others theirs.
    assert normalised({"isData": True}) == ([1.0, 2.0], [1.0, 2.0])
    absent = {"variation": "ME_var", "xsec": 1.0}
    assert normalised(absent, {"xsec": 10.0, "nevts": 5})[0][0] == 6756.0
    with pytest.raises(InputError, match="different cross sections"):
        normalised({"xsec": 10.0, "nevts": 2}, {"xsec": 11.0, "nevts": 3})
    with pytest.raises(InputError, match="no events to normalise to"):
        normalised({"xsec": 10.0}, nominal=0)


def test_events_cut_in_delivery_count_as_seen() -> None:
    cutflow = {
        "ttbar": {"nominal": {"nominal": {"all": 5, "4j1b": 2}}, "ME_var": {"nominal": {"all": 1}}}
    }
    parts = [
        ("nominal", {"cut_in_delivery": 10}),
        ("nominal", {"cut_in_delivery": 3}),
        ("ME_var", {}),
    ]
    fileset = {
        f"part {number}": {"metadata": {"process": "ttbar", "variation": variation, **cut}}
        for number, (variation, cut) in enumerate(parts)
    }
    assert ttbar.whole_cutflow(cutflow, fileset) == {
        "ttbar": {
            "nominal": {"nominal": {"all": 18, "4j1b": 2}},
            "ME_var": {"nominal": {"all": 1}},
        }
    }


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no variations"):
        ttbar.TtbarProcessor("columnar", "some")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no implementation"):
        ttbar.TtbarProcessor("fortran")  # type: ignore[arg-type]
