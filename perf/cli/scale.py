"""The command ``scale``: a processor on executors x workers x chunk sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, EXECUTORS
from perf.cli import _console
from perf.cli._options import (
    FAILED,
    ArgumentsOption,
    OutputOption,
    SchemaOption,
    SeedOption,
    TreeOption,
)
from perf.records.table import footnote

# numpy and coffea take seconds to import.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perf.records.record_file import Record
    from perf.scaling.campaign import Campaign, Done, Failed, WorkerRun

PATH: Final = ".perf/scale.jsonl"
WIDTH: Final = 150
"""Columns of a table that is not written to a terminal."""


def scale(
    fileset: Annotated[Path | None, typer.Argument(metavar="FILESET.json")] = None,
    executors: Annotated[
        str, typer.Option(help=f"Names with commas: {', '.join(EXECUTORS)}.")
    ] = "iterative,futures",
    workers: Annotated[
        str, typer.Option(help="Numbers of worker processes, with commas.")
    ] = "1,2",
    chunksizes: Annotated[str, typer.Option(help="Events in a chunk, about, with commas.")] = str(
        DEFAULT_CHUNKSIZE
    ),
    repeat: Annotated[
        int, typer.Option(min=1, help="Repetitions of each configuration, each in a new process.")
    ] = 6,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs in each process.")] = 1,
    output: OutputOption = Path(PATH),
    processor: Annotated[
        str | None,
        typer.Option(
            help="package.module:Class of a processor, or a function of events. By default the "
            "ttbar analysis."
        ),
    ] = None,
    arguments: ArgumentsOption = "{}",
    schema: SchemaOption = "NanoAODSchema",
    tree: TreeOption = "Events",
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Find out which branches --processor reads; read only them."),
    ] = False,
    implementation: Annotated[
        Literal["columnar", "compiled"], typer.Option(help="Implementation of the kernels.")
    ] = "columnar",
    variations: Annotated[
        Literal["nominal", "all"], typer.Option(help="Systematic variations.")
    ] = "nominal",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="KEY=VALUE for all executors that have the option, EXECUTOR.KEY=VALUE for one, "
            "such as dask.address=tcp://HOST:8786 (repeatable).",
        ),
    ] = None,
    untuned: Annotated[
        bool,
        typer.Option("--untuned", help="Measure coffea's own executors with their defaults too."),
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Accept files without events.")
    ] = False,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder shared with workers on other machines.")
    ] = None,
    seed: SeedOption = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete earlier results of the same arguments first.")
    ] = False,
    show: Annotated[
        Path | None, typer.Option(help="Measure nothing: print the tables of this file.")
    ] = None,
) -> None:
    """Measure a processor on executors x workers x chunk sizes.

    Exit status 1 if a configuration fails.
    """
    from analysis.cli._options import json_object
    from perf.scaling import campaign as scaling
    from perf.scaling.configurations import configurations
    from perf.scaling.worker import TTBAR, Job

    if show is not None:
        done, newest = scaling.last_campaign(show)
        _print(done, [], newest)
        return
    if fileset is None:
        msg = "name a file set to measure on, or a file of results with --show"
        raise InputError(msg)
    chosen = configurations(
        _console.split(executors),
        _console.numbers(workers, "--workers"),
        _console.numbers(chunksizes, "--chunksizes"),
        options=option or (),
        untuned=untuned,
    )
    if processor is not None and (implementation, variations) != ("columnar", "nominal"):
        msg = "--implementation and --variations are for the ttbar analysis: leave them out"
        raise InputError(msg)
    if processor is None and (arguments, schema, trace) != ("{}", "NanoAODSchema", False):
        msg = "--arguments, --schema and --trace are for a processor of your own: name it with --processor"
        raise InputError(msg)
    campaign = scaling.Campaign(
        Job(
            fileset=fileset.absolute(),
            processor=processor or TTBAR,
            arguments=json_object(arguments, "--arguments"),
            schema_name=schema,
            tree=tree,
            trace=trace,
            implementation=implementation,
            variations=variations,
            allow_empty=allow_empty,
            scratch=scratch,
        ),
        output,
    )
    worker_runs = scaling.order(chosen, repeat, seed)
    with campaign.alone():
        if fresh:
            campaign.forget()
        # The smallest chunks show how large the terms of a sum are that cancel in larger ones.
        smallest = min(one.chunksize for one in chosen)
        failed = _measure(campaign, worker_runs, runs, smallest)
    wanted = [worker_run.configuration for worker_run in worker_runs]
    _print(
        [done for done in campaign.done() if done.worker_run.configuration in wanted], failed, None
    )
    if failed:
        raise typer.Exit(FAILED)


def _measure(
    campaign: Campaign, worker_runs: Sequence[WorkerRun], runs: int, chunksize: int
) -> list[Failed]:
    """Make the worker runs that are not made yet; gives those that failed."""
    from perf.scaling.campaign import Failed

    finished = [done.worker_run for done in campaign.done()]
    pending = [worker_run for worker_run in worker_runs if worker_run not in finished]
    if len(pending) < len(worker_runs):
        already = len(worker_runs) - len(pending)
        _console.say(f"{already} of {len(worker_runs)} worker runs are in {campaign.path} already")
    outdated, changed = campaign.outdated(pending)
    if outdated:
        _console.say(
            f"measured anew: {outdated} of {len(worker_runs)} worker runs, since "
            f"{', '.join(changed)} changed"
        )
    failed: dict[str, Failed] = {}
    with _console.progress() as progress:
        bar = progress.add_task("the reference", total=len(pending))
        if pending:
            campaign.make_reference(chunksize)
        for worker_run in pending:
            progress.update(bar, description=str(worker_run.configuration))
            # A configuration that failed once is not tried again.
            if str(worker_run.configuration) not in failed:
                outcome = campaign.measure(worker_run, runs=runs)
                if isinstance(outcome, Failed):
                    failed[str(worker_run.configuration)] = outcome
            progress.advance(bar)
    return list(failed.values())


def _print(done: Sequence[Done], failed: Sequence[Failed], newest: Record | None) -> None:
    from perf.scaling import table as scaling_table

    console = _console.console(WIDTH)
    rows = scaling_table.rows(done)
    for table in scaling_table.tables(rows, failed):
        console.print(table)
    lines = [f"{failure.configuration}: {failure.reason}" for failure in failed]
    if rows:
        lines.append(scaling_table.footnote(rows))
    if newest is not None:
        lines.append(footnote(newest))
    _console.say(*lines, on=console)
