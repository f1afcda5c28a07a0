"""Commands that measure and judge ratios: ``claims`` and ``ablation``."""

from __future__ import annotations

import math
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from analysis.errors import NotInstalledError
from perf.cases.data import DEFAULT_DIRECTORY, Store
from perf.cli import _console
from perf.cli._options import (
    FAILED,
    DataOption,
    MachineOption,
    OnlyOption,
    RecordsOption,
    SeedOption,
)
from perf.records import provenance, record_file
from perf.records.record_file import Record
from perf.records.table import footnote

# numba and coffea take seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console

    from perf.claims.verdict import Verdict

LITTLE: Final = 0.1
"""A ratio below it is printed with three decimals."""


def claims(
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: DataOption = Path(DEFAULT_DIRECTORY),
    machine: MachineOption = None,
    seed: SeedOption = 1,
    only: OnlyOption = None,
) -> None:
    """Measure and judge every claim about speed and memory.

    Exit status 1 if a claim fails or is undecided.
    """
    import numpy as np

    from perf.claims.catalogue import every

    console = _console.console()
    pending = {
        claim.name: claim.measure
        for claim in every(Store(data), np.random.default_rng(seed), only or ())
    }
    measured, missing, footnotes = _measure(pending, records, machine, console)
    verdicts = [verdict for each in measured.values() for verdict in each]
    console.print(verdict_table(verdicts))
    _console.say(*missing, *footnotes, on=console)
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(FAILED)


def ablation(
    executors: Annotated[
        str, typer.Argument(help="Names of executors, with commas.")
    ] = "futures,parsl,dask,spark",
    rounds: Annotated[
        int | None, typer.Option(min=2, help="Pairs of runs of each setting. By default 5.")
    ] = None,
    events: Annotated[
        int | None,
        typer.Option(min=1, help="Events of a run, about. By default those of the claims."),
    ] = None,
    only: OnlyOption = None,
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: DataOption = Path(DEFAULT_DIRECTORY),
    machine: MachineOption = None,
    seed: SeedOption = 1,
) -> None:
    """Disable one tuning option of an executor at a time and measure the effect."""
    import numpy as np

    from perf.cases.case import WORKERS
    from perf.claims import ablation as settings
    from perf.claims.executors import EVENTS, PROCESSOR_CHUNK, QUANTITIES

    console, store, rng = _console.console(), Store(data), np.random.default_rng(seed)
    chosen = {
        f"{each.executor}, {each.without}": each
        for each in settings.of(executors.split(","), only or ())
    }
    events = events or EVENTS
    pending = {
        name: partial(each.measured, store, rng, rounds or settings.ROUNDS, events)
        for name, each in chosen.items()
    }
    measured, missing, footnotes = _measure(pending, records, machine, console)
    table = Table(
        "executor",
        "without it",
        title=f"Settings of executors: {events:,} events, {WORKERS} workers, "
        f"chunk {PROCESSOR_CHUNK:,}; the first two over the iterative executor's",
        pad_edge=False,
    )
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    for name, verdicts in measured.items():
        setting = chosen[name]
        if setting.without == settings.TUNED:
            table.add_section()
        values = {verdict.quantity: verdict for verdict in verdicts}
        table.add_row(
            setting.executor,
            setting.without,
            *(_number(values[name].measured.value, values[name].unit) for name in QUANTITIES),
        )
    console.print(table)
    _console.say(*missing, *footnotes, on=console)


def _measure(
    pending: Mapping[str, Callable[[], Iterable[Verdict]]],
    path: Path,
    machine: str | None,
    console: Console,
) -> tuple[dict[str, list[Verdict]], list[str], list[str]]:
    """Measure, and append to the file of records.

    Gives verdicts by name, sentences on what is not installed, and a footnote if anything is
    measured.
    """
    run = uuid.uuid4().hex
    measured: dict[str, list[Verdict]] = {}
    missing: list[str] = []
    footnotes: list[str] = []
    with console.status("") as status:
        for number, (name, measure) in enumerate(pending.items(), start=1):
            status.update(f"{name}: {number} of {len(pending)}")
            try:
                measured[name], found = measured_and_kept(measure, path, machine, run)
            except NotInstalledError as error:
                missing.append(f"{name} was not measured: {error}")
            else:
                footnotes = found or footnotes
    return measured, missing, footnotes


def measured_and_kept(
    measure: Callable[[], Iterable[Verdict]], path: Path, machine: str | None, run: str = ""
) -> tuple[list[Verdict], list[str]]:
    """What is measured, once it is in the file of records; and a footnote on it."""
    from perf.claims.verdict import with_claims

    run = run or uuid.uuid4().hex
    versions = {**provenance.versions(), provenance.SUITE: provenance.suite()}
    load_before = provenance.load_average()
    verdicts = list(measure())
    where, load = provenance.machine(machine), provenance.load_average()
    footnotes: list[str] = []
    for arm, judged in with_claims(verdicts):
        record = Record(
            run=run,
            what=arm.what,
            input=arm.input,
            versions={**versions, **arm.versions},
            machine=where,
            load_before=load_before,
            load_after=load,
            iterations=arm.iterations,
            wall_seconds=tuple(arm.wall),
            cpu_seconds=tuple(arm.cpu),
            peak_memory=arm.peak_memory,
            check=arm.check,
            claims=judged,
        )
        record_file.append(path, record)
        footnotes = [footnote(record)]
    return verdicts, footnotes


def verdict_table(
    verdicts: Sequence[Verdict], title: str = "Claims: pairs in random order"
) -> Table:
    """Verdicts with their bounds and intervals."""
    from perf.measure.paired import CONFIDENCE

    table = Table("claim", title=title, pad_edge=False)
    for heading in ("bound", "measured", f"{CONFIDENCE:.0%} interval", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in verdicts:
        number = partial(_number, unit=verdict.unit)
        low, high = verdict.measured.low, verdict.measured.high
        table.add_row(
            verdict.claim,
            "-" if verdict.bound is None else f"{verdict.sense} {number(verdict.bound)}",
            number(verdict.measured.value),
            "-" if low == high else f"{number(low)} to {number(high)}",
            str(verdict),
        )
    return table


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "unknown"
    match unit:
        case "seconds":
            return f"{value:.1f} s"
        case "milliseconds":
            return f"{value:.3g} ms"
        case "bytes":
            return f"{value / 1e6:.0f} MB"
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:.3f}" if value < LITTLE else f"{value:.2f}"
