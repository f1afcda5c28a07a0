"""Records as series: every quantity of a group of records, over releases and commits of coffea."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from perf.publish.timeline import Entry
from perf.records import provenance
from perf.records.from_asv import ASV, PER_EVENT
from perf.records.own_memory import own_memory
from perf.records.releases import is_release, release_date

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Sized

    from perf.records.record_file import Record
    from perf.records.void import Void

CODE_LENGTH: Final = 8
"""Characters of an identity of code or input that are shown."""

_AXES: Final = ("implementation", "executor", "workers", "size", "chunksize")
_NO_FOLDER: Final = re.compile(r"[^\w .@()+-]+")
"""Characters of a processor's name that the name of a folder must not have."""

_SLUG: Final = re.compile(r"[^A-Za-z0-9_.]+")


class Quantity(NamedTuple):
    """A number of records, as asv describes it. Less is better: asv would judge a rate backwards."""

    name: str
    kind: str
    unit: str


def quantities(record: Record) -> dict[Quantity, Sequence[float]]:
    """The samples of the quantities that a record has."""
    per, events = (PER_EVENT, record.input.events) if record.input.events else ("", 1)
    samples: dict[Quantity, Sequence[float]] = {
        Quantity(f"{name}{per}", "time", "seconds"): [value / events for value in seconds]
        for name, seconds in (
            ("cpu_seconds", record.cpu_seconds),
            ("wall_seconds", record.wall_seconds),
        )
    }
    if (memory := own_memory(record)) is not None:
        samples[Quantity("peak_memory_bytes", "peakmemory", "bytes")] = [float(memory)]
    for unit, counts in record.counts.items():
        samples[Quantity(_SLUG.sub("_", unit), "track", unit)] = counts
    for name, value in record.metrics.items():
        if name.endswith("_bytes"):
            samples[Quantity(name, "track", "bytes")] = [float(value)]
    return {quantity: values for quantity, values in samples.items() if values}


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
    # By identity of the records, which are asked for several times.
    _values: dict[int, Sequence[float]] = field(default_factory=dict, repr=False)

    def add(
        self, entry: Entry, machine: str, what: str, record: Record, values: Sequence[float]
    ) -> None:
        """Add a record, which replaces those of an older run."""
        present = self.records.setdefault((entry, machine, what), [])
        if present and present[-1].campaign != record.campaign:
            present.clear()
        present.append(record)
        self._values[id(record)] = values

    def samples(self, records: Sequence[Record]) -> list[float]:
        """One number of each process if there are several: samples of one process are no repetitions."""
        samples = [self._values[id(record)] for record in records]
        return list(samples[0]) if len(samples) == 1 else [statistics.median(s) for s in samples]

    @property
    def newest(self) -> Record:
        """The newest record."""
        return max((run[-1] for run in self.records.values()), key=lambda record: record.timestamp)

    def axes(self, machine: str | None = None) -> dict[str, dict[str, str]]:
        """The parameters that differ between any two measurements on a machine, or on all, by name."""
        cases = {
            what: records[-1]
            for (_, where, what), records in self.records.items()
            if machine in {None, where}
        }
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
    points: list[tuple[Series, Entry, Record, Sequence[float]]] = []
    inputs: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for record in records:
        entry = when(record)
        if entry is None:
            continue
        for quantity, values in quantities(record).items():
            name = _name(record, quantity)
            benchmark = benchmarks.setdefault(name, Series(name, quantity))
            if declared := [void for void in voids if void.covers(name, record)]:
                benchmark.void.update(declared)
                continue
            points.append((benchmark, entry, record, values))
            inputs[_case(record)].add(record.input.digest)
    machines = _machines(points)
    for benchmark, entry, record, values in points:
        what = record.what.name
        # A curve never mixes two inputs; another machine's do not change the names of this one's.
        if len(inputs[_case(record)]) > 1:
            what += f" on {record.input.digest[:CODE_LENGTH]}"
        machine = machines[record.machine.name, record.machine.cpu]
        benchmark.add(entry, machine, what, record, values)
    return {name: each for name, each in sorted(benchmarks.items()) if each.records}


def default_machine(benchmarks: Iterable[Series]) -> str | None:
    """The machine with most points of history; None without any machine.

    One release or commit alone is no history, so that a run of everything on another machine does
    not displace the one whose history is known.
    """
    curves: dict[tuple[str, str, str], int] = Counter(
        (machine, benchmark.name, what)
        for benchmark in benchmarks
        for _, machine, what in benchmark.records
    )
    return next(iter(_by_history({key: range(n) for key, n in curves.items()})), None)


def _machines(
    points: Iterable[tuple[Series, Entry, Record, Sequence[float]]],
) -> dict[tuple[str, str], str]:
    """Names of machines by their given names and processors.

    A curve never mixes two that share a name: that with most points of history has it alone.
    """
    curves: dict[tuple[tuple[str, str], str, str], set[Entry]] = defaultdict(set)
    for benchmark, entry, record, _ in points:
        machine = record.machine.name, record.machine.cpu
        curves[machine, benchmark.name, record.what.name].add(entry)
    names: dict[tuple[str, str], str] = {}
    for name, cpu in _by_history(curves):
        known = name in names.values()
        names[name, cpu] = f"{name} ({_NO_FOLDER.sub('_', cpu) or 'unknown'})" if known else name
    return names


_Machine = TypeVar("_Machine", str, tuple[str, str])


def _by_history(curves: Mapping[tuple[_Machine, str, str], Sized]) -> list[_Machine]:
    """Machines of curves, those with most points of history first, then with most points."""
    history: Counter[_Machine] = Counter()
    every: Counter[_Machine] = Counter()
    for (machine, *_), members in curves.items():
        every[machine] += len(members)
        history[machine] += len(members) if len(members) > 1 else 0
    return sorted(every, key=lambda machine: (-history[machine], -every[machine], machine))


def _case(record: Record) -> tuple[str, str, str]:
    return record.machine.name, record.machine.cpu, record.what.name


def _name(record: Record, quantity: Quantity) -> str:
    what = record.what
    if what.name.startswith(ASV):
        return what.group
    stack = what.parameters.get("stack")
    parts = [what.kind, what.group, *([f"on_{stack}"] if stack else []), quantity.name]
    return ".".join(_SLUG.sub("_", str(part)).strip("_") for part in parts)


def suite_code(record: Record) -> str | None:
    """Identity of the code of this suite that measured; None if it is not recorded."""
    more = record.what.parameters
    known = more.get("code") or more.get("campaign")
    return record.versions.get(provenance.SUITE) or (str(known)[:CODE_LENGTH] if known else None)
