"""The command that does the whole analysis: ``all``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli import data, run
from analysis.cli._options import (
    TTBAR_IMPLEMENTATION,
    BackendOption,
    ChunksizeOption,
    ConfigOption,
    ExecutorOption,
    TtbarImplementation,
    WorkersOption,
    with_options,
)
from analysis.executors import DEFAULT_CHUNKSIZE

# What imports coffea takes seconds, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from analysis.workflow import Workflow


@dataclass(frozen=True)
class WorkflowOptions:
    """Attributes of a `Workflow`, but for its folder."""

    events: Annotated[int, typer.Option(help="Events of each sample that is made.")] = 20_000
    fileset: Annotated[
        Path | None,
        typer.Option(help="FILESET.json of your own; by default events are made."),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the events that are made.")] = 1
    delivery: Annotated[
        bool, typer.Option(help="Whether ServiceX delivers what is processed.")
    ] = True
    config: ConfigOption = None
    deployment: Annotated[
        str | None, typer.Option(help="Name of a ServiceX deployment in your servicex.yaml.")
    ] = None
    implementation: Annotated[TtbarImplementation, typer.Option(help=TTBAR_IMPLEMENTATION)] = (
        "columnar"
    )
    executor: ExecutorOption = "futures"
    workers: WorkersOption = 2
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE
    backend: BackendOption = "numpy"


@with_options(WorkflowOptions)
def whole(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for all results.")],
    *,
    options: WorkflowOptions,
) -> None:
    """Do the whole analysis, from files to cross section; what is done already is kept."""
    from analysis.files.output import check_folder
    from analysis.workflow import Workflow, advance

    check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    workflow = Workflow(output, **vars(options))
    table = Table("stage", title=str(output))
    for heading in ("wall s", "CPU s", "files", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("")
    try:
        for done in advance(workflow.stages(), output):
            if not done.kept:
                _show(done.name, workflow)
            table.add_row(
                done.name,
                f"{done.wall_seconds:.1f}",
                f"{done.cpu_seconds:.1f}",
                str(len(done.files)),
                f"{done.size / 1e6:.2f}",
                "kept" if done.kept else "",
            )
    finally:
        Console().print(table)


def _show(stage: str, workflow: Workflow) -> None:
    """Print what a stage made, where the stage does not print it itself."""
    from analysis.files import histogram_io
    from analysis.files.fileset import read_fileset

    if stage == "events" and workflow.fileset is None:
        Console().print(data.made(workflow.files.parent, read_fileset(workflow.files)))
    elif stage == "delivery":
        Console().print(data.delivered(workflow.inputs.parent, read_fileset(workflow.inputs)))
    elif stage == "histograms":
        Console().print(run.cutflow(histogram_io.read(workflow.histograms).content["cutflow"]))
