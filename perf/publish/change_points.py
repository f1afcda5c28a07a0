"""Change points of the history: where, how large, how certain, and what else changed there.

PELT (Killick et al. 2012, arXiv:1101.1438), as implemented in ruptures, finds steps in the
logarithms of the values. asv's own detector, which lists regressions on its pages, is made for long
series: it cuts six releases, the last three of which take four times as long, into five pieces,
finds none of three steps in eleven, and gives no uncertainty. Here a step is reported only if the
interval of its size excludes no change, if it is large enough, and if the fastest process on either
side shows it too: other work on a machine slows down processes, sometimes most of a release's. The
unit of replication is the release or commit, with processes of its own, and not the sample.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import ruptures
from rich.table import Table
from scipy import stats

from perf.publish import timeline
from perf.publish.series import suite_code
from perf.records.provenance import PACKAGES, SUITE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perf.publish.series import Series
    from perf.publish.timeline import Entry
    from perf.records.record_file import Record

CONFIDENCE: Final = 0.99
LEAST: Final = 0.05
"""Smallest change that is reported: releases that were measured at different times differ by a few
percent (notes on noise: 1 to 3 % of CPU time between processes)."""

PENALTY: Final = 6.0
"""Penalty of a step, in variances of the noise times the logarithm of the number of points: three
times that of the BIC. At most one in a hundred curves without a step is given one."""

QUARTILE: Final = float(stats.norm.ppf(0.75))
"""Median of the absolute value of a normal variable, in its standard deviations."""

LEAST_NOISE: Final = 1e-9
"""Counts have no noise."""

LEAST_POINTS: Final = 4
"""Fewer points do not show how much they vary by themselves; use `compare` for those."""


@dataclass(frozen=True)
class Change:
    """A change point.

    Attributes
    ----------
    case
        Values of the benchmark's parameters.
    before, after
        The last point before and the first one after.
    ratio, low, high
        After over before, with the ends of its interval.
    versions
        Packages (and this suite) that differ between the two points, with both versions; None for
        a package that is missing.
    """

    benchmark: str
    case: str
    machine: str
    before: Entry
    after: Entry
    ratio: float
    low: float
    high: float
    unit: str
    versions: dict[str, tuple[str | None, str | None]]

    @property
    def worse(self) -> bool:
        """Whether it became slower or larger: less is better in every quantity."""
        return self.ratio > 1

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "benchmark": self.benchmark,
            "case": self.case,
            "machine": self.machine,
            "before": self.before.name,
            "after": self.after.name,
            "date": self.after.date.date().isoformat(),
            "ratio": self.ratio,
            "interval": [self.low, self.high],
            "confidence": CONFIDENCE,
            "worse": self.worse,
            "versions": {name: list(pair) for name, pair in self.versions.items()},
        }


def changes(
    benchmarks: Iterable[Series], *, least: float = LEAST, since: date | None = None
) -> list[Change]:
    """Change points of at least this fraction, at releases and commits since this day.

    The newest come first, and at one release or commit the largest.
    """
    every = [
        change
        for series in benchmarks
        for line, points in lines(series).items()
        for change in _of_line(series, line, points, least)
        if since is None or change.after.date.date() >= since
    ]
    return sorted(
        every, key=lambda each: (-each.after.date.timestamp(), -abs(math.log(each.ratio)))
    )


def lines(series: Series) -> dict[tuple[str, str], list[tuple[Entry, list[Record]]]]:
    """Points of each curve of a benchmark, oldest first, by machine and case, of the main branch."""
    curves: dict[tuple[str, str], dict[Entry, list[Record]]] = {}
    for (entry, machine, what), records in series.records.items():
        curves.setdefault((machine, what), {})[entry] = records
    lines: dict[tuple[str, str], list[tuple[Entry, list[Record]]]] = {}
    for key, members in curves.items():
        ordered = sorted(members, key=lambda entry: (entry.date, entry.name))
        main = timeline.branches(ordered)[timeline.BRANCH]
        lines[key] = [(entry, members[entry]) for entry in main]
    return lines


def _of_line(
    series: Series, line: tuple[str, str], points: list[tuple[Entry, list[Record]]], least: float
) -> list[Change]:
    values = [statistics.median(series.samples(records)) for _, records in points]
    machine, what = line
    case = ", ".join(f"{key}={value}" for key, value in series.axes(machine)[what].items())
    changes = []
    for place, ratio, low, high in steps(values):
        if max(ratio, 1 / ratio) < 1 + least or low <= 1 <= high:
            continue
        (before, old), (after, new) = points[place - 1], points[place]
        least_old, least_new = (min(series.samples(records)) for records in (old, new))
        if min(least_old, least_new) <= 0:
            continue
        fastest = least_new / least_old
        if max(fastest, 1 / fastest) < 1 + least or (fastest > 1) != (ratio > 1):
            continue
        changes.append(
            Change(
                benchmark=series.name,
                case=case,
                machine=machine,
                before=before,
                after=after,
                ratio=ratio,
                low=low,
                high=high,
                unit=series.quantity.unit,
                versions=differences(known_versions(old[-1]), known_versions(new[-1])),
            )
        )
    return changes


def known_versions(record: Record) -> dict[str, str]:
    """Versions of packages and of the measuring code, which may be what changed."""
    known = suite_code(record)
    return {**record.versions, **({SUITE: known} if known else {})}


@dataclass(frozen=True)
class _Fit:
    """Pieces of a series of logarithms, and how much the values vary within them."""

    pieces: list[tuple[int, int]]
    means: list[float]
    apart: Sequence[float]
    """Distances of neighbours."""
    spread: float
    """Standard deviation within the pieces."""
    freedom: int


def _noise(apart: Sequence[float]) -> float:
    # Few neighbours are on two sides of a step, and the median ignores these.
    noise = statistics.median(apart) / QUARTILE / math.sqrt(2)
    return max(noise, LEAST_NOISE)


@cache
def _fit(values: tuple[float, ...]) -> _Fit | None:
    """The pieces of a series of positive numbers; None of one too short to show how much it varies."""
    if len(values) < LEAST_POINTS or min(values) <= 0:
        return None
    y = np.log(values)
    apart = np.abs(np.diff(y)).tolist()
    fitted = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(y[:, np.newaxis])
    ends = fitted.predict(pen=PENALTY * _noise(apart) ** 2 * math.log(len(y)))
    pieces = list(pairwise([0, *ends]))
    freedom = len(y) - len(pieces)
    if freedom < 1:
        return None
    means = [float(np.mean(y[left:right])) for left, right in pieces]
    rest = sum(
        float(np.sum((y[left:right] - mean) ** 2))
        for (left, right), mean in zip(pieces, means, strict=True)
    )
    return _Fit(pieces, means, apart, math.sqrt(rest / freedom), freedom)


def _reach(points: int, freedom: int, spread: float, noise: float) -> float:
    """Half of the interval of a difference of two values, in logarithms."""
    # The data choose the pieces: correct for all that neighbours can make, on either side.
    error = (1 - CONFIDENCE) / (points * (points - 1))
    return _quantile(1 - error, freedom) * max(spread, noise)


@cache
def _quantile(probability: float, freedom: int) -> float:
    """That of Student's t."""
    return float(stats.t.ppf(probability, freedom))


def steps(values: Sequence[float]) -> list[tuple[int, float, float, float]]:
    """Steps in a series of positive numbers, in their order in time; none in one too short.

    Each is the index of the first value after it, the ratio of after to before, and the ends of the
    ratio's interval, corrected for the number of pieces that there could be.
    """
    fit = _fit(tuple(values))
    if fit is None:
        return []
    reach = _reach(len(values), fit.freedom, fit.spread, _noise(fit.apart))
    steps = []
    for (before, after), (old, new) in zip(pairwise(fit.means), pairwise(fit.pieces), strict=True):
        size = after - before
        reached = reach * math.sqrt(sum(1 / (right - left) for left, right in (old, new)))
        low, high = math.exp(size - reached), math.exp(size + reached)
        steps.append((new[0], math.exp(size), low, high))
    return steps


def smallest(values: Sequence[float]) -> float | None:
    """Ratio from which on the next value of a series would be judged a step.

    It exceeds `LEAST`, costs less than the penalty of a step, and has an interval without 1, all as
    in `steps` of the series with one more value. Steps that are there already may merge, so that a
    smaller one is judged too. None if nothing is judged of this series.
    """
    fit = _fit(tuple(values))
    if fit is None:
        return None
    left, right = fit.pieces[-1]
    size = math.sqrt(1 / (right - left) + 1)
    points = len(values) + 1
    # The step is one more, and large, distance of neighbours; the new point is a piece of its own.
    noise = _noise([*fit.apart, math.inf])
    reach = _reach(points, fit.freedom, fit.spread, noise)
    penalty = math.sqrt(PENALTY * math.log(points)) * noise
    return math.exp(max(math.log(1 + LEAST), size * reach, size * penalty))


def differences(
    old: dict[str, str], new: dict[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, with both versions; None where one is missing."""
    return {
        name: (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def packages(change: Change) -> list[str]:
    """What else changed at a change point, with both versions."""
    # This suite comes first, then coffea and the packages that it builds on.
    first = {name: place for place, name in enumerate((SUITE, *PACKAGES))}
    ordered = sorted(change.versions, key=lambda name: (first.get(name, len(first)), name))
    return [f"{name} {_pair(*change.versions[name])}" for name in ordered]


def table(changes: Sequence[Change], *, others: int = 6) -> Table:
    """Table of change points; names at most so many packages that changed at one point."""
    shown = Table(
        "at", "benchmark", title="Change points: coffea and what changed with it", pad_edge=False
    )
    for heading in ("change", f"{CONFIDENCE:.0%} interval"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("changed there")
    for change in changes:
        named = packages(change)
        more = len(named) - others
        shown.add_row(
            f"{change.after.name[:10]}\n{change.after.date:%Y-%m-%d}",
            f"{change.benchmark}{f' ({change.case})' if change.case else ''}",
            f"{change.ratio - 1:+.0%}",
            f"{change.low - 1:+.0%} to {change.high - 1:+.0%}",
            ", ".join(named[:others]) + (f" and {more} more" if more > 0 else "") or "nothing",
        )
    return shown


def _pair(old: str | None, new: str | None) -> str:
    if old is None:
        return f"{new} (new)"
    return f"{old} (gone)" if new is None else f"{old} to {new}"
