"""Titles of benchmarks for people: "ttbar analysis" for ``processor.history_ttbar``."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from analysis.adl import QUERIES
from analysis.kernels import KERNELS
from perf.records.from_asv import ASV
from perf.records.limits import KIND

if TYPE_CHECKING:
    from perf.publish.series import Quantity
    from perf.records.record_file import What

Clock = Literal["CPU", "wall", "memory", "counts"]
"""What a benchmark's numbers are of."""

_CLOCKS: Final[dict[str, Clock]] = {"cpu": "CPU", "wall": "wall", "peak": "memory"}
_QUANTITIES: Final = {
    "cpu_seconds_per_event": "CPU time per event",
    "cpu_seconds": "CPU time",
    "wall_seconds_per_event": "wall time per event",
    "wall_seconds": "wall time",
    "peak_memory_bytes": "peak memory",
    "task_bytes": "size of a task",
    "accumulator_bytes": "size of the accumulator",
}
_FIXED: Final = {
    ("import", "coffea"): "Importing coffea",
    ("events", "open"): "Opening a file as NanoEvents",
    ("events", "read"): "Reading columns of NanoEvents",
    ("events", "fill"): "Filling a histogram from NanoEvents",
    ("histogram", "fill"): "Filling a histogram of a million entries",
    ("processor", "ttbar"): "ttbar analysis",
    ("selection", "ttbar"): "ttbar selection",
    ("whole", "ttbar"): "Whole analysis, from files to the fit",
}
"""Of subjects, by kind."""

_ORIGINS: Final = (
    (ASV, "asv"),
    ("history-", ""),
    ("compare-", "compare"),
    ("scale-", "scaling run"),
    ("claim-", "claims"),
    ("scheduler-load-", "scheduler-load"),
    ("limit-", "limits"),
    ("hosts-", "hosts"),
)
"""Who measured, by the beginning of a measurement's name; the history is what pages are about."""


class Title(NamedTuple):
    """What a benchmark measures, and which number of that."""

    subject: str
    quantity: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.quantity}"


def title(what: What, quantity: Quantity) -> Title:
    """Title of the benchmark of a measurement and one of its quantities."""
    name = _QUANTITIES.get(quantity.name, quantity.name.replace("_", " "))
    if what.name.startswith(ASV):
        return Title(f"{what.group} (asv)", name)
    origin = next((told for start, told in _ORIGINS if what.name.startswith(start)), "make bench")
    return Title(f"{_subject(what)} ({origin})" if origin else _subject(what), name)


def clock(quantity: Quantity) -> Clock:
    """What a quantity is of: CPU time, wall time, memory of a process, or something counted."""
    return _CLOCKS.get(quantity.name.partition("_")[0], "counts")


def _subject(what: What) -> str:
    group = what.group.partition(" ")[2] if what.group.startswith("history, ") else what.group
    group = group.removeprefix("compare ")
    if what.kind == "kernel" and what.subject in KERNELS:
        return f"{kernel(what.subject)} (kernel {what.subject})"
    if what.kind == "query":
        asked = [query.title for name, query in QUERIES.items() if name.startswith(what.subject)]
        return f"ADL query {what.subject}: {', '.join(asked) or 'unknown'}"
    if what.kind == KIND:
        return f"Limit of the machine: {group.removeprefix('limit, ')}"
    known = _FIXED.get((what.kind, what.subject))
    if known is None:
        # Groups of the other benchmarks are written for people.
        return group[:1].upper() + group[1:]
    return known if group == what.subject else f"{known}: {group.removeprefix('ttbar, ')}"


@cache
def kernel(name: str) -> str:
    """What a kernel computes, in the first words of its module."""
    text = importlib.import_module(f"analysis.kernels.{name}").__doc__ or name
    return text.partition("\n")[0].rstrip(".").partition(":")[0]
