"""Records as a table, one row for each measurement, in groups of what is compared."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.table import Table

from perf.records.format import duration, label, rate
from perf.records.limits import KIND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perf.records.record_file import Machine, Record, What

BASELINE: Final = "columnar"
"""The implementation that others are compared with."""

PLAIN_WIDTH: Final = 124
"""Columns of a table that is not written to a terminal: it fits a code block of the README."""

MIN_WIDTH: Final = 80
"""Smallest width of a table on a terminal: in a narrower one lines wrap, and no number is cut."""

_TOLD: Final = (
    "peer",
    "backend",
    "optimizer",
    "process",
    "contents",
    "mode",
    "weights",
    "query",
    "format",
)
"""Parameters whose values are shown without their names."""

_ORDER: Final = ("reference", "idiomatic", "columnar", "compiled", "fused")


def summary(records: Sequence[Record], title: str | None = None) -> Table:
    """Table of the records of one session or several.

    Columns: median and minimum of wall time a call, medians of wall and CPU nanoseconds an event,
    events a second, and the speed-up over the columnar implementation of the same case (by CPU time
    where it was measured).
    """
    # Rules and blank lines only: hundreds of rows are copied into text files.
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    table.add_column("group", no_wrap=True)
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("how", overflow="fold")
    for heading in ("median", "minimum", "ns/event", "CPU ns/event", "events/s", "speed-up"):
        table.add_column(heading, justify="right", no_wrap=heading != "CPU ns/event")
    baselines = {
        _key(record): record for record in records if record.what.implementation == BASELINE
    }
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.what.group, []).append(record)
    for group, members in groups.items():
        table.add_section()
        members.sort(key=_position)
        shown: tuple[str, ...] = ()
        for record in members:
            size = label(record.input.events) if record.input.events else "-"
            head = (group, size)
            table.add_row(
                "" if head[:1] == shown[:1] else group,
                "" if head == shown else size,
                how(record.what),
                duration(record.wall_median),
                duration(record.wall_minimum),
                _nanoseconds(record.seconds_per_event),
                _nanoseconds(record.cpu_seconds_per_event),
                rate(record.events_per_second),
                _speed_up(record, baselines.get(_key(record))),
            )
            shown = head
    return table


def footnote(record: Record) -> str:
    """Versions, machine and load that a record was measured with, in two lines."""
    loads = [load for load in (record.load_before, record.load_after) if load is not None]
    load = f", load average {max(loads):.1f}" if loads else ""
    return made_with(record.versions, record.machine) + load


def made_with(versions: Mapping[str, str], machine: Machine) -> str:
    """Versions and machine, in two lines."""
    where = [
        machine.cpu,
        "" if machine.cores is None else f"{machine.cores} cores",
        "" if machine.memory is None else f"{machine.memory / 2**30:.0f} GiB",
        machine.kernel,
    ]
    return (
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}\n"
        f"{machine.name}: {', '.join(part for part in where if part)}"
    )


def plain(table: Table, width: int = PLAIN_WIDTH) -> str:
    """A table as text without colours, of fixed width."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def how(what: What) -> str:
    """Implementation, executor, chunk size and parameters; without any of these the subject."""
    parts = [what.implementation] if what.implementation else []
    parts += [f"limit: {what.subject}"] if what.kind == KIND and not parts else []
    more = what.parameters
    if what.executor:
        parts.append(" ".join(str(part) for part in (what.executor, more.get("variant")) if part))
        parts[-1] += f" x{what.workers}"
    if what.chunksize:
        parts.append(f"chunk {label(what.chunksize)}")
    if more.get("source") == "real":
        parts.append("real")
    parts += [str(more[name]) for name in _TOLD if name in more]
    if "files" in more:
        parts.append(f"{more['files']} files")
    if more.get("killed"):
        parts.append("killed")
    if "route" in more:
        parts.append(str(more["route"]))
        parts += [str(more["handler"])] if more.get("handler") != "default" else []
    return ", ".join(parts) or what.subject


def _nanoseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1e9:,.0f}" if seconds >= 1e-7 else f"{seconds * 1e9:.1f}"


def _speed_up(record: Record, baseline: Record | None) -> str:
    if baseline is None:
        return "-"
    if record.cpu_median and baseline.cpu_median:
        ratio = baseline.cpu_median / record.cpu_median
    else:
        ratio = baseline.wall_median / record.wall_median
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _key(record: Record) -> tuple[object, ...]:
    """What records of different implementations of one case have in common."""
    what = record.what
    return (
        record.run,
        what.group,
        what.executor,
        what.workers,
        what.size,
        what.chunksize,
        tuple(sorted(what.parameters.items())),
        record.input.digest,
    )


def _position(record: Record) -> tuple[object, ...]:
    what = record.what
    return (
        what.parameters.get("source") == "real",
        record.input.events,
        what.executor or "",
        what.chunksize or 0,
        _ORDER.index(what.implementation) if what.implementation in _ORDER else len(_ORDER),
    )
