"""Commands that process events: ``run`` and ``adl``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.cli._options import (
    TTBAR_IMPLEMENTATION,
    ImplementationOption,
    OutputOption,
    RunOptions,
    TtbarImplementation,
    json_object,
    replacements,
    with_options,
)
from analysis.errors import InputError
from analysis.interruption import interruptible

# Modules that import coffea are imported in functions: they take seconds, which --help and a wrong
# option need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.runner.job import Job
    from analysis.runner.result import Result


@with_options(RunOptions)
def adl(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="NanoAOD files.")],
    output: OutputOption,
    implementation: ImplementationOption = "columnar",
    tree: Annotated[str, typer.Option(help="Name of the tree.")] = "Events",
    *,
    options: RunOptions,
) -> None:
    """Fill the histograms of the eight ADL queries."""
    from analysis.adl import QUERIES, AdlProcessor, branches
    from analysis.files.fileset import FileSet
    from analysis.files.output import check, write_json
    from analysis.runner.job import Job

    check(output, inputs=[Path(file) for file in files])
    replaced = replacements(options.mapping)
    job = Job(
        FileSet.of({"adl": files}, tree=tree, name="the list of files"),
        AdlProcessor(implementation, replaced),
        branches(),
        replacements=replaced,
        **options.of_job,
    )
    result = _execute(job, output, options)
    counts = {name: result.accumulated[name].values(flow=True) for name in QUERIES}
    write_json(
        output,
        {
            name: {"edges": query.edges.tolist(), "values": counts[name].tolist()}
            for name, query in QUERIES.items()
        },
    )
    table = Table("query", "filled with", title="ADL queries")
    for heading in ("under", "in", "over"):
        table.add_column(heading, justify="right")
    for name, query in QUERIES.items():
        under, *inside, over = counts[name]
        table.add_row(name, query.title, *(f"{n:.0f}" for n in (under, sum(inside), over)))
    _report(table, result, output)


@with_options(RunOptions)
def run(
    fileset_path: Annotated[Path, typer.Argument(metavar="FILESET.json")],
    output: OutputOption,
    processor: Annotated[
        str | None,
        typer.Option(
            help="package.module:Class of your own, or a function of events; its result is then "
            "written by coffea.util.save. By default the ttbar analysis.",
        ),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(help="Keyword arguments of --processor, a JSON object.", show_default="{}"),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            help="Schema of events for --processor: a class of coffea.nanoevents.",
            show_default="NanoAODSchema",
        ),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option(
            help="Tree to read for --processor, where the file set names none.",
            show_default="Events",
        ),
    ] = None,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Find out what --processor reads, and read it in one go."),
    ] = False,
    branches: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Branches that --processor reads, separated by commas: it is given no others, "
            "and they are read in one go.",
        ),
    ] = None,
    implementation: Annotated[
        TtbarImplementation | None,
        typer.Option(help=TTBAR_IMPLEMENTATION, show_default="columnar"),
    ] = None,
    variations: Annotated[
        Literal["all", "nominal"] | None,
        typer.Option(help="Systematic variations.", show_default="all"),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Run the ttbar analysis, or a processor of your own, over a file set.

    The name of OUTPUT says in which format the histograms of the analysis are written: .json
    (numbers), .uhi.json (UHI, for hist), .root (TH1D) or .coffea.
    """
    from analysis.runner import save
    from analysis.runner.job import Job

    of_user = {
        "--arguments": arguments,
        "--schema": schema,
        "--tree": tree,
        "--trace": trace or None,
        "--branches": branches,
    }
    of_ttbar = {
        "--map": options.mapping,
        "--variations": variations,
        "--implementation": implementation,
    }
    if processor is None:
        if wrong := _given(of_user):
            msg = f"{wrong} is of a processor of your own: give --processor, or leave it out"
            raise InputError(msg)
        job = Job.of_ttbar(
            fileset_path,
            implementation or "columnar",
            variations or "all",
            replacements(options.mapping),
            **options.of_job,
        )
    else:
        if wrong := _given(of_ttbar):
            msg = f"--processor takes no {wrong}, which is of the ttbar analysis: leave it out"
            raise InputError(msg)
        job = Job.of_processor(
            fileset_path,
            processor,
            json_object(arguments or "{}", "--arguments"),
            schema or "NanoAODSchema",
            tree or "Events",
            trace=trace,
            branches=_list(branches or ""),
            **options.of_job,
        )
    save.check(output, job, inputs=[fileset_path])
    result = _execute(job, output, options)
    save.save(output, job, result)
    table = cutflow(save.cutflow(result)) if processor is None else _kinds(result.accumulated)
    _report(table, result, output)


def _list(text: str) -> list[str]:
    """The names of a list that is separated by commas, each once."""
    return list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _given(options: Mapping[str, Any]) -> str:
    """The first option that was given of those that would be ignored; empty if none."""
    return next((name for name, value in options.items() if value is not None), "")


def _execute(job: Job, output: Path, options: RunOptions) -> Result:
    """Run a job, and say what was left out of it and what was read ahead."""
    from analysis.files.output import save_coffea
    from analysis.runner.job import execute

    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    try:
        with interruptible("nothing was written"):
            result = execute(
                job, options.executor, workers=options.workers, options=options.of_executor
            )
    except InputError as error:
        if options.traceback and hasattr(error, "details"):
            say(error.details)
        if hasattr(error, "partial_output"):
            partial = output.with_name(f"{output.name}.partial.coffea")
            save_coffea(partial, error.partial_output)
            say(f"what the other chunks gave was written to {partial}")
        raise
    for name, traced in result.traced.items():
        say(f"read ahead for {name}: {', '.join(sorted(traced.branches)) or 'nothing'}")
        if traced.failure:
            say(f"what else is read of {name} was not found out: {traced.failure}")
    for reason in result.left_out:
        say(f"left out: {reason}")
    return result


def cutflow(counts: Mapping[str, Any]) -> Table:
    """Table of a cutflow: events of each sample and selection after each step."""
    from analysis.ttbar import STEPS

    table = Table("process", "sample", "selection", title="Cutflow (events)")
    for step in STEPS:
        table.add_column(step, justify="right")
    for process, samples in sorted(counts.items()):
        for sample, selections in sorted(samples.items()):
            for selection, steps in selections.items():
                numbers = (str(steps[step]) for step in STEPS)
                table.add_row(escape(process), escape(sample), selection, *numbers)
    return table


def _kinds(accumulated: Any) -> Table:
    """Table of what a processor of the user's gave: names and types."""
    table = Table("name", "kind", title="Result")
    items = accumulated.items() if isinstance(accumulated, dict) else [("result", accumulated)]
    for name, value in items:
        table.add_row(str(name), type(value).__name__)
    return table


def _report(table: Table, result: Result, output: Path) -> None:
    console = Console()
    console.print(table)
    again = f", {result.repeated} of them again after a failure" if result.repeated else ""
    console.print(
        f"{result.events} events in {result.chunks} chunks{again}, {result.wall_seconds:.2f} s; "
        f"written to {output}",
        soft_wrap=True,
        highlight=False,
    )
