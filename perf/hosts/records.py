"""Runs on hosts as records, and the table of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from perf.records import provenance
from perf.records.record_file import Input, Record, What

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perf.hosts.campaign import Measured

PREFIX: Final = "hosts-"
"""Of the names of these records."""


@dataclass(frozen=True)
class Row:
    """An executor in a scenario: medians of its runs."""

    engine: str
    scenario: str
    runs: int
    rate: float
    """Events a second."""
    rates: str
    """The same in words, with the range of several runs."""
    sent: float
    received: float
    """Bytes of the client a chunk, headers included."""
    result: float | None
    """Bytes that the client received for each payload; None where there are none."""


def record(
    measured: Measured, given: Input, run: str, load: float | None, machine: str | None
) -> Record:
    """A scenario as a record, made now."""
    scenario = measured.scenario
    parameters: dict[str, str | int | float | bool] = {
        "scenario": scenario.name,
        "delay": scenario.delay,
        "ahead": scenario.ahead,
    }
    what = What(
        name=f"{PREFIX}{measured.engine}-{scenario.name.replace(', ', ' ').replace(' ', '-')}",
        group="hosts",
        kind="executor",
        subject=measured.engine,
        implementation="compiled",
        executor=measured.engine,
        workers=1 if measured.engine == "iterative" else 2,
        size=measured.events,
        chunksize=measured.events // measured.chunks,
        parameters=parameters,
    )
    return Record(
        run=run,
        what=what,
        input=given,
        versions={**provenance.versions(), provenance.SUITE: provenance.suite()},
        machine=provenance.machine(machine),
        load_before=load,
        load_after=provenance.load_average(),
        iterations=1,
        wall_seconds=tuple(measured.wall),
        metrics={
            "chunks": measured.chunks,
            "sent_bytes": statistics.median(measured.sent),
            "received_bytes": statistics.median(measured.received),
            "results": statistics.median(measured.results),
        },
        check=None,
    )


def row(one: Record) -> Row:
    """What a record says."""
    metrics = one.metrics
    results = metrics["results"]
    slowest, rate, fastest = (
        one.what.size / of(one.wall_seconds) for of in (max, statistics.median, min)
    )
    spread = f" ({slowest:,.0f} to {fastest:,.0f})" if len(one.wall_seconds) > 1 else ""
    return Row(
        engine=one.what.subject,
        scenario=str(one.what.parameters["scenario"]),
        runs=len(one.wall_seconds),
        rate=rate,
        rates=f"{rate:,.0f}{spread}",
        sent=metrics["sent_bytes"] / metrics["chunks"],
        received=metrics["received_bytes"] / metrics["chunks"],
        result=metrics["received_bytes"] / results if results else None,
    )


def of_last_run(records: Iterable[Record]) -> list[Record]:
    """The records of the newest run, in their order; none if there is no run."""
    runs: dict[str, list[Record]] = defaultdict(list)
    for one in sorted(records, key=lambda each: each.timestamp):
        if one.what.name.startswith(PREFIX):
            runs[one.run].append(one)
    return max(runs.values(), key=lambda of: of[-1].timestamp) if runs else []
