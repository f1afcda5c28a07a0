"""Command line of the suite: ``python -m perf``."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from analysis.errors import InputError
from perf import measure, results
from perf.data import DEFAULT_DIRECTORY, Store
from perf.results import Record
from perf.table import PLAIN_WIDTH, footnote, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perf.claims import Verdict

app = typer.Typer(
    help="Measure the analysis, and look at what was measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED: Final = 1
RecordsOption = Annotated[
    Path, typer.Option("--records", help="File of records.", show_default=True)
]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


@app.command()
def claims(
    records: RecordsOption = Path(results.DEFAULT_PATH),
    data: Annotated[Path, typer.Option(help="Where synthetic events are kept.")] = Path(
        DEFAULT_DIRECTORY
    ),
    machine: Annotated[str | None, typer.Option(help="Name of this machine in records.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of measurements.")] = 1,
) -> None:
    """Measure every claim about speed and memory; exit status 1 if one does not hold."""
    # numba and coffea take seconds, which --help and `records` need not wait for.
    import numpy as np  # noqa: PLC0415

    from perf.claims import every  # noqa: PLC0415

    console, run = _console(), uuid.uuid4().hex
    verdicts: list[Verdict] = []
    written: list[Record] = []
    where, versions = measure.machine(machine), measure.versions()
    pending = every(Store(data), np.random.default_rng(seed))
    with console.status("") as status:
        for number, claim in enumerate(pending, start=1):
            status.update(f"claim {number} of {len(pending)}")
            before = measure.load_average()
            verdict = claim()
            verdicts.append(verdict)
            for arm in verdict.arms:
                record = Record(
                    run=run,
                    what=arm.what,
                    input=arm.input,
                    versions=versions,
                    machine=where,
                    load_before=before,
                    load_after=measure.load_average(),
                    iterations=arm.iterations,
                    wall_seconds=tuple(arm.wall),
                    cpu_seconds=tuple(arm.cpu),
                    peak_memory=arm.peak_memory,
                    check=arm.check,
                )
                results.append(records, record)
                written.append(record)
    console.print(_verdicts(verdicts))
    console.print(footnote(written[-1]), highlight=False, markup=False)
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(FAILED)


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    from perf.claims import CONFIDENCE  # noqa: PLC0415

    table = Table("claim", title="Claims: CPU time of pairs, in random order", pad_edge=False)
    for heading in ("bound", "measured", f"{CONFIDENCE:.0%} interval", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in verdicts:

        def number(value: float, unit: str = one.unit) -> str:
            return f"{value / 1e6:.0f} MB" if unit == "bytes" else f"{value:.2f}"

        table.add_row(
            one.claim,
            f"{one.sense} {number(one.bound)}",
            number(one.measured),
            "-" if one.low == one.high else f"{number(one.low)} to {number(one.high)}",
            "holds" if one.holds else "FAILS",
        )
    return table


@app.command()
def records(
    path: Annotated[Path, typer.Argument(help="File of records.")] = Path(results.DEFAULT_PATH),
    run: Annotated[
        str | None, typer.Option(help="Beginning of a run's identity; the last by default.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Only this group (may be repeated).")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--list", help="List the runs.")] = False,  # noqa: FBT002  (a flag)
) -> None:
    """Show the measurements of a run as a table, or list the runs."""
    runs: dict[str, list[Record]] = {}
    for record in results.read(path):
        runs.setdefault(record.run, []).append(record)
    if not runs:
        msg = f"{path} has no records: make some with `pytest --benchmark-only`"
        raise InputError(msg)
    console = _console()
    if all_runs:
        table = Table("run", "ended (UTC)", "records", "machine", "coffea")
        for name, members in runs.items():
            last = members[-1]
            table.add_row(
                name[:8],
                f"{last.timestamp:%Y-%m-%d %H:%M}",
                str(len(members)),
                last.machine.name,
                last.versions.get("coffea", "-"),
            )
        console.print(table)
        return
    chosen = [name for name in runs if name.startswith(run)] if run else [list(runs)[-1]]
    if len(chosen) != 1:
        msg = f"{len(chosen)} runs begin with {run!r}: see `python -m perf records --list`"
        raise InputError(msg)
    found = [one for one in runs[chosen[0]] if not group or one.what.group in group]
    if not found:
        groups = ", ".join(dict.fromkeys(one.what.group for one in runs[chosen[0]]))
        msg = f"the run has no group {' or '.join(group or ())}: it has {groups}"
        raise InputError(msg)
    console.print(summary(found))
    console.print(footnote(found[-1]), highlight=False, markup=False)


@app.command()
def picture(
    output: Annotated[Path, typer.Argument(help="Picture to write: .svg, .png or .pdf.")],
    path: RecordsOption = Path(results.DEFAULT_PATH),
    size: Annotated[int, typer.Option(help="Events of the measurements to draw.")] = 100_000,
) -> None:
    """Draw what each kernel costs an event, from the last run that measured kernels."""
    from perf.picture import draw  # noqa: PLC0415  (imports matplotlib)

    runs: dict[str, list[Record]] = {}
    for record in results.read(path):
        if record.what.kind == "kernel":
            runs.setdefault(record.run, []).append(record)
    # A run of claims measures one kernel; a run of benchmarks all.
    whole = [one for one in runs.values() if len({r.what.subject for r in one}) > 1]
    draw(whole[-1] if whole else [], output, size=size)
    _console().print(f"written to {output}", highlight=False)


def main() -> None:
    """Run the command line; an InputError is one sentence and exit status 2."""
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted: what was measured before is in the records")
        sys.exit(130)


if __name__ == "__main__":
    main()
