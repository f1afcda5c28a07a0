"""Loads on Dask's scheduler as records, and back."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from perf.cases.case import IN_MEMORY
from perf.records import provenance
from perf.records.record_file import Record, What
from perf.scaling.scheduler_load import Load

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = "scheduler-load-"
"""Of the names of these records."""

_FIELDS: Final = frozenset(Load.__dataclass_fields__) - {"scheduler_peak_memory"}


def record(load: Load, run: str, load_before: float | None, machine: str | None) -> Record:
    """A load as a record, made now."""
    what = What(
        name=f"{PREFIX}{load.workers}",
        group="scheduler load",
        kind="executor",
        subject="scheduler",
        executor="dask",
        workers=load.workers,
        size=0,
        parameters={"simulated": True, "submitted": load.submitted},
    )
    return Record(
        run=run,
        what=what,
        input=IN_MEMORY,
        versions={**provenance.versions(), provenance.SUITE: provenance.suite()},
        machine=provenance.machine(machine),
        load_before=load_before,
        load_after=provenance.load_average(),
        iterations=1,
        wall_seconds=(load.wall_seconds,),
        cpu_seconds=(load.scheduler_cpu_seconds,),
        metrics={name: value for name, value in asdict(load).items() if value is not None},
        check=None,
    )


def of_last_run(records: Iterable[Record]) -> tuple[list[Load], Record | None]:
    """The loads of the newest run, and its last record; none and None if there are no such records."""
    runs: dict[str, list[Record]] = defaultdict(list)
    for one in sorted(records, key=lambda each: each.timestamp):
        if one.what.name.startswith(PREFIX) and one.metrics.keys() >= _FIELDS:
            runs[one.run].append(one)
    if not runs:
        return [], None
    members = max(runs.values(), key=lambda of: of[-1].timestamp)
    return [_load(one) for one in members], members[-1]


def _load(one: Record) -> Load:
    whole = {"workers", "tasks", "submitted", "scheduler_peak_memory"}
    values = {name: int(v) if name in whole else float(v) for name, v in one.metrics.items()}
    return Load(**{"scheduler_peak_memory": None, **values})  # type: ignore[arg-type]
