"""The ttbar processor on each executor: seconds an event, memory, and the size of what is sent."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any, Final

from perf.cases.case import BASE, POOLS, PROCESSORS, WORKERS
from perf.cases.processor import IDIOMATIC, ProcessorCase
from perf.cases.transfer_size import weigh

from ._suite import (
    CPU,
    EVENTS,
    SCALE,
    SLOW_SAMPLES,
    WALL,
    benchmark,
    inputs,
    on_workers,
    prepared,
    setup_cache,
)

__all__ = ["setup_cache"]

NEEDS: Final = {"spark": "pyspark", "parsl": "parsl"}
"""Packages of executors that not every environment has."""


def _installed(name: str) -> bool:
    return name not in NEEDS or find_spec(NEEDS[name]) is not None


EXECUTORS: Final = tuple(name for name in (BASE, *POOLS) if _installed(name))

_case: Final = partial(
    ProcessorCase,
    chunksize=EVENTS,
    size=SCALE.processor_events,
)


def _wall(_: str, executor: str) -> None:
    """Four hundred thousand events in four chunks, by workers that are warm."""
    workers = 1 if executor == BASE else WORKERS
    on_workers(_case(executor, workers), WALL)


def _plain(_: str, executor: str) -> None:
    """The same by coffea's own executor with its defaults."""
    on_workers(_case(executor, WORKERS, "plain"), WALL)


def _cpu(_: str, implementation: Any) -> None:
    """The same in this process; *idiomatic* is the analysis as published, in coffea's vectors."""
    prepared(_case(BASE, implementation=implementation)).sample(CPU)


def _peak(_: str, implementation: Any) -> None:
    """Largest resident memory of a process that did four chunks of a hundred thousand events."""
    with _case(BASE, implementation=implementation).open(inputs()) as ready:
        ready.run()


time_ttbar_wall_seconds_per_event = benchmark(
    "time_ttbar_wall_seconds_per_event",
    _wall,
    watch=WALL,
    params={"executor": EXECUTORS},
    repeat=SLOW_SAMPLES,
    timeout=600,
)
time_ttbar_plain_executor_wall_seconds_per_event = benchmark(
    "time_ttbar_plain_executor_wall_seconds_per_event",
    _plain,
    watch=WALL,
    params={"executor": ("futures", "dask")},
    repeat=SLOW_SAMPLES,
    timeout=600,
)
time_ttbar_cpu_seconds_per_event = benchmark(
    "time_ttbar_cpu_seconds_per_event",
    _cpu,
    watch=CPU,
    params={"implementation": (*PROCESSORS, IDIOMATIC)},
    repeat=SLOW_SAMPLES,
    timeout=600,
)
peakmem_ttbar = benchmark(
    "peakmem_ttbar", _peak, params={"implementation": (*PROCESSORS, IDIOMATIC)}, timeout=600
)


def _task(_: str, variations: Any) -> int:
    """What coffea's Runner gives an executor for one chunk, pickled."""
    return weigh(inputs().store.fileset(EVENTS), variations).task


def _accumulator(_: str, variations: Any) -> int:
    """What one chunk gives back, pickled."""
    return weigh(inputs().store.fileset(EVENTS), variations).accumulator


track_task_bytes = benchmark(
    "track_task_bytes", _task, params={"variations": ("nominal", "all")}, unit="bytes"
)
track_accumulator_bytes = benchmark(
    "track_accumulator_bytes",
    _accumulator,
    params={"variations": ("nominal", "all")},
    unit="bytes",
)
