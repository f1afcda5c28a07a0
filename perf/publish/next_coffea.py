"""coffea.compute beside today's executors, of the newest campaign of `scale` that has it."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from analysis.executors import EXECUTORS
from perf.measure.estimate import CONFIDENCE, median_confidence, of_median
from perf.records.table import made_with
from perf.scaling.campaign import read_all
from perf.scaling.configurations import BASELINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perf.records.record_file import Record
    from perf.scaling.worker import Configuration, Measured

COMPUTE: Final = "compute"

QUANTITIES: Final[Mapping[str, Callable[[Measured], float]]] = {
    "cpu": lambda one: statistics.median(one.cpu) / one.events,
    "rate": lambda one: one.events / statistics.median(one.wall),
    "task": lambda one: one.task_wall,
}
"""CPU seconds an event, events a second, and seconds of an empty task."""


def beside(records: Sequence[Record]) -> dict[str, Any] | None:
    """A row for each executor, and what compute takes over it in the same rounds; None of none.

    The others have as many workers, or the one that iterative has, and chunks of the same size.
    """
    scaled = [one for one in records if one.what.name.startswith("scale-")]
    of_compute = [one for one in scaled if one.what.executor == COMPUTE]
    if not of_compute:
        return None
    newest = max(of_compute, key=lambda one: one.timestamp)
    what, every = newest.what, _rounds(newest, scaled)
    rounds = min(len(of) for _, of in every)
    compute = next(of for one, of in every if one.executor == COMPUTE)
    return {
        "coffea": newest.versions["coffea"],
        "commit": newest.versions.get("coffea.compute"),
        "machine": made_with({}, newest.machine).splitlines()[-1],
        "day": f"{newest.timestamp:%Y-%m-%d}",
        "load": max(one.load_before or 0 for one in of_compute),
        "events": newest.input.events,
        "chunksize": what.chunksize,
        "workers": what.workers,
        "rounds": rounds,
        "enough": median_confidence(rounds) >= CONFIDENCE,
        "rows": [_row(one, [*of.values()]) for one, of in every],
        "over": {
            one.label: {
                name: _estimate([take(compute[n]) / take(of[n]) for n in sorted(both)])
                for name, take in QUANTITIES.items()
            }
            for one, of in every
            if one.executor != COMPUTE and (both := compute.keys() & of.keys())
        },
    }


def _rounds(
    newest: Record, scaled: Sequence[Record]
) -> list[tuple[Configuration, dict[int, Measured]]]:
    """Of each configuration that is compared, what its rounds measured."""
    campaign = newest.what.parameters["campaign"]
    found: dict[str, tuple[Configuration, dict[int, Measured]]] = {}
    for one in read_all(one for one in scaled if one.what.parameters["campaign"] == campaign):
        of = one.worker_run.configuration
        wanted = {newest.what.workers, 1} if of.executor == BASELINE else {newest.what.workers}
        if of.workers in wanted and of.chunksize == newest.what.chunksize and of.tuned:
            found.setdefault(of.label, (of, {}))[1][one.worker_run.round] = one.measured
    return sorted(
        found.values(), key=lambda each: (EXECUTORS.index(each[0].executor), each[0].label)
    )


def _row(of: Configuration, measured: Sequence[Measured]) -> dict[str, Any]:
    return {
        "label": of.label,
        "workers": of.workers,
        "start": statistics.median(one.start_wall for one in measured),
        "memory": statistics.median(_memory(one, inside=of.inside) for one in measured),
        **{name: _estimate(list(map(take, measured))) for name, take in QUANTITIES.items()},
    }


def _memory(one: Measured, *, inside: bool) -> float:
    """Of the client, its workers and the largest other process together: pages may be shared."""
    workers = 0 if inside else one.workers_seen * (one.peak_worker or 0)
    return (one.peak_client or 0) + workers + (one.peak_engine or 0)


def _estimate(samples: Sequence[float]) -> dict[str, float]:
    return asdict(of_median(samples))
