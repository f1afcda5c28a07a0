"""A scaling measurement as tables for people."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from analysis.executors import EXECUTORS
from perf.records.format import duration, label
from perf.scaling.campaign import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perf.measure.estimate import Estimate
    from perf.scaling.campaign import Done, Failed
    from perf.scaling.worker import Cell, Measured

CONFIDENCE: Final = 0.95
"""Of intervals, where there are rounds enough: six."""


LEAST_WORKERS: Final = 3
"""Numbers of workers that determine a law of scaling."""


LARGE_RATE: Final = 100_000
LEAST_WHOLE: Final = 10
"""From which on numbers are shown in thousands, and without decimals."""


@dataclass(frozen=True)
class Interval:
    """A median with an interval that holds the true one.

    Attributes
    ----------
    median, low, high
        Of the samples; the ends are samples.
    confidence
        Probability that it does, whatever the samples are distributed like.
    """

    median: float
    low: float
    high: float
    confidence: float


def interval(samples: Sequence[float]) -> Interval:
    """The narrowest interval between ordered samples at CONFIDENCE, or all of them.

    It holds the true median unless it lies below all samples from `low` on, or above all up to
    `high`; which side of the median a sample lies on is the toss of a coin.
    """
    ordered, n = sorted(samples), len(samples)
    outside, skipped = 2 / 2**n, 0
    while True:
        more = outside + 2 * math.comb(n, skipped + 1) / 2**n
        if 1 - more < CONFIDENCE or 2 * (skipped + 1) >= n:
            break
        outside, skipped = more, skipped + 1
    return Interval(
        statistics.median(ordered), ordered[skipped], ordered[-1 - skipped], max(0.0, 1 - outside)
    )


@dataclass(frozen=True)
class Row:
    """What all visits of a cell measured.

    Attributes
    ----------
    cell
        Which.
    rounds
        Number of visits.
    wall
        Seconds of a run.
    cpu_per_event
        Seconds, of all processes.
    speed_up
        Wall time of the iterative executor at the same chunk size over that of this.
    cpu_ratio
        CPU time of this over that of the iterative executor at the same chunk size. Both are
        ratios of visits of the same round, None without any.
    visits
        What they measured.
    """

    cell: Cell
    rounds: int
    wall: Interval
    cpu_per_event: Interval
    speed_up: Interval | None
    cpu_ratio: Interval | None
    visits: tuple[Measured, ...]

    @property
    def events_per_second(self) -> float:
        """Events a second, of the median run."""
        return self.visits[0].events / self.wall.median

    def median(self, value: Callable[[Measured], float | None]) -> float | None:
        """Median over visits; None if any does not know it."""
        values = [value(one) for one in self.visits]
        known = [one for one in values if one is not None]
        return statistics.median(known) if len(known) == len(values) else None


def rows(done: Sequence[Done]) -> list[Row]:
    """A row for each cell, by executor, chunk size and number of workers."""
    cells: dict[str, dict[int, Done]] = {}
    for one in done:
        cells.setdefault(one.visit.cell.model_dump_json(), {})[one.visit.round] = one
    baselines: dict[int, dict[int, Done]] = {}
    for members in cells.values():
        cell = next(iter(members.values())).visit.cell
        if cell.executor == BASELINE and cell.tuned:
            baselines[cell.chunksize] = members
    made = []
    for members in cells.values():
        cell = next(iter(members.values())).visit.cell
        base = baselines.get(cell.chunksize, {})
        pairs = [(members[r].measured, base[r].measured) for r in members if r in base]
        visits = tuple(one.measured for one in members.values())
        made.append(
            Row(
                cell,
                len(visits),
                interval([_wall(one) for one in visits]),
                interval([_cpu(one) / one.events for one in visits]),
                interval([_wall(b) / _wall(a) for a, b in pairs]) if pairs else None,
                interval([_cpu(a) / _cpu(b) for a, b in pairs]) if pairs else None,
                visits,
            )
        )
    return sorted(made, key=_position)


def _position(row: Row) -> tuple[Any, ...]:
    cell = row.cell
    options = sorted(cell.options.items())
    return (
        EXECUTORS.index(cell.executor),
        not cell.tuned,
        repr(options),
        cell.chunksize,
        cell.workers,
    )


def _wall(measured: Measured) -> float:
    return statistics.median(measured.wall)


def _cpu(measured: Measured) -> float:
    return statistics.median(measured.cpu)


# --- tables


def tables(found: Sequence[Row], failed: Sequence[Failed] = ()) -> list[Table]:
    """Throughput, where the time went, what is beside, and the law of scaling."""
    made = [_throughput(found, failed)]
    if found:
        made += [_where(found), _beside(found)]
    if (laws := law_table(found)) is not None:
        made.append(laws)
    return made


def _throughput(found: Sequence[Row], failed: Sequence[Failed]) -> Table:
    table = _table(
        "Throughput",
        *("rounds", "wall", "events/s", "a worker", "speed-up", "CPU ns/event", "CPU/iterative"),
    )
    for row, head in zip(found, _heads(found), strict=True):
        table.add_row(
            *head,
            str(row.rounds),
            _span(row.wall, duration),
            _rate(row.events_per_second),
            _rate(row.events_per_second / row.cell.workers),
            _span(row.speed_up, _ratio),
            f"{row.cpu_per_event.median * 1e9:,.0f}",
            _span(row.cpu_ratio, _ratio),
        )
    for one in failed:
        table.add_row(*_head(one.cell), "FAILED")
    return table


def _where(found: Sequence[Row]) -> Table:
    """Stages in per cent of workers x wall, from the runs with the probe.

    CPU elsewhere is of all processes but for the threads in which chunks were processed: of the
    client, of the engine, and of threads that read files.
    """
    table = _table(
        "Where the time of the workers went, % of workers x wall",
        *("open", "read", "unzip", "process", "pack", "merge", "wait", "not known"),
        *("client merges", "rest a chunk", "CPU elsewhere"),
    )
    shares: tuple[tuple[str, ...], ...] = (
        ("opening",),
        ("reading",),
        ("decompressing",),
        ("processing",),
        ("serialising",),
        ("merging", "between"),
        ("waiting",),
        ("unknown",),
    )

    def share(names: Sequence[str]) -> Callable[[Measured], float | None]:
        def one(measured: Measured) -> float | None:
            values = [getattr(measured, name) for name in names]
            return None if None in values else sum(values) / measured.budget

        return one

    for row, head in zip(found, _heads(found), strict=True):
        table.add_row(
            *head,
            *(_percent(row.median(share(names))) for names in shares),
            _percent(
                row.median(
                    lambda one: (
                        None
                        if one.adding is None or one.unpacking is None
                        else (one.adding + one.unpacking) / one.probed_wall
                    )
                )
            ),
            _duration(row.median(_rest_a_chunk)),
            _percent(row.median(lambda one: 1 - one.chunk_cpu / one.probed_cpu)),
        )
    return table


def _rest_a_chunk(one: Measured) -> float:
    """Worker seconds a chunk that are not spent in it."""
    known = one.opening + one.reading + one.decompressing + one.processing
    return (one.budget - known) / one.chunks


def _beside(found: Sequence[Row]) -> Table:
    table = _table(
        "Start, tasks and memory",
        *("start", "CPU", "end", "first run", "warm", "empty task", "CPU", "read"),
        *("client", "worker", "engine"),
    )
    for row, head in zip(found, _heads(found), strict=True):
        table.add_row(
            *head,
            *(
                _duration(row.median(value))
                for value in (
                    lambda one: one.start_wall,
                    lambda one: one.start_cpu,
                    lambda one: one.stop_wall,
                    lambda one: one.first_wall,
                    _wall,
                    lambda one: one.task_wall,
                    lambda one: one.task_cpu,
                )
            ),
            *(
                _bytes(row.median(value))
                for value in (
                    lambda one: one.bytes_read,
                    lambda one: one.peak_client,
                    lambda one: one.peak_worker,
                    lambda one: one.peak_engine,
                )
            ),
        )
    return table


def law_table(found: Sequence[Row]) -> Table | None:
    """Laws of scaling, of executors that enough numbers of workers were measured of; or None."""
    import numpy as np  # noqa: PLC0415

    from perf.scaling import laws as scaling_laws  # noqa: PLC0415  (scipy)

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        groups.setdefault(_head(row.cell)[:2], []).append(row)
    table = _table("Scaling law", "one worker", "law", "serial", "crosstalk", "best at", "misfit")
    for (executor, chunk), members in groups.items():
        usable = [row for row in members if row.rounds > 1]
        if len(usable) < LEAST_WORKERS:
            continue
        choice = scaling_laws.choose(
            [row.cell.workers for row in usable],
            [[one.events / _wall(one) for one in row.visits] for row in usable],
            np.random.default_rng(1),
        )
        fit = choice.fit
        counts = ", ".join(str(one) for one in fit.workers)
        table.add_row(
            executor,
            chunk,
            counts,
            _estimate(fit.single, _rate),
            fit.law + ("" if not choice.undetermined else " (universal: too few)"),
            _estimate(fit.serial, _percents),
            _estimate(fit.crosstalk, _percents),
            "-" if fit.peak is None else _estimate(fit.peak, "{:.0f} workers".format),
            f"{fit.misfit:.1f}",
        )
    return table if table.row_count else None


def footnote(found: Sequence[Row]) -> str:
    """What the intervals are, and what the probe costs."""
    fewest = min(found, key=lambda row: row.rounds)
    least = fewest.wall.confidence
    if fewest.rounds == 1:
        how = "one round tells nothing of noise: six give an interval of 97 %"
    elif least < CONFIDENCE:
        how = (
            f"intervals are the range of {fewest.rounds} rounds, which holds the true median with "
            f"{least:.0%}; that of six does with 97 %"
        )
    else:
        how = f"intervals hold the true median with {CONFIDENCE:.0%} or more"
    probe = interval(
        [one.probed_cpu / _cpu(one) for row in found for one in row.visits if _cpu(one)]
    )
    return (
        f"{how}\niterative has the memory settings that workers have, but for coffea's own\n"
        f"the probe of stages: CPU time with it over that without {_span(probe, '{:.3f}'.format)}; "
        "throughput is measured without"
        + "".join(
            f"\n{name} at {place}: CPU times are those of the client alone"
            for name, place in sorted(_elsewhere(found))
        )
    )


def _elsewhere(found: Sequence[Row]) -> set[tuple[str, str]]:
    """Executors whose workers were there already, and where: what they take is not seen here."""
    return {
        (row.cell.executor, str(row.cell.options[option]))
        for row in found
        for executor, option in (("dask", "address"), ("spark", "master"))
        if row.cell.executor == executor
        and not str(row.cell.options.get(option) or "local").startswith("local")
    }


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("executor", overflow="fold")
    for heading in ("chunk", "workers", *headings):
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _heads(found: Sequence[Row]) -> list[tuple[str, str, str]]:
    """First columns, without what the row before has too."""
    made: list[tuple[str, str, str]] = []
    before: tuple[str, ...] = ("", "", "")
    for row in found:
        head = _head(row.cell)
        made.append(
            (
                "" if head[0] == before[0] else head[0],
                "" if head[:2] == before[:2] else head[1],
                head[2],
            )
        )
        before = head
    return made


def _head(cell: Cell) -> tuple[str, str, str]:
    options = "".join(f", {key}={value}" for key, value in sorted(cell.options.items()))
    return f"{cell.engine}{options}", label(cell.chunksize), str(cell.workers)


def _span(one: Interval | None, show: Callable[[float], str]) -> str:
    if one is None:
        return "-"
    if one.low == one.high:
        return show(one.median)
    return f"{show(one.median)} ({show(one.low)} to {show(one.high)})"


def _rate(events: float) -> str:
    if events >= LARGE_RATE:
        return f"{events * 1e-3:,.0f}k"
    return _short(events)


def _short(number: float) -> str:
    """A number with two digits at least."""
    return f"{number:,.0f}" if abs(number) >= LEAST_WHOLE else f"{number:.2g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _percents(share: float) -> str:
    return f"{100 * share:.2g} %"


def _estimate(one: Estimate, show: Callable[[float], str]) -> str:
    if one.low == one.high == one.value:
        return show(one.value)
    return f"{show(one.value)} ({show(one.low)} to {show(one.high)})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _bytes(count: float | None) -> str:
    return "-" if count is None else f"{_short(count / 1e6)} MB"
