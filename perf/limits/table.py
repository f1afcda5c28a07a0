"""Tables of the limit: what each part takes, and how many times the limit each processor takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np
from rich import box
from rich.table import Table

from perf.limits.rounds import TOLD
from perf.measure.estimate import of_median, sure
from perf.measure.paired import CONFIDENCE, ratio
from perf.records.limits import PARTS, SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perf.limits.rounds import Allocator
    from perf.measure.estimate import Estimate
    from perf.records.limits import Cell, Limit
    from perf.records.record_file import Record

NAMES: Final = {
    "read": "read the baskets",
    "data": "decompress their data",
    "whole": "decompress all of them",
    "compute": "compute and fill",
}
"""Of parts."""

LIMITS: Final[dict[Limit, str]] = {
    "data only": "limit: read, data, compute",
    "whole": "limit: read, all, compute",
}


class Row(NamedTuple):
    """A part, a limit, or a processor.

    Attributes
    ----------
    nanoseconds
        CPU time an event: median of processes.
    times
        Ratio to the limits, by what they decompress; of processors only.
    sure
        Whether there are enough processes for the intervals of ratios.
    """

    name: str
    chunksize: int | None
    nanoseconds: float
    times: dict[Limit, Estimate]
    sure: bool


def rows(cell: Cell) -> list[Row]:
    """Parts, limits, and processors from the largest chunks on, the fastest first."""
    # The same records give the same intervals.
    rng = np.random.default_rng(1)
    events = next(iter(cell.parts.values())).input.events

    def row(name: str, chunksize: int | None, seconds: Sequence[float]) -> Row:
        times = (
            {} if chunksize is None else {of: ratio(seconds, cell.limit(of), rng) for of in SUMS}
        )
        nanoseconds = 1e9 * of_median(seconds).value / events
        return Row(name, chunksize, nanoseconds, times, sure(len(seconds)))

    parts = [row(NAMES[part], None, cell.parts[part].cpu_seconds) for part in PARTS]
    limits = [row(name, None, cell.limit(of)) for of, name in LIMITS.items()]
    processors = [
        row(name, chunksize, record.cpu_seconds)
        for (chunksize, name), record in cell.processors.items()
    ]
    processors.sort(key=lambda one: (-(one.chunksize or 0), one.nanoseconds))
    return [*parts, *limits, *processors]


def title(cell: Cell) -> str:
    """What a cell is of."""
    of = cell.parts["read"]
    processes = len(of.cpu_seconds)
    allocator = TOLD[cast("Allocator", cell.allocator)]
    return (
        f"{cell.codec}, {cell.variations}: {of.input.events:,} events, "
        f"{allocator}, {processes} process{'es' if processes > 1 else ''}"
    )


def table(cell: Cell) -> Table:
    """A cell for the terminal."""
    made = Table(title=title(cell), box=box.SIMPLE, pad_edge=False, title_justify="left")
    made.add_column("", no_wrap=True)
    for heading in (
        *("chunk", "CPU ns/event", "times the limit", f"{CONFIDENCE:.0%} interval"),
        "with whole baskets",
    ):
        made.add_column(heading, justify="right", no_wrap=True)
    shown: int | None = None
    for row in rows(cell):
        if row.name == LIMITS["data only"] or row.chunksize != shown:
            made.add_section()
            shown = row.chunksize
        times = row.times.get("data only")
        made.add_row(
            row.name,
            "" if row.chunksize is None else f"{row.chunksize:,}",
            f"{row.nanoseconds:.1f}",
            f"{times.value:.2f}" if times else "",
            _interval(times, sure=row.sure) if times else "",
            f"{row.times['whole'].value:.2f}" if times else "",
        )
    return made


def _interval(times: Estimate, *, sure: bool) -> str:
    return f"{times.low:.2f} to {times.high:.2f}" + ("" if sure else " (range)")


def bandwidth(memory: Iterable[Record], data: Record) -> list[str]:
    """A sentence on how fast memory is read and written, and what that is for the data of events."""
    said = []
    for record in memory:
        speed = record.metrics["bytes"] / of_median(record.cpu_seconds).value
        each = data.metrics["bytes"] / data.input.events
        said.append(
            f"{record.what.subject}: {speed / 1e9:.1f} GB/s, {1e9 * each / speed:.1f} ns for the "
            f"{each:.0f} bytes of data an event"
        )
    return said
