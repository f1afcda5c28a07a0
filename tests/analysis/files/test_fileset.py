"""File sets in every form that coffea's tools write and people keep are right, or one sentence."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coffea.dataset_tools.filespec import DataGroupSpec

from analysis.errors import InputError
from analysis.files.fileset import FileSet, ListedFile, read_fileset
from analysis.files.inspection import File, LeftOut, chunks, inspect, processed
from tests.support.cli import analysis

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files a.root and b.root, which is not the working folder."""
    place = tmp_path / "data"
    place.mkdir()
    for name in ("a.root", "b.root"):
        (place / name).touch()
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    return place


def read(folder: Path, content: Any, **options: Any) -> FileSet:
    path = folder / "fileset.json"
    path.write_text(json.dumps(content))
    return read_fileset(path, **{"analysis": False, **options})


PREPROCESSED = {"object_path": "Events", "steps": [[0, 5], [5, 9]], "num_entries": 9, "uuid": "u"}


@pytest.mark.parametrize(
    ("entry", "want"),
    [
        ({"files": {"a.root": "Events"}}, [("a.root", "Events")]),
        ({"files": {"a.root": None}}, [("a.root", "Events")]),
        (["a.root", "b.root"], [("a.root", "Events"), ("b.root", "Events")]),
        ({"files": ["a.root:Runs"]}, [("a.root", "Runs")]),
        ({"files": {"a.root:dir/T": None}}, [("a.root", "dir/T")]),
        ({"files": ["a.root"], "treename": "Runs", "metadata": None}, [("a.root", "Runs")]),
        ({"files": ["*.root:T"]}, [("a.root", "T"), ("b.root", "T")]),
        ({"a.root": "T"}, [("a.root", "T")]),
        (
            {"files": {"a.root": PREPROCESSED}, "form": None, "format": "root"},
            [("a.root", "Events")],
        ),
        ({"files": ["../data/./a.root"]}, [("a.root", "Events")]),
    ],
)
def test_forms(folder: Path, entry: Any, want: list[tuple[str, str]]) -> None:
    fileset = read(folder, {"one": entry})
    files = fileset.datasets["one"].files
    assert [(one.path, one.tree) for one in files] == [(str(folder / p), t) for p, t in want]
    assert fileset["one"]["metadata"] == {}
    assert FileSet.of(dict(fileset)) == FileSet.of(
        {"one": {"files": fileset["one"]["files"], "metadata": {}}}
    )


def test_what_preprocessing_found_is_kept(folder: Path) -> None:
    (one,) = read(folder, {"d": {"files": {"a.root": PREPROCESSED}}}).datasets["d"].files
    assert one == ListedFile(str(folder / "a.root"), "Events", ((0, 9),), 9, "u")


def test_coffeas_own_object_is_taken(folder: Path) -> None:
    group = DataGroupSpec(
        {"d": {"files": {str(folder / "a.root"): PREPROCESSED}, "metadata": {"x": 1}}}
    )
    content = json.loads(group.model_dump_json())
    assert FileSet.of(group) == read(folder, content)
    assert FileSet.of(group)["d"]["metadata"] == {"x": 1}


def test_compressed(folder: Path) -> None:
    path = folder / "fileset.json.gz"
    path.write_bytes(gzip.compress(b'{"d": ["a.root"]}'))
    assert read_fileset(path, analysis=False).datasets["d"].files[0].path == str(folder / "a.root")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is damaged, fetch it again"):
        read_fileset(path)


def test_paths_beside_the_file_set_or_in_the_working_folder(folder: Path) -> None:
    (here := Path("c.root").absolute()).touch()
    assert read(folder, {"d": ["c.root"]}).datasets["d"].files[0].path == str(here)
    Path("a.root").touch()
    with pytest.raises(
        InputError, match=r"a\.root is both .*data/a\.root and .*elsewhere/a\.root"
    ):
        read(folder, {"d": ["a.root"]})


def test_odd_names_are_kept_whole(folder: Path) -> None:
    names = ["TTTo2L2Nu__2018", "tt/2l", "a;1", "t\tt", "größe", "", " "]
    (folder / "größe [1].root").touch()
    fileset = read(folder, {name: ["größe [1].root"] for name in names})
    assert list(fileset) == names
    assert fileset.datasets["a;1"].files[0].path == str(folder / "größe [1].root")


def twice(folder: Path, other: str) -> Any:
    (folder / "link.root").symlink_to(folder / "a.root")
    return {"one": ["a.root", other]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": ["x.root"], "a": ["y.root"]}', "'a' stands twice in one object"),
        ('{"a": {"files": {"x.root": "T", "x.root": "T"}}}', "'x.root' stands twice"),
        ('["x.root"]', "must be an object of data sets by name"),
        ('{"a": "x.root"}', "in data set a: it must be a list of files, or an object"),
        ('{"a": {"files": "x.root"}}', '"files" must be a list or an object'),
        ('{"a": {"file": ["x.root"]}}', 'it has no "files"'),
        ('{"a": {"files": ["x.root"], "meta": {}}}', "'meta' is not known"),
        ('{"a": {"files": ["x.root"], "metadata": {"uuid": 1}}}', "coffea itself says uuid"),
        ('{"a": {"files": {"x.root": 3}}}', "3 is not the name of a tree"),
        ('{"a": {"files": [3]}}', "3 is not the path of a file"),
        ('{"a": {"files": ["none*.root"]}}', "there is no file none*.root"),
        ('{"a": {"files": ["../data"]}}', "is a folder: list its files"),
        ('{"a": {"files": {"x.root": {"object_path": "T", "steps": [[5, 2]]}}}}', "5 to 2 ends"),
        (
            '{"a": {"files": {"x.root": {"object_path": "T", "steps": [[0, 4], [3, 5]]}}}}',
            "step 1",
        ),
        ("[" * 100_000, "nested too deeply"),
        ("\xff", "is not a file set"),
    ],
)
def test_wrong_forms_are_one_sentence(folder: Path, content: str, said: str) -> None:
    path = folder / "fileset.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError) as error:
        read_fileset(path, analysis=False)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("other", ["a.root", "./a.root", "../data/a.root", "link.root", "*.root"])
def test_a_file_listed_twice(folder: Path, other: str) -> None:
    with pytest.raises(InputError, match=r"listed twice.*its events would count twice"):
        read(folder, twice(folder, other))


def test_the_same_file_by_a_hard_link(synthetic: Path, tmp_path: Path) -> None:
    original = min(synthetic.glob("ttbar__nominal*.root"))
    os.link(original, tmp_path / "other.root")
    with pytest.raises(InputError, match="are the same file, whose events would count twice"):
        inspect({"d": [str(original), str(tmp_path / "other.root")]}, [])


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"process": "ttbar"}, 'need a cross section "xsec"'),
        ({"xsec": 1.0}, "process: Field required"),
        ({"process": "ttbar", "xsec": float("nan")}, "xsec"),
        ({"process": "ttbar", "xsec": float("inf")}, "xsec"),
        ({"isData": True, "variation": "scaleup"}, "real data have no variation scaleup"),
    ],
)
def test_metadata_of_the_analysis(folder: Path, metadata: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(folder, {"d": {"files": ["a.root"], "metadata": metadata}}, analysis=True)


def test_real_data_need_no_cross_section(folder: Path) -> None:
    content = {"d": {"files": ["a.root"], "metadata": {"isData": True, "run": 7}}}
    metadata = read(folder, content, analysis=True)["d"]["metadata"]
    assert metadata == {"process": "data", "variation": "nominal", "isData": True, "run": 7}


def test_the_digest_is_of_everything(folder: Path) -> None:
    base = {"d": {"files": {"a.root": PREPROCESSED}, "metadata": {"ptmin": 30}}}
    changed: list[Callable[[Any], Any]] = [
        lambda one: one["d"]["metadata"].update(ptmin=50),
        lambda one: one["d"]["files"]["a.root"].update(steps=[[0, 4]]),
        lambda one: one["d"]["files"]["a.root"].update(object_path="T"),
        lambda one: one.update(e=one.pop("d")),
    ]
    digests = {read(folder, base).digest}
    for change in changed:
        other = json.loads(json.dumps(base))
        change(other)
        digests.add(read(folder, other).digest)
    assert len(digests) == 1 + len(changed)
    assert read(folder, base).digest in digests


# --- what is processed of it


def file(name: str, events: int, steps: Any = None) -> File:
    return File("d", name, "Events", events, b"", ttree=True, steps=steps)


@pytest.mark.parametrize(
    ("files", "left_out", "lost", "want"),
    [
        ([500, 500, 500, 500], [], 0, 2010),
        ([500, 500, 500, 500, 0], [], 0, 2010),
        ([500, 500, 500, 500], [0], 0, 2010),
        ([500, 500, 500, 500], [10], 0, 2000),
        ([500, 500, 500], [None], 0, 2010 * 3 / 4),
        ([500, 1000], [None], 250, 2010 * 1250 / 2250),
        ([100, 700], [200], 0, 2010 * 0.8),
    ],
)
def test_normalised_by_events(
    files: list[int], left_out: list[int | None], lost: int, want: float
) -> None:
    """Never by the number of files: those of no events, or of few, weigh as much as they hold."""
    used = [file(f"/{i}.root", events) for i, events in enumerate(files)]
    reason = InputError("no branch")
    gone = [LeftOut("d", f"/-{i}.root", reason, events) for i, events in enumerate(left_out)]
    listed = [one.path for one in used] + [one.path for one in gone]
    fileset = FileSet.of({"d": {"files": listed, "metadata": {"nevts": 2010}}})
    left = processed(fileset, used, gone, {"d": lost})
    assert left["d"]["metadata"]["nevts"] == pytest.approx(want)
    assert list(left["d"]["files"]) == [one.path for one in used]


def test_steps_are_what_is_processed() -> None:
    files = [file("/a.root", 1000, ((0, 100), (900, 1000))), file("/b.root", 1000)]
    found = [(one.path, start, stop) for one, start, stop in chunks(files, 500)]
    assert found == [
        ("/a.root", 0, 100),
        ("/a.root", 900, 1000),
        ("/b.root", 0, 500),
        ("/b.root", 500, 1000),
    ]
    fileset = FileSet.of({"d": {"files": ["/a.root", "/b.root"], "metadata": {"nevts": 2000}}})
    assert processed(fileset, files)["d"]["metadata"]["nevts"] == 1200


def test_files_without_events_have_no_chunk_beside_others() -> None:
    assert chunks([file("/a.root", 0)], 10) == [(file("/a.root", 0), 0, 0)]
    assert [one.path for one, _, _ in chunks([file("/a.root", 0), file("/b.root", 5)], 10)] == [
        "/b.root"
    ]


# --- on the command line


def sums(path: Path) -> float:
    return float(sum(json.loads(path.read_text())["histograms"]["4j1b_ttbar"]["values"]))


def test_yields_are_the_same_whatever_is_left_out(synthetic: Path, tmp_path: Path) -> None:
    """An empty file, and one that lacks a branch, beside good ones."""
    import uproot

    from tests.analysis.test_bad_input import empty_copy

    good = sorted(map(str, synthetic.glob("ttbar__nominal*.root")))
    total = sum(one.events for one in inspect({"d": good}, []))
    (empty := tmp_path / "empty.root").write_bytes(Path(good[0]).read_bytes())
    empty_copy(empty)
    with uproot.recreate(tmp_path / "none.root") as out:
        out.mktree("Events", {"other": "float32"})
    with uproot.recreate(tmp_path / "few.root") as out:
        out["Events"] = {"MET_pt": [1.0] * 10}
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}
    found = []
    for extra, nevts, option in (
        ([], total, "--allow-empty"),
        (["empty.root"], total, "--allow-empty"),
        (["none.root"], total, "--allow-empty"),
        (["empty.root"], total, "--skip-bad-files"),
        (["few.root"], total + 10, "--skip-bad-files"),
    ):
        files = [*good, *(str(tmp_path / name) for name in extra)]
        content = {"d": {"files": files, "metadata": {**metadata, "nevts": nevts}}}
        (tmp_path / "fileset.json").write_text(json.dumps(content))
        arguments = ("--variations", "nominal", option, "-o", tmp_path / "out.json")
        outcome = analysis("run", tmp_path / "fileset.json", *arguments)
        assert outcome.exit_code == 0, outcome.error
        found.append(sums(tmp_path / "out.json"))
    assert found == pytest.approx([found[0]] * len(found), rel=1e-12)
