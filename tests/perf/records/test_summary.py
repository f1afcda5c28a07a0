"""The summary of a run: it fits a screen, and says what the records say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from perf.cases import catalogue
from perf.cases.scales import SCALES
from perf.records import summary
from perf.records.record_file import Input, Machine
from tests.support.factories import record

if TYPE_CHECKING:
    from perf.records.record_file import Record

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
FASTER = {"reference": 0.1, "columnar": 1.0, "compiled": 4.0}


def run_of(scale: str, identity: str, day: int = 0) -> list[Record]:
    """A record of every case of a scale, as of a run."""
    return [
        record(
            run=identity,
            timestamp=BEGIN + timedelta(days=day, seconds=number),
            wall_seconds=(seconds,),
            cpu_seconds=(seconds,),
            **dict(what),
        )
        for number, case in enumerate(catalogue.everything(SCALES[scale]))
        for what in (case.what, case.teardown_record)
        if what
        for seconds in [1e-3 / FASTER.get(what.implementation or "", 1.0)]
    ]


@pytest.mark.parametrize("scale", SCALES)
def test_it_fits_a_screen(scale: str) -> None:
    lines = summary.lines(run_of(scale, "b", 1), run_of(scale, "a"))
    assert len(lines) <= summary.HEIGHT <= 24 - 3
    assert max(map(len, lines)) <= summary.WIDTH == 80
    text = " ".join(" ".join(lines).split())
    for part in ("Kernels", "Queries", "Processor", "Limit", "Executors", "Reading", "Inference"):
        assert part in text
    assert "Kernels numba 4.0 to 4.0 times as fast as awkward (median 4.0, 1e" in text
    assert f"coffea {record().versions['coffea']}" in text
    for executor in ("iterative x1", "futures x2", "dask x2", "parsl x2", "spark x2"):
        assert executor in text


def test_the_largest_changes_are_named_and_not_judged() -> None:
    before = [
        record(run="a", name=f"case{number}", timestamp=BEGIN, wall_seconds=(1.0,))
        for number in range(6)
    ]
    now = [
        record(
            run="b",
            name=f"case{number}",
            timestamp=BEGIN + timedelta(days=1),
            wall_seconds=(seconds,),
            versions={"coffea": "2026.10.0"},
        )
        for number, seconds in enumerate((1.0, 3.0, 0.5, 1.01, 2.0, 0.25))
    ]
    text = " ".join(" ".join(summary.lines(now, [*before, *now])).split())
    assert (
        "Compared with the last run (2026-11-01 00:00, 6 cases), ratios of times: median 1.00"
        in text
    )
    assert "largest and smallest case1 3.00, case5 0.25." in text
    assert "Since then coffea 2026.9.0 to 2026.10.0." in text
    assert "Not judged: use `coffea-perf compare`." in text


def test_other_machines_and_inputs_are_not_compared() -> None:
    now = [record(run="b", timestamp=BEGIN + timedelta(days=1))]
    machine = Machine(name="other", cpu="none", cores=2, memory=1, kernel="Linux", python="3")
    for before in (
        record(run="a", timestamp=BEGIN, machine=machine),
        record(run="a", timestamp=BEGIN, input=Input(digest="e" * 64, events=1, source="")),
        record(run="a", timestamp=BEGIN + timedelta(days=2)),
        record(run="b", timestamp=BEGIN),
    ):
        text = " ".join(summary.lines(now, [before]))
        assert "no earlier run of these cases on this machine" in text


def test_a_run_of_one_case_has_a_summary() -> None:
    assert summary.lines([record()])[0].startswith("Measured  1 case in")
