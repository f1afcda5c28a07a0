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
"""Characters of a processor's name that the name of a folder must not have."""

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
    """Whether it was measured in a process of its own; otherwise its memory is that of others too."""
    what = record.what
    own = what.name.startswith(FRESH) and what.kind in {"import", "processor"}
    return own or what.name.startswith(ASV)


def _per_event(samples: Sequence[float], record: Record) -> Sequence[float]:
    return (
        [seconds / record.input.events for seconds in samples] if record.input.events else samples
    )


def quantities(record: Record) -> list[Quantity]:
    """The quantities that a record has."""
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
    return [each for each in (*timed, *counted, *sized) if each.samples(record)]


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
        """Add a record, which replaces those of an older run."""
        present = self.records.setdefault((entry, machine, what), [])
        if present and _campaign(present[-1]) != _campaign(record):
            present.clear()
        present.append(record)

    def samples(self, records: Sequence[Record]) -> list[float]:
        """One number of each process if there are several: samples of one process are no repetitions."""
        if len(records) == 1:
            return list(self.quantity.samples(records[0]))
        return [statistics.median(self.quantity.samples(record)) for record in records]

    @property
    def newest(self) -> Record:
        """The newest record."""
        return max((run[-1] for run in self.records.values()), key=lambda record: record.timestamp)

    @property
    def axes(self) -> dict[str, dict[str, str]]:
        """The parameters that differ between any two measurements, by their name."""
        cases = {what: records[-1] for (_, _, what), records in self.records.items()}
        chosen = {what: _axes(record) for what, record in cases.items()}
        keys = dict.fromkeys(key for values in chosen.values() for key in values)
        differing = [key for key in keys if len({v.get(key) for v in chosen.values()}) > 1]
        parameters = {
            what: {key: values.get(key, "-") for key in differing}
            for what, values in chosen.items()
        }
        if len({tuple(values.values()) for values in parameters.values()}) < len(parameters):
            # Two measurements differ in nothing but their names.
            return {what: {"case": what} for what in parameters}
        return parameters


def _axes(record: Record) -> dict[str, str]:
    what = record.what
    if what.name.startswith(ASV):
        return {key: str(value) for key, value in what.parameters.items()}
    values = {
        {"size": "events"}.get(axis, axis): str(value)
        for axis in _AXES
        if (value := getattr(what, axis)) is not None
    }
    detail = str(what.parameters.get("detail", ""))
    return values | ({"mode": detail} if detail and detail not in values.values() else {})


def when(record: Record) -> Entry | None:
    """The release or commit of coffea of a record, with its date; None if that is unknown."""
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
    benchmarks: dict[str, Series] = {}
    points: list[tuple[Series, Entry, Record]] = []
    cpus: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = defaultdict(set)
    for record in records:
        entry = when(record)
        if entry is None:
            continue
        for quantity in quantities(record):
            name = _name(record, quantity)
            benchmark = benchmarks.setdefault(name, Series(name, quantity))
            if declared := [void for void in voids if void.covers(name, record)]:
                benchmark.void.update(declared)
                continue
            points.append((benchmark, entry, record))
            cpus[record.machine.name].add(record.machine.cpu)
            inputs[record.what.name].add(record.input.digest)
    for benchmark, entry, record in points:
        what, machine = record.what.name, record.machine.name
        # A curve never mixes two machines that share a name, or two inputs.
        if len(cpus[machine]) > 1:
            machine += f" ({_NO_FOLDER.sub('_', record.machine.cpu) or 'unknown'})"
        if len(inputs[what]) > 1:
            what += f" on {record.input.digest[:CODE_LENGTH]}"
        benchmark.add(entry, machine, what, record)
    return {name: each for name, each in sorted(benchmarks.items()) if each.records}


def _name(record: Record, quantity: Quantity) -> str:
    what = record.what
    if what.name.startswith(ASV):
        return what.group
    stack = what.parameters.get("stack")
    parts = [what.kind, what.group, *([f"on_{stack}"] if stack else []), quantity.name]
    return ".".join(_SLUG.sub("_", str(part)).strip("_") for part in parts)


def _campaign(record: Record) -> str:
    """Identity of a campaign: one that was interrupted and resumed is one."""
    return str(record.what.parameters.get("campaign", record.run))


def suite_code(record: Record) -> str | None:
    """Identity of the code of this suite that measured; None if it is not recorded."""
    more = record.what.parameters
    known = more.get("code") or more.get("campaign")
    return record.versions.get(provenance.SUITE) or (str(known)[:CODE_LENGTH] if known else None)
