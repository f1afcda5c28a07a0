"""What a scheduler costs a task and how many workers it serves, calculated from measured loads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from distributed.scheduler import heartbeat_interval
from rich.table import Table

from analysis.errors import InputError
from perf.measure.estimate import CONFIDENCE, Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perf.scaling.scheduler_load import Load

BUSY: Final = 0.5
"""Least share of the time in which the scheduler has work, in a load that is fitted. Below, more of
what is measured is the price of waking up for every message, which a busy one does not pay."""

DRAWS: Final = 2_000
"""Of the parameters, for the interval of what follows from them."""

MOST_WORKERS: Final = 1e9
"""Where the search for a capacity ends."""


@dataclass(frozen=True)
class Cost:
    """What a busy scheduler costs: CPU seconds a task are ``per_task + workers * per_worker``.

    A task is one of the map, its share of the reduction included.
    """

    per_task: Estimate
    per_worker: Estimate
    """CPU seconds, both."""
    idle: Estimate
    """Cores used without any task or worker."""
    heartbeat: Estimate
    """CPU seconds a heartbeat."""
    fitted: tuple[Load, ...]
    left_out: tuple[Load, ...]
    """The loads that it is from, and those in which the scheduler was not busy."""
    draws: NDArray[np.float64] = field(repr=False, compare=False)
    """Possible values of the four estimates, one set in a row: their joint uncertainty."""

    def seconds(self, workers: int) -> Estimate:
        """CPU seconds a task at so many workers."""
        return Estimate.of_draws(
            self.per_task.value + workers * self.per_worker.value,
            self.draws[:, 0] + workers * self.draws[:, 1],
        )


def fit_load(loads: Sequence[Load], rng: np.random.Generator) -> Cost:
    """Cost of a task against the number of workers, from loads of different numbers of workers.

    A straight line by least squares of relative errors, whose slope and intercept are not
    negative. The uncertainty is that of normal errors of unknown size (Student's t): with three
    loads it is large.

    Raises
    ------
    InputError
        If fewer than three loads, or of fewer than two numbers of workers, kept the scheduler BUSY.
    """
    fitted = tuple(load for load in loads if load.busy_share >= BUSY and load.cpu_per_task > 0)
    left_out = tuple(load for load in loads if load not in fitted)
    if len(fitted) < 3 or len({load.workers for load in fitted}) < 2:
        msg = (
            f"the scheduler was busy (at least {BUSY:.0%} of the time) in only {len(fitted)} of "
            f"{len(loads)} loads, and a line needs three, of two numbers of workers: "
            "take more workers, or shorter tasks"
        )
        raise InputError(msg)
    workers = np.array([load.workers for load in fitted], float)
    seconds = np.array([load.cpu_per_task for load in fitted])
    cost, cost_draws = _line(workers, seconds, 1 / seconds, rng)
    watched = [load for load in loads if load.idle_share > 0]
    beats = np.array([_heartbeats(load.workers) for load in watched])
    shares = np.array([load.idle_share for load in watched])
    if len(watched) >= 3 and len(set(beats)) >= 2:
        idle, idle_draws = _line(beats, shares, np.ones(len(watched)), rng)
    else:
        idle = np.array([shares.mean() if watched else 0.0, 0.0])
        idle_draws = np.tile(idle, (DRAWS, 1))
    draws = np.hstack([cost_draws, idle_draws])
    per_task, per_worker, idle_share, heartbeat = (
        Estimate.of_draws(value, column)
        for value, column in zip((*cost, *idle), draws.T, strict=True)
    )
    return Cost(per_task, per_worker, idle_share, heartbeat, fitted, left_out, draws)


def _line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intercept and slope by least squares of weighted errors, and draws of the two."""
    square = weights**2
    center = np.average(x, weights=square)
    level = np.average(y, weights=square)
    spread = np.sum(square * (x - center) ** 2)
    slope = np.sum(square * (x - center) * (y - level)) / spread
    errors = weights * (y - level - slope * (x - center))
    free = len(x) - 2
    sigma = math.sqrt(float(np.sum(errors**2)) / free)
    # At the weighted center the level and the slope are independent, but for the sigma they share.
    normal = rng.standard_normal((2, DRAWS)) / np.sqrt(rng.chisquare(free, DRAWS) / free)
    levels = level + normal[0] * sigma / math.sqrt(float(np.sum(square)))
    slopes = slope + normal[1] * sigma / math.sqrt(float(spread))

    def positive(level: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
        # Keep the level where the loads are, and neither end below zero.
        level = np.maximum(level, 0)
        slope = np.clip(slope, 0, level / center)
        return np.stack([level - slope * center, slope], axis=-1)

    return positive(np.asarray(level), np.asarray(slope)), positive(levels, slopes)


def _heartbeats(workers: float) -> float:
    """Heartbeats a second of so many workers: at most 200."""
    # Nobody's interval is for a fraction of a worker; the search below asks for it all the same.
    return workers / float(heartbeat_interval(workers))


@dataclass(frozen=True)
class Capacity:
    """The largest number of workers that one scheduler keeps at work, and on what.

    `tasks_per_second` are of the map, at that number; `predicted` if it is larger than in any load
    that was measured, so that the line may not hold.
    """

    workers: Estimate
    seconds_per_chunk: float
    chunks_per_task: float
    tasks_per_second: float
    predicted: bool


def capacity(
    cost: Cost, seconds_per_chunk: float, *, chunks_per_task: float = 1, share: float = 1.0
) -> Capacity:
    """How many workers have the scheduler use a share of a core; it has one thread.

    With more, workers wait for the scheduler. It is a calculation for workers that are always at
    work; nothing of this size was run. `chunks_per_task` is the mean number of chunks of a batch.

    Raises
    ------
    InputError
        If a number makes no sense.
    """
    seconds = seconds_per_chunk * chunks_per_task
    if not (math.isfinite(seconds) and seconds > 0 and 0 < share <= 1):
        msg = (
            f"{chunks_per_task} chunks of {seconds_per_chunk} s and {share} of a core have no "
            "capacity: give positive numbers, and at most one core"
        )
        raise InputError(msg)
    best = [
        parameter.value
        for parameter in (cost.per_task, cost.per_worker, cost.idle, cost.heartbeat)
    ]
    largest = _largest(np.vstack([best, cost.draws]), seconds, share)
    workers = Estimate.of_draws(largest[0], largest[1:])
    workers = Estimate(*(math.floor(end) for end in (workers.value, workers.low, workers.high)))
    return Capacity(
        workers=workers,
        seconds_per_chunk=seconds_per_chunk,
        chunks_per_task=chunks_per_task,
        tasks_per_second=workers.value / seconds,
        predicted=workers.value > max(load.workers for load in cost.fitted),
    )


def _largest(parameters: NDArray[np.float64], seconds: float, share: float) -> NDArray[np.float64]:
    """Largest number of workers for each row of parameters, by bisection."""
    per_task, per_worker, idle, heartbeat = parameters.T
    low, high = np.zeros(len(parameters)), np.full(len(parameters), MOST_WORKERS)
    beats = np.vectorize(_heartbeats, otypes=[float])
    # Of a billion, to the thousandth of a worker.
    for _ in range(40):
        middle = (low + high) / 2
        used = idle + heartbeat * beats(middle)
        used += middle / seconds * (per_task + middle * per_worker)
        low, high = np.where(used <= share, middle, low), np.where(used <= share, high, middle)
    found: NDArray[np.float64] = np.round(low, 2)
    return found


# --- tables


def load_table(loads: Sequence[Load], cost: Cost | None = None) -> Table:
    """The loads, a row each, and the cost below if one was fitted."""
    table = Table("workers", title="Load on dask's scheduler", pad_edge=False)
    for heading in (
        *("tasks", "s/task", "wall", "tasks/s", "scheduler", "busy", "CPU/task", "idle"),
        *("memory", "client", "workers'"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.columns[0].justify = "right"
    for load in loads:
        memory = load.scheduler_peak_memory
        table.add_row(
            f"{load.workers:,}",
            f"{load.tasks:,}",
            f"{load.task_seconds:.3g}",
            f"{load.wall_seconds:.2f} s",
            f"{load.task_rate:,.0f}",
            f"{load.scheduler_share:.0%}",
            f"{load.busy_share:.0%}",
            f"{load.cpu_per_task * 1e6:,.0f} us",
            f"{load.idle_share:.1%}",
            "-" if memory is None else f"{memory / 1e6:,.0f} MB",
            f"{load.client_cpu_seconds / load.wall_seconds:.0%}",
            f"{load.workers_cpu_seconds / load.wall_seconds:.0%}",
        )
    if cost is not None:
        table.caption = (
            f"a busy scheduler: {_micro(cost.per_task, 0)} us a task, and "
            f"{_micro(cost.per_worker, 3)} us for each worker ({CONFIDENCE:.0%} intervals; "
            f"{len(cost.fitted)} of {len(cost.fitted) + len(cost.left_out)} loads kept it busy)"
        )
    return table


def capacity_table(capacities: Sequence[Capacity]) -> Table:
    """How many workers one scheduler keeps at work, a row for each way to cut the work."""
    table = Table("s/chunk", title="Workers that one scheduler keeps at work", pad_edge=False)
    table.columns[0].justify = "right"
    for heading in ("chunks/task", "workers", f"{CONFIDENCE:.0%} interval", "tasks/s", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in capacities:
        table.add_row(
            f"{row.seconds_per_chunk:g}",
            f"{row.chunks_per_task:g}",
            f"{row.workers.value:,.0f}",
            f"{row.workers.low:,.0f} to {row.workers.high:,.0f}",
            f"{row.tasks_per_second:,.0f}",
            "predicted" if row.predicted else "within loads",
        )
    return table


def _micro(estimate: Estimate, digits: int) -> str:
    value, low, high = (
        f"{1e6 * end:,.{digits}f}" for end in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
