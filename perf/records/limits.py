"""Records of the limit: what its parts are, and which processor is how many times above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perf.records.record_file import Record

KIND: Final = "limit"
"""Kind of the records of parts, and of all records of ``limits``."""

PREFIX: Final = "limit-"
"""Of what ``limits`` measured; the parts among the benchmarks begin otherwise."""

Part = Literal["read", "data", "whole", "compute"]
"""Reading the bytes of the baskets; decompressing their data, or all of them; computing."""

PARTS: Final[tuple[Part, ...]] = get_args(Part)

Limit = Literal["data only", "whole"]
SUMS: Final[dict[Limit, tuple[Part, ...]]] = {
    "data only": ("read", "data", "compute"),
    "whole": ("read", "whole", "compute"),
}
"""Limits by what is decompressed: nobody needs the offsets that lie behind the data of a basket."""


def limit(samples: Mapping[str, Sequence[float]], of: Limit = "data only") -> list[float]:
    """Sum of the parts in each process; samples of all parts are of the same processes in order."""
    return [sum(each) for each in zip(*(samples[part] for part in SUMS[of]), strict=True)]


@dataclass
class Cell:
    """What is compared: one input in the same processes.

    Attributes
    ----------
    machine
        Its name.
    codec, variations, allocator
        Of the files, of the analysis, and of the processes: those of workers, or as it comes.
    parts
        Records by part.
    processors
        Records by chunk size and implementation.
    """

    machine: str
    codec: str
    variations: str
    allocator: str
    parts: dict[str, Record] = field(default_factory=dict)
    processors: dict[tuple[int, str], Record] = field(default_factory=dict)

    def limit(self, of: Limit = "data only") -> list[float]:
        """CPU seconds in each process."""
        return limit({name: record.cpu_seconds for name, record in self.parts.items()}, of)


def cells(records: Iterable[Record]) -> list[Cell]:
    """Records of ``limits`` by what is compared, of each machine and cell those of the newest run."""
    found: dict[tuple[str, str, str, str], Cell] = {}
    runs: dict[tuple[str, str, str, str], str] = {}
    for record in sorted(records, key=lambda record: record.timestamp):
        what = record.what
        if what.kind != KIND or not what.name.startswith(PREFIX) or not record.input.events:
            continue
        codec, variations, allocator = (
            str(what.parameters[name]) for name in ("codec", "variations", "allocator")
        )
        key = record.machine.name, codec, variations, allocator
        if runs.get(key) != record.run:
            runs[key] = record.run
            found[key] = Cell(*key)
        cell = found[key]
        if what.chunksize is None:
            cell.parts[what.subject] = record
        else:
            cell.processors[what.chunksize, str(what.implementation)] = record
    # One that was interrupted has no limit.
    return [cell for cell in found.values() if {*PARTS} <= cell.parts.keys()]


def distance(records: Iterable[Record], names: Mapping[str, str]) -> str:
    """How far processors are from the limit, in a run of the benchmarks.

    Of medians in one process, and of the largest chunks; empty if there is no limit among them.
    `names` are those of implementations for people.
    """
    limits: dict[str, float] = {}
    processors: dict[int, dict[str, float]] = {}
    for record in records:
        what, cost = record.what, record.cpu_seconds_per_event
        if what.group != "ttbar, nominal" or not cost or what.parameters.get("source") == "real":
            continue
        if what.kind == KIND:
            limits[what.subject] = 1e9 * cost
        elif what.executor == "iterative" and what.chunksize:
            processors.setdefault(what.chunksize, {})[str(what.implementation)] = 1e9 * cost
    if not {*PARTS} <= limits.keys() or not processors:
        return ""
    total = sum(limits[part] for part in SUMS["data only"])
    times = sorted(processors[max(processors)].items(), key=lambda item: item[1])
    said = ", ".join(f"{names.get(name, name)} {cost / total:.1f}" for name, cost in times)
    return f"{total:.0f} ns/event; {said} times"
