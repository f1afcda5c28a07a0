"""Synthetic events have the pass rates, peaks and distributions of published and real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot

from analysis.synthetic import (
    SLIM_BRANCHES,
    generate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


PUBLISHED_RATES = {
    # Events in 4j1b and 4j2b over all events, from the published AGC histograms.
    ("ttbar", "nominal"): (0.00951, 0.02144),
    ("ttbar", "scaledown"): (0.00920, 0.01952),
    ("ttbar", "scaleup"): (0.00957, 0.02226),
    ("ttbar", "ME_var"): (0.01227, 0.02528),
    ("ttbar", "PS_var"): (0.01055, 0.02048),
    ("single_top_s_chan", "nominal"): (0.000734, 0.001706),
    ("single_top_t_chan", "nominal"): (0.000673, 0.001256),
    ("single_top_tW", "nominal"): (0.00696, 0.00924),
    ("wjets", "nominal"): (0.000116, 0.0000384),
}


@pytest.fixture(scope="module")
def wjets() -> dict[str, Any]:
    """As many events as a rate of 4e-5 needs."""
    return generate("wjets", "nominal", 0, 400_000, seed=9)


def collection(columns: Mapping[str, Any], name: str) -> Any:
    fields = {k.partition("_")[2]: v for k, v in columns.items() if k.startswith(f"{name}_")}
    return ak.zip(fields, with_name="Momentum4D", behavior=vector_behavior())


def vector_behavior() -> Any:
    import vector

    return vector.backends.awkward.behavior


def selected(columns: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Selected jets, and masks of the regions 4j1b and 4j2b."""
    electron, muon, jet = (collection(columns, name) for name in ("Electron", "Muon", "Jet"))
    electrons = ak.sum(
        (electron.pt > 30)
        & (abs(electron.eta) < 2.1)
        & (electron.cutBased == 4)
        & (electron.sip3d < 4),
        axis=1,
    )
    muons = ak.sum(
        (muon.pt > 30)
        & (abs(muon.eta) < 2.1)
        & muon.tightId
        & (muon.sip3d < 4)
        & (muon.pfRelIso04_all < 0.15),
        axis=1,
    )
    jet = jet[(jet.pt > 30) & (abs(jet.eta) < 2.4) & (jet.jetId & 4 > 0)]
    tagged = ak.sum(jet.btagCSVV2 > 0.5, axis=1)
    event = (electrons + muons == 1) & (ak.num(jet) >= 4)
    return jet, event & (tagged == 1), event & (tagged >= 2)


@pytest.mark.parametrize(("process", "variation"), PUBLISHED_RATES)
def test_pass_rates(process: str, variation: str, wjets: dict[str, Any]) -> None:
    # Some 40 events at least pass, of W+jets 15: which gives rates to a fifth and a quarter.
    events = {"wjets": 400_000, "ttbar": 20_000, "single_top_tW": 20_000}.get(process, 60_000)
    factor = 3.0 if process == "wjets" else 1.5
    columns = wjets if process == "wjets" else generate(process, variation, 0, events, seed=5)
    _, one, two = selected(columns)
    for mask, published in zip((one, two), PUBLISHED_RATES[process, variation], strict=True):
        assert published / factor < ak.sum(mask) / events < published * factor


def test_variations_move_as_published() -> None:
    def rates(variation: str) -> tuple[float, float, float]:
        jet, one, two = selected(generate("ttbar", variation, 0, 100_000, seed=8))
        ht = ak.sum(jet.pt, axis=1)[one]
        return ak.sum(one), ak.sum(two), ak.mean(np.minimum(ht, 550))

    nominal, harder, shower = rates("nominal"), rates("ME_var"), rates("PS_var")
    assert 1.05 < harder[0] / nominal[0] < 1.5  # published 1.29
    assert 1.05 < harder[1] / nominal[1] < 1.4  # published 1.18
    assert harder[2] - nominal[2] > 8  # published 19 GeV
    assert shower[1] / nominal[1] < 1.0  # published 0.955
    assert shower[2] < nominal[2]  # published -11 GeV


def trijet_masses(columns: Mapping[str, Any]) -> Any:
    jet, _, two = selected(columns)
    first, second, third = ak.unzip(ak.combinations(jet[two], 3))
    system = first + second + third
    tags = np.maximum(np.maximum(first.btagCSVV2, second.btagCSVV2), third.btagCSVV2)
    system = system[tags > 0.5]
    return ak.flatten(system[ak.argmax(system.pt, axis=1, keepdims=True)].mass)


def test_top_mass_is_a_peak(ttbar: dict[str, Any], wjets: dict[str, Any]) -> None:
    counts, edges = np.histogram(ak.to_numpy(trijet_masses(ttbar)), np.arange(50, 551, 20))
    peak = edges[np.argmax(counts)]
    assert 140 <= peak <= 180  # the published peak lies in the bins 150-190
    inside = counts[(edges[:-1] >= 150) & (edges[:-1] < 190)].mean()
    beside = counts[(edges[:-1] >= 230) & (edges[:-1] < 310)].mean()
    assert inside > 2 * beside  # published 0.138 against 0.056

    flat = wjets | {"Jet_btagCSVV2": ak.ones_like(wjets["Jet_btagCSVV2"])}
    masses = ak.to_numpy(trijet_masses(flat))
    background = np.histogram(masses, np.arange(50, 551, 20))[0]
    inside = background[5:7].mean()
    beside = background[9:13].mean()
    assert inside < 2 * beside


def test_w_mass_is_a_peak(ttbar: dict[str, Any]) -> None:
    jet, one, two = selected(ttbar)
    jet = jet[(one | two)]
    jet = jet[jet.btagCSVV2 < 0.5]
    first, second = ak.unzip(ak.combinations(jet[ak.num(jet) == 2], 2))
    counts, edges = np.histogram(
        ak.to_numpy(ak.flatten((first + second).mass)), np.arange(0, 201, 10)
    )
    assert 60 <= edges[np.argmax(counts)] <= 90
    assert counts[7:9].mean() > 2 * counts[12:16].mean()


def test_like_real_ttbar(ttbar: dict[str, Any], shared_data: Path) -> None:
    with uproot.open(shared_data / "real" / "NanoAODv5_TTJets_1000.root") as file:
        real = {name: file["Events"][name].array() for name in SLIM_BRANCHES}

    def central(columns: Mapping[str, Any]) -> Any:
        jet = collection(columns, "Jet")
        return jet[(jet.pt > 30) & (abs(jet.eta) < 2.4)]

    def flat(values: Any) -> Any:
        return ak.to_numpy(ak.flatten(values, axis=None)).astype(float)

    quantities: dict[str, tuple[Any, list[float]]] = {
        "nJet": (lambda c: c["nJet"], [0, 5, 7, 8, 9, 10, 11, 13, 40]),
        "central jets": (lambda c: ak.num(central(c)), [0, 2, 3, 4, 5, 6, 7, 30]),
        "b jets": (lambda c: ak.sum(central(c).btagCSVV2 > 0.5, axis=1), [0, 1, 2, 3, 20]),
        "nElectron": (lambda c: c["nElectron"], [0, 1, 2, 3, 20]),
        "nMuon": (lambda c: c["nMuon"], [0, 1, 2, 3, 20]),
        "jet pt": (lambda c: c["Jet_pt"], [15, 20, 30, 50, 80, 120, 200, 2000]),
        "jet eta": (lambda c: abs(c["Jet_eta"]), [0, 1, 2, 2.4, 3.2, 6]),
        "jet mass": (lambda c: c["Jet_mass"], [0, 4, 6, 8, 12, 20, 500]),
        "b-tag": (lambda c: central(c).btagCSVV2, [-11, -1, 0.2, 0.5, 0.8, 0.95, 1.1]),
        "HT": (lambda c: ak.sum(central(c).pt, axis=1), [0, 150, 250, 350, 450, 600, 9999]),
        "electron pt": (lambda c: c["Electron_pt"], [0, 7, 10, 15, 20, 30, 60, 999]),
        "muon pt": (lambda c: c["Muon_pt"], [0, 5, 10, 20, 30, 60, 999]),
        "muon isolation": (lambda c: c["Muon_pfRelIso04_all"], [0, 0.15, 1, 5, 99]),
        "electron sip3d": (lambda c: c["Electron_sip3d"], [0, 1, 2, 4, 16, 9999]),
        "muon sip3d": (lambda c: c["Muon_sip3d"], [0, 1, 2, 4, 16, 9999]),
        "MET": (lambda c: c["MET_pt"], [0, 20, 40, 60, 80, 120, 999]),
    }
    for name, (quantity, edges) in quantities.items():
        seen = np.histogram(flat(quantity(real)), edges)[0] / len(real["nJet"])
        made = np.histogram(flat(quantity(ttbar)), edges)[0] / len(ttbar["nJet"])
        # Three deviations of 1000 events and a quarter of the value.
        tolerance = 3 * np.sqrt(seen / len(real["nJet"])) + 0.25 * seen + 0.003
        assert np.all(np.abs(made - seen) < tolerance), (name, seen, made)
        assert made.sum() == pytest.approx(seen.sum(), rel=0.1), name
