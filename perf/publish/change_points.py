"""Change points of the history: where, how large, how sure, and what else changed there.

Steps are found on logarithms by PELT (Killick et al. 2012, arXiv:1101.1438), which ruptures has.
asv's own detector, by which its pages list regressions, is made for long series: it cuts six
releases, the last three of which take four times as long, into five pieces, finds none of three
steps in eleven, and says of no step how sure it is. Here a step is told only if the interval of
its size leaves out no change, if it is large enough, and if the fastest process on either side
shows it too: other work on a machine makes processes slower, sometimes most of a release's. The
unit of replication is the release or commit, that is processes of its own, and not the sample.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from datetime import date
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
"""Smallest change that is told: between releases that were measured at other times, steps of a
few percent come and go (notes on noise: 1 to 3 % of CPU time between processes)."""

PENALTY: Final = 6.0
"""Of a step, in variances of the noise times the logarithm of the number of points. With
three times the BIC's, no more than one curve of a hundred without a step has one."""

LEAST_NOISE: Final = 1e-9
"""Counts have none."""

LEAST_POINTS: Final = 4
"""Of fewer nobody can say how much the points vary by themselves; `compare` decides those."""


@dataclass(frozen=True)
class Change:
    """A change point.

    Attributes
    ----------
    benchmark, case, machine
        Of what: benchmark, values of its parameters, machine.
    before, after
        The last point before and the first one after.
    ratio, low, high
        Of after to before, with the ends of its interval.
    unit
        Of the quantity.
    versions
        Packages that differ between the two points, with both versions; None where there is none.
        This suite is one of them.
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
        """Less is better, in every quantity."""
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
    found: Iterable[Series], *, least: float = LEAST, since: date | None = None
) -> list[Change]:
    """Change points of benchmarks.

    Parameters
    ----------
    found
        The benchmarks.
    least
        Smallest change, as a fraction.
    since
        Only those at releases and commits of this day or later.

    Returns
    -------
    list[Change]
        The newest first, of one point the largest first.
    """
    every = [
        change
        for one in found
        for line, points in _lines(one).items()
        for change in _of_line(one, line, points, least)
    ]
    kept = [one for one in every if since is None or one.after.date.date() >= since]
    return sorted(kept, key=lambda one: (-one.after.date.timestamp(), -abs(math.log(one.ratio))))


def _lines(one: Series) -> dict[tuple[str, str], list[tuple[Entry, list[Record]]]]:
    """Points of each curve of a benchmark, oldest first: of one machine, case and branch."""
    curves: dict[tuple[str, str], dict[Entry, list[Record]]] = {}
    for (entry, machine, what), records in one.records.items():
        curves.setdefault((machine, what), {})[entry] = records
    found: dict[tuple[str, str], list[tuple[Entry, list[Record]]]] = {}
    for key, members in curves.items():
        ordered = sorted(members, key=lambda entry: (entry.date, entry.name))
        main = timeline.branches(ordered)[timeline.BRANCH]
        found[key] = [(entry, members[entry]) for entry in main]
    return found


def _of_line(
    one: Series, line: tuple[str, str], points: list[tuple[Entry, list[Record]]], least: float
) -> list[Change]:
    values = [statistics.median(one.samples(records)) for _, records in points]
    machine, what = line
    case = ", ".join(f"{key}={value}" for key, value in one.axes[what].items())
    found = []
    for place, ratio, low, high in steps(values):
        if max(ratio, 1 / ratio) < 1 + least or low <= 1 <= high:
            continue
        (before, old), (after, new) = points[place - 1], points[place]
        fastest = min(one.samples(new)) / min(one.samples(old))
        if max(fastest, 1 / fastest) < 1 + least or (fastest > 1) != (ratio > 1):
            continue
        found.append(
            Change(
                benchmark=one.name,
                case=case,
                machine=machine,
                before=before,
                after=after,
                ratio=ratio,
                low=low,
                high=high,
                unit=one.quantity.unit,
                versions=differences(_versions(old[-1]), _versions(new[-1])),
            )
        )
    return found


def _versions(record: Record) -> dict[str, str]:
    """With that of the code which measured: what it does may be what changed."""
    known = suite_code(record)
    return {**record.versions, **({SUITE: known} if known else {})}


def steps(values: Sequence[float]) -> list[tuple[int, float, float, float]]:
    """Steps in a series of positive numbers.

    Parameters
    ----------
    values
        In their order in time.

    Returns
    -------
    list
        Place of the first value after a step, its ratio to what was before, and the ends of the
        ratio's interval, corrected for the number of pieces that there could be. Of too few values
        none.
    """
    if len(values) < LEAST_POINTS or min(values) <= 0:
        return []
    y = np.log(values)
    # Of neighbours, few are on two sides of a step: the median does not see these.
    noise = stats.norm.ppf(0.75) ** -1 * float(np.median(np.abs(np.diff(y)))) / math.sqrt(2)
    noise = max(noise, LEAST_NOISE)
    found = ruptures.Pelt(model="l2", min_size=1, jump=1).fit(y[:, np.newaxis])
    ends = found.predict(pen=PENALTY * noise**2 * math.log(len(y)))
    pieces = list(pairwise([0, *ends]))
    freedom = len(y) - len(pieces)
    if freedom < 1:
        return []
    means = [float(np.mean(y[left:right])) for left, right in pieces]
    rest = sum(
        float(np.sum((y[left:right] - mean) ** 2))
        for (left, right), mean in zip(pieces, means, strict=True)
    )
    # Pieces are chosen by the data: of all that neighbours can make, on either side.
    error = (1 - CONFIDENCE) / (len(y) * (len(y) - 1))
    reach = float(stats.t.ppf(1 - error, freedom)) * max(math.sqrt(rest / freedom), noise)
    told = []
    for (before, after), (old, new) in zip(pairwise(means), pairwise(pieces), strict=True):
        size = after - before
        reached = reach * math.sqrt(sum(1 / (right - left) for left, right in (old, new)))
        told.append((new[0], *(math.exp(one) for one in (size, size - reached, size + reached))))
    return told


def differences(
    old: dict[str, str], new: dict[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, with both; None where one has none."""
    return {
        name: (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def table(found: Sequence[Change], *, others: int = 6) -> Table:
    """Change points, for people.

    Parameters
    ----------
    found
        Of `changes`.
    others
        Most packages that are named of one point.
    """
    shown = Table(
        "at", "benchmark", title="Change points: coffea and what changed with it", pad_edge=False
    )
    for heading in ("change", f"{CONFIDENCE:.0%} interval"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("changed there")
    for one in found:
        # Those first that measure, or that coffea is made of.
        first = (SUITE, *PACKAGES)
        ordered = sorted(one.versions, key=lambda name: (name not in first, name != SUITE, name))
        named = [f"{name} {_pair(*one.versions[name])}" for name in ordered]
        more = len(named) - others
        shown.add_row(
            f"{one.after.name[:10]}\n{one.after.date:%Y-%m-%d}",
            f"{one.benchmark}{f' ({one.case})' if one.case else ''}",
            f"{one.ratio - 1:+.0%}",
            f"{one.low - 1:+.0%} to {one.high - 1:+.0%}",
            ", ".join(named[:others]) + (f" and {more} more" if more > 0 else "") or "nothing",
        )
    return shown


def _pair(old: str | None, new: str | None) -> str:
    if old is None:
        return f"{new} (new)"
    return f"{old} (gone)" if new is None else f"{old} to {new}"
