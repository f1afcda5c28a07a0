"""The file of records, whatever happens to it."""

from __future__ import annotations

import json
import multiprocessing
import os
from typing import TYPE_CHECKING

import pydantic
import pytest

from analysis.errors import InputError
from perf import results
from tests.perf.made import record

if TYPE_CHECKING:
    from pathlib import Path

WRITERS, EACH = 3, 40


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    first, second = record(), record(name="ht-1e3-compiled", peak_memory=None, load_before=None)
    results.append(path, first)
    results.append(path, second)
    assert results.read(path) == [first, second]


def test_seconds_an_event_and_rates_are_derived_not_stored(tmp_path: Path) -> None:
    one = record()
    assert one.wall_median == 0.002
    assert one.wall_minimum == 0.001
    assert one.seconds_per_event == 0.002 / 1000
    assert one.cpu_seconds_per_event == 0.001 / 1000
    assert one.events_per_second == pytest.approx(500_000)
    results.append(tmp_path / "r", one)
    assert set(json.loads((tmp_path / "r").read_text())) == set(results.Record.model_fields)


def test_no_events_no_rate() -> None:
    one = record(input=results.Input(digest="", events=0, source="none"), cpu_seconds=())
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
    results.append(path, record())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: kept if kept > 0 else len(whole) - 1])
    assert results.read(path) == [results.read(path)[0]]
    results.append(path, record(name="after"))
    assert [one.what.name for one in results.read(path)] == ["ht-1e3-columnar", "after"]


def test_a_file_that_is_one_torn_line_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"{" + b"x" * 200_000)
    assert results.read(path) == []
    results.append(path, record())
    assert len(results.read(path)) == 1


def _write(path: Path, writer: int) -> None:
    for number in range(EACH):
        # Long enough that lines written in pieces would mix.
        results.append(path, record(name=f"{writer}-{number}", wall_seconds=(0.125,) * 3_000))


def test_processes_that_append_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path, i)) for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    names = [one.what.name for one in results.read(path)]
    assert sorted(names) == sorted(f"{w}-{n}" for w in range(WRITERS) for n in range(EACH))
    for writer_number in range(WRITERS):
        own = [name for name in names if name.startswith(f"{writer_number}-")]
        assert own == [f"{writer_number}-{n}" for n in range(EACH)]


def test_a_full_disk_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    results.append(path, record())
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr("perf.results.os.write", lambda file, line: write(file, line[:50]))
    with pytest.raises(InputError, match="only 50 of"):
        results.append(path, record())
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    results.append(path, record())
    newer = json.loads(path.read_text()) | {"schema_version": results.SCHEMA_VERSION + 1, "new": 1}
    path.write_text(path.read_text() + json.dumps(newer) + "\n")
    with pytest.raises(InputError, match=r"line 2 has schema 2, .* update the project"):
        results.read(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not JSON", "line 1 is not JSON"),
        ("[]", "line 1 is not a record"),
        ('{"schema_version": 1}', "line 1 is not a record: at run"),
        ("\xff", "line 1 is not JSON"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(InputError, match=message) as caught:
        results.read(path)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pytest --benchmark-only"):
        results.read(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        results.append(tmp_path / "file" / "records.jsonl", record())
    with pytest.raises(InputError, match="cannot be read"):
        results.read(tmp_path)
