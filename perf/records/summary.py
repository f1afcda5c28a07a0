"""A run in a screenful: what was measured, and what stands out. Its numbers are medians."""

from __future__ import annotations

import statistics
import textwrap
from typing import TYPE_CHECKING, Final

from perf.records import limits
from perf.records.format import data_size, duration, label, rate
from perf.records.table import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from perf.records.record_file import Record

WIDTH: Final = 80
HEIGHT: Final = 21
"""Columns and most lines of the summary: with what pytest writes around it, a terminal of 80 x 24
shows all of it."""

PACKAGES: Final = ("coffea", "awkward", "numba")
"""Packages whose versions the summary shows; the table has all."""

HEADING: Final = 10
"""Columns of what stands left of the text."""

NAMES: Final = 15
"""Columns of the names of executors."""

NAMED: Final = 2
"""Kernels that are named: those that gain most, and those that gain least."""

SHORT: Final = {"compiled": "numba", "columnar": "awkward", "idiomatic": "published"}
"""Names of implementations beside the limit, which all fit one line."""

BASE: Final = "iterative"
"""The executor that runs in one process."""

LARGEST: Final = 100_000
"""Events at which implementations are compared, if so many were measured: a usual chunk."""

COMPARED: Final = 1
"""Cases whose time rose or fell most since the last run: so many of each are named."""


def lines(records: Sequence[Record], earlier: Iterable[Record] = ()) -> list[str]:
    """Summary of the records of one run, each line at most WIDTH characters.

    `earlier` may hold any records: the run is compared with those of its machine before it.
    """
    return [
        *_paragraphs(
            Measured=_measured(records),
            Kernels=_gains(records, "kernel"),
            Queries=_gains(records, "query"),
            Processor=_processor(records),
            Limit=limits.distance(records, SHORT),
        ),
        *_executors(records),
        *_paragraphs(
            Reading=_reading(records),
            Inference=_inference(records),
            Workflow=_workflow(records),
            Compared=_changes(records, earlier),
        ),
    ]


def _paragraphs(**texts: str) -> list[str]:
    """The texts that are not empty, each with its heading at the left."""
    return [
        line
        for heading, text in texts.items()
        if text
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=heading.ljust(HEADING),
            subsequent_indent=" " * HEADING,
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _measured(records: Sequence[Record]) -> str:
    minutes = (records[-1].timestamp - records[0].timestamp).total_seconds() / 60
    last = records[-1]
    cores = f"{last.machine.cores} cores" if last.machine.cores else ""
    machine = ", ".join(filter(None, (last.machine.name, last.machine.cpu, cores)))
    packages = ", ".join(
        f"{name} {last.versions[name]}" for name in PACKAGES if name in last.versions
    )
    count = "1 case" if len(records) == 1 else f"{len(records)} cases"
    return f"{count} in {minutes:.1f} min, each result compared; {machine}; {packages}".rstrip(
        "; "
    )


def _seconds(record: Record) -> float:
    """CPU seconds a call, or wall seconds where CPU time was not measured."""
    return record.cpu_median or record.wall_median


def _gains(records: Sequence[Record], kind: str) -> str:
    """How many times as fast numba is as awkward: range, and which gain most and least."""
    times = {
        (record.what.size, record.what.subject, record.what.implementation): _seconds(record)
        for record in records
        if record.what.kind == kind
        and record.what.parameters.get("source") != "real"
        # Of a kernel on NanoEvents the time is not the kernel's alone.
        and "input" not in record.what.parameters
    }
    size = max((size for size, *_ in times if size <= LARGEST), default=None)
    gains = sorted(
        (seconds / times[size, name, "compiled"], name)
        for (of, name, implementation), seconds in times.items()
        if of == size and implementation == BASELINE and times.get((size, name, "compiled"))
    )
    if not gains or size is None:
        return ""
    ratios = [gain for gain, _ in gains]
    text = (
        f"numba {_times(ratios[0])} to {_times(ratios[-1])} times as fast as awkward "
        f"(median {_times(statistics.median(ratios))}, {label(size)} events)"
    )
    if kind != "kernel":
        return text
    named = [f"{name} {_times(gain)}" for gain, name in gains]
    most, least = ", ".join(named[: -NAMED - 1 : -1]), ", ".join(named[:NAMED])
    return f"{text}; most {most}; least {least}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"


def _plain(records: Iterable[Record], group: str = "") -> list[Record]:
    """Records on synthetic events or none, with default options; of one group, if named."""
    return [
        record
        for record in records
        if "variant" not in record.what.parameters
        and record.what.parameters.get("source") != "real"
        and (not group or record.what.group == group)
    ]


def _largest(records: Iterable[Record], size: Callable[[Record], int]) -> list[Record]:
    """The records with the largest size."""
    sized = [(size(record), record) for record in records]
    largest = max((number for number, _ in sized), default=0)
    return [record for number, record in sized if number == largest]


def _chunksize(record: Record) -> int:
    return record.what.chunksize or 0


def _processor(records: Sequence[Record]) -> str:
    found = [
        record for record in _plain(records, "ttbar, nominal") if record.what.executor == BASE
    ]
    rates = {
        record.what.implementation: rate(record.events_per_second)
        for record in _largest(found, _chunksize)
    }
    names = {
        "fused": "fused",
        "compiled": "numba",
        "columnar": "awkward",
        "idiomatic": "as published",
    }
    parts = [f"{name} {rates[key]}" for key, name in names.items() if key in rates]
    return f"{', '.join(parts)} events/s" if parts else ""


def _executors(records: Sequence[Record]) -> list[str]:
    """A table with a line for each executor."""
    on = [record for record in _plain(records) if record.what.executor]
    processor = [
        record for record in _plain(on, "ttbar, nominal") if record.what.implementation == BASELINE
    ]
    empty = [record for record in on if record.what.group.endswith("empty tasks")]
    merges = [record for record in on if record.what.parameters.get("contents") == "random"]
    merged = _largest(merges, _merged_bytes)
    columns = {
        "ttbar events/s": _column(
            _largest(processor, _chunksize), lambda record: rate(record.events_per_second)
        ),
        "empty task": _column(
            _largest(empty, _tasks), lambda record: duration(record.wall_median / _tasks(record))
        ),
        f"merge {data_size(_merged_bytes(merged[0])) if merged else ''}": _column(merged),
    }
    for which in ("start", "end"):
        ends = _plain(on, f"executor {which}")
        columns[which] = _column(
            record for record in ends if record.what.parameters["process"] == "warm"
        )
    columns = {heading: cells for heading, cells in columns.items() if cells}
    names = dict.fromkeys(name for cells in columns.values() for name in cells)
    widths = {heading: max(len(heading) + 2, 10) for heading in columns}
    rows = [
        f"  {name}".ljust(NAMES)
        + "".join(columns[heading].get(name, "-").rjust(widths[heading]) for heading in columns)
        for name in sorted(names, key=lambda name: not name.startswith(BASE))
    ]
    head = "".join(heading.rjust(width) for heading, width in widths.items())
    return ["Executors".ljust(NAMES) + head, *rows] if rows else []


def _tasks(record: Record) -> int:
    return int(record.what.parameters["tasks"])


def _merged_bytes(record: Record) -> int:
    return _tasks(record) * int(record.what.parameters["bytes"])


def _column(
    records: Iterable[Record],
    cell: Callable[[Record], str] = lambda record: duration(record.wall_median),
) -> dict[str, str]:
    """Cells by executor."""
    return {f"{record.what.executor} x{record.what.workers}": cell(record) for record in records}


def _reading(records: Sequence[Record]) -> str:
    read = [record for record in records if record.what.parameters.get("handler") == "default"]
    delay = max((int(record.what.parameters["milliseconds"]) for record in read), default=0)
    rates = {
        f"{record.what.parameters['route']} {rate(record.events_per_second)}": None
        for record in _largest(read, _chunksize)
        if record.what.parameters["milliseconds"] == delay
        or record.what.parameters["route"] in {"local", "servicex"}
    }
    return f"{', '.join(rates)} events/s, {delay} ms" if rates else ""


def _inference(records: Sequence[Record]) -> str:
    """Times of our optimisers, that of each backend which the catalogue names first."""
    times: dict[str, dict[str, str]] = {"fit": {}, "hypotest": {}, "limit": {}}
    for record in _plain(records):
        more = record.what.parameters
        if record.what.kind == "inference" and more["process"] == "warm":
            backends = times.get(record.what.subject, {})
            backends.setdefault(str(more["backend"]), duration(record.wall_median))
    tasks = (
        f"{task} {', '.join(f'{backend} {time}' for backend, time in backends.items())}"
        for task, backends in times.items()
        if backends
    )
    return "; ".join(tasks)


def _workflow(records: Sequence[Record]) -> str:
    stages = {
        record.what.subject: record.wall_median
        for record in records
        if record.what.kind == "whole"
    }
    if not stages:
        return ""
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())
    return f"{sum(stages.values()):.1f} s: {parts}"


def _changes(records: Sequence[Record], earlier: Iterable[Record]) -> str:
    """What differs from the last run on this machine: ratios of medians, which prove nothing."""
    begin, machine = records[0].timestamp, records[0].machine
    before: dict[tuple[str, str], Record] = {}
    for record in earlier:
        same = (record.machine.name, record.machine.cpu, record.machine.cores) == (
            machine.name,
            machine.cpu,
            machine.cores,
        )
        if same and record.run != records[0].run and record.timestamp < begin:
            before[record.what.name, record.input.digest] = record
    pairs = [
        (record, last)
        for record in records
        if (last := before.get((record.what.name, record.input.digest)))
        and last.wall_seconds
        and record.wall_seconds
    ]
    if not pairs:
        return "with no earlier run of these cases on this machine"
    ratios = sorted(
        (record.wall_median / last.wall_median, record.what.name) for record, last in pairs
    )
    newest = max((last for _, last in pairs), key=lambda last: last.timestamp)
    versions = [
        f"{name} {newest.versions[name]} to {version}"
        for name, version in records[-1].versions.items()
        if newest.versions.get(name, version) != version
    ]
    named = [*ratios[: -COMPARED - 1 : -1], *ratios[:COMPARED]]
    largest = ", ".join(f"{name} {ratio:.2f}" for ratio, name in dict.fromkeys(named))
    median = statistics.median(ratio for ratio, _ in ratios)
    since = f" Since then {', '.join(versions)}." if versions else ""
    return (
        f"with the last run ({newest.timestamp:%Y-%m-%d %H:%M}, {len(pairs)} cases), ratios of "
        f"times: median {median:.2f}, largest and smallest {largest}.{since} "
        "Not judged: use `coffea-perf compare`."
    )
