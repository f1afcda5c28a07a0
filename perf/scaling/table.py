"""A scaling measurement as tables for people."""

from __future__ import annotations

import operator
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
    from collections.abc import Callable, Mapping, Sequence

    from perf.scaling.campaign import Done, Failed
    from perf.scaling.worker import Configuration, Measured

LEAST_WORKERS: Final = 3
"""Numbers of workers that determine a law of scaling."""

LARGE_RATE: Final = 100_000
LEAST_WHOLE: Final = 10
"""From which on numbers are shown in thousands, and without decimals."""


@dataclass(frozen=True)
class Row:
    """What all worker runs of a configuration measured."""

    configuration: Configuration
    wall: Estimate
    """Seconds of a run."""
    cpu_per_event: Estimate
    """Seconds, of all processes."""
    speed_up: Estimate | None
    cpu_ratio: Estimate | None
    """Events a second over those of the iterative executor at the same chunk size, and CPU time an
    event over that of the iterative one: medians of ratios within a round, None without any."""
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
                of_median([_cpu_an_event(one) for one in measured]),
                of_median([_rate_of(a) / _rate_of(b) for a, b in pairs]) if pairs else None,
                of_median([_cpu_an_event(a) / _cpu_an_event(b) for a, b in pairs])
                if pairs
                else None,
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


def _rate_of(measured: Measured) -> float:
    """Events a second."""
    return measured.events / _wall(measured)


def _cpu_an_event(measured: Measured) -> float:
    return _cpu(measured) / measured.events


# --- tables


def tables(rows: Sequence[Row], failed: Sequence[Failed] = ()) -> list[Table]:
    """Throughput, where the time went, what is beside, and the law of scaling."""
    throughput = _table("Throughput", _THROUGHPUT, rows)
    for failure in failed:
        throughput.add_row(*_head(failure.configuration), "FAILED")
    made = [throughput]
    if rows:
        made += [_table(_WHERE_TITLE, _WHERE, rows), _table(_BESIDE_TITLE, _BESIDE, rows)]
    # They are laws of work that stays the same.
    if len({one.events for row in rows for one in row.measured}) == 1 and (
        laws := law_table(rows)
    ):
        made.append(laws)
    return made


def _share(*stages: str) -> Callable[[Row], str]:
    """Stages in per cent of workers x wall, from the runs with the stage timer."""

    def share(measured: Measured) -> float | None:
        values = [getattr(measured, stage) for stage in stages]
        return None if None in values else sum(values) / measured.budget

    return lambda row: _percent(row.median(share))


def _seconds(name: str) -> Callable[[Row], str]:
    return lambda row: _duration(row.median(operator.attrgetter(name)))


def _bytes(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        count = row.median(operator.attrgetter(name))
        return "-" if count is None else f"{_short(count / 1e6)} MB"

    return show


def _client_merges(one: Measured) -> float | None:
    if one.adding is None or one.unpacking is None:
        return None
    return (one.adding + one.unpacking) / one.probed_wall


def _rest_a_chunk(one: Measured) -> float:
    """Worker seconds a chunk that are not spent in it."""
    known = one.opening + one.reading + one.decompressing + one.processing
    return (one.budget - known) / one.chunks


def _cpu_elsewhere(one: Measured) -> float:
    """CPU time of the client, the engine and threads that read files: not of chunks' own threads."""
    return 1 - one.chunk_cpu / one.probed_cpu


_THROUGHPUT: Final[dict[str, Callable[[Row], str]]] = {
    "rounds": lambda row: str(row.rounds),
    "events": lambda row: label(row.measured[0].events),
    "wall": lambda row: _span(row.wall, duration),
    "events/s": lambda row: _rate(row.events_per_second),
    "a worker": lambda row: _rate(row.events_per_second / row.configuration.workers),
    "speed-up": lambda row: _span(row.speed_up, _ratio),
    "CPU ns/event": lambda row: f"{row.cpu_per_event.value * 1e9:,.0f}",
    "CPU/iterative": lambda row: _span(row.cpu_ratio, _ratio),
}

_WHERE_TITLE: Final = "Where the time of the workers went, % of workers x wall"
_WHERE: Final[dict[str, Callable[[Row], str]]] = {
    "open": _share("opening"),
    "read": _share("reading"),
    "unzip": _share("decompressing"),
    "process": _share("processing"),
    "pack": _share("serialising"),
    "merge": _share("merging", "between"),
    "wait": _share("waiting"),
    "not known": _share("unknown"),
    "client merges": lambda row: _percent(row.median(_client_merges)),
    "rest a chunk": lambda row: _duration(row.median(_rest_a_chunk)),
    "CPU elsewhere": lambda row: _percent(row.median(_cpu_elsewhere)),
}

_BESIDE_TITLE: Final = "Start, tasks and memory"
_BESIDE: Final[dict[str, Callable[[Row], str]]] = {
    "start": _seconds("start_wall"),
    "start CPU": _seconds("start_cpu"),
    "end": _seconds("stop_wall"),
    "first run": _seconds("first_wall"),
    "warm": lambda row: _duration(row.median(_wall)),
    "empty task": _seconds("task_wall"),
    "task CPU": _seconds("task_cpu"),
    "read": _bytes("bytes_read"),
    "client": _bytes("peak_client"),
    "worker": _bytes("peak_worker"),
    "engine": _bytes("peak_engine"),
}


def law_table(rows: Sequence[Row]) -> Table | None:
    """Laws of scaling, of executors that enough numbers of workers were measured of; or None."""
    import numpy as np  # noqa: PLC0415

    from perf.scaling import laws as scaling_laws  # noqa: PLC0415  (scipy)

    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(_head(row.configuration)[:2], []).append(row)
    headings = ("one worker", "law", "serial", "crosstalk", "best at", "misfit")
    table = _table("Scaling law", dict.fromkeys(headings, str))
    for (executor, chunk), members in groups.items():
        usable = [row for row in members if row.rounds > 1]
        if len(usable) < LEAST_WORKERS:
            continue
        choice = scaling_laws.choose(
            [row.configuration.workers for row in usable],
            [[*map(_rate_of, row.measured)] for row in usable],
            np.random.default_rng(1),
        )
        fit = choice.fit
        counts = ", ".join(map(str, fit.workers))
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


def _table(
    title: str, columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row] = ()
) -> Table:
    """A row for each configuration; its first cells are empty where the row before has the same."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("executor", overflow="fold")
    for heading in ("chunk", "workers", *columns):
        table.add_column(heading, justify="right", overflow="fold")
    before: tuple[str, ...] = ("", "", "")
    for row in rows:
        executor, chunk, workers = head = _head(row.configuration)
        table.add_row(
            "" if executor == before[0] else executor,
            "" if (executor, chunk) == before[:2] else chunk,
            workers,
            *(show(row) for show in columns.values()),
        )
        before = head
    return table


def _head(configuration: Configuration) -> tuple[str, str, str]:
    return (
        configuration.label,
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
