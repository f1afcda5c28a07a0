"""The table of measurements, and the command that prints it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from perf.cases import catalogue
from perf.cases.scales import SCALES
from perf.records import record_file, table
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from pathlib import Path

    from perf.records.record_file import Record


def session() -> list[Record]:
    return [
        record(),
        record(
            name="ht-1e3-compiled",
            implementation="compiled",
            wall_seconds=(1e-5,),
            cpu_seconds=(8e-6,),
        ),
        record(
            name="start-futures2",
            group="executor start",
            kind="executor",
            implementation=None,
            executor="futures",
            workers=2,
            input=record_file.Input(digest="", events=0, source="none"),
            cpu_seconds=(),
        ),
    ]


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_table_has_medians_minima_times_an_event_rates_and_speed_ups() -> None:
    text = rows(table.plain(table.summary(session())))
    assert "ht 1e3 columnar 2.00 ms 1.00 ms 2,000 1,000 500k 1.00" in text
    assert "compiled 10.0 us 10.0 us 10.0 8.0 100M 125" in text
    assert "executor start - futures x2 2.00 ms 1.00 ms - - - -" in text


@pytest.mark.parametrize("width", [40, 80, table.PLAIN_WIDTH, 200])
def test_table_keeps_to_the_width_it_is_given(width: int) -> None:
    text = table.plain(table.summary(session()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_only_cases_that_differ_in_nothing_else_are_compared() -> None:
    pair = [
        record(kind="processor", executor="futures", workers=2, chunksize=10),
        record(
            kind="processor",
            executor="futures",
            workers=2,
            chunksize=20,
            implementation="compiled",
        ),
    ]
    compiled = [row for row in rows(table.plain(table.summary(pair))) if "compiled," in row]
    assert [row[-2:] for row in compiled] == [" -"]


def test_no_two_rows_of_a_group_are_called_the_same() -> None:
    scale = SCALES["small"]
    whats = [case.what for case in catalogue.everything(scale)]
    rows = [(what.group, what.kind, what.size, table.how(what)) for what in whats]
    assert [row for row, times in Counter(rows).items() if times > 1] == []
    assert all(how for *_, how in rows)


def test_command_shows_the_last_run_and_lists_all(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.jsonl"
    for one in (record(run="aaaa1111"), record(run="bbbb2222", group="jets")):
        record_file.append(path, one)
    code, out, _ = cli.perf("records", path)
    assert code == 0
    assert "jets" in out
    assert "ht " not in out
    assert "coffea 2026.9.0" in out
    code, out, _ = cli.perf("records", path, "--run", "aaaa")
    assert "ht " in out
    code, out, _ = cli.perf("records", path, "--list")
    assert "aaaa1111" in out
    assert "bbbb2222" in out


def test_command_refuses_in_one_sentence(
    tmp_path: Path,
) -> None:
    path = tmp_path / "records.jsonl"
    code, out, err = cli.perf("records", path)
    assert (code, out) == (2, "")
    assert err.startswith("error: there are no records")
    record_file.append(path, record())
    code, _, err = cli.perf("records", path, "--run", "zz")
    assert code == 2
    assert "0 runs begin with 'zz'" in err
    path.write_text(json.dumps({"schema_version": 99}) + "\n")
    code, _, err = cli.perf("records", path)
    assert code == 2
    assert err.count("\n") == 1
