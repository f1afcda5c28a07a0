"""Series as asv's files of benchmarks, machines and results."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from asv.results import Results
from asv.runner import BenchmarkResult

if TYPE_CHECKING:
    from pathlib import Path

    from perf.publish.series import Series
    from perf.publish.timeline import Entry
    from perf.records.record_file import Record

BENCHMARKS_VERSION: Final = 2
MACHINE_VERSION: Final = 1
"""Of asv's files."""


def convert(found: dict[str, Series], folder: Path) -> list[Entry]:
    """Write asv's files of benchmarks, machines and results to its ``results_dir``, which is new.

    Gives all points in time, oldest first.
    """
    folder.mkdir(parents=True)
    benchmarks: dict[str, Any] = {}
    made: dict[tuple[Entry, str], Results] = {}
    machines: dict[str, Record] = {}
    for name, one in found.items():
        benchmark, cells = _benchmark(one)
        benchmarks[name] = benchmark
        points: dict[tuple[Entry, str], dict[str, list[Record]]] = defaultdict(dict)
        for (entry, machine, what), records in one.records.items():
            points[entry, machine][what] = records
        for (entry, machine), members in points.items():
            newest = max((m[-1] for m in members.values()), key=lambda record: record.timestamp)
            machines[machine] = max(
                machines.get(machine, newest), newest, key=lambda record: record.timestamp
            )
            if (entry, machine) not in made:
                made[entry, machine] = _results(entry, machine, newest)
            samples = [
                one.samples(members[what]) if what is not None and what in members else None
                for what in cells
            ]
            made[entry, machine].add_result(
                benchmark,
                _result(samples, timed=one.quantity.kind == "time"),
                started_at=newest.timestamp,
                record_samples=True,
            )
    for result in made.values():
        result.save(str(folder))
    for machine, record in machines.items():
        path = folder / machine / "machine.json"
        path.write_text(json.dumps(_machine(machine, record)))
    (folder / "benchmarks.json").write_text(
        json.dumps({**benchmarks, "version": BENCHMARKS_VERSION})
    )
    return sorted({entry for entry, _ in made}, key=lambda entry: (entry.date, entry.name))


def _benchmark(one: Series) -> tuple[dict[str, Any], list[str | None]]:
    """Description of a benchmark for asv, and what was measured in each cell of its parameters."""
    axes = one.axes
    names = list(next(iter(axes.values())))
    values = [sorted({axis[name] for axis in axes.values()}, key=_natural) for name in names]
    by_cell = {tuple(axis.values()): what for what, axis in axes.items()}
    cells = [by_cell.get(cell) for cell in itertools.product(*values)]
    record = one.newest
    lines = [
        f"{record.what.kind} {record.what.group}: {one.quantity.name.replace('_', ' ')}",
        f"measured on: {record.input.source}",
        *(f"void before {void.since}: {void.reason}" for void in sorted(one.void, key=str)),
    ]
    description = {
        "name": one.name,
        "type": one.quantity.kind,
        "unit": one.quantity.unit,
        "code": "\n".join(f"# {line}" for line in lines),
        "params": values,
        "param_names": names,
        # asv draws results of this version alone; what is void is left out above.
        "version": hashlib.sha256(one.name.encode()).hexdigest(),
        "less_is_better": True,
    }
    return description, cells


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _results(entry: Entry, machine: str, record: Record) -> Results:
    load = record.load_after if record.load_after is not None else record.load_before
    python = ".".join(record.versions.get("python", record.machine.python).split(".")[:2])
    results = Results(
        # These are selectors of the page; all else that asv knows of machines would be, too.
        params={"machine": machine, "python": python},
        requirements={**record.versions, "load_average": "" if load is None else f"{load:.2f}"},
        commit_hash=entry.name,
        date=entry.milliseconds,
        python=python,
        # Part of the file's name, whose other part is cut.
        env_name=f"{entry.name}-python{python}",
        env_vars={},
    )
    results._params["python"] = python
    return results


def _result(samples: list[list[float] | None], *, timed: bool) -> BenchmarkResult:
    return BenchmarkResult(
        # Of times asv makes medians and intervals; the rest it takes as it is.
        result=[statistics.median(one) if one else None for one in samples],
        samples=samples if timed else [None] * len(samples),
        number=[1 if timed and one else None for one in samples],
        errcode=0,
        stderr="",
        profile=None,
    )


def _machine(name: str, record: Record) -> dict[str, Any]:
    machine = record.machine
    return {
        "machine": name,
        "cpu": machine.cpu,
        "num_cpu": "" if machine.cores is None else str(machine.cores),
        "ram": "" if machine.memory is None else f"{round(machine.memory / 2**30)} GB",
        "os": machine.kernel.split(" ")[0],
        "arch": "",
        "version": MACHINE_VERSION,
    }
