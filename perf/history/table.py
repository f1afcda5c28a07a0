"""The history as a table: a row for each workload, a column for each version."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.table import Table

from analysis.errors import InputError
from perf.history import workloads
from perf.history.campaign import INSTALL, Notes, sorted_versions
from perf.records import record_file
from perf.records.format import data_size, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from perf.records.record_file import Record

Clock = Literal["cpu", "wall"]

LEAST_PROCESSES: Final = 3
"""Processes a side below which a ratio is never called a change."""

MEMORY_OF: Final = (workloads.IMPORT.name, workloads.ONE_CORE, "ttbar-futures", "ttbar-dask")
"""Workloads whose peak memory is shown; that of an executor is of one worker."""

SIZES: Final = {
    "task_bytes": "bytes of a task",
    "tasks": "tasks",
    "accumulator_bytes": "bytes of the accumulator",
}


def last(path: Path, pins: str = "") -> tuple[list[Record], Notes]:
    """Records and notes of the campaign of a file that measured last, of those with these pins.

    Without pins it is a campaign with the dependencies of the time.
    """
    records = [
        record
        for record in record_file.read(path)
        if "coffea" in record.what.parameters and record.what.parameters.get("stack") == pins
    ]
    if not records:
        msg = f"{path} holds no history: make one with `python -m perf history run`"
        raise InputError(msg)
    newest = str(max(records, key=lambda record: record.timestamp).what.parameters["campaign"])
    members = [record for record in records if record.what.parameters["campaign"] == newest]
    return members, Notes.read(record_file.notes_path(path), newest)


def table(records: Sequence[Record], clock: Clock = "cpu") -> Table:
    """A row for each workload, a column for each version, each with the ratio to the one before.

    Medians over the processes of a campaign, of the median of each. A star follows a ratio whose
    two sides do not overlap, of at least `LEAST_PROCESSES` processes each.
    """
    versions = sorted_versions(str(record.what.parameters["coffea"]) for record in records)
    days = {
        str(record.what.parameters["coffea"]): str(record.what.parameters.get("released", ""))
        for record in records
    }
    pins = next((str(record.what.parameters.get("stack", "")) for record in records), "")
    fixed = f", all but coffea as of {pins}" if pins else ""
    shown = Table(
        "", title=f"History{fixed}: {clock} time of a call, and ratio to the version before"
    )
    for version in versions:
        shown.add_column(f"{version}\n{days[version]}", justify="right", no_wrap=True)

    by_workload: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        of = record.what.parameters
        by_workload[str(of["act"])][str(of["coffea"])].append(record)

    def add(name: str, of: str, number: Callable[[Record], Any], text: Callable[[Any], str]):  # type: ignore[no-untyped-def]
        before: list[float] = []
        cells = []
        for version in versions:
            numbers = [number(record) for record in by_workload[of].get(version, ())]
            values = [value for value in numbers if value is not None]
            if not values:
                cells.append("-")
                continue
            cells.append(text(statistics.median(values)) + _ratio(values, before))
            before = values
        if any(cell != "-" for cell in cells):
            shown.add_row(name, *cells)

    def seconds(record: Record) -> float | None:
        return record.cpu_median if clock == "cpu" else record.wall_median

    for workload in workloads.WORKLOADS:
        add(workload.name, workload.name, seconds, duration)
    shown.add_section()
    for name in MEMORY_OF:
        add(f"peak memory, {name}", name, lambda record: record.peak_memory, data_size)
    for key, name in SIZES.items():
        add(
            f"{name}, {workloads.ONE_CORE}",
            workloads.ONE_CORE,
            lambda record, key=key: record.metrics.get(key),  # type: ignore[misc]
            lambda value: f"{value:,.0f}",
        )
    return shown


def _ratio(values: Sequence[float], before: Sequence[float]) -> str:
    """Second line of a cell."""
    if not before or not statistics.median(before):
        return "\n"
    enough = min(len(values), len(before)) >= LEAST_PROCESSES
    apart = min(values) > max(before) or max(values) < min(before)
    ratio = statistics.median(values) / statistics.median(before)
    return f"\n{ratio:.2f}{'*' if enough and apart else ' '}"


def reasons(notes: Notes) -> list[str]:
    """Why versions or workloads were not measured, a line each; whole versions first."""
    lines = [
        f"{version}: {why[INSTALL]}" for version, why in notes.failed.items() if INSTALL in why
    ]
    for version, why in notes.failed.items():
        lines += [f"{version}, {name}: {text}" for name, text in why.items() if name != INSTALL]
    return lines
