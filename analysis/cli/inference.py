"""Commands that use histograms: ``fit``, ``limit`` and ``plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analysis.cli._options import DataOption, FitOptions, OutputOption, with_options
from analysis.interruption import interruptible

# pyhf and matplotlib take seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415


def plot(
    histograms: Annotated[Path, typer.Argument(metavar="HISTOGRAMS", help="Output of `run`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the plots.")],
    data_format: Annotated[str, typer.Option("--format", help="png, pdf or svg.")] = "png",
    fit: Annotated[
        Path | None, typer.Option(metavar="FIT.json", help="Output of `fit`, to draw as well.")
    ] = None,
    data: DataOption = "pseudodata",
) -> None:
    """Draw prediction and data of each region and channel, and of a fit before and after it."""
    from analysis import plots
    from analysis.files import histogram_io

    for path in plots.plot(histogram_io.read(histograms, data), output, data_format, fit):
        Console().print(str(path), soft_wrap=True, highlight=False)


@with_options(FitOptions)
def fit(
    output: OutputOption,
    workspace: Annotated[
        Path | None, typer.Option(help="File for the pyhf workspace, JSON.")
    ] = None,
    ranking: Annotated[bool, typer.Option(help="Rank parameters by their impact.")] = True,
    *,
    options: FitOptions,
) -> None:
    """Fit the cross section: a HistFactory model of the histograms, with pyhf."""
    from analysis.inference import results

    with interruptible("no result was written"):
        results.fit_command(
            results.Source(**vars(options)), output, workspace=workspace, rank=ranking
        )


@with_options(FitOptions)
def limit(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the result.")
    ] = None,
    level: Annotated[float, typer.Option(help="Confidence level.")] = 0.95,
    *,
    options: FitOptions,
) -> None:
    """Find the upper limit (CLs) and the discovery significance of a signal strength."""
    from analysis.inference import results

    with interruptible("no result was written"):
        results.limit_command(results.Source(**vars(options)), output, level=level)
