"""Curves of the history: a case of a benchmark on one machine, with one choice of dependencies."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from perf.publish import change_points, titles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perf.publish.change_points import Change
    from perf.publish.series import Quantity, Series
    from perf.publish.timeline import Entry
    from perf.publish.titles import Clock, Title
    from perf.records.record_file import Record

HISTORY: Final = "history-"
"""Beginning of the names of what is measured in every release."""

_ON: Final = re.compile(r"\.on_.*(\.\w+)$")
"""In a benchmark's name, the dependencies that were the same for all points."""

Status = Literal["slower", "faster", "no change seen", "not judged"]


@dataclass(frozen=True)
class Point:
    """A release or commit on a curve."""

    entry: Entry
    samples: Sequence[float]
    """One number of each process, or of one process if there is one."""
    record: Record
    """The newest one of the point."""

    @property
    def median(self) -> float:
        """The number that is judged."""
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Curve:
    """A case of a benchmark on one machine.

    Attributes
    ----------
    what
        Name of what was measured: the same with all dependencies.
    case
        Values of the benchmark's parameters, for people.
    stack
        The release whose dependencies all points have; empty if each has those of its time.
    points
        All of them, oldest first; `main` has those that are judged.
    changes
        Those that `watch` judged on this curve, oldest first.
    smallest
        Smallest ratio at the next release that would be judged; None if the curve is not judged.
    """

    series: Series
    machine: str
    what: str
    case: str
    stack: str
    points: Sequence[Point]
    main: Sequence[Point]
    changes: Sequence[Change]
    smallest: float | None

    def at(self, entry: Entry) -> Point | None:
        """The judged point of a release or commit."""
        return next((point for point in self.main if point.entry == entry), None)

    def status(self, before: Entry, after: Entry) -> tuple[Status, Change | None]:
        """What was judged between two neighbours in time, and the change if there is one."""
        change = next((each for each in self.changes if each.after == after), None)
        if change is not None:
            return ("slower" if change.worse else "faster"), change
        known = self.smallest is not None and self.at(before) and self.at(after)
        return ("no change seen" if known else "not judged"), None


@dataclass(frozen=True)
class Benchmark:
    """A quantity of a group of measurements, with all dependencies that it was measured with."""

    name: str
    title: Title
    quantity: Quantity
    clock: Clock
    kind: str
    curves: Sequence[Curve]

    @property
    def changes(self) -> list[tuple[Curve, Change]]:
        """Judged changes of all curves."""
        return [(curve, change) for curve in self.curves for change in curve.changes]


def joined(every: Mapping[str, Series], changes: Iterable[Change]) -> dict[str, Benchmark]:
    """Benchmarks by name, each with those of the same that had other dependencies."""
    groups: dict[str, list[Series]] = {}
    for name, series in every.items():
        stack = _stack(series)
        groups.setdefault(_ON.sub(r"\1", name) if stack else name, []).append(series)
    judged: dict[tuple[str, str, str], list[Change]] = {}
    for change in changes:
        judged.setdefault((change.benchmark, change.machine, change.case), []).append(change)
    benchmarks = {}
    for name, members in sorted(groups.items()):
        # Dependencies of the time come first, and name the cases of all.
        members.sort(key=_stack)
        newest = members[0].newest
        cases = {key: label for each in reversed(members) for key, label in _cases(each).items()}
        curves = [curve for each in members for curve in _curves(each, cases, judged)]
        quantity = members[0].quantity
        benchmarks[name] = Benchmark(
            name,
            titles.title(newest.what, quantity),
            quantity,
            titles.clock(quantity),
            newest.what.kind,
            curves,
        )
    return benchmarks


def _stack(series: Series) -> str:
    return str(series.newest.what.parameters.get("stack", ""))


def _cases(series: Series) -> dict[tuple[str, str], str]:
    """What `Change.case` calls each measurement of a benchmark, by machine and name."""
    return {
        (machine, what): ", ".join(f"{key}={value}" for key, value in axes.items())
        for machine in {machine for _, machine, _ in series.records}
        for what, axes in series.axes(machine).items()
    }


def _curves(
    series: Series,
    cases: Mapping[tuple[str, str], str],
    judged: Mapping[tuple[str, str, str], list[Change]],
) -> list[Curve]:
    own, stack = _cases(series), _stack(series)
    every: dict[tuple[str, str], list[Point]] = {}
    for (entry, machine, what), records in series.records.items():
        point = Point(entry, series.samples(records), records[-1])
        every.setdefault((machine, what), []).append(point)
    curves = []
    for (machine, what), line in change_points.lines(series).items():
        points = sorted(every[machine, what], key=lambda one: (one.entry.date, one.entry.name))
        judgeable = {entry for entry, _ in line}
        main = [point for point in points if point.entry in judgeable]
        found = judged.get((series.name, machine, own[machine, what]), [])
        curves.append(
            Curve(
                series,
                machine,
                what,
                cases[machine, what],
                stack,
                points,
                main,
                sorted(found, key=lambda change: change.after.date),
                change_points.smallest([point.median for point in main]),
            )
        )
    return curves


def unrecovered(curve: Curve) -> list[Change]:
    """Changes for the worse that later changes, as far as judged, did not take back."""
    return [
        change
        for place, change in enumerate(curve.changes)
        if change.worse
        and math.prod(each.ratio for each in curve.changes[place:]) >= 1 + change_points.LEAST
    ]
