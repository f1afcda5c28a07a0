"""Delivered files give what the full files give, to the last bit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import pytest
import uproot

from analysis.delivery import queries
from analysis.delivery.fileset import _titles, deliver_fileset
from analysis.errors import InputError
from analysis.samples import CROSS_SECTIONS
from analysis.synthetic import generate
from tests.conftest import EVENTS
from tests.support.cli import analysis

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.servicex.endpoint import Endpoint

SAMPLES: Final = ("ttbar__nominal", "ttbar__ME_var", "ttbar__PS_var", "wjets__nominal")
SAME: Final = ("cutflow", "histograms", "channels")
REAL: Final = "NanoAODv5_TTJets_1000.root"


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def some(synthetic_fileset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file set of some samples, with pseudodata."""
    chosen = {name: synthetic_fileset[name] for name in SAMPLES}
    return written(tmp_path_factory.mktemp("some") / "fileset.json", chosen)


def run(fileset: Path, output: Path) -> dict[str, Any]:
    """What ``run`` makes of a file set, without what it was made with."""
    result = analysis("run", fileset, "--output", output, "--implementation", "compiled")
    assert result.exit_code == 0, result.error
    content: dict[str, Any] = json.loads(output.read_text())
    return {key: content[key] for key in SAME}


@pytest.fixture(scope="module")
def expected(some: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the full files."""
    return run(some, tmp_path_factory.mktemp("expected") / "out.json")


@pytest.mark.parametrize(
    ("query", "data_format"),
    [
        # Each query and each format once, and the others with `make test-all`.
        *(("uproot-raw", "parquet"), ("uproot-raw", "root-rntuple"), ("func-adl", "root-ttree")),
        pytest.param("uproot-raw", "root-ttree", marks=pytest.mark.slow),
        *(
            pytest.param("func-adl", name, marks=pytest.mark.slow)
            for name in ("parquet", "root-rntuple")
        ),
    ],
)
def test_same_histograms(
    query: str,
    data_format: str,
    some: Path,
    expected: dict[str, Any],
    endpoint: Endpoint,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """All variations, both channels and the whole cutflow."""
    if query == "func-adl":
        request.getfixturevalue("funcadl")
    result = analysis(
        *("deliver", some, "--output", tmp_path, "--query", query, "--format", data_format),
        *("--config", endpoint.config),
    )
    assert result.exit_code == 0, result.error
    assert "ttbar__nominal" in result.output
    got = run(tmp_path / "fileset.json", tmp_path / "out.json")
    assert got == expected
    fileset = json.loads((tmp_path / "fileset.json").read_text())
    for dataset in fileset.values():
        cut = dataset["metadata"]["cut_in_delivery"]
        # Most events are left behind, and none of those that count.
        assert EVENTS // 2 < cut < EVENTS
        assert dataset["metadata"]["nevts"] == EVENTS


def test_a_cut_that_is_not_safe_is_seen(
    some: Path,
    expected: dict[str, Any],
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Four jets above the threshold before they are scaled: what the docstring warns of."""
    safe = queries.uproot_raw

    def unsafe(*arguments: Any) -> Any:
        made = safe(*arguments)
        (one,) = made.query
        jets = "(Jet_pt > 30) & (abs(Jet_eta) < 2.4) & ((Jet_jetId & 4) != 0)"
        cut = f"({one.cut}) & (count_nonzero({jets}, axis=1) >= 4)"
        made.query = [one.model_copy(update={"cut": cut})]
        return made

    monkeypatch.setattr(queries, "uproot_raw", unsafe)
    deliver_fileset(some, tmp_path, config=endpoint.config)
    got = run(tmp_path / "fileset.json", tmp_path / "out.json")
    nominal, scaled = "4j2b_ttbar", "4j2b_ttbar_pt_scale_up"
    assert got["histograms"][nominal] == expected["histograms"][nominal]
    assert got["histograms"][scaled] != expected["histograms"][scaled]
    assert got["cutflow"] != expected["cutflow"]


def fileset_of(path: Path) -> dict[str, Any]:
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": CROSS_SECTIONS["ttbar"]}
    return {"ttbar__nominal": {"files": {str(path): "Events"}, "metadata": metadata}}


def write_events(path: Path, columns: dict[str, Any]) -> None:
    with uproot.recreate(path) as file:
        arrays = {name: ak.Array(column) for name, column in columns.items()}
        tree = file.mktree("Events", {name: one.type.content for name, one in arrays.items()})
        tree.extend(arrays)


def test_leptons_next_to_the_bounds(tmp_path: Path) -> None:
    """In float32 and in double precision 2.1 and 0.15 are not the same bounds.

    With the local endpoint that needs no configuration.
    """
    columns = dict(generate("ttbar", "nominal", 0, 4000, seed=3))
    rng = np.random.default_rng(0)
    bounds = {
        "Electron_pt": 30.0,
        "Electron_eta": 2.1,
        "Electron_sip3d": 4.0,
        "Muon_pt": 30.0,
        "Muon_eta": 2.1,
        "Muon_sip3d": 4.0,
        "Muon_pfRelIso04_all": 0.15,
    }
    for name, bound in bounds.items():
        column = columns[name]
        at = np.float32(bound)
        near = np.array([np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(99))])
        values = ak.to_numpy(ak.flatten(column)).copy()
        chosen = rng.random(len(values)) < 0.4
        signs = rng.choice([-1, 1], chosen.sum()) if name.endswith("_eta") else 1
        values[chosen] = rng.choice(near, chosen.sum()) * signs
        columns[name] = ak.unflatten(values, ak.num(column))
    source = tmp_path / "near.root"
    write_events(source, columns)
    full = written(tmp_path / "full.json", fileset_of(source))
    deliver_fileset(full, tmp_path / "delivered")
    want = run(full, tmp_path / "full_out.json")
    got = run(tmp_path / "delivered" / "fileset.json", tmp_path / "out.json")
    assert got == want
    assert want["cutflow"]["ttbar"]["nominal"]["nominal"]["4j2b"] > 5


@pytest.mark.parametrize("query", ["uproot-raw", pytest.param("func-adl", marks=pytest.mark.slow)])
def test_real_events(
    query: str, shared_data: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if query == "func-adl":
        request.getfixturevalue("funcadl")
    full = written(tmp_path / "full.json", fileset_of(shared_data / "real" / REAL))
    deliver_fileset(full, tmp_path / "delivered", query=query, data_format="root-ttree")
    got = run(tmp_path / "delivered" / "fileset.json", tmp_path / "out.json")
    assert got == run(full, tmp_path / "full_out.json")
    steps = got["cutflow"]["ttbar"]["nominal"]["nominal"]
    assert (steps["all"], steps["one_lepton"]) == (1000, 190)


def test_a_second_time_without_an_endpoint(some: Path, tmp_path: Path) -> None:
    """What is there is not asked for again; and after a change only what changed is."""
    first = deliver_fileset(some, tmp_path)
    (tmp_path / ".servicex" / "endpoint").rename(tmp_path / "moved")
    assert deliver_fileset(some, tmp_path) == first
    assert not (tmp_path / ".servicex" / "endpoint").exists()


@pytest.mark.parametrize("data_format", ["parquet", "root-ttree", "root-rntuple"])
def test_nothing_passes(
    data_format: str, own_files: Path, tmp_path: Path, endpoint: Endpoint
) -> None:
    columns = generate("ttbar", "nominal", 0, 100, seed=3)
    columns["Electron_pt"] = columns["Electron_pt"] * np.float32(0)
    columns["Muon_pt"] = columns["Muon_pt"] * np.float32(0)
    source = own_files / "nothing.root"
    write_events(source, dict(columns))
    fileset = fileset_of(source)
    fileset["ttbar__nominal"]["metadata"]["nevts"] = 100
    full = written(tmp_path / "full.json", fileset)
    deliver_fileset(full, tmp_path / "d", data_format=data_format, config=endpoint.config)
    got = run(tmp_path / "d" / "fileset.json", tmp_path / "out.json")
    assert got == run(full, tmp_path / "full_out.json")
    assert got["cutflow"]["ttbar"]["nominal"]["nominal"]["all"] == 100


def test_no_two_trees_have_one_title() -> None:
    two = {"x": "Events", "y": "Other"}
    fileset = {name: {"files": two} for name in ("a", "b")} | {
        name: {"files": {"z": "Events"}} for name in ("a, Events", "a, Events_", "c")
    }
    titles = _titles(fileset)
    wanted = {(name, tree) for name, one in fileset.items() for tree in one["files"].values()}
    assert set(titles.values()) == wanted
    assert len(titles) == len(wanted)


def test_what_is_there_is_not_replaced(some: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    """Neither the file set that is read nor a folder that happens to have a data set's name."""
    own = tmp_path / "fileset.json"
    own.write_text(some.read_text())
    with pytest.raises(InputError, match="is read for the result and would be replaced"):
        deliver_fileset(own, tmp_path, config=endpoint.config)
    assert own.read_text() == some.read_text()
    kept = tmp_path / "other" / "ttbar__nominal" / "notes"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(InputError, match="is there, and of no earlier delivery"):
        deliver_fileset(some, tmp_path / "other", config=endpoint.config)
    assert kept.exists()


def test_bad_input(some: Path, endpoint: Endpoint, tmp_path: Path) -> None:
    fileset = json.loads(some.read_text())
    del fileset["ttbar__nominal"]["metadata"]["nevts"]
    unknown = written(tmp_path / "unknown.json", fileset)
    with pytest.raises(InputError, match="ttbar__nominal has no nevts in its metadata"):
        deliver_fileset(unknown, tmp_path / "d", config=endpoint.config)
    fileset["ttbar__nominal"]["metadata"]["nevts"] = 3
    few = written(tmp_path / "few.json", fileset)
    with pytest.raises(InputError, match="events were delivered of 3: correct its nevts"):
        deliver_fileset(few, tmp_path / "d", config=endpoint.config)
    assert not (tmp_path / "d" / "fileset.json").exists()
    with pytest.raises(InputError, match="no query sql"):
        deliver_fileset(some, tmp_path / "d", query="sql")
    missing = written(tmp_path / "missing.json", fileset_of(tmp_path / "none.root"))
    with pytest.raises(InputError, match="there is no such file"):
        deliver_fileset(missing, tmp_path / "d")
    result = analysis("deliver", missing, "--output", tmp_path / "d")
    assert result.exit_code == 2
    assert result.error.startswith("error: ")
    assert result.error.count("\n") == 1
