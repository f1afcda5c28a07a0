"""The file of records, whatever happens to it."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import TYPE_CHECKING

import pydantic
import pytest

from analysis.errors import InputError
from perf.records import record_file
from tests.support.factories import record

if TYPE_CHECKING:
    from pathlib import Path

WRITERS, EACH = 3, 40


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    first, second = record(), record(name="ht-1e3-compiled", peak_memory=None, load_before=None)
    record_file.append(path, first)
    record_file.append(path, second)
    assert record_file.read(path) == [first, second]


def test_seconds_an_event_and_rates_are_derived_not_stored(tmp_path: Path) -> None:
    one = record()
    assert one.wall_median == 0.002
    assert one.wall_minimum == 0.001
    assert one.seconds_per_event == 0.002 / 1000
    assert one.cpu_seconds_per_event == 0.001 / 1000
    assert one.events_per_second == pytest.approx(500_000)
    record_file.append(tmp_path / "r", one)
    assert set(json.loads((tmp_path / "r").read_text())) == set(record_file.Record.model_fields)


def test_no_events_no_rate() -> None:
    one = record(input=record_file.Input(digest="", events=0, source="none"), cpu_seconds=())
    assert one.seconds_per_event is None
    assert one.cpu_seconds_per_event is None
    assert one.events_per_second is None


def test_records_are_immutable_and_have_no_unknown_fields() -> None:
    with pytest.raises(pydantic.ValidationError):
        record().run = "another"
    with pytest.raises(pydantic.ValidationError):
        record(unknown=1)
    with pytest.raises(pydantic.ValidationError):
        record(wall_seconds=(float("nan"),))
    with pytest.raises(pydantic.ValidationError):
        record(wall_seconds=(), cpu_seconds=(), peak_memory=None)


@pytest.mark.parametrize("kept", [1, 100, -1])
def test_a_torn_last_line_is_passed_over_and_then_replaced(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "records.jsonl"
    record_file.append(path, record())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: kept if kept > 0 else len(whole) - 1])
    assert record_file.read(path) == [record_file.read(path)[0]]
    record_file.append(path, record(name="after"))
    assert [one.what.name for one in record_file.read(path)] == ["ht-1e3-columnar", "after"]


def test_a_file_that_is_one_torn_line_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"{" + b"x" * 200_000)
    assert record_file.read(path) == []
    record_file.append(path, record())
    assert len(record_file.read(path)) == 1


def _write(path: Path, writer: int) -> None:
    for number in range(EACH):
        # Long enough that lines written in pieces would mix.
        record_file.append(path, record(name=f"{writer}-{number}", wall_seconds=(0.125,) * 3_000))


def test_processes_that_append_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, i)) for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    names = [one.what.name for one in record_file.read(path)]
    assert sorted(names) == sorted(f"{w}-{n}" for w in range(WRITERS) for n in range(EACH))
    for writer_number in range(WRITERS):
        own = [name for name in names if name.startswith(f"{writer_number}-")]
        assert own == [f"{writer_number}-{n}" for n in range(EACH)]


def test_a_full_disk_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    record_file.append(path, record())
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(
        "perf.records.record_file.os.write", lambda file, line: write(file, line[:50])
    )
    with pytest.raises(InputError, match="only 50 of"):
        record_file.append(path, record())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not JSON", "line 2 is not JSON"),
        ("[]", "line 2 is not a record"),
        ('{"schema_version": 1}', "line 2 is not a record: at run"),
        ("\xff", "line 2 is not JSON"),
        ("\0" * 500, "line 2 is not JSON"),
        ("[" * 200_000, "line 2 is not JSON"),
        ('{"what": ' * 90_000, "line 2 is not JSON"),
        ('{"schema_version": 2, "new": 1}', "line 2 has schema 2, this version reads up to 1"),
    ],
)
def test_what_is_no_record_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, said: str
) -> None:
    path = tmp_path / "records.jsonl"
    for name in ("before", "after"):
        record_file.append(path, record(name=name))
    before, after = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(before + line.encode("latin-1") + b"\n" + after)
    for _ in range(2):  # However often it is read, it is said once.
        assert [one.what.name for one in record_file.read(path)] == ["before", "after"]
    (sentence,) = caplog.messages
    assert sentence.startswith(f"left out: {path}: {said}")
    assert "\n" not in sentence


def test_of_many_bad_lines_some_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("no\n" * 1000)
    assert record_file.read(path) == []
    (sentence,) = caplog.messages
    three = "line 1 is not JSON; line 2 is not JSON; line 3 is not JSON"
    assert sentence == f"left out: {path}: {three}, and 997 more"


def test_what_is_taken_out_is_records_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for name in ("one", "two", "one"):
        record_file.append(path, record(name=name))
    path.write_text("kept\n" + path.read_text())
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    record_file.remove(link, lambda one: one.what.name == "one")
    assert link.is_symlink()
    first, second = path.read_text().splitlines()
    assert first == "kept"
    assert json.loads(second)["what"]["name"] == "two"
    assert {one.name for one in tmp_path.iterdir()} == {"records.jsonl", "link.jsonl"}


def _take_out(path: Path) -> None:
    for number in range(EACH):
        record_file.remove(path, lambda one, number=number: one.what.name == f"0-{number}")  # type: ignore[misc]


def test_taking_out_loses_nothing_that_others_append(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    record_file.append(path, record(name="first"))
    context = multiprocessing.get_context("spawn")
    both = [
        context.Process(target=_write, args=(path, 1)),
        context.Process(target=_take_out, args=(path,)),
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    names = [one.what.name for one in record_file.read(path)]
    assert names == ["first", *(f"1-{number}" for number in range(EACH))]


def test_no_file_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pytest --benchmark-only"):
        record_file.read(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        record_file.append(tmp_path / "file" / "records.jsonl", record())
    with pytest.raises(InputError, match="cannot be read"):
        record_file.read(tmp_path)


def test_metrics_of_old_records_are_found(tmp_path: Path) -> None:
    new = record(parameters={"act": "ttbar"}, metrics={"task_bytes": 827, "opening": 0.5})
    content = json.loads(new.model_dump_json())
    old_metrics = {f"measured.{name}": value for name, value in content.pop("metrics").items()}
    content["what"]["parameters"] |= old_metrics
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(content) + "\n")
    assert record_file.read(path) == [new]


def test_a_metric_that_is_not_known_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    one = record(metrics={"task_bytes": 827, "start_cpu": float("nan")})
    assert one.metrics == {"task_bytes": 827}
    record_file.append(path, one)
    path.write_text(path.read_text().replace('"task_bytes":827', '"task_bytes":827,"old":null'))
    assert record_file.read(path) == [one]
    with pytest.raises(pydantic.ValidationError):
        record(counts={"bytes": (float("nan"),)})
