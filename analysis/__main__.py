"""Command line of the analysis: ``python -m analysis``."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, open_executor
from analysis.kernels import Implementation

# What imports coffea is imported where it is used: it takes seconds, which --help, a wrong option
# and make-data need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from coffea.processor import ProcessorABC

    from analysis.run import Result

app = typer.Typer(
    help="One CMS analysis as proven kernels, run with coffea.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")]
ImplementationOption = Annotated[Implementation, typer.Option(help="Of the kernels.")]
ExecutorOption = Annotated[str, typer.Option(help="iterative or futures.")]
WorkersOption = Annotated[int, typer.Option(help="Worker processes.")]
ChunksizeOption = Annotated[int, typer.Option(help="Events a chunk, about.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", help="BRANCH=OTHER: read OTHER in the place of BRANCH."),
]
AllowEmptyOption = Annotated[bool, typer.Option("--allow-empty", help="Accept empty trees.")]


@app.command()
def adl(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="NanoAOD files.")],
    output: OutputOption,
    implementation: ImplementationOption = "columnar",
    tree: Annotated[str, typer.Option(help="Name of the tree.")] = "Events",
    executor: ExecutorOption = "iterative",
    workers: WorkersOption = 1,
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE,
    mapping: MapOption = None,
    allow_empty: AllowEmptyOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Fill the histograms of the eight ADL queries."""
    from analysis.adl import BTAGS, INPUTS, QUERIES, AdlProcessor
    from analysis.run import write_json

    replacements = _replacements(mapping)
    result = _process(
        {"adl": {"files": dict.fromkeys(files, tree), "metadata": {}}},
        AdlProcessor(implementation, replacements),
        [*INPUTS, BTAGS],
        replacements=replacements,
        executor=executor,
        workers=workers,
        chunksize=chunksize,
        allow_empty=allow_empty,
        output=output,
    )
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


@app.command("run")
def run_command(
    fileset_path: Annotated[Path, typer.Argument(metavar="FILESET.json")],
    output: OutputOption,
    implementation: ImplementationOption = "columnar",
    executor: ExecutorOption = "iterative",
    workers: WorkersOption = 1,
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE,
    variations: Annotated[
        Literal["all", "nominal"], typer.Option(help="Systematic variations.")
    ] = "all",
    mapping: MapOption = None,
    allow_empty: AllowEmptyOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Run the ttbar analysis over a file set: histograms, cutflow, normalisation."""
    from analysis import ttbar
    from analysis.histograms import published
    from analysis.inputs import read_fileset
    from analysis.run import provenance, write_json

    replacements = _replacements(mapping)
    fileset = read_fileset(fileset_path)
    branches = ttbar.branches(variations)
    result = _process(
        fileset,
        ttbar.TtbarProcessor(implementation, variations, replacements),
        branches,
        replacements=replacements,
        executor=executor,
        workers=workers,
        chunksize=chunksize,
        allow_empty=allow_empty,
        output=output,
    )
    cutflow = result.accumulated["cutflow"]
    write_json(
        output,
        {
            "schema": 1,
            "cutflow": cutflow,
            **published(ttbar.normalise(result.accumulated, fileset)),
            "provenance": provenance(
                fileset=fileset,
                implementation=implementation,
                executor={"name": executor, "workers": workers},
                chunksize=chunksize,
                variations=variations,
                replacements=replacements,
                events=result.events,
            ),
        },
    )
    table = Table("process", "sample", "selection", title="Cutflow (events)")
    for step in ttbar.STEPS:
        table.add_column(step, justify="right")
    for process, samples in sorted(cutflow.items()):
        for sample, shifts in sorted(samples.items()):
            for shift, steps in shifts.items():
                table.add_row(process, sample, shift, *(str(steps[s]) for s in ttbar.STEPS))
    _report(table, result, output)


@app.command("make-data")
def make_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    events: Annotated[int, typer.Option(help="Events of each sample.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    processes: Annotated[
        str, typer.Option(help="all, or names of processes with commas between them.")
    ] = "all",
    variations: Annotated[
        str, typer.Option(help="all, or names of sample variations with commas between them.")
    ] = "all",
    compression: Annotated[str, typer.Option(help="zstd, lz4, zlib, lzma or none.")] = "zstd",
    data_format: Annotated[
        str, typer.Option("--format", help="ttree, rntuple or parquet.")
    ] = "ttree",
    branches: Annotated[
        str, typer.Option(help="slim: what is read; full: as many as NanoAOD has.")
    ] = "slim",
) -> None:
    """Write synthetic NanoAOD of all processes and variations, and DIR/fileset.json."""
    from analysis.synthetic import write_fileset

    with _interruptible("the files that are whole are kept, run it again to go on"):
        fileset = write_fileset(
            directory,
            events=events,
            seed=seed,
            processes=None if processes == "all" else processes.split(","),
            variations=None if variations == "all" else variations.split(","),
            compression=compression,
            format=data_format,
            branches=branches,
            progress=True,
        )
    table = Table("sample", "files", "events", title=str(directory / "fileset.json"))
    for name, dataset in fileset.items():
        table.add_row(name, str(len(dataset["files"])), str(dataset["metadata"]["nevts"]))
    Console().print(table)


def _replacements(mapping: list[str] | None) -> dict[str, str]:
    replacements = {}
    for one in mapping or []:
        branch, equals, other = one.partition("=")
        if not (branch and equals and other):
            msg = f"--map takes BRANCH=OTHER, not {one!r}"
            raise InputError(msg)
        replacements[branch] = other
    return replacements


def _process(
    fileset: Mapping[str, Any],
    processor: ProcessorABC,
    branches: Collection[str | tuple[str, ...]],
    *,
    replacements: Mapping[str, str],
    executor: str,
    workers: int,
    chunksize: int,
    allow_empty: bool,
    output: Path,
) -> Result:
    """Look at the files, start the executor and run."""
    from analysis.inputs import inspect
    from analysis.run import run

    if not output.parent.is_dir():
        msg = f"there is no folder {output.parent} to write {output.name} to: make it first"
        raise InputError(msg)
    files = inspect(fileset, branches, replacements=replacements, allow_empty=allow_empty)
    with (
        _interruptible("nothing was written"),
        open_executor(executor, workers=workers) as ready,
    ):
        return run(
            fileset,
            processor,
            ready,
            files=files,
            chunksize=chunksize,
            branches=[replacements.get(name, name) for name in _names(branches)],
        )


def _names(branches: Collection[str | tuple[str, ...]]) -> list[str]:
    return [name for one in branches for name in ([one] if isinstance(one, str) else one)]


def _report(table: Table, result: Result, output: Path) -> None:
    console = Console()
    console.print(table)
    console.print(
        f"{result.events} events in {result.chunks} chunks, {result.wall_seconds:.2f} s; "
        f"written to {output}",
        soft_wrap=True,
        highlight=False,
    )


class _Interrupted(Exception):
    """Ctrl-C; typer would say no more of it than "Aborted"."""


@contextmanager
def _interruptible(outcome: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise _Interrupted(outcome) from None


def main() -> None:
    """Run the command line; an InputError is one sentence and exit status 2."""
    try:
        app()
    except InputError as error:
        Console(stderr=True).print(f"error: {error}", soft_wrap=True, markup=False)
        sys.exit(2)
    except _Interrupted as stop:
        Console(stderr=True).print(f"interrupted: {stop}", soft_wrap=True, markup=False)
        sys.exit(130)


if __name__ == "__main__":
    main()
