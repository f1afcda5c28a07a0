"""Commands that make and deliver events: ``make-data``, ``deliver`` and ``servicex serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from analysis.cli._options import ConfigOption, MapOption, WorkersOption, replacements
from analysis.interruption import interruptible

# Modules that take seconds are imported in functions: --help need not wait for them.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    events: Annotated[int, typer.Option(help="Events of each sample.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    processes: Annotated[
        str, typer.Option(help="all, or names of processes separated by commas.")
    ] = "all",
    variations: Annotated[
        str, typer.Option(help="all, or names of sample variations separated by commas.")
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

    with interruptible("the files that are whole are kept, run it again to go on"):
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
    Console().print(made(directory, fileset))


def made(directory: Path, fileset: Mapping[str, Any]) -> Table:
    """Table of synthetic samples."""
    table = Table("sample", "files", "events", title=str(directory / "fileset.json"))
    for name, dataset in fileset.items():
        table.add_row(name, str(len(dataset["files"])), str(dataset["metadata"]["nevts"]))
    return table


def deliver(
    fileset_path: Annotated[Path, typer.Argument(metavar="FILESET.json")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the delivered files.")
    ],
    query: Annotated[str, typer.Option(help="uproot-raw or func-adl.")] = "uproot-raw",
    data_format: Annotated[
        str, typer.Option("--format", help="parquet, root-ttree or root-rntuple.")
    ] = "parquet",
    config: ConfigOption = None,
    backend: Annotated[
        str | None, typer.Option(help="Name of a deployment in your servicex.yaml.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes of the local endpoint.")] = 2,
    timeout: Annotated[float, typer.Option(help="Seconds that all of it may take.")] = 3600,
    ignore_cache: Annotated[
        bool, typer.Option("--ignore-cache", help="Transform again what was delivered before.")
    ] = False,
    mapping: MapOption = None,
) -> None:
    """Fetch what the ttbar analysis needs of a file set with ServiceX, for `run`."""
    from analysis.delivery.fileset import deliver_fileset

    with interruptible("what was delivered is kept, run it again to go on"):
        fileset = deliver_fileset(
            fileset_path,
            output,
            query=query,
            data_format=data_format,
            config=config,
            backend=backend,
            replacements=replacements(mapping),
            timeout=timeout,
            workers=workers,
            ignore_cache=ignore_cache,
        )
    Console().print(delivered(output, fileset))


def delivered(directory: Path, fileset: Mapping[str, Any]) -> Table:
    """Table of samples that ServiceX delivered."""
    table = Table("sample", "files", "events", "delivered", title=str(directory / "fileset.json"))
    for name, dataset in fileset.items():
        every, cut = (dataset["metadata"][key] for key in ("nevts", "cut_in_delivery"))
        table.add_row(name, str(len(dataset["files"])), f"{every:.0f}", f"{every - cut:.0f}")
    return table


servicex = typer.Typer(help="A local ServiceX endpoint.", no_args_is_help=True)


@servicex.command()
def serve(
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Folder, or beginning of URLs, whose files it may read (repeatable)."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Folder for its state: it continues with what it finds there.")
    ] = Path(".servicex"),
    port: Annotated[
        int | None, typer.Option(help="Port of 127.0.0.1; by default that of last time.")
    ] = None,
    workers: WorkersOption = 2,
    seconds: Annotated[int, typer.Option(help="Seconds that one file may take.")] = 600,
    memory: Annotated[int, typer.Option(help="MB that one file may take.")] = 4096,
    keep_days: Annotated[float, typer.Option(help="Days after which results are deleted.")] = 7,
    keep_gb: Annotated[
        int,
        typer.Option(
            help="GB of results; beyond it fetched ones are deleted, or nothing new is taken."
        ),
    ] = 100,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Servers may redirect to any other, as redirectors do."),
    ] = False,
) -> None:
    """Serve until Ctrl-C; its servicex.yaml is written to the folder."""
    from analysis.servicex.serve import serve as serve_until_stopped

    with interruptible("the endpoint has stopped, start it again to go on with what is left"):
        serve_until_stopped(
            folder,
            allow=allow or [],
            port=port,
            workers=workers,
            seconds=seconds,
            megabytes=memory,
            keep_days=keep_days,
            keep_gigabytes=keep_gb,
            follow=follow,
        )
