"""Commands that show what was measured: ``records`` and ``picture``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from analysis.errors import InputError
from perf.cli import _console
from perf.cli._options import RecordsOption
from perf.records import record_file, summary, table
from perf.records.record_file import Record


def records(
    path: Annotated[Path, typer.Argument(help="File of records.")] = Path(
        record_file.DEFAULT_PATH
    ),
    run: Annotated[
        str | None,
        typer.Option(help="First characters of the run's identity. By default the last."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Show only this group (repeatable).")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--list", help="List the runs.")] = False,
    screenful: Annotated[
        bool, typer.Option("--summary", help="Show the summary that ends `make bench`.")
    ] = False,
) -> None:
    """Show the measurements of a run, or list the runs."""
    runs: dict[str, list[Record]] = {}
    for record in record_file.read(path):
        runs.setdefault(record.run, []).append(record)
    if not runs:
        msg = f"{path} has no records: make some with `pytest --benchmark-only`"
        raise InputError(msg)
    console = _console.console()
    if all_runs:
        console.print(_runs(runs))
        return
    chosen = [name for name in runs if name.startswith(run)] if run else [list(runs)[-1]]
    if len(chosen) != 1:
        msg = f"{len(chosen)} runs begin with {run!r}: see `python -m perf records --list`"
        raise InputError(msg)
    members = runs[chosen[0]]
    shown = [record for record in members if not group or record.what.group in group]
    if not shown:
        groups = ", ".join(dict.fromkeys(record.what.group for record in members))
        msg = f"the run has no group {' or '.join(group or ())}: it has {groups}"
        raise InputError(msg)
    if screenful:
        everything = [record for members in runs.values() for record in members]
        _console.say("\n".join(summary.lines(shown, everything)), on=console)
        return
    console.print(table.summary(shown))
    _console.say(table.footnote(shown[-1]), on=console)


def _runs(runs: dict[str, list[Record]]) -> Table:
    listed = Table("run", "ended (UTC)", "records", "machine", "coffea")
    for name, members in runs.items():
        last = members[-1]
        listed.add_row(
            name[:8],
            f"{last.timestamp:%Y-%m-%d %H:%M}",
            str(len(members)),
            last.machine.name,
            last.versions.get("coffea", "-"),
        )
    return listed


def keep(
    more: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILES]...",
            help="Files of records and reports of `compare --json` to keep besides those of .perf.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Project to read and to write. By default the working folder."),
    ] = None,
) -> None:
    """Copy what was measured into perf/kept, which is under version control.

    Of each benchmark at a release or commit on a machine the newest run is kept.
    """
    from perf.records import keep as keeping  # noqa: PLC0415  (imports coffea's releases)

    written = keeping.keep(root, more or ())
    _console.say(
        *(f"{path}: {path.stat().st_size / 1e3:,.0f} kB" for path in written),
        "the report follows from these: `coffea-perf report` writes it again"
        if written
        else "all was kept already",
    )


def picture(
    output: Annotated[Path, typer.Argument(help="Picture to write: .svg, .png or .pdf.")],
    path: RecordsOption = Path(record_file.DEFAULT_PATH),
    of: Annotated[
        Literal["kernels", "executors"],
        typer.Option(help="Costs of kernels, or of executors as `claims` measured them."),
    ] = "kernels",
    size: Annotated[int, typer.Option(help="Draw the kernels of this many events.")] = 100_000,
) -> None:
    """Draw the last run of kernels, or the newest claim on each executor."""
    from perf.publish import figures  # noqa: PLC0415  (imports matplotlib)

    found = record_file.read(path)
    if of == "kernels":
        figures.draw(figures.last_run(found), output, size=size)
    else:
        figures.draw_executors(found, output)
    _console.say(f"written to {output}")
