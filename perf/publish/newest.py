"""The newest measurement of each thing on one machine, as pages show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from perf.measure import estimate, paired
from perf.measure.estimate import of_median
from perf.records.table import made_with

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from perf.measure.estimate import Estimate
    from perf.publish.page import Material
    from perf.records.record_file import Record

CLOCKS: Final = {"wall": "wall_seconds", "CPU": "cpu_seconds"}


@dataclass(frozen=True)
class Measured:
    """Median of samples, with an interval where there are enough of them, or else their range."""

    record: Record
    estimate: Estimate
    samples: int

    @property
    def sure(self) -> bool:
        """Whether there are enough samples for an interval."""
        return estimate.sure(self.samples)

    def as_json(self) -> dict[str, Any]:
        """As `estimated`, with the number of samples."""
        return estimated(self.estimate, sure=self.sure) | {"samples": self.samples}


def estimated(found: Estimate, *, sure: bool) -> dict[str, Any]:
    """An estimate for templates and charts.

    `low` and `high` are the ends of its interval, None without one; `least` and `most` those of
    the interval or else of the range.
    """
    least, most = found.low, found.high
    low, high = (least, most) if sure else (None, None)
    return {"value": found.value, "low": low, "high": high, "least": least, "most": most}


@dataclass(frozen=True)
class Newest:
    """What one machine measured, and the names of others that measured such things too."""

    machine: str | None
    others: tuple[str, ...]
    measured: tuple[Measured, ...]


def newest(material: Material, clock: str, wanted: Callable[[Record], bool]) -> Newest:
    """Seconds of the wanted records, of each the one of the newest coffea.

    The machine is that of the history, or else the one that measured such things first: a second
    machine never displaces the first.
    """
    found: dict[str, dict[str, tuple[Any, Measured]]] = {}
    first: dict[str, Any] = {}
    for series in material.benchmarks.values():
        if not series.quantity.name.startswith(CLOCKS[clock]):
            continue
        for (entry, machine, what), records in series.records.items():
            record = records[-1]
            if not wanted(record):
                continue
            first[machine] = min(first.get(machine, record.timestamp), record.timestamp)
            samples = series.samples(records)
            measured = Measured(record, of_median(samples), len(samples))
            when = (entry.date, record.timestamp)
            best = found.setdefault(machine, {})
            if what not in best or best[what][0] < when:
                best[what] = when, measured
    if not found:
        return Newest(None, (), ())
    order = sorted(found, key=lambda name: (name != material.machine, first[name], name))
    of = found[order[0]].values()
    return Newest(order[0], tuple(order[1:]), tuple(measured for _, measured in of))


def how(measured: Sequence[Measured], command: str) -> list[dict[str, Any]]:
    """What "How?" says of each run that measured these, the newest first."""
    of_run: dict[str, list[Record]] = {}
    for each in measured:
        of_run.setdefault(each.record.run, []).append(each.record)
    newest_first = sorted(of_run.values(), key=lambda of: of[-1].timestamp, reverse=True)
    return [
        {
            "command": command,
            "measured": f"{of[-1].timestamp:%Y-%m-%d %H:%M} UTC",
            "machine": made_with({}, of[-1].machine).splitlines()[-1],
            "load": max(
                (x for one in of for x in (one.load_before, one.load_after) if x is not None),
                default=None,
            ),
            "versions": of[-1].versions,
        }
        for of in newest_first
    ]


def judged(records: Iterable[Record], kinds: Collection[str], command: str) -> dict[str, Any]:
    """The newest verdict of ``claims`` on each ratio of these kinds, by machine; see _claims.html."""
    found = {
        (claimed.claim, record.machine.name): {
            **claimed.model_dump(),
            "machine": record.machine.name,
            "measured": f"{record.timestamp:%Y-%m-%d}",
        }
        for record in records
        if record.what.kind in kinds
        for claimed in record.claims
    }
    return {"verdicts": list(found.values()), "confidence": paired.CONFIDENCE, "command": command}
