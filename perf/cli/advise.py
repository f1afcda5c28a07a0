"""The command ``advise``: which executor for a job, from what was measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.errors import InputError
from perf.cli import _console
from perf.cli.publish import MoreOption, RootOption

# numpy and coffea take seconds to import.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from rich.table import Table

    from perf.scaling.advice import Advice
    from perf.scaling.advice_fit import Fitted


def advise(
    events: Annotated[int | None, typer.Option(min=1, help="Events of the job.")] = None,
    files: Annotated[int | None, typer.Option(min=1, help="Files that they are in.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Cores that it may use.")] = None,
    accumulator: Annotated[
        int | None,
        typer.Option(min=0, help="Bytes of its pickled result. By default the analysis's."),
    ] = None,
    ns: Annotated[
        float | None,
        typer.Option(
            help="CPU ns an event of your processor, reading included: a run with the iterative "
            "executor says it. By default those of the analysis."
        ),
    ] = None,
    machine: Annotated[
        str,
        typer.Option(help="Part of the name of the machine. By default the first with an answer."),
    ] = "",
    validate: Annotated[
        bool,
        typer.Option(
            "--validate", help="Print the laws, and how well each cell is predicted by the others."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    root: RootOption = None,
    more: MoreOption = None,
) -> None:
    """Say which executor and chunk size to take, and how long it takes.

    From laws fitted to records of `perf scale`; exit status 2 outside of what they measured.
    """
    from perf.records import store
    from perf.scaling import advice, advice_fit

    machines = [
        one
        for one in advice_fit.fitted(store.collect(root, more or ()))
        if machine in one.laws.machine
    ]
    if validate:
        if not any(one.held_out for one in machines):
            raise InputError(advice.NO_RECORDS)
        if as_json:
            typer.echo(json.dumps([advice_fit.as_json(one) for one in machines], indent=1))
        else:
            _validated(machines)
        return
    if events is None or files is None or cores is None:
        msg = "say how many --events in how many --files on how many --cores"
        raise InputError(msg)
    question = advice.Question(events, files, cores, accumulator, ns)
    laws, found = advice.first_that_answers([one.laws for one in machines], question)
    if as_json:
        typer.echo(json.dumps(advice.as_json(laws, found), indent=1))
        return
    console = _console.console()
    console.print(_table(found))
    if found.as_fast:
        _console.say(f"may be as fast: {', '.join(found.as_fast)}", on=console)
    _console.say(f"{laws.job} on {laws.machine}; {advice.INTERVAL}", on=console)


def _table(found: Advice) -> Table:
    from rich import box
    from rich.table import Table

    from perf.records.format import label

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("executor", no_wrap=True)
    for heading in ("workers", "chunk", "chunks", "in all", "interval", "run alone"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for one in found.answers:
        table.add_row(
            one.engine,
            str(one.workers),
            label(one.chunksize),
            str(one.chunks),
            f"{one.whole.value:.1f} s",
            f"{one.whole.low:.1f} to {one.whole.high:.1f} s",
            f"{one.run.value:.1f} s",
            one.why,
        )
    for engine, reason in found.refused:
        table.add_row(engine, *[""] * 6, reason)
    return table


def _validated(machines: list[Fitted]) -> None:
    from rich import box
    from rich.table import Table

    from perf.scaling import advice_fit

    console = _console.console()
    for one in machines:
        table = Table(
            title=f"{one.laws.job} on {one.laws.machine}",
            box=box.SIMPLE,
            pad_edge=False,
            title_justify="left",
        )
        table.add_column("executor", no_wrap=True)
        for heading in ("cells", "run within 25 %", "in all within 25 %", "interval of run"):
            table.add_column(heading, justify="right")
        table.add_column("coefficients, with standard error", overflow="fold")
        for law in one.laws.laws:
            run, cells = one.right("run", law.engine)
            whole, _ = one.right("whole", law.engine)
            table.add_row(
                law.engine,
                str(cells),
                f"{run} of {cells}",
                f"{whole} of {cells}",
                f"/ and x {law.run_spread:.2f}",
                ", ".join(
                    f"{name} {value:.2g} +- {one.errors[law.engine][name]:.1g} s"
                    for name, value in vars(law.costs).items()
                    if value
                ),
            )
        console.print(table)
        for engine, reason in one.laws.missing:
            _console.say(f"{engine}: {reason}", on=console)
        if one.held_out:
            _console.say(advice_fit.sentence(one), on=console)
