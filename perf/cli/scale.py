"""The command ``scale``: a processor on executors x workers x chunk sizes."""

from __future__ import annotations

import sys
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
    from perf.scaling.shapes import Shape
    from perf.scaling.worker import Configuration, Job

PATH: Final = ".perf/scale.jsonl"
WIDTH: Final = 150
"""Columns of a table that is not written to a terminal."""


def scale(
    fileset: Annotated[Path | None, typer.Argument(metavar="FILESET.json")] = None,
    executors: Annotated[
        str,
        typer.Option(
            help=f"Names with commas: {', '.join(EXECUTORS)}. NAME:KEY=VALUE is one with an option "
            "of its own, such as futures:pool=threads beside futures."
        ),
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
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Inputs made of the file set, with commas: FILESxEVENTS of each file, such as "
            "4x250000. By default the file set as it is."
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Measure so many combinations of each executor, drawn at random, not all of them.",
        ),
    ] = None,
    weak: Annotated[
        str | None,
        typer.Option(
            help="Weak scaling: FILESxEVENTS for each worker, such as 4x250000, made of the file "
            "set as with --shapes. By default the work is the same for all numbers of workers."
        ),
    ] = None,
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
        Literal["columnar", "compiled", "fused"],
        typer.Option(help="Implementation of the ttbar analysis."),
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
    compute: Annotated[
        str | None,
        typer.Option(
            metavar="COMMIT-OR-CHECKOUT",
            help="Put coffea.compute of this version of coffea, such as compute@../coffea, into "
            "the coffea that is installed: the executor compute needs it, and no release has it.",
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
    from perf import coffea_compute
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
    if compute is not None:
        coffea_compute.put_in(compute)
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
    job = Job(
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
    )
    campaigns, pairs = _inputs(job, output, chosen, shapes, weak, sample or sys.maxsize, seed)
    worker_runs = scaling.order(pairs, repeat, seed)
    with next(iter(campaigns.values())).alone():
        if fresh:
            for campaign in campaigns.values():
                campaign.forget()
        # The smallest chunks show how large the terms of a sum are that cancel in larger ones.
        smallest = min(one.chunksize for one in chosen)
        todo = [(campaigns[shape], worker_run) for shape, worker_run in worker_runs]
        failed = _measure(todo, runs, smallest)
    if shapes is None:
        done = [
            one
            for name, campaign in campaigns.items()
            for one in campaign.done()
            if any((name, one.worker_run.configuration) == pair for pair in pairs)
        ]
        found = filter(None, (campaign.newest() for campaign in campaigns.values()))
        _print(done, failed, max(found, key=lambda record: record.timestamp, default=None))
    else:
        _console.say(
            *(f"{failure.configuration}: {failure.reason}" for failure in failed),
            f"{len(worker_runs)} worker runs on {len(campaigns)} inputs are in {output}: "
            f"python -m perf advise --validate --records {output} says what they predict",
        )
    if failed:
        raise typer.Exit(FAILED)


def _inputs(
    job: Job,
    output: Path,
    chosen: Sequence[Configuration],
    shapes: str | None,
    weak: str | None,
    sample: int,
    seed: int,
) -> tuple[dict[Shape | None, Campaign], list[tuple[Shape | None, Configuration]]]:
    """A campaign for each input, and what is measured on which."""
    from perf.scaling import shapes as scaling_shapes

    if weak is None:
        campaigns = _campaigns(job, output, shapes)
        return campaigns, scaling_shapes.sample(list(campaigns), chosen, sample, seed)
    if shapes is not None or sample != sys.maxsize:
        msg = "--weak says how large each input is: leave --shapes and --sample out"
        raise InputError(msg)
    pairs = scaling_shapes.for_each_worker(weak, chosen)
    return _campaigns(job, output, ",".join(str(shape) for shape, _ in pairs), weak), pairs


def _campaigns(
    job: Job, output: Path, shapes: str | None, weak: str | None = None
) -> dict[Shape | None, Campaign]:
    """A campaign for each shape of the input, or that of the file set as it is."""
    from perf.scaling import shapes as scaling_shapes
    from perf.scaling.campaign import Campaign

    if shapes is None:
        return {None: Campaign(job, output)}
    wanted = scaling_shapes.parse(_console.split(shapes))
    if not wanted:
        msg = "--shapes names no input: give one, such as 4x250000"
        raise InputError(msg)
    inspected = job.inspect()
    folder = output.absolute().parent / "shapes"
    return {
        shape: Campaign(
            job.model_copy(
                update={
                    "fileset": scaling_shapes.write(inspected, shape, folder / f"{shape}.json")
                }
            ),
            output,
            f"{weak} of {inspected.digest[:12]}" if weak else "",
        )
        for shape in wanted
    }


def _measure(
    todo: Sequence[tuple[Campaign, WorkerRun]], runs: int, chunksize: int
) -> list[Failed]:
    """Make the worker runs that are not made yet; gives those that failed."""
    from perf.scaling.campaign import Failed

    campaigns = list({id(campaign): campaign for campaign, _ in todo}.values())
    finished = {
        id(campaign): [done.worker_run for done in campaign.done()] for campaign in campaigns
    }
    pending = [(campaign, one) for campaign, one in todo if one not in finished[id(campaign)]]
    if len(pending) < len(todo):
        already = len(todo) - len(pending)
        _console.say(f"{already} of {len(todo)} worker runs are in {todo[0][0].path} already")
    for campaign in campaigns:
        outdated, changed = campaign.outdated([one for other, one in pending if other is campaign])
        if outdated:
            _console.say(
                f"measured anew: {outdated} of {len(todo)} worker runs, since "
                f"{', '.join(changed)} changed"
            )
    failed: dict[str, Failed] = {}
    with _console.progress() as progress:
        bar = progress.add_task("the reference", total=len(pending))
        for campaign, worker_run in pending:
            progress.update(bar, description=str(worker_run.configuration))
            # A configuration that failed once is not tried again.
            if str(worker_run.configuration) not in failed:
                campaign.make_reference(chunksize)
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
