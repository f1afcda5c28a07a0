"""Overview: what this is, what the newest release changed, and what is still open from before."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from perf.publish.causes import why
from perf.publish.curves import HISTORY, unrecovered
from perf.publish.numbers import interval, percent
from perf.publish.page import Material, Page
from perf.publish.pages.history import effect, link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perf.publish.change_points import Change
    from perf.publish.curves import Benchmark, Curve
    from perf.publish.timeline import Entry

STATUSES: Final = ("slower", "faster", "no change seen", "not judged")
CLOCKS: Final = {
    "CPU": "CPU time",
    "wall": "wall time",
    "memory": "memory",
    "counts": "sizes and counts",
}


def _context(material: Material) -> Mapping[str, Any]:
    # Other machines never displace the one with most points.
    curves = [
        (benchmark, curve)
        for benchmark in material.joined.values()
        for curve in benchmark.curves
        if curve.machine == material.machine
    ]
    after, before = _newest(curve for _, curve in curves)
    return {
        "about": _about(material, curves),
        "after": after and after.name,
        "before": before and before.name,
        "date": after and f"{after.date:%Y-%m-%d}",
        "statuses": STATUSES,
        "counts": _counts(curves, before, after) if before and after else [],
        "changes": [
            _row(material, benchmark, curve, change)
            for benchmark, curve in curves
            for change in curve.changes
            if change.after == after and _told_here(benchmark, curve, change)
        ],
        "open": [
            [change.after.name, *_row(material, benchmark, curve, change)]
            for benchmark, curve, change in sorted(
                (
                    (benchmark, curve, change)
                    for benchmark, curve in curves
                    for change in unrecovered(curve)
                    if change.after != after and _told_here(benchmark, curve, change)
                ),
                key=lambda each: (each[2].after.date, each[2].ratio),
                reverse=True,
            )
        ],
        "compared": _compared(material, before, after) if before and after else None,
    }


def _newest(curves: Iterable[Curve]) -> tuple[Entry | None, Entry | None]:
    """The newest release in the history, and the one before."""
    measured = {
        point.entry
        for curve in curves
        if curve.what.startswith(HISTORY)
        for point in curve.main
        if point.entry.release
    }
    ordered = sorted(measured, key=lambda entry: entry.date, reverse=True)
    return (ordered[0] if ordered else None), (ordered[1] if len(ordered) > 1 else None)


def _about(
    material: Material, curves: Iterable[tuple[Benchmark, Curve]]
) -> Mapping[str, Any] | None:
    """When and where the history was measured."""
    records = [
        record
        for _, curve in curves
        for (_, machine, _), members in curve.series.records.items()
        if machine == curve.machine
        for record in members
    ]
    if not records:
        return None
    newest = max(records, key=lambda record: record.timestamp)
    days = sorted(record.timestamp.date().isoformat() for record in records)
    where = newest.machine
    return {
        "machine": material.machine,
        "cpu": where.cpu,
        "cores": where.cores,
        "memory": where.memory,
        "kernel": where.kernel,
        "python": where.python,
        "first": days[0],
        "last": days[-1],
        "measurements": len({id(record) for record in records}),
        "others": sorted(
            {c.machine for b in material.joined.values() for c in b.curves} - {material.machine}
        ),
    }


def _counts(
    curves: Iterable[tuple[Benchmark, Curve]], before: Entry, after: Entry
) -> list[list[Any]]:
    """How many curves, with dependencies of the time, have which status at the newest release.

    The last column is the smallest change of the next release that half of them would show.
    """
    counted: dict[str, Counter[str]] = {name: Counter() for name in CLOCKS}
    smallest: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for benchmark, curve in curves:
        if not curve.stack and any(point.entry == after for point in curve.points):
            counted[benchmark.clock][curve.status(before, after)[0]] += 1
            smallest[benchmark.clock].append(curve.smallest or math.inf)
    rows: list[list[Any]] = [
        [CLOCKS[name], *(counts[status] for status in STATUSES), _half(smallest[name])]
        for name, counts in counted.items()
        if counts
    ]
    total = [sum(row[place] for row in rows) for place in range(1, len(STATUSES) + 1)]
    return [*rows, ["all", *total, _half([one for each in smallest.values() for one in each])]]


def _half(ratios: Sequence[float]) -> str:
    middle = statistics.median_high(ratios) if ratios else math.inf
    return "-" if math.isinf(middle) else percent(middle)


def _told_here(benchmark: Benchmark, curve: Curve, change: Change) -> bool:
    """Whether a change has a row of its own: with equal dependencies it is beside that of the time."""
    judged = [
        other.status(change.before, change.after)[1]
        for other in _with(benchmark, curve)
        if not other.stack
    ]
    return not curve.stack or not any(judged)


def _with(benchmark: Benchmark, curve: Curve) -> list[Curve]:
    """The same case on the same machine with other dependencies."""
    return [
        other
        for other in benchmark.curves
        if (other.what, other.machine) == (curve.what, curve.machine)
        and other.stack != curve.stack
    ]


def _row(material: Material, benchmark: Benchmark, curve: Curve, change: Change) -> list[Any]:
    return [
        {"text": str(benchmark.title), "href": link(benchmark, curve, change)},
        curve.case or "-",
        {
            "text": effect(change, benchmark.clock),
            "verdict": "slower" if change.worse else "faster",
            "sort": change.ratio,
        },
        interval(change.low, change.high),
        _equal(benchmark, curve, change),
        why(change, material.causes),
    ]


def _equal(benchmark: Benchmark, curve: Curve, change: Change) -> Any:
    """Whether a change stays with equal dependencies."""
    if curve.stack:
        return "seen only with equal dependencies"
    for other in _with(benchmark, curve):
        status, judged = other.status(change.before, change.after)
        old, new = other.at(change.before), other.at(change.after)
        if judged is not None:
            stays = "stays" if judged.worse == change.worse else "turns"
            text = f"{stays}: {percent(judged.ratio)} ({interval(judged.low, judged.high)})"
            return {"text": text, "verdict": "slower" if judged.worse else "faster"}
        if old and new:
            seen = percent(new.median / old.median)
            why = (
                "not judged"
                if status == "not judged"
                else f"not to be told from the noise of {len(other.main)} releases"
            )
            text = f"{seen}, {why}"
            return {"text": text, "verdict": "not judged"}
    return {"text": "not measured", "verdict": "not judged"}


def _compared(material: Material, before: Entry, after: Entry) -> Mapping[str, int] | None:
    """Outcomes of the newest kept comparison of the two releases."""
    wanted = [before.name.removeprefix("v"), after.name.removeprefix("v")]
    outcomes = [
        Counter(str(member["outcome"]) for member in report["benchmarks"].values())
        for report in material.comparisons
        if [report["sides"][side]["name"].removeprefix("v") for side in "AB"] == wanted
    ]
    return outcomes[-1] if outcomes else None


PAGE: Final = Page("overview", "Overview", _context)
