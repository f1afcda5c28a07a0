"""History: every benchmark over coffea's releases, and what `watch` judges of it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from analysis.kernels import KERNELS
from perf.history.workloads import WORKLOADS
from perf.publish.causes import why
from perf.publish.change_points import CONFIDENCE, LEAST, known_versions
from perf.publish.curves import HISTORY
from perf.publish.numbers import interval, measured, percent, span
from perf.publish.page import Data, Material, Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perf.publish.change_points import Change
    from perf.publish.curves import Benchmark, Curve, Point
    from perf.publish.titles import Clock

VERSIONS: Final = "versions"
"""File of the versions of all points, which the page reads when somebody chooses a point."""

_BISECTED: Final = {f"{name}-{how}" for name in KERNELS for how in ("columnar", "compiled")} | {
    work.name
    for work in WORKLOADS
    if work.kind not in {"import", "kernel"} and work.group != "executors"
}
"""Benchmarks of `compare`, which `bisect` takes."""


def bisected(curve: Curve, clock: Clock) -> str | None:
    """Name of the benchmark of `compare` that measures the same; None if there is none."""
    what = curve.points[-1].record.what
    if what.kind == "kernel":
        name = f"{what.subject}-{what.implementation}"
    else:
        name = what.name.removeprefix(HISTORY)
    return name if name in _BISECTED and clock in {"CPU", "wall"} else None


def effect(change: Change, clock: Clock) -> str:
    """Slower or faster, or larger or smaller, and by how much."""
    words = ("slower", "faster") if clock in {"CPU", "wall"} else ("larger", "smaller")
    return f"{words[not change.worse]}: {percent(change.ratio)}"


def sentence(curve: Curve, clock: Clock) -> str:
    """What was judged of a curve."""
    if curve.changes:
        return "; ".join(
            f"since {each.after.name} {effect(each, clock)} "
            f"({CONFIDENCE:.0%} interval {interval(each.low, each.high)})"
            for each in curve.changes
        )
    if curve.smallest is None:
        return "not judged: too few points to show how much they vary"
    return f"no change is told from the noise of {len(curve.main)} points"


def link(benchmark: Benchmark, curve: Curve | None = None, change: Change | None = None) -> str:
    """Address of the view of a benchmark, or of a point of one of its curves."""
    point = f"&p={curve.what}~{curve.stack}~{change.after.name}" if curve and change else ""
    return f"history.html#b={benchmark.name}{point}"


def dependencies(stack: str) -> str:
    """What the dependencies of a curve are."""
    return f"those of {stack}" if stack else "of the time"


def _files(material: Material) -> Iterator[tuple[str, Data]]:
    known: dict[str, int] = {}
    for name, benchmark in material.joined.items():
        content = {
            "title": str(benchmark.title),
            "unit": benchmark.quantity.unit,
            "machine": _machine(benchmark, material),
            "curves": [_curve(curve, benchmark.clock, known) for curve in benchmark.curves],
        }
        yield name, Data(content, list(_rows(benchmark)))
    yield VERSIONS, Data({"versions": [json.loads(content) for content in known]})


def _machine(benchmark: Benchmark, material: Material) -> str:
    """The machine that is shown first: others never displace the one with most points."""
    machines = [curve.machine for curve in benchmark.curves]
    return material.machine if material.machine in machines else machines[0]


def _curve(curve: Curve, clock: Clock, known: dict[str, int]) -> dict[str, Any]:
    return {
        "benchmark": curve.series.name,
        "machine": curve.machine,
        "case": curve.case,
        "what": curve.what,
        "stack": curve.stack,
        "bisect": bisected(curve, clock),
        "smallest": curve.smallest,
        "verdict": sentence(curve, clock),
        "points": [_point(curve, point, known) for point in curve.points],
        "changes": [
            {**change.as_json(), "effect": effect(change, clock)} for change in curve.changes
        ],
    }


def _point(curve: Curve, point: Point, known: dict[str, int]) -> dict[str, Any]:
    content = json.dumps(known_versions(point.record), sort_keys=True)
    return {
        "at": point.entry.name,
        "date": point.entry.date.date().isoformat(),
        "old": point.entry.old_line,
        "main": point in curve.main,
        "median": point.median,
        "samples": list(point.samples),
        # Most points share their versions with others: by number, each once.
        "versions": known.setdefault(content, len(known)),
        "load": point.record.load_after,
        "measured": point.record.timestamp.date().isoformat(),
        "input": point.record.input.source,
    }


def _rows(benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    for curve in benchmark.curves:
        for point in curve.points:
            for process, value in enumerate(point.samples, start=1):
                yield {
                    "benchmark": curve.series.name,
                    "case": curve.case,
                    "dependencies": dependencies(curve.stack),
                    "machine": curve.machine,
                    "coffea": point.entry.name,
                    "date": point.entry.date.date().isoformat(),
                    "process": process,
                    "value": value,
                    "unit": benchmark.quantity.unit,
                }


def _context(material: Material) -> Mapping[str, Any]:
    joined = material.joined.values()
    where = {
        id(each): (benchmark, curve) for benchmark in joined for curve, each in benchmark.changes
    }
    changes = [change_cells(material, *where[id(each)], each) for each in material.changes]
    return {
        "confidence": CONFIDENCE,
        "least": LEAST,
        "kinds": sorted({benchmark.kind for benchmark in joined}),
        "clocks": [
            c for c in ("CPU", "wall", "memory", "counts") if c in {b.clock for b in joined}
        ],
        "changes": changes,
        # The page opens on the first: what was judged last, and of that what changed most.
        "benchmarks": sorted(
            (_summary(benchmark, material) for benchmark in joined),
            key=lambda one: (one["order"] or "", one["size"]),
            reverse=True,
        ),
    }


def change_cells(
    material: Material, benchmark: Benchmark, curve: Curve, change: Change
) -> list[Any]:
    """Cells of the table of judged changes."""
    verdict = "slower" if change.worse else "faster"
    return [
        {"text": f"{change.after.name} ({change.after.date:%Y-%m-%d})", "sort": _day(change)},
        {"text": str(benchmark.title), "href": link(benchmark, curve, change)},
        curve.case or "-",
        dependencies(curve.stack),
        {"text": effect(change, benchmark.clock), "verdict": verdict, "sort": change.ratio},
        interval(change.low, change.high),
        curve.machine,
        why(change, material.causes),
    ]


def _day(change: Change) -> str:
    return change.after.date.date().isoformat()


def _summary(benchmark: Benchmark, material: Material) -> dict[str, Any]:
    machine = _machine(benchmark, material)
    own = [curve for curve in benchmark.curves if curve.machine == machine]
    # Dependencies of the time, where there are any.
    shown = [curve for curve in own if curve.stack == own[0].stack]
    newest = [curve.points[-1].median for curve in shown]
    unit = benchmark.quantity.unit
    changes = [(curve, change) for curve in own for change in curve.changes]
    last = max(changes, key=lambda pair: pair[1].after.date, default=None)
    return {
        "name": benchmark.name,
        "title": str(benchmark.title),
        "kind": benchmark.kind,
        "clock": benchmark.clock,
        "cases": len({curve.what for curve in own}),
        "words": " ".join(sorted({curve.case for curve in own})),
        "newest": measured(newest[0], unit)
        if len(newest) == 1
        else span(min(newest), max(newest), unit),
        "judged": len(changes),
        "last": last and f"{last[1].after.name} {effect(last[1], benchmark.clock)}",
        "worse": last and last[1].worse,
        "order": last and _day(last[1]),
        "size": abs(math.log(last[1].ratio)) if last else 0.0,
    }


PAGE: Final = Page("history", "History", _context, _files)
