"""Inference and delivery: what is shown is what cases measured."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest

from perf.cases.delivery import DeliveryCase
from perf.cases.inference import inferences
from perf.cases.reading import readings
from perf.cases.scales import SCALES
from perf.cases.workflow import STAGES, StageCase, stages
from perf.claims.verdict import Verdict
from perf.measure.estimate import Estimate
from perf.publish.numbers import figures, measured, span
from perf.publish.page import Material
from perf.publish.pages.inference import PAGE
from perf.records.record_file import Input
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from perf.cases.case import Case
    from perf.publish.page import Page
    from perf.records.record_file import Record
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

SMALL = SCALES["small"]


def timed(cases: Iterable[Case], events: int = 0, samples: int = 3) -> list[Record]:
    """Measurements of cases, each of another time."""
    made = []
    for number, case in enumerate(cases, start=1):
        wall = tuple(number * (1 + 0.01 * step) for step in range(samples))
        changes: dict[str, Any] = {
            "what": case.what,
            "wall_seconds": wall,
            "cpu_seconds": wall,
            "input": Input(digest="d" * 64, events=events, source="made templates"),
        }
        made.append(record().model_copy(update=changes))
    return made


def ranged(one: Record, events: int = 1) -> str:
    """What is shown of samples that are too few for an interval."""
    least, most = (one.wall_seconds[end] / events for end in (0, -1))
    return f"{span(least, most, 'seconds')} (range)"


def test_each_fit_is_shown_by_task_and_backend(shown: Shown) -> None:
    made = timed(inferences(SMALL), samples=7)
    page = shown(PAGE, Material.of(made))
    rows = [
        row
        for table in page.tables
        if table.caption.endswith("made templates")
        for row in table.rows
    ]
    assert len(rows) == len(made)
    for each in made:
        more, values = each.what.parameters, sorted(each.wall_seconds)
        assert [
            *(str(more["backend"]), str(more["optimizer"])),
            measured(statistics.median(values), "seconds"),
            # Seven samples: the interval of their median leaves none out.
            span(values[0], values[-1], "seconds"),
            "7",
        ] in rows
    charts = [
        group["chart"]["rows"] for group in PAGE.context(Material.of(made))["fits"]["groups"]
    ]
    assert sum(map(len, charts)) == len(made)


def test_no_folder_of_a_machine_is_published(shown: Shown) -> None:
    (made,) = timed(inferences(SMALL)[:1])
    there = made.input.model_copy(update={"source": "/home/somebody/histograms.json"})
    page = shown(PAGE, Material.of([made.model_copy(update={"input": there})]))
    assert "warm process, histograms.json" in page.text
    assert "somebody" not in page.text


def test_the_stages_of_the_whole_are_in_order_with_their_sum(shown: Shown) -> None:
    made = timed(reversed(stages(SMALL)))
    page = shown(PAGE, Material.of(made))
    total = sum(one.wall_median for one in made)
    table = page.table("2,000 events of each sample")
    assert table.caption.endswith(f"{measured(total, 'seconds')} in all")
    assert table.column("stage") == list(STAGES)
    by_stage = {one.what.subject: one for one in made}
    assert table.column("wall time") == [
        measured(by_stage[name].wall_median, "seconds") for name in STAGES
    ]
    # Three samples are too few for an interval.
    assert table.column("interval") == [ranged(by_stage[name]) for name in STAGES]
    assert "Not measured:" not in page.text


def test_stages_that_are_not_measured_are_named(shown: Shown) -> None:
    page = shown(PAGE, Material.of(timed([StageCase("events", 10), StageCase("fit", 10)])))
    assert (
        "Not measured: delivery, histograms, limit, pictures; the sum is without them" in page.text
    )


def test_readers_are_shown_by_distance(shown: Shown) -> None:
    made = timed(readings(SMALL), events=4_000)
    page = shown(PAGE, Material.of(made))
    for server in ("http", "xrootd"):
        table = page.table(f"{server}, 4,000 events in chunks of 2,000")
        expected = [
            one for one in made if one.what.parameters["route"] in {"local", "servicex", server}
        ]
        assert len(table.rows) == len(expected)
        for one in expected:
            more, each = one.what.parameters, one.wall_median / 4_000
            assert [
                *(str(more["route"]), str(more["handler"]), str(more["milliseconds"])),
                measured(each, "seconds"),
                ranged(one, 4_000),
                *(figures(1 / each), "3"),
            ] in table.rows


def test_delivery_is_shown_by_query_and_format(shown: Shown) -> None:
    cases = [
        DeliveryCase("uproot-raw", "parquet", 4_000),
        DeliveryCase("func-adl", "parquet", 4_000),
    ]
    table = shown(PAGE, Material.of(timed(cases, events=4_000))).table("4,000 events through")
    assert [row[:2] for row in table.rows] == [["uproot-raw", "parquet"], ["func-adl", "parquet"]]
    assert table.column("wall time an event") == [
        measured(n * 1.01 / 4_000, "seconds") for n in (1, 2)
    ]


def test_claims_on_fits_are_judged_and_not_among_the_backends(shown: Shown) -> None:
    verdict = Verdict("fit: default / ours", "at least", 10.0, Estimate(6, 5.5, 7), "ratio", ())
    made = record(
        kind="inference", subject="fit", name="claim-fit", claims=(verdict.claimed,),
        parameters={"optimizer": "ours", "process": "warm"}, implementation=None, size=0,
    )  # fmt: skip
    page = shown(PAGE, Material.of([made]))
    assert page.table("Claims").column("verdict") == ["FAILS"]
    assert "No fit is measured" in page.text


@pytest.mark.parametrize(
    "cases",
    [[], inferences(SMALL)[:1], stages(SMALL)[:1], readings(SMALL)[:1]],
    ids=["nothing", "a fit", "a stage", "a reading"],
)
def test_what_is_missing_names_the_command_that_measures_it(
    shown: Shown, cases: list[Case]
) -> None:
    page = shown(PAGE, Material.of(timed(cases, events=4_000)))
    missing = 5 - len(cases)
    assert page.text.count("in these records: this measures") == missing
    for bench in ("inference", "whole", "reading", "delivery"):
        assert f"pytest perf/bench_{bench}.py --benchmark-only" in page.text
