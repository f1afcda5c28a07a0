"""Commands ``history ...``: the same workloads in every release of coffea."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import typer

from analysis.errors import InputError
from perf.cases.data import DEFAULT_DIRECTORY
from perf.cli import _console
from perf.cli._options import (
    FAILED,
    ClockOption,
    DataOption,
    MachineOption,
    OutputOption,
    PinsOption,
    SeedOption,
)
from perf.history.workloads import GROUPS, Group

# coffea, numpy and matplotlib take seconds to import.
# ruff: noqa: PLC0415

app = typer.Typer(
    help="Measure the same workloads in every release of coffea.", no_args_is_help=True
)

PATH: Final = ".perf/history.jsonl"
WIDTH: Final = 190
"""Columns of a table that is not written to a terminal."""


@app.command()
def run(
    releases: Annotated[
        str,
        typer.Option(
            help="Versions with commas: releases, COMMIT@CLONE, checkouts. By default "
            "all releases that have pins; with --pins those from 2025.7 on."
        ),
    ] = "",
    pins: PinsOption = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Repetitions of each group of workloads, in new processes.")
    ] = 5,
    groups: Annotated[str, typer.Option(help="Groups of workloads, with commas.")] = ",".join(
        GROUPS
    ),
    events: Annotated[int, typer.Option(min=1, help="Events in the file that is read.")] = 100_000,
    chunksize: Annotated[int, typer.Option(min=1, help="Events in a chunk, about.")] = 25_000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of executors.")] = 2,
    seconds: Annotated[
        float, typer.Option(help="Seconds to spend on the samples of a workload, about.")
    ] = 0.3,
    output: OutputOption = Path(PATH),
    data: DataOption = Path(DEFAULT_DIRECTORY),
    machine: MachineOption = None,
    seed: SeedOption = 1,
    clock: ClockOption = "cpu",
) -> None:
    """Measure, or resume an interrupted campaign.

    Exit status 1 if a version or a workload fails.
    """
    from analysis.files.output import check_with_folder
    from analysis.folders import alone
    from perf.history import campaign as history

    versions = _console.split(releases) or history.default_versions(pins)
    chosen = _console.choices(groups, "--groups", get_args(Group))
    check_with_folder(output)
    with alone(output.parent), _console.progress() as progress:
        bar = progress.add_task("the events", total=len(versions))
        campaign = history.Campaign(
            output,
            data,
            history.Settings(events, chunksize, workers, seconds),
            pins=pins,
            machine=machine,
        )
        for version in versions:
            progress.update(bar, description=f"environment of {version}")
            if why := campaign.install(version):
                _console.say(f"{version}: {why}", on=progress.console)
            progress.advance(bar)
        runs = history.order(versions, chosen, rounds, seed)
        progress.reset(bar, total=len(runs), description="the reference")
        campaign.make_reference(chosen)
        done = campaign.done()
        for worker_run in runs:
            progress.update(bar, description=f"{worker_run.version}: {worker_run.group}")
            if names := campaign.todo(worker_run, done):
                campaign.measure(worker_run, names)
            progress.advance(bar)
    _print(output, pins, clock)
    if any(campaign.notes.failed.get(version) for version in versions):
        raise typer.Exit(FAILED)


@app.command()
def show(
    path: Annotated[
        Path | None,
        typer.Argument(help=f"File of results. By default {PATH}, or else what is kept."),
    ] = None,
    pins: PinsOption = None,
    clock: ClockOption = "cpu",
) -> None:
    """Show the last campaign: workloads by versions."""
    _print(path, pins, clock)


@app.command()
def picture(
    output: Annotated[Path, typer.Argument(help="Picture to write: .svg, .png or .pdf.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder of kept records; by default perf/kept of the suite."),
    ] = None,
) -> None:
    """Draw the kept history: CPU time over the dates of releases."""
    from perf.publish import figures
    from perf.records import record_file, store

    paths = (
        store.kept(pattern=store.HISTORY) if folder is None else sorted(folder.glob(store.HISTORY))
    )
    figures.draw_history([record for path in paths for record in record_file.read(path)], output)


def _print(path: Path | None, pins: str | None, clock: Literal["cpu", "wall"]) -> None:
    from perf.history import table as history_table

    console = _console.console(WIDTH)
    if path is None:
        path = _newest(pins or "")
        _console.say(f"of {path}", on=console)
    records, notes = history_table.last(path, pins or "")
    console.print(history_table.table(records, clock))
    newest = max(records, key=lambda record: record.timestamp)
    where, load = newest.machine, newest.load_after
    _console.say(
        *history_table.reasons(notes),
        f"{where.name}: {where.cpu}, {where.cores} cores, {where.kernel}, load average "
        f"{'unknown' if load is None else f'{load:.1f}'}; {newest.input.source}",
        on=console,
    )


def _newest(pins: str) -> Path:
    """The file of the newest campaign with these pins: measured here, or kept."""
    from perf.records import record_file, store

    for path in (Path(PATH), *store.kept(pattern=store.HISTORY)):
        if path.is_file() and any(
            record.what.parameters.get("stack") == pins for record in record_file.read(path)
        ):
            return path
    pinned = f" with the dependencies of {pins}" if pins else ""
    msg = f"there is no history{pinned}: make one with `python -m perf history run`"
    raise InputError(msg)
