"""Command line of the history: ``python -m perf history``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from analysis.errors import InputError
from perf.cases.data import DEFAULT_DIRECTORY
from perf.history.workloads import GROUPS, Group

app = typer.Typer(help="Measure the same acts in every release of coffea.", no_args_is_help=True)

PATH: Final = ".perf/history.jsonl"
KEPT: Final = "perf/history"
WIDTH: Final = 190
"""Columns of a table that is not written to a terminal."""

FAILED: Final = 1

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="File of results; what is in it is done.")
]
StackOption = Annotated[
    str | None,
    typer.Option(help="Release whose pins, or file of pins, all but coffea are installed by."),
]
ClockOption = Annotated[Literal["cpu", "wall"], typer.Option(help="Times to show.")]


@app.command()
def run(
    releases: Annotated[
        str,
        typer.Option(
            help="Versions with commas between them: releases, COMMIT@CLONE, folders. By default "
            "all that have pins; with --stack those from 2025.7 on."
        ),
    ] = "",
    stack: StackOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="Processes of each group of acts.")] = 5,
    groups: Annotated[str, typer.Option(help="Of acts, with commas.")] = ",".join(GROUPS),
    events: Annotated[int, typer.Option(min=1, help="In the file that is read.")] = 100_000,
    chunksize: Annotated[int, typer.Option(min=1, help="Events a chunk.")] = 25_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes of executors.")] = 2,
    seconds: Annotated[float, typer.Option(help="For the samples of an act, about.")] = 0.3,
    output: OutputOption = Path(PATH),
    data: Annotated[Path, typer.Option(help="Where synthetic events are kept.")] = Path(
        DEFAULT_DIRECTORY
    ),
    machine: Annotated[str | None, typer.Option(help="Name of this machine in records.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of visits.")] = 1,
    clock: ClockOption = "cpu",
) -> None:
    """Measure; goes on where it was interrupted. Exit status 1 if a version or an act fails."""
    from perf.history import campaign as history  # noqa: PLC0415  (coffea, numpy)

    versions = _split(releases) or history.default_versions(stack)
    chosen = _groups(groups)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        bar = progress.add_task("the events", total=len(versions))
        campaign = history.Campaign(
            output,
            data,
            history.Settings(events, chunksize, workers, seconds),
            stack=stack,
            machine=machine,
        )
        for version in versions:
            progress.update(bar, description=f"environment of {version}")
            if why := campaign.install(version):
                progress.console.print(f"{version}: {why}", markup=False, highlight=False)
            progress.advance(bar)
        visits = history.order(versions, chosen, rounds, seed)
        progress.reset(bar, total=len(visits), description="what must come out")
        campaign.make_reference(chosen)
        found = campaign.found()
        for visit in visits:
            progress.update(bar, description=f"{visit.version}: {visit.group}")
            if names := campaign.todo(visit, found):
                campaign.measure(visit, names)
            progress.advance(bar)
    _print(output, stack, clock)
    if any(campaign.notes.failed.get(version) for version in versions):
        raise typer.Exit(FAILED)


@app.command()
def show(
    path: Annotated[
        Path | None,
        typer.Argument(
            help=f"File of results. By default {PATH}, or else what is under version control."
        ),
    ] = None,
    stack: StackOption = None,
    clock: ClockOption = "cpu",
) -> None:
    """Show what was measured last: a row for each act, a column for each version."""
    _print(path, stack, clock)


@app.command()
def keep(
    path: Annotated[Path, typer.Argument(help="File of results.")] = Path(PATH),
    folder: Annotated[Path, typer.Option(help="To put it in.")] = Path(KEPT),
) -> None:
    """Put what was measured last under version control: compressed, a file for each stack."""
    from perf.history import archive  # noqa: PLC0415  (as above)

    for made in archive.keep(path, folder):
        typer.echo(made)


@app.command()
def picture(
    output: Annotated[Path, typer.Argument(help="Picture to write: .svg, .png or .pdf.")],
    folder: Annotated[
        Path | None, typer.Option(help="Of what is kept; by default what came with the suite.")
    ] = None,
) -> None:
    """Draw what is kept: CPU time over the dates of releases."""
    from perf.publish import figures as drawing  # noqa: PLC0415  (matplotlib)
    from perf.records import record_file, store  # noqa: PLC0415  (as above)

    kept = store.kept() if folder is None else sorted(folder.glob("*.jsonl.gz"))
    drawing.draw_history([record for path in kept for record in record_file.read(path)], output)


def _print(path: Path | None, stack: str | None, clock: Literal["cpu", "wall"]) -> None:
    from perf.history import table as showing  # noqa: PLC0415  (as above)

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    if path is None:
        path = _measured_or_kept(stack or "")
        console.print(f"of {path}", highlight=False, markup=False, soft_wrap=True)
    records, notes = showing.last(path, stack or "")
    console.print(showing.table(records, clock))
    for line in showing.reasons(notes):
        console.print(line, highlight=False, markup=False)
    newest = max(records, key=lambda record: record.timestamp)
    where, load = newest.machine, newest.load_after
    console.print(
        f"{where.name}: {where.cpu}, {where.cores} cores, {where.kernel}, load average "
        f"{'unknown' if load is None else f'{load:.1f}'}; {newest.input.source}",
        highlight=False,
        markup=False,
    )


def _measured_or_kept(stack: str) -> Path:
    """The file of the newest campaign of a stack: measured here, or under version control."""
    from perf.records import record_file, store  # noqa: PLC0415  (as above)

    places = [path for path in (Path(PATH), *store.kept()) if path.is_file()]
    for path in places:
        if any(record.what.parameters.get("stack") == stack for record in record_file.read(path)):
            return path
    stacks = f" with the dependencies of {stack}" if stack else ""
    msg = f"there is no history{stacks}: make one with `python -m perf history run`"
    raise InputError(msg)


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _groups(text: str) -> list[Group]:
    known = {str(name): name for name in get_args(Group)}
    unknown = [name for name in _split(text) if name not in known]
    if unknown or not _split(text):
        msg = f"there is no group {', '.join(unknown)}: use some of {', '.join(known)}"
        raise InputError(msg)
    return [known[name] for name in _split(text)]
