"""Other tools: the page shows what was measured and judged, where we lose as well."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest

from perf.cases import peers as cases
from perf.claims.peers import PREFIX
from perf.claims.verdict import Verdict
from perf.measure.estimate import Estimate
from perf.peers.processes import OURS, PEERS
from perf.publish.numbers import figures, measured
from perf.publish.page import Material
from perf.publish.pages.peers import PAGE
from perf.records.record_file import Claimed, Input, Record
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from perf.publish.page import Page
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

EVENTS = 1_000
INTERVALS = {
    "duckdb": (Estimate(2.0, 1.8, 2.2), "slower"),
    "rdataframe_native": (Estimate(0.7, 0.6, 0.8), "faster"),
    "polars": (Estimate(1.05, 0.9, 1.2), "undecided"),
}


def of(peer: str, query: str, *seconds: float, prefix: str = PREFIX, **changes: Any) -> Record:
    """A tool's samples, and what was judged of it."""
    what = cases.what(PEERS[peer], query, EVENTS, prefix)
    claims: tuple[Claimed, ...] = ()
    if peer != OURS.name:
        estimate, _ = INTERVALS[peer]
        claims = (Verdict(peer, "at least", 1.0, estimate, "ratio", ()).claimed,)
    content: dict[str, Any] = {
        "cpu_seconds": seconds,
        "input": Input(digest="d" * 64, events=EVENTS, source="made up"),
        "claims": claims,
        **changes,
    }
    return record().model_copy(update={"what": what, **content})


def run(**changes: Any) -> list[Record]:
    """Two queries in four tools, one of which was not asked the second."""
    tools = (OURS.name, *INTERVALS)
    return [
        of(peer, query, *(1e-4 * (1 + number) * (1 + 0.01 * i) for i in range(7)), **changes)
        for query in ("4", "ttbar")
        for number, peer in enumerate(tools)
        if (query, peer) != ("ttbar", "polars")
    ]


def test_every_tool_is_shown_as_it_was_measured(shown: Shown) -> None:
    records = run()
    page = shown(PAGE, Material.of(records))
    cost = {
        (r.what.parameters["peer"], r.what.subject): statistics.median(r.cpu_seconds) / EVENTS
        for r in records
    }
    table = page.table("CPU time an event")
    assert table.headings == ["tool", "reads", "4", "ttbar"]
    assert {row[0] for row in table.rows} == {PEERS[str(name)].title for name, _ in cost}
    for title, reads, *cells in table.rows:
        (peer,) = (peer for peer in PEERS.values() if peer.title == title)
        assert reads == {"ttree": "TTree", "parquet": "Parquet"}[peer.format]
        assert cells == [
            measured(cost[peer.name, query], "seconds") if (peer.name, query) in cost else "-"
            for query in ("4", "ttbar")
        ]


def test_where_we_lose_it_says_so(shown: Shown) -> None:
    page = shown(PAGE, Material.of(run()))
    rows = {row[0]: row for row in page.table("ADL query 4, CPU time").rows}
    assert rows[OURS.title][2:] == ["1", "-", "-"]
    for name, (estimate, verdict) in INTERVALS.items():
        assert rows[PEERS[name].title][2:] == [
            figures(estimate.value),
            f"{figures(estimate.low)} to {figures(estimate.high)}",
            verdict,
        ]


def test_the_chart_has_the_numbers_of_the_table() -> None:
    context = PAGE.context(Material.of(run()))
    dots = {(dot["y"], dot["group"]): dot["x"] for dot in context["chart"]["rows"]}
    titles = [tool["title"] for tool in context["tools"]]
    names = [query["name"] for query in context["queries"]]
    for tool in context["tools"]:
        for name, cost in zip(names, tool["costs"], strict=True):
            got = dots.get((name, tool["title"]))
            assert got == (pytest.approx(1e9 * cost["value"]) if cost else None)
    assert {group for _, group in dots} == set(titles)


def test_versions_of_the_tools_are_told(shown: Shown) -> None:
    duckdb = [
        one.model_copy(update={"versions": {**one.versions, "duckdb": "2.0.1"}})
        if one.what.parameters["peer"] == "duckdb"
        else one
        for one in run()
    ]
    assert "Versions of the tools: duckdb 2.0.1." in shown(PAGE, Material.of(duckdb)).text


@pytest.mark.parametrize("records", [[], [record()], [of(OURS.name, "4", 1e-3, prefix="")]])
def test_what_is_not_measured_is_said(shown: Shown, records: list[Record]) -> None:
    page = shown(PAGE, Material.of(records))
    assert "No tool is measured in these records" in page.text
    assert "make peers" in page.text
