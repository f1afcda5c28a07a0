"""What is kept: whole, compact, the same however often, and never less than before."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import InputError
from analysis.files import output
from perf.publish.series import series
from perf.records import from_compare, keep, record_file, store
from perf.records.compressed import decompressed
from tests.support import cli
from tests.support.factories import compare_report, record

if TYPE_CHECKING:
    from perf.records.record_file import Record

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without measurements."""
    (tmp_path / "perf").mkdir()
    (tmp_path / ".perf/compare").mkdir(parents=True)
    return tmp_path


def made(run: str = "one", hours: float = 0, machine: str = "vm", **changes: Any) -> Record:
    """A record of a run at a time on a machine."""
    one = record(run=run, timestamp=NOW + timedelta(hours=hours), **changes)
    return one.model_copy(update={"machine": one.machine.model_copy(update={"name": machine})})


def measure(project: Path, *records: Record, file: str = "records") -> None:
    for one in records:
        record_file.append(project / f".perf/{file}.jsonl", one)


def kept(project: Path, file: str = "bench") -> list[Record]:
    return record_file.read(project / f"perf/kept/{file}.jsonl.gz")


def contents(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project / "perf/kept").iterdir()}


def every_kind() -> list[Record]:
    """A record of each tool."""
    return [
        made(),
        made(name="claim-opening"),
        made(name="scale-ttbar-dask2", kind="processor"),
        made(name="scheduler-load-10", kind="executor"),
        made(name="hosts-dask-near", kind="executor"),
        made(name="limit-zstd-nominal-workers-read", kind="limit"),
        made(name="history-ht", parameters={"stack": "", "campaign": "c"}),
        made(name="history-ht", parameters={"stack": "pins/2026.9.0.txt", "campaign": "d"}),
    ]


def test_each_tool_has_a_file_and_all_are_read(project: Path) -> None:
    measure(project, *every_kind())
    report = project / ".perf/compare/any name.json"
    report.write_text(json.dumps(compare_report("2026.9.0")))
    before = store.collect(project), store.comparisons(project)
    keep.keep(project)
    comparison = from_compare.identity(from_compare.report(report))
    assert comparison.startswith("compare-2025.12.0-2026.9.0-made-up-")
    assert set(contents(project)) == {
        "bench.jsonl.gz",
        "claims.jsonl.gz",
        "scale.jsonl.gz",
        "hosts.jsonl.gz",
        "limits.jsonl.gz",
        "history-releases.jsonl.gz",
        "history-2026.9.0.jsonl.gz",
        f"{comparison}.json.gz",
    }
    # Beside what was measured, nothing is there twice; without it, all is.
    assert len(store.collect(project)) == len(before[0])
    assert store.comparisons(project) == before[1]
    shutil.rmtree(project / ".perf")
    assert sorted(one.what.name for one in store.collect(project)) == sorted(
        one.what.name for one in before[0]
    )
    assert store.comparisons(project) == before[1]


def test_the_same_is_kept_as_the_same_bytes_in_whatever_steps(project: Path) -> None:
    first, second = every_kind(), [made(run="two", hours=1), made(name="ht-1e3-compiled")]
    measure(project, *first)
    assert keep.keep(project)
    measure(project, *second)
    assert [path.name for path in keep.keep(project)] == ["bench.jsonl.gz"]
    assert keep.keep(project) == []
    stepwise = contents(project)
    shutil.rmtree(project / "perf/kept")
    shutil.rmtree(project / ".perf")
    measure(project, *reversed([*first, *second]))
    keep.keep(project)
    assert contents(project) == stepwise


def test_the_newest_run_replaces_the_older_one_of_the_same_point(project: Path) -> None:
    other = {"python": "3.11", "coffea": "2026.5.0"}
    measure(
        project,
        made(run="new", hours=2),
        made(run="new", hours=3),
        made(run="old", hours=1),
        made(run="elsewhere", machine="another"),
        made(run="before", versions=other),
        made(run="not again", name="met"),
    )
    keep.keep(project)
    runs = [one.run for one in kept(project)]
    assert sorted(runs) == ["before", "elsewhere", "new", "new", "not again"]
    # An older one that turns up later changes nothing.
    measure(project, made(run="oldest", hours=-1), file="others")
    assert keep.keep(project) == []


def test_a_campaign_replaces_one_and_file_sets_stand_beside_each_other(project: Path) -> None:
    def scaled(campaign: str, hours: int, digest: str, code: str = "a") -> Record:
        return made(
            hours=hours,
            name="scale-ttbar-dask2",
            kind="processor",
            parameters={"campaign": campaign, "code": code, "round": hours, "options": "{}"},
            input=record_file.Input(digest=digest, events=1000, source="/home/me/fileset.json"),
        )

    measure(
        project,
        scaled("c", 1, "one file set"),
        scaled("c", 2, "one file set", code="b"),
        scaled("c", 3, "one file set", code="b"),
        scaled("d", 1, "another"),
    )
    keep.keep(project)
    found = kept(project, "scale")
    assert [(one.input.digest, one.what.parameters["round"]) for one in found] == [
        ("another", 1),
        ("one file set", 2),
        ("one file set", 3),
    ]
    assert {one.input.source for one in found} == {"fileset.json"}


def test_a_claim_that_is_measured_alone_leaves_the_others(project: Path) -> None:
    def claimed(claim: str, run: str, hours: int) -> Record:
        found = record_file.Claimed(
            claim=claim,
            sense="at most",
            bound=1.1,
            value=1.0,
            low=0.9,
            high=1.05,
            unit="ratio",
            verdict="holds",
        )
        return made(run=run, hours=hours, name="claim-executor-dask", claims=(found,))

    first = [claimed("dask over iterative", "all", 1), claimed("dask without batches", "all", 2)]
    measure(project, *first, claimed("dask over iterative", "alone", 3))
    keep.keep(project)
    found = [(one.run, one.claims[0].claim) for one in kept(project, "claims")]
    assert found == [("all", "dask without batches"), ("alone", "dask over iterative")]


def test_memory_of_a_process_that_others_used_is_not_kept(project: Path) -> None:
    measure(project, made(), made(name="history-import", kind="import", parameters={"stack": ""}))
    keep.keep(project)
    assert [one.peak_memory for one in kept(project)] == [None]
    assert [one.peak_memory for one in kept(project, "history-releases")] == [10**8]
    # What is published is the same without it.
    assert series(store.collect(project)).keys() == series(kept(project)).keys() | {
        "import.ht.cpu_seconds_per_event",
        "import.ht.peak_memory_bytes",
        "import.ht.wall_seconds_per_event",
    }


def test_of_comparisons_the_newest_counts_on_each_machine(project: Path) -> None:
    def compared(file: str, hours: int, **changes: Any) -> None:
        report = compare_report("2026.9.0") | {"ended": (NOW + timedelta(hours=hours)).isoformat()}
        report["machine"] |= changes
        (project / f".perf/compare/{file}.json").write_text(json.dumps(report))

    compared("a", 2)
    compared("b", 1)
    compared("c", 0, cpu="another")
    keep.keep(project)
    shutil.rmtree(project / ".perf")
    ends = [report["ended"][11:13] for report in store.comparisons(project)]
    assert ends == ["12", "14"]
    # An older one does not replace a newer one that is kept.
    (project / ".perf/compare").mkdir(parents=True)
    compared("b", 1)
    assert keep.keep(project) == []


def test_folders_of_this_machine_are_not_kept(project: Path) -> None:
    where = "/home/me/coffea"
    changes = {"installed": {"coffea": "2026.9.1.dev1"}, "variables": {"PYTHONPATH": where}}
    report = compare_report(f"changed@{where}", **changes)
    (project / ".perf/compare/one.json").write_text(json.dumps(report))
    keep.keep(project)
    (path,) = store.kept(project)
    assert b"/home/me" not in gzip.decompress(path.read_bytes())
    assert "coffea" in path.name


def test_too_much_is_refused_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(project, made())
    keep.keep(project)
    before = contents(project)
    monkeypatch.setattr(keep, "LIMIT", sum(map(len, before.values())) + 10)
    measure(project, made(run="two", hours=1), made(name="claim-new"))
    code, _, error = cli.perf("keep", "--root", project)
    assert (code, error.count("\n")) == (2, 1)
    assert "and may have 0: remove what nobody needs" in error
    assert contents(project) == before


@pytest.mark.parametrize("steps", range(5))
def test_what_is_interrupted_loses_nothing_and_is_completed_by_the_next(
    project: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    measure(project, *every_kind())
    record_file.notes_path(project / ".perf/records.jsonl").write_text('{"c": {}, "d": {}}')
    keep.keep(project)
    measure(project, *[one.model_copy(update={"run": "two"}) for one in every_kind()])
    measure(project, made(hours=1, run="three", name="claim-opening"))
    old, whole, left = contents(project), output.whole, iter(range(steps))

    def interrupted(path: Path) -> Any:
        if next(left, None) is None:
            (path.parent / f".{path.name}.torn").mkdir()
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(output, "whole", interrupted)
    try:
        keep.keep(project)
    except KeyboardInterrupt:
        read = [record_file.parse(path) for path in store.kept(project)]
        assert all(records and not bad for records, bad in read)
    monkeypatch.undo()
    keep.keep(project)
    done = contents(project)
    assert done.keys() == old.keys()
    shutil.rmtree(project / "perf/kept")
    keep.keep(project)
    assert contents(project) == done


def test_a_bad_line_is_named_and_the_rest_is_kept(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure(project, made(), made(name="after"))
    path = project / ".perf/records.jsonl"
    first, second = path.read_text().splitlines(keepends=True)
    path.write_text(first + "torn\n" + second)
    (project / ".perf/compare/torn.json").write_text("{")
    keep.keep(project)
    assert len(kept(project)) == 2
    assert {one.partition(":")[0] for one in caplog.messages} == {"left out"}
    assert any("records.jsonl: line 2 is not JSON" in one for one in caplog.messages)
    assert any("torn.json is not a report" in one for one in caplog.messages)
    # Who names a file wants it.
    with pytest.raises(InputError, match="is not a report"):
        keep.keep(project, [project / ".perf/compare/torn.json"])


def test_of_a_file_that_is_cut_off_the_beginning_is_read_and_nothing_is_replaced(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure(project, *(made(name=f"of {number}", hours=number) for number in range(50)))
    keep.keep(project)
    path = project / "perf/kept/bench.jsonl.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = kept(project)
    assert [one.what.name for one in found] == [f"of {number}" for number in range(len(found))]
    assert 0 < len(found) < 50
    (sentence,) = caplog.messages
    assert sentence == f"left out: {path}: the file is cut off after line {len(found)}"
    shutil.rmtree(project / ".perf")
    measure(project, made())
    with pytest.raises(InputError, match=r"is damaged, the file is cut off .*`git restore"):
        keep.keep(project)
    # What is changed anywhere else cannot be trusted anywhere.
    path.write_bytes(whole[:-8] + b"\0" * 8)
    with pytest.raises(InputError, match="cannot be read"):
        kept(project)


def test_an_empty_project_and_one_without_the_folder_are_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.collect(project) == []
    assert store.comparisons(project) == []
    code, _, error = cli.perf("keep", "--root", project)
    assert (code, error.count("\n")) == (2, 1)
    assert "there is nothing to keep: measure something" in error
    monkeypatch.chdir(project)
    code, _, error = cli.perf("keep")
    assert (code, error.count("\n")) == (2, 1)
    assert "no clone of this project" in error


def test_other_files_are_kept_with_those_of_the_project(project: Path, tmp_path: Path) -> None:
    measure(project, made())
    record_file.append(tmp_path / "other.jsonl", made(machine="many cores"))
    code, said, _ = cli.perf("keep", "--root", project, tmp_path / "other.jsonl")
    assert code == 0
    assert str(project / "perf/kept/bench.jsonl.gz") in said.replace("\n", "")
    assert {one.machine.name for one in kept(project)} == {"vm", "many cores"}
    assert cli.perf("keep", "--root", project).output == "all was kept already\n"


def test_what_came_with_the_suite_is_as_keep_would_write_it(project: Path) -> None:
    (path,) = store.kept(pattern="history-2026.9.0.jsonl.gz")
    (project / ".perf/history.jsonl").write_bytes(decompressed(path)[0])
    keep.keep(project)
    assert kept(project, "history-2026.9.0") == record_file.read(path)


def test_what_came_with_the_suite_has_room_and_no_paths_of_a_machine() -> None:
    files = store.kept()
    assert sum(path.stat().st_size for path in files) <= keep.LIMIT
    for path in files:
        content, ends = decompressed(path)
        assert ends
        assert re.findall(rb'"(?:/[\w.-]+){2,}', content) == [], path
