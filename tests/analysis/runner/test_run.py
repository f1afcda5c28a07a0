"""What a run is told when files change or code fails, and what tracing leaves alone."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import coffea.util
import hist
import numpy as np
import pytest
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, ProcessorABC

from analysis.errors import ChangedError, InputError, ProcessorError, UnreadableError
from analysis.runner.merging import conflict
from tests.support.cli import analysis
from tests.support.faults import damage
from tests.support.jobs import inspected, run


@pytest.fixture
def files(synthetic: Path, tmp_path: Path) -> list[Path]:
    """Copies of two files, to replace and spoil."""
    return [Path(shutil.copy(one, tmp_path)) for one in sorted(synthetic.glob("ttbar__*"))[:2]]


def process(paths: list[Path], processor: Any, chunksize: int = 10_000, **options: Any) -> Any:
    fileset = {"größe\t1": {"files": list(map(str, paths)), "metadata": {"isData": True}}}
    executor = IterativeExecutor(status=False, retries=options.pop("retries", 0))
    return run(fileset, processor, executor, chunksize=chunksize, **options)


def count(events: Any) -> dict[str, int]:
    return {events.metadata["dataset"]: len(events)}


def test_names_of_any_kind(files: list[Path]) -> None:
    result = process(files, count)
    assert result.accumulated == {"größe\t1": result.events}
    assert result.repeated == 0


# --- files that change


class Changes(NamedTuple):
    """Does something to the second file while the first is processed."""

    kind: str
    first: Path
    second: Path
    other: Path

    def __call__(self, events: Any) -> dict[str, int]:
        if events.metadata["filename"] == str(self.first):
            if self.kind == "replaced":
                self.other.replace(self.second)
            elif self.kind == "touched":
                os.utime(self.second, (1, 1))
            elif self.kind == "rewritten":
                self.second.write_bytes(self.other.read_bytes())
            else:
                self.second.unlink()
        return {"events": len(events)}


@pytest.mark.parametrize("kind", ["replaced", "rewritten", "touched", "gone"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_file_that_changes_during_the_run(
    files: list[Path], synthetic: Path, tmp_path: Path, kind: str, *, skip: bool
) -> None:
    """Whatever took its place has as many events, and would be mixed in without a word."""
    other = Path(shutil.copy(max(synthetic.glob("ttbar__*")), tmp_path / "other"))
    changes = Changes(kind, files[0], files[1], other)
    said = "is gone, or a worker on" if kind == "gone" else "was replaced or written to"
    with pytest.raises(ChangedError, match=f"{files[1].name} {said}"):
        process(files, changes, skip_bad_files=skip, retries=2)


def test_another_file_of_the_same_stamp_is_told_by_its_uuid(files: list[Path]) -> None:
    """As on a worker whose path leads elsewhere, or by a server, which gives no stamp."""
    from dataclasses import replace

    looked = inspected({"d": [str(files[0])]}, count)
    wrong = replace(looked, files=(replace(looked.files[0], uuid=bytes(16)),))
    executor = IterativeExecutor(status=False)
    with pytest.raises(ChangedError):
        wrong.run(executor)
    assert looked.run(executor).events == looked.events


# --- whose fault it is


def opens(name: str) -> Any:
    with open(name) as file:  # noqa: PTH123
        return file.read()


def raises(error: Exception) -> Any:
    raise error


def reads_other(path: str) -> Any:
    import uproot

    return uproot.open(path)


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (lambda: opens("corrections/sf.json"), "FileNotFoundError"),
        (lambda: raises(OSError(28, "No space left on device")), "No space left"),
        (lambda: raises(KeyError("pt")), "KeyError: 'pt'"),
        (lambda: reads_other("corrections.root"), "corrections.root"),
        (lambda: raises(ValueError()), "ValueError"),
    ],
)
def test_errors_of_the_users_code_end_the_run(files: list[Path], fails: Any, words: str) -> None:
    """Files that can be read are never blamed, nor left out."""

    def processor(events: Any) -> dict[str, int]:
        if events.metadata["filename"] == str(files[1]):
            fails()
        return {"events": len(events)}

    with pytest.raises(ProcessorError) as caught:
        process(files, processor, skip_bad_files=True)
    said = str(caught.value)
    assert said.startswith(f"{files[1]}: events 0 to ")
    assert words in said
    assert "test_run.py, line " in said
    assert "Traceback" in caught.value.details
    assert "\n" not in said


def jets(events: Any) -> dict[str, float]:
    return {"pt": float(ak.sum(events.Jet.pt)), "events": len(events)}


def test_a_damaged_file_is_left_out_whoever_reads_it(files: list[Path]) -> None:
    """Columns are read when the processor first uses them, in its own code."""
    damage(files[1])
    with pytest.raises(UnreadableError, match="could not be read, fetch it again"):
        process(files, jets)
    result = process(files, jets, skip_bad_files=True)
    assert [chunk.path for chunk in result.skipped] == [str(files[1])]


def leaves(events: Any) -> Any:  # noqa: ARG001
    sys.exit(3)


def test_a_processor_that_exits_does_not_end_the_client(files: list[Path]) -> None:
    with pytest.raises(ProcessorError, match=r"events 0 to .* SystemExit: 3 \(test_run.py, line"):
        process(files, leaves)


class Schema(NanoAODSchema):
    """A schema of a user that fails."""

    def __init__(self, base_form: Any, version: str = "latest") -> None:  # noqa: ARG002
        msg = "no such collection"
        raise KeyError(msg)


def test_a_schema_that_fails_is_no_damaged_file(files: list[Path]) -> None:
    with pytest.raises(ProcessorError, match="KeyError: 'no such collection'"):
        process(files, count, schema=Schema, skip_bad_files=True)


class Holds(ProcessorABC):
    """A processor that cannot be sent."""

    def __init__(self) -> None:
        self.cuts = {"pt": 30}
        self.guard = threading.Lock()

    def process(self, events: Any) -> dict[str, int]:
        return {"events": len(events)}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


def test_what_cannot_be_sent_is_named(files: list[Path]) -> None:
    with pytest.raises(InputError, match=r"cannot be sent .* attribute guard \(lock\)"):
        process(files, Holds())


# --- merging


def growing(events: Any) -> dict[str, Any]:
    bins = 2 if events.metadata["entrystart"] else 3
    return {"jets": {"pt": hist.Hist.new.Reg(bins, 0, 1).Int64()}, "events": len(events)}


def test_what_cannot_be_merged_names_its_entry(files: list[Path]) -> None:
    with pytest.raises(InputError, match=r"cannot be merged at jets\.pt, .* axes not merg"):
        process(files, growing, chunksize=500)


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({"a": 1}, {"a": 2, "b": None}, None),
        ({"a": {"b": 1}}, {"a": {"b": None}}, ("a", "b")),
        ({"a": [1], "b": {1}}, {"a": [2], "b": [1]}, ("b",)),
        ({"a": np.ones(2)}, {"a": np.ones(3)}, ("a",)),
        ({"a": defaultdict(int)}, {"a": 1}, ("a",)),
        (1, "a", ()),
    ],
)
def test_conflict(one: Any, other: Any, where: Any) -> None:
    assert conflict(one, other) == where


# --- tracing


class KeepsAHistogram(ProcessorABC):
    """Fills a histogram of its own, and fails on no events as much as real ones do."""

    def __init__(self) -> None:
        self.met = hist.Hist.new.Reg(5, 0, 1000).Int64()

    def process(self, events: Any) -> Any:
        met = np.asarray(events.MET.pt)
        np.max(met)
        self.met.fill(met)
        return {"met": self.met}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


def test_tracing_adds_no_events(shared_data: Path) -> None:
    path = shared_data / "real" / "nano_dy.root"
    plain, traced = (process([path], KeepsAHistogram(), trace=trace) for trace in (False, True))
    assert traced.accumulated == plain.accumulated
    assert plain.accumulated["met"].sum(flow=True) == plain.events
    assert "MET_pt" in traced.traced["größe\t1"].branches


def asks_metadata(events: Any) -> dict[str, float]:
    return jets(events) if events.metadata["isData"] else {}


def stops(events: Any) -> dict[str, Any]:
    found = jets(events)
    if len(events) < 2:
        msg = "too few"
        raise ValueError(msg)
    return found | {"eta": float(ak.sum(events.Jet.eta))}


def test_tracing_knows_the_metadata_and_says_when_it_failed(files: list[Path]) -> None:
    result = process(files, asks_metadata, trace=True)
    assert "Jet_pt" in result.traced["größe\t1"].branches
    assert not result.traced["größe\t1"].failure
    result = process(files, stops, trace=True)
    assert result.traced["größe\t1"].branches >= {"Jet_pt"}
    assert "too few" in result.traced["größe\t1"].failure
    assert result.accumulated == process(files, stops).accumulated


# --- on the command line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--processor", "tests.support.faults:Plain", "--map", "a=b"),
            "--processor takes no --map",
        ),
        (("--processor", "tests.support.faults:Plain", "--variations", "all"), "no --variations"),
        (
            ("--processor", "tests.support.faults:Plain", "--implementation", "compiled"),
            "no --impl",
        ),
        (("--schema", "BaseSchema"), "--schema is of a processor of your own"),
        (("--trace",), "--trace is of a processor of your own"),
        (("--processor", "faulty.py:Plain"), "by its module, not its file: faulty:Plain"),
        (("--processor", "tests.support.faults:Plain", "-o", "out.json"), "name it out.coffea"),
        (("-o", "."), "is a folder"),
        (("-o", "none/out.json"), "there is no folder"),
    ],
)
def test_what_would_be_ignored_or_lost_is_said_before(
    synthetic: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = () if "-o" in options else ("-o", "out.coffea")
    outcome = analysis("run", synthetic / "fileset.json", *options, *where)
    assert outcome.exit_code == 2
    assert words in outcome.error
    assert len(outcome.error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_prints_of_a_processor_are_seen_and_tracebacks_on_demand(
    synthetic: Path, tmp_path: Path
) -> None:
    common = ("run", synthetic / "fileset.json", "-o", tmp_path / "out.coffea")
    loud = analysis(*common, "--processor", "tests.analysis.runner.test_run:loud")
    assert "here is one" in loud.output
    assert "Processing" not in loud.output
    short, long = (
        analysis(*common, "--processor", "tests.analysis.runner.test_run:fails", *more)
        for more in ((), ("--traceback",))
    )
    assert len(short.error.splitlines()) == 1
    assert "Traceback" in long.error
    assert long.error.splitlines()[-1] == short.error.splitlines()[0]


def test_what_a_recoverable_executor_had_is_kept(synthetic: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.coffea"
    options = ("--processor", "tests.support.faults:Raises", "--option", "recoverable=true")
    more = ("--option", "retries=0", "--chunksize", 1000)
    outcome = analysis("run", synthetic / "fileset.json", "-o", output, *options, *more)
    assert outcome.exit_code == 2
    assert "jets out of order" in outcome.error
    kept = coffea.util.load(f"{output}.partial.coffea")
    assert kept["pt"].sum(flow=True) > 0
    assert sum(kept["events"].values()) > 0
    assert not output.exists()


def loud(events: Any) -> dict[str, int]:
    print("here is one")  # noqa: T201
    return {"events": len(events)}


def fails(events: Any) -> dict[str, int]:
    return {"events": len(events) // 0}


@pytest.mark.parametrize(
    ("branches", "words"),
    [
        ("Jet_pt, Yet_pt", "there is no branch Yet_pt (none of its branches looks like it)"),
        (
            "Jet_btagDeepB",
            "there is no branch Jet_btagDeepB (one of Jet_btagCSVV2 could be meant)",
        ),
    ],
)
def test_branches_that_files_do_not_have(
    synthetic: Path, tmp_path: Path, branches: str, words: str
) -> None:
    """There is no --map for a processor of the user's: another branch is to be named."""
    how = ("--processor", "tests.support.faults:Plain", "--branches", branches)
    outcome = analysis("run", synthetic / "fileset.json", *how, "-o", tmp_path / "out.coffea")
    assert outcome.exit_code == 2
    assert f"{words}: correct --branches" in outcome.error
    assert "--map" not in outcome.error
    assert len(outcome.error.splitlines()) == 1
