"""The command ``scheduler-load``: what Dask's scheduler costs a task, and how many workers it feeds."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated

import typer

from perf.cli import _console
from perf.cli._options import MachineOption, RecordsOption, SeedOption
from perf.records import provenance, record_file
from perf.records.table import made_with

# dask takes seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415


def scheduler_load(
    workers: Annotated[
        str, typer.Option(help="Numbers of simulated workers, with commas.")
    ] = "1,10,30,100,300",
    tasks: Annotated[int, typer.Option(help="Tasks in each run.")] = 10_000,
    repeat: Annotated[int, typer.Option(help="Runs of each number of workers.")] = 3,
    seconds: Annotated[
        str, typer.Option(help="Durations of a chunk to predict for, with commas.")
    ] = "0.1,0.25,1,10",
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    machine: MachineOption = None,
    seed: SeedOption = 1,
) -> None:
    """Measure Dask's scheduler with simulated workers.

    The scheduler is the real one, in a process of its own; the workers answer and compute nothing.
    The result is its CPU time for a task, and how many workers it can feed.
    """
    import numpy as np

    from perf.scaling import scheduler_cost, scheduler_records
    from perf.scaling import scheduler_load as scheduler

    rng = np.random.default_rng(seed)
    durations = _console.decimals(seconds, "--seconds")
    counts = rng.permutation(_console.numbers(workers, "--workers") * repeat).tolist()
    console = _console.console()
    loads, run = [], uuid.uuid4().hex
    with console.status("") as status:
        for number, count in enumerate(counts, start=1):
            status.update(f"load {number} of {len(counts)}: {count} workers")
            before = provenance.load_average()
            load = scheduler.measure_load(
                count,
                tasks,
                # Long enough to keep the scheduler busy, and no longer: that would flatter it.
                task_seconds=scheduler.saturating(count),
                seed=seed + number,
            )
            loads.append(load)
            record_file.append(records, scheduler_records.record(load, run, before, machine))
    cost = scheduler_cost.fit_load(loads, rng)
    console.print(scheduler_cost.load_table(sorted(loads, key=lambda load: load.workers), cost))
    console.print(
        scheduler_cost.capacity_table(
            [
                scheduler_cost.capacity(cost, duration, chunks_per_task=chunks)
                for duration in durations
                for chunks in (1, 8)
            ]
        )
    )
    _console.say(made_with(provenance.versions(), provenance.machine()), on=console)
