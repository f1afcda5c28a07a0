"""A scaling measurement as tables for people."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from analysis.executors import EXECUTORS
from perf.measure.estimate import CONFIDENCE, Estimate, median_confidence, of_median
from perf.records.format import duration, label
from perf.scaling.configurations import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perf.scaling.campaign import Done, Failed
    from perf.scaling.worker import Configuration, Measured

LEAST_WORKERS: Final = 3
"""Numbers of workers that determine a law of scaling."""

LARGE_RATE: Final = 100_000
LEAST_WHOLE: Final = 10
"""From which on numbers are shown in thousands, and without decimals."""


@dataclass(frozen=True)
class Row:
    """What all worker runs of a configuration measured.

    Attributes
    ----------
    wall
        Seconds of a run.
    cpu_per_event
        Seconds, of all processes.
    speed_up, cpu_ratio
        Wall time of the iterative executor at the same chunk size over that of this, and CPU time
        of this over that of the iterative one. Both are ratios of worker runs of the same round,
        None without any.
    """

    configuration: Configuration
    wall: Estimate
    cpu_per_event: Estimate
    speed_up: Estimate | None
    cpu_ratio: Estimate | None
    measured: tuple[Measured, ...]

    @property
    def rounds(self) -> int:
        """Number of worker runs."""
        return len(self.measured)

    @property
    def events_per_second(self) -> float:
        """Events a second, of the median run."""
        return self.measured[0].events / self.wall.value

    def median(self, value: Callable[[Measured], float | None]) -> float | None:
        """Median over worker runs; None if any does not know it."""
        known = [number for one in self.measured if (number := value(one)) is not None]
        return statistics.median(known) if len(known) == self.rounds else None


def rows(done: Sequence[Done]) -> list[Row]:
    """A row for each configuration, by executor, chunk size and number of workers."""
    grouped: dict[str, dict[int, Done]] = {}
    for one in done:
        key = one.worker_run.configuration.model_dump_json()
        grouped.setdefault(key, {})[one.worker_run.round] = one
    groups = [
        (next(iter(members.values())).worker_run.configuration, members)
        for members in grouped.values()
    ]
    baselines = {
        configuration.chunksize: members
        for configuration, members in groups
        if configuration.executor == BASELINE and configuration.tuned
    }
    made = []
    for configuration, members in groups:
        base = baselines.get(configuration.chunksize, {})
        pairs = [(members[r].measured, base[r].measured) for r in members if r in base]
        measured = tuple(one.measured for one in members.values())
        made.append(
            Row(
                configuration,
                of_median([_wall(one) for one in measured]),
                of_median([_cpu(one) / one.events for one in measured]),
                of_median([_wall(b) / _wall(a) for a, b in pairs]) if pairs else None,
                of_median([_cpu(a) / _cpu(b) for a, b in pairs]) if pairs else None,
                measured,
            )
        )
    return sorted(made, key=_position)


def _position(row: Row) -> tuple[Any, ...]:
    configuration = row.configuration
    return (
        EXECUTORS.index(configuration.executor),
        not configuration.tuned,
        repr(sorted(configuration.options.items())),
        configuration.chunksize,
        configuration.workers,
    )


def _wall(measured: Measured) -> float:
    return statistics.median(measured.wall)


def _cpu(measured: Measured) -> float:
    return statistics.median(measured.cpu)


# --- tables


def tables(rows: Sequence[Row], failed: Sequence[Failed] = ()) -> list[Table]:
    """Throughput, where the time went, what is beside, and the law of scaling."""
    made = [_throughput(rows, failed)]
    if rows:
        made += [_where(rows), _beside(rows)]
    if (laws := law_table(rows)) is not None:
        made.append(laws)
    return made


def _throughput(rows: Sequence[Row], failed: Sequence[Failed]) -> Table:
    table = _table(
        "Throughput",
        *("rounds", "wall", "events/s", "a worker", "speed-up", "CPU ns/event", "CPU/iterative"),
    )
    for row, head in zip(rows, _heads(rows), strict=True):
        table.add_row(
            *head,
            str(row.rounds),
            _span(row.wall, duration),
            _rate(row.events_per_second),
            _rate(row.events_per_second / row.configuration.workers),
            _span(row.speed_up, _ratio),
            f"{row.cpu_per_event.value * 1e9:,.0f}",
            _span(row.cpu_ratio, _ratio),
        )
    for one in failed:
        table.add_row(*_head(one.configuration), "FAILED")
    return table


def _where(rows: Sequence[Row]) -> Table:
    """Stages in per cent of workers x wall, from the runs with the stage timer.

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

    for row, head in zip(rows, _heads(rows), strict=True):
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


def _beside(rows: Sequence[Row]) -> Table:
    table = _table(
        "Start, tasks and memory",
        *("start", "CPU", "end", "first run", "warm", "empty task", "CPU", "read"),
        *("client", "worker", "engine"),
    )
    for row, head in zip(rows, _heads(rows), strict=True):
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


def law_table(rows: Sequence[Row]) -> Table | None:
    """Laws of scaling, of executors that enough numbers of workers were measured of; or None."""
    import numpy as np  # noqa: PLC0415

    from perf.scaling import laws as scaling_laws  # noqa: PLC0415  (scipy)

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(_head(row.configuration)[:2], []).append(row)
    table = _table("Scaling law", "one worker", "law", "serial", "crosstalk", "best at", "misfit")
    for (executor, chunk), members in groups.items():
        usable = [row for row in members if row.rounds > 1]
        if len(usable) < LEAST_WORKERS:
            continue
        choice = scaling_laws.choose(
            [row.configuration.workers for row in usable],
            [[one.events / _wall(one) for one in row.measured] for row in usable],
            np.random.default_rng(1),
        )
        fit = choice.fit
        counts = ", ".join(str(one) for one in fit.workers)
        table.add_row(
            executor,
            chunk,
            counts,
            _span(fit.single, _rate),
            fit.law + ("" if not choice.undetermined else " (universal: too few)"),
            _span(fit.serial, _percents),
            _span(fit.crosstalk, _percents),
            _span(fit.peak, "{:.0f} workers".format),
            f"{fit.misfit:.1f}",
        )
    return table if table.row_count else None


def footnote(rows: Sequence[Row]) -> str:
    """What the intervals are, and what the stage timer costs."""
    fewest = min(row.rounds for row in rows)
    confidence = median_confidence(fewest)
    if fewest == 1:
        how = "one round tells nothing of noise: six give an interval of 97 %"
    elif confidence < CONFIDENCE:
        how = (
            f"intervals are the range of {fewest} rounds, which holds the true median with "
            f"{confidence:.0%}; that of six does with 97 %"
        )
    else:
        how = f"intervals hold the true median with {CONFIDENCE:.0%} or more"
    timer = of_median(
        [one.probed_cpu / _cpu(one) for row in rows for one in row.measured if _cpu(one)]
    )
    return (
        f"{how}\niterative has the memory settings that workers have, but for coffea's own\n"
        f"CPU time with the stage timer over that without {_span(timer, '{:.3f}'.format)}; "
        "throughput is measured without"
        + "".join(
            f"\n{name} at {place}: CPU times are those of the client alone"
            for name, place in sorted(_elsewhere(rows))
        )
    )


def _elsewhere(rows: Sequence[Row]) -> set[tuple[str, str]]:
    """Executors whose workers were there already, and where: what they take is not seen here."""
    return {
        (row.configuration.executor, str(row.configuration.options[option]))
        for row in rows
        for executor, option in (("dask", "address"), ("spark", "master"))
        if row.configuration.executor == executor
        and not str(row.configuration.options.get(option) or "local").startswith("local")
    }


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("executor", overflow="fold")
    for heading in ("chunk", "workers", *headings):
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _heads(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """First columns, without what the row before has too."""
    made: list[tuple[str, str, str]] = []
    before: tuple[str, ...] = ("", "", "")
    for row in rows:
        head = _head(row.configuration)
        made.append(
            (
                "" if head[0] == before[0] else head[0],
                "" if head[:2] == before[:2] else head[1],
                head[2],
            )
        )
        before = head
    return made


def _head(configuration: Configuration) -> tuple[str, str, str]:
    options = "".join(f", {key}={value}" for key, value in sorted(configuration.options.items()))
    return (
        f"{configuration.engine}{options}",
        label(configuration.chunksize),
        str(configuration.workers),
    )


def _span(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    if estimate is None:
        return "-"
    if estimate.low == estimate.high:
        return show(estimate.value)
    return f"{show(estimate.value)} ({show(estimate.low)} to {show(estimate.high)})"


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


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _bytes(count: float | None) -> str:
    return "-" if count is None else f"{_short(count / 1e6)} MB"
