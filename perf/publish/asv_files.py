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
    from collections.abc import Mapping
    from pathlib import Path

    from perf.publish.series import Series
    from perf.publish.timeline import Entry
    from perf.records.record_file import Record

BENCHMARKS_VERSION: Final = 2
MACHINE_VERSION: Final = 1
"""Of asv's files."""


def convert(benchmarks: Mapping[str, Series], folder: Path) -> list[Entry]:
    """Write asv's files of benchmarks, machines and results to its ``results_dir``, which is new.

    Gives all points in time, oldest first.
    """
    folder.mkdir(parents=True)
    descriptions: dict[str, Any] = {}
    results: dict[tuple[Entry, str], Results] = {}
    machines: dict[str, Record] = {}
    for name, series in benchmarks.items():
        description, cells = _benchmark(series)
        descriptions[name] = description
        points: dict[tuple[Entry, str], dict[str, list[Record]]] = defaultdict(dict)
        for (entry, machine, what), records in series.records.items():
            points[entry, machine][what] = records
        for (entry, machine), members in points.items():
            newest = max((m[-1] for m in members.values()), key=lambda record: record.timestamp)
            machines[machine] = max(
                machines.get(machine, newest), newest, key=lambda record: record.timestamp
            )
            if (entry, machine) not in results:
                results[entry, machine] = _results(entry, machine, newest)
            samples = [
                series.samples(members[what]) if what is not None and what in members else None
                for what in cells
            ]
            results[entry, machine].add_result(
                description,
                _result(samples, timed=series.quantity.kind == "time"),
                started_at=newest.timestamp,
                record_samples=True,
            )
    for result in results.values():
        result.save(str(folder))
    for machine, record in machines.items():
        path = folder / machine / "machine.json"
        path.write_text(json.dumps(_machine(machine, record)))
    (folder / "benchmarks.json").write_text(
        json.dumps({**descriptions, "version": BENCHMARKS_VERSION})
    )
    return sorted({entry for entry, _ in results}, key=lambda entry: (entry.date, entry.name))


def _benchmark(series: Series) -> tuple[dict[str, Any], list[str | None]]:
    """Description of a benchmark for asv, and the measurement of each combination of parameters."""
    axes = series.axes()
    names = list(next(iter(axes.values())))
    values = [sorted({axis[name] for axis in axes.values()}, key=_natural) for name in names]
    by_cell = {tuple(axis.values()): what for what, axis in axes.items()}
    cells = [by_cell.get(cell) for cell in itertools.product(*values)]
    record = series.newest
    lines = [
        f"{record.what.kind} {record.what.group}: {series.quantity.name.replace('_', ' ')}",
        f"measured on: {record.input.source}",
        *(f"void before {void.since}: {void.reason}" for void in sorted(series.void, key=str)),
    ]
    description = {
        "name": series.name,
        "type": series.quantity.kind,
        "unit": series.quantity.unit,
        "code": "\n".join(f"# {line}" for line in lines),
        "params": values,
        "param_names": names,
        # asv draws results of this version only; void results are left out above.
        "version": hashlib.sha256(series.name.encode()).hexdigest(),
        "less_is_better": True,
    }
    return description, cells


def _natural(text: str) -> tuple[float, str]:
    """Sort key: numbers by size."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _results(entry: Entry, machine: str, record: Record) -> Results:
    load = record.load_after if record.load_after is not None else record.load_before
    python = ".".join(record.versions.get("python", record.machine.python).split(".")[:2])
    results = Results(
        # Each of these becomes a selector of the page.
        params={"machine": machine, "python": python},
        requirements={**record.versions, "load_average": "" if load is None else f"{load:.2f}"},
        commit_hash=entry.name,
        date=entry.milliseconds,
        python=python,
        # Part of the file's name; the hash in it is cut.
        env_name=f"{entry.name}-python{python}",
        env_vars={},
    )
    results._params["python"] = python
    return results


def _result(samples: list[list[float] | None], *, timed: bool) -> BenchmarkResult:
    return BenchmarkResult(
        # asv makes medians and intervals of times, and takes other values as they are.
        result=[statistics.median(each) if each else None for each in samples],
        samples=samples if timed else [None] * len(samples),
        number=[1 if timed and each else None for each in samples],
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
