"""What is wrong with the input is said in one sentence: no traceback, no partial output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot

from analysis.files.columns import missing_branches, substitutes
from analysis.files.fileset import read_fileset
from tests.support.cli import Outcome, analysis
from tests.support.faults import damage

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def source(synthetic: Path, tmp_path: Path) -> Path:
    """A copy of one synthetic ttbar file, to spoil."""
    original = min(synthetic.glob("ttbar__nominal*.root"))
    return Path(shutil.copy(original, tmp_path / "events.root"))


def run_on(source: Path, tree: str = "Events", *options: Any) -> Outcome:
    """Run the analysis on one file; afterwards nothing lies beside it but the file set."""
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}
    fileset = source.parent / "fileset.json"
    fileset.write_text(json.dumps({"one": {"files": {str(source): tree}, "metadata": metadata}}))
    before = sorted(source.parent.iterdir())
    result = analysis("run", fileset, "--output", source.parent / "out.json", *options)
    if result.exit_code:
        assert sorted(source.parent.iterdir()) == before, "partial output was left behind"
    return result


def assert_one_sentence(result: Outcome, *words: str) -> None:
    """Non-zero exit, and one line of error that holds these words."""
    assert result.exit_code == 2, (result.output, result.error)
    lines = result.error.strip().splitlines()
    assert len(lines) == 1, result.error
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output + result.error
    for word in words:
        assert word in lines[0]


def test_the_file_itself_is_good(source: Path) -> None:
    assert run_on(source).exit_code == 0


def test_missing_file(source: Path) -> None:
    missing = source.with_name("other.root")
    assert_one_sentence(run_on(missing), str(missing), "no such file", "correct the path")


@pytest.mark.parametrize("share", [0.999, 0.6, 0.01, 0.0])
def test_truncated_file(source: Path, share: float) -> None:
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    assert_one_sentence(run_on(source), str(source), "fetch it again or leave it out")


def test_not_a_root_file(source: Path) -> None:
    source.write_text("<html>404 Not Found</html>" * 100)
    assert_one_sentence(run_on(source), str(source), "cannot be read")


def test_empty_tree(source: Path) -> None:
    empty_copy(source)
    assert_one_sentence(run_on(source), str(source), "Events has no events", "--allow-empty")


def test_empty_tree_allowed(source: Path) -> None:
    other = Path(shutil.copy(source, source.with_name("empty.root")))
    empty_copy(other)
    fileset = source.parent / "fileset.json"
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}
    results = []
    for files in ([source], [source, other], [other]):
        entry = {"files": {str(path): "Events" for path in files}, "metadata": metadata}
        fileset.write_text(json.dumps({"one": entry}))
        output = source.parent / "out.json"
        results.append(analysis("run", fileset, "-o", output, "--allow-empty"))
        if results[-1].exit_code == 0:
            histograms = json.loads(output.read_text())["histograms"]
    alone, beside, empty = results
    assert alone.exit_code == beside.exit_code == 0, beside.error
    assert alone.output.splitlines()[:-1] == beside.output.splitlines()[:-1]
    assert sum(histograms["4j2b_ttbar"]["values"]) > 0
    # A sample of no events has nothing to scale its cross section to.
    assert_one_sentence(empty, "ttbar__nominal has no events to normalise to")


def empty_copy(path: Path) -> None:
    """Replace a file by one of the same branches without events."""
    with uproot.open(f"{path}:Events") as tree:
        arrays = tree.arrays(filter_name=lambda name: not name.startswith("n"))
    groups: dict[str, Any] = {}
    for name in arrays.fields:
        groups[name] = arrays[name][:0].type.content
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: f"{kind}" for name, kind in groups.items()})


def test_wrong_tree_name(source: Path) -> None:
    assert_one_sentence(run_on(source, "Event"), "no tree Event", "it has Events")


def test_missing_branch_names_substitutes(shared_data: Path, tmp_path: Path) -> None:
    """NanoAOD of another generation: which branch is missing, which could serve, and how."""
    source = Path(shutil.copy(shared_data / "real" / "nano_tt_v15.root", tmp_path / "v15.root"))
    result = run_on(source)
    assert_one_sentence(
        result, "no branch Jet_btagCSVV2", "Jet_btagDeepFlavB", "--map", "no branch Jet_jetId"
    )


def test_another_branch_in_its_place(shared_data: Path, tmp_path: Path) -> None:
    original = shared_data / "real" / "NanoAODv5_TTJets_1000.root"
    source = Path(shutil.copy(original, tmp_path / "events.root"))
    counts = []
    for options in ((), ("--map", "Jet_btagCSVV2=Jet_btagDeepB")):
        mapped = run_on(source, "Events", *options)
        assert mapped.exit_code == 0, mapped.error
        written = json.loads((tmp_path / "out.json").read_text())
        counts.append(written["cutflow"]["ttbar"]["nominal"]["nominal"])
    assert counts[0]["four_jets"] == counts[1]["four_jets"]
    assert counts[0]["4j2b"] != counts[1]["4j2b"]
    assert written["provenance"]["replacements"] == {"Jet_btagCSVV2": "Jet_btagDeepB"}


def test_missing_met_names_substitutes(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "real" / "nano_tt_v15.root"
    output = tmp_path / "adl.json"
    mapping = ("--map", "Jet_btag=Jet_btagDeepFlavB")
    result = analysis("adl", source, "-o", output, *mapping)
    assert_one_sentence(result, "no branch MET_p", "PFMET_p", "PuppiMET_p")
    assert not output.exists()
    met = ("--map", "MET_pt=PuppiMET_pt", "--map", "MET_phi=PuppiMET_phi")
    result = analysis("adl", source, "-o", output, *mapping, *met)
    assert result.exit_code == 0, result.error
    assert sum(json.loads(output.read_text())["1"]["values"]) == 200


def test_substitutes() -> None:
    branches = ["Jet_btagDeepB", "Jet_pt", "PuppiMET_pt", "MET_phi", "GenMET_pt", "FatJet_btagHbb"]
    assert substitutes("MET_pt", branches) == ["GenMET_pt", "PuppiMET_pt"]
    assert substitutes("Jet_btagCSVV2", branches) == ["Jet_btagDeepB"]
    assert "none of its branches" in missing_branches(["event"], branches)


@pytest.mark.parametrize("chunksize", [0, -5])
def test_chunks_without_events(source: Path, chunksize: int) -> None:
    result = run_on(source, "Events", "--chunksize", chunksize)
    assert_one_sentence(result, f"a chunk cannot have {chunksize} events")


@pytest.mark.parametrize("executor", ["iterative", "futures"])
def test_damage_that_only_reading_finds(source: Path, executor: str) -> None:
    damage(source)
    result = run_on(source, "Events", "--executor", executor)
    assert_one_sentence(result, str(source), "events 0 to", "could not be read")


def test_bad_files_can_be_left_out(synthetic: Path, tmp_path: Path) -> None:
    """What is left is normalised as if what was left out had never been asked for."""
    files = [Path(shutil.copy(one, tmp_path)) for one in sorted(synthetic.glob("ttbar__nominal*"))]
    shutil.copy(files[0], gone := tmp_path / "gone.root")
    damage(files[0])
    gone.write_bytes(gone.read_bytes()[:1000])
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84, "nevts": 600}

    def yields(name: str, paths: list[Path], nevts: float, *options: str) -> Any:
        fileset, output = tmp_path / f"{name}.json", tmp_path / f"{name}-out.json"
        content = {"files": dict.fromkeys(map(str, paths), "Events")}
        fileset.write_text(
            json.dumps({"one": content | {"metadata": metadata | {"nevts": nevts}}})
        )
        outcome = analysis("run", fileset, "--output", output, "--chunksize", 2000, *options)
        return outcome, json.loads(output.read_text()) if output.exists() else None

    good, _ = yields("strict", [*files, gone], 600)
    assert_one_sentence(good, str(gone), "cannot be read")
    lenient, content = yields("lenient", [*files, gone], 600, "--skip-bad-files")
    assert lenient.exit_code == 0, lenient.error
    # A third of the files could not be opened, and half of the events of the others not read.
    _, alone = yields("alone", files[1:], 200)
    assert content["cutflow"] == alone["cutflow"]
    assert content["histograms"] == alone["histograms"]
    first, second = lenient.error.strip().splitlines()
    assert first.startswith(f"left out: {gone}")
    assert second == f"left out: {files[0]}: events 0 to 2000 cannot be read"
    assert content["provenance"]["skipped"] == [f"{files[0]}: events 0 to 2000"]


def test_executors(source: Path) -> None:
    result = run_on(source, "Events", "--executor", "slurm")
    assert_one_sentence(result, "no executor 'slurm'", "iterative, futures")
    result = run_on(source, "Events", "--executor", "iterative", "--workers", 3)
    assert_one_sentence(result, "one worker, not 3")
    result = run_on(source, "Events", "--executor", "futures", "--workers", 0)
    assert_one_sentence(result, "cannot have 0 workers")


def test_output_folder_is_missing(synthetic: Path, tmp_path: Path) -> None:
    output = tmp_path / "none" / "out.json"
    result = analysis("run", synthetic / "fileset.json", "--output", output)
    assert_one_sentence(result, "there is no folder", "make it first")


def test_an_earlier_result_survives_a_failed_run(source: Path) -> None:
    output = source.parent / "out.json"
    assert run_on(source).exit_code == 0
    good = output.read_bytes()
    source.write_bytes(source.read_bytes()[:5000])
    assert_one_sentence(run_on(source), "fetch it again")
    assert output.read_bytes() == good


def no_file(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_file, ("there is no file set", "make-data")),
        (lambda path: path.write_text("{"), ("is not a file set",)),
        (lambda path: path.write_text("{}"), ("names no data set",)),
        (
            lambda path: path.write_text('{"a": {"files": {}}}'),
            ("is not a file set", "in data set a", "no files"),
        ),
        (
            lambda path: path.write_text(
                '{"a": {"files": {"x.root": "Events"}, "metadata": {"process": "p", "xsec": -1}}}'
            ),
            ("in data set a: xsec", "greater than 0"),
        ),
    ],
)
def test_file_set(spoil: Callable[[Path], Any], words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "fileset.json"
    path.touch()
    spoil(path)
    assert_one_sentence(analysis("run", path, "-o", tmp_path / "out.json"), *words)


def test_formats_are_not_mixed(tmp_path: Path) -> None:
    metadata = {"process": "ttbar", "xsec": 1.0}
    path = tmp_path / "fileset.json"
    files = {"a.root": "Events", "b.parquet": "Events"}
    for name in files:
        (tmp_path / name).touch()
    fileset = {"one": {"files": files, "metadata": metadata}}
    path.write_text(json.dumps(fileset))
    assert read_fileset(path)["one"]["metadata"]["variation"] == "nominal"
    outcome = analysis("run", path, "-o", tmp_path / "out.json")
    assert_one_sentence(outcome, "the file set mixes Parquet with ROOT files")


def test_map_option(source: Path) -> None:
    result = run_on(source, "Events", "--map", "Jet_btagCSVV2")
    assert_one_sentence(result, "--map takes BRANCH=OTHER")


def test_nan_in_a_branch_is_no_accident(source: Path) -> None:
    """A NaN fails the selection of its object, and nothing else."""
    with uproot.open(f"{source}:Events") as tree:
        arrays = {
            name: tree[name].array()
            for name in tree.keys(recursive=False)
            if not name.startswith("n")
        }
    pt = arrays["Jet_pt"]
    arrays["Jet_pt"] = ak.where(ak.local_index(pt) == 0, np.float32(np.nan), pt)
    groups = {
        collection: ak.zip(  # one counter for all columns of a collection
            {
                name.partition("_")[2]: values
                for name, values in arrays.items()
                if name.startswith(f"{collection}_")
            }
        )
        for collection in ("Electron", "Muon", "Jet")
    }
    flat = {name: values for name, values in arrays.items() if values.ndim == 1}
    with uproot.recreate(source) as file:
        file.mktree(
            "Events",
            {name: array.type.content for name, array in (flat | groups).items()},
            counter_name=lambda name: f"n{name}",
        )
        file["Events"].extend(flat | groups)
    columnar, compiled = (
        run_on(source, "Events", "--implementation", name) for name in ("columnar", "compiled")
    )
    assert columnar.exit_code == compiled.exit_code == 0, columnar.error + compiled.error
    assert columnar.output.splitlines()[:-1] == compiled.output.splitlines()[:-1]
