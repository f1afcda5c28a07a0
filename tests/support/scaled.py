"""Made-up records of scaling runs, whose times follow a law that is known."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from perf.records.record_file import Input, Machine
from perf.scaling.advice import Costs
from perf.scaling.worker import Measured
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perf.records.record_file import Record

COSTS: Final = Costs(
    run=0.2,
    chunk=0.002,
    round=0.03,
    event=1.1e-6,
    serial=3e-8,
    crosstalk=4e-10,
    start=3.0,
    worker=0.4,
    inspect=0.05,
    file=0.01,
)
SHAPES: Final = ((1, 1_000_000), (4, 250_000), (16, 500_000), (50, 1_000_000), (200, 250_000))
CHUNKSIZES: Final = (50_000, 125_000, 250_000, 500_000)
WORKERS: Final = (1, 2, 4, 8, 16)


def machine(name: str = "many", cores: int = 16, memory: int = 64 * 10**9) -> Machine:
    """A machine of many cores."""
    return Machine(
        name=name, cpu="none", cores=cores, memory=memory, kernel="Linux 6", python="CPython"
    )


def scaled(
    files: int,
    events: int,
    chunksize: int,
    workers: int,
    executor: str = "futures",
    noise: float = 1.0,
    costs: Costs = COSTS,
    **changes: Any,
) -> Record:
    """A record of files of so many events each, of a worker run that takes what the law says."""
    number = files * max(1, round(events / chunksize))
    rounds = math.ceil(number / workers)
    busy = number / rounds
    total = files * events
    each = costs.event / busy + costs.serial * (1 - 1 / busy) + costs.crosstalk * (busy - 1)
    run = noise * (costs.run + costs.chunk * number + costs.round * rounds + total * each)
    metrics: dict[str, Any] = {
        field.name: 0.0
        for field in dataclasses.fields(Measured)
        if field.name not in {"wall", "cpu"}
    } | {
        "events": total,
        "files": files,
        "chunks": number,
        "workers_seen": workers,
        "accumulator": 20_000,
        "inspect_wall": costs.inspect + costs.file * files,
        "start_wall": costs.start + costs.worker * (workers - 1),
        "first_wall": run,
        "peak_client": 2 * 10**8,
        "peak_worker": 3 * 10**8 + 400 * total // number,
        "peak_engine": 0,
        "budget": workers * run,
    }
    return record(
        **{
            "name": f"scale-ttbar-{executor}{workers}-chunk{chunksize}",
            "kind": "processor",
            "subject": "ttbar",
            "implementation": "columnar",
            "executor": executor,
            "workers": workers,
            "size": total,
            "chunksize": chunksize,
            "parameters": {
                "campaign": "made",
                "code": executor,
                "round": 0,
                "tuned": True,
                "options": json.dumps({}),
                "variations": "nominal",
            },
            "machine": machine(),
            "input": Input(digest="d" * 64, events=total, source="made up"),
            "iterations": 1,
            "wall_seconds": (run,),
            "cpu_seconds": (1.2e-6 * total,),
            "metrics": metrics,
        }
        | changes
    )


def records(
    executors: Sequence[str] = ("iterative", "futures"),
    noise: float = 0.0,
    cells: int = 40,
    seed: int = 1,
    workers: Sequence[int] = WORKERS,
    **changes: Any,
) -> list[Record]:
    """Records of each executor: so many cells, drawn at random, with noise of so much."""
    rng = np.random.default_rng(seed)
    made = []
    for executor in executors:
        numbers = (1,) if executor == "iterative" else workers
        every = list(itertools.product(SHAPES, CHUNKSIZES, numbers))
        for index in rng.permutation(len(every))[:cells]:
            shape, chunksize, count = every[index]
            factor = float(rng.lognormal(0, noise))
            files, events = shape
            made.append(scaled(files, events, chunksize, count, executor, factor, **changes))
    return made


def merging(executor: str, seconds: float, size: int, tasks: int = 16, **changes: Any) -> Record:
    """A record of tasks that return so many bytes."""
    return record(
        **{
            "name": f"{'merge' if size else 'empty'}-{executor}",
            "group": "made up",
            "kind": "executor",
            "subject": executor,
            "executor": executor,
            "workers": 2,
            "size": 0,
            "implementation": None,
            "parameters": {"tasks": tasks, **({"bytes": size} if size else {})},
            "wall_seconds": (seconds,),
            "machine": machine(),
        }
        | changes
    )
