"""Records as series: every quantity of a group of records, over releases and commits of coffea."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from perf.publish.timeline import Entry
from perf.records import provenance
from perf.records.from_asv import ASV, PER_EVENT
from perf.records.releases import is_release, release_date

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perf.records.record_file import Record
    from perf.records.void import Void

FRESH: Final = ("history-", "scale-", "claim-")
"""Prefixes of what has a process of its own, and memory of its own, if it is no kernel."""

CODE_LENGTH: Final = 8
"""Characters of an identity of code or input that are shown."""

_AXES: Final = ("implementation", "executor", "workers", "size", "chunksize")
_NO_FOLDER: Final = re.compile(r"[^\w .@()+-]+")
"""What a name of a processor may hold that a folder may not."""

_SLUG: Final = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True)
class Quantity:
    """One number of a record.

    Less is better in all: a rate would be judged backwards.

    Attributes
    ----------
    name, kind, unit
        Of asv's benchmark.
    samples
        The samples of a record in this unit; none where it was not measured.
    """

    name: str
    kind: str
    unit: str
    samples: Callable[[Record], Sequence[float]]


def _fresh(record: Record) -> bool:
    """Whether a process of its own measured it: some wrote the memory of whatever ran before."""
    what = record.what
    own = what.name.startswith(FRESH) and what.kind in {"import", "processor"}
    return own or what.name.startswith(ASV)


def _per_event(samples: Sequence[float], record: Record) -> Sequence[float]:
    return [one / record.input.events for one in samples] if record.input.events else samples


def quantities(record: Record) -> list[Quantity]:
    """What was measured in a record."""
    per = PER_EVENT if record.input.events else ""
    timed = [
        Quantity(f"cpu_seconds{per}", "time", "seconds", lambda r: _per_event(r.cpu_seconds, r)),
        Quantity(f"wall_seconds{per}", "time", "seconds", lambda r: _per_event(r.wall_seconds, r)),
        Quantity(
            "peak_memory_bytes",
            "peakmemory",
            "bytes",
            lambda r: [] if not _fresh(r) or r.peak_memory is None else [float(r.peak_memory)],
        ),
    ]
    counted = [
        Quantity(
            _SLUG.sub("_", unit),
            "track",
            unit,
            lambda r, unit=unit: r.counts.get(unit, ()),  # type: ignore[misc]
        )
        for unit in record.counts
    ]
    sized = [
        Quantity(
            name,
            "track",
            "bytes",
            lambda r, name=name: [float(r.metrics[name])] if name in r.metrics else [],  # type: ignore[misc]
        )
        for name in record.metrics
        if name.endswith("_bytes")
    ]
    return [one for one in (*timed, *counted, *sized) if one.samples(record)]


@dataclass
class Series:
    """A benchmark: one quantity of one group of records.

    Attributes
    ----------
    records
        Those of the newest run, by point in time, machine and name of what was measured.
    void
        The declarations that took measurements of it away.
    """

    name: str
    quantity: Quantity
    records: dict[tuple[Entry, str, str], list[Record]] = field(default_factory=dict)
    void: set[Void] = field(default_factory=set)

    def add(self, entry: Entry, machine: str, what: str, record: Record) -> None:
        """Add a measurement, in the place of those of an older run."""
        kept = self.records.setdefault((entry, machine, what), [])
        if kept and _campaign(kept[-1]) != _campaign(record):
            kept.clear()
        kept.append(record)

    def samples(self, records: Sequence[Record]) -> list[float]:
        """Of several processes one number each: samples of one process are no repetitions."""
        if len(records) == 1:
            return list(self.quantity.samples(records[0]))
        return [statistics.median(self.quantity.samples(record)) for record in records]

    @property
    def newest(self) -> Record:
        """The record that was made last."""
        return max((one[-1] for one in self.records.values()), key=lambda one: one.timestamp)

    @property
    def axes(self) -> dict[str, dict[str, str]]:
        """Parameters by name of what was measured: those that differ between any two."""
        cases = {what: records[-1] for (_, _, what), records in self.records.items()}
        chosen = {what: _axes(record) for what, record in cases.items()}
        names = dict.fromkeys(key for one in chosen.values() for key in one)
        differing = [key for key in names if len({one.get(key) for one in chosen.values()}) > 1]
        found = {
            what: {key: one.get(key, "-") for key in differing} for what, one in chosen.items()
        }
        if len({tuple(one.values()) for one in found.values()}) < len(found):
            # What tells them apart is in their names alone.
            return {what: {"case": what} for what in found}
        return found


def _axes(record: Record) -> dict[str, str]:
    what = record.what
    if what.name.startswith(ASV):
        return {key: str(value) for key, value in what.parameters.items()}
    found = {
        {"size": "events"}.get(axis, axis): str(value)
        for axis in _AXES
        if (value := getattr(what, axis)) is not None
    }
    detail = str(what.parameters.get("detail", ""))
    return found | ({"mode": detail} if detail and detail not in found.values() else {})


def when(record: Record) -> Entry | None:
    """The release or commit of coffea that a record is of, with its date; None if not known."""
    version = record.versions.get("coffea")
    if version is not None and is_release(version):
        date = release_date(version) or record.committed
        return Entry(f"v{version}", date, release=True) if date else None
    if record.commit and record.committed:
        return Entry(record.commit, record.committed, release=False)
    return None


def series(records: Iterable[Record], voids: Sequence[Void] = ()) -> dict[str, Series]:
    """Benchmarks by name, of those records that have a point in time and are not void.

    Records are oldest first: of two of the same thing the newer counts.
    """
    found: dict[str, Series] = {}
    points: list[tuple[Series, Entry, Record]] = []
    cpus: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = defaultdict(set)
    for record in records:
        entry = when(record)
        if entry is None:
            continue
        for quantity in quantities(record):
            name = _name(record, quantity)
            one = found.setdefault(name, Series(name, quantity))
            if declared := [void for void in voids if void.covers(name, record)]:
                one.void.update(declared)
                continue
            points.append((one, entry, record))
            cpus[record.machine.name].add(record.machine.cpu)
            inputs[record.what.name].add(record.input.digest)
    for one, entry, record in points:
        what, machine = record.what.name, record.machine.name
        # No curve is of two machines that share a name, or of two inputs.
        if len(cpus[machine]) > 1:
            machine += f" ({_NO_FOLDER.sub('_', record.machine.cpu) or 'unknown'})"
        if len(inputs[what]) > 1:
            what += f" on {record.input.digest[:CODE_LENGTH]}"
        one.add(entry, machine, what, record)
    return {name: one for name, one in sorted(found.items()) if one.records}


def _name(record: Record, quantity: Quantity) -> str:
    what = record.what
    if what.name.startswith(ASV):
        return what.group
    stack = what.parameters.get("stack")
    parts = [what.kind, what.group, *([f"on_{stack}"] if stack else []), quantity.name]
    return ".".join(_SLUG.sub("_", str(part)).strip("_") for part in parts)


def _campaign(record: Record) -> str:
    """What tells runs apart: one that was interrupted and taken up again is one."""
    return str(record.what.parameters.get("campaign", record.run))


def suite_code(record: Record) -> str | None:
    """Identity of the code of this suite that measured; None where it was not kept."""
    more = record.what.parameters
    known = more.get("code") or more.get("campaign")
    return record.versions.get(provenance.SUITE) or (str(known)[:CODE_LENGTH] if known else None)
