"""The commands ``fit`` and ``limit``: read, fit, write and print."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from analysis.files.output import check, provenance, write_json
from analysis.inference.backends import PACKAGES, open_backend
from analysis.inference.fits import Fit, fit
from analysis.inference.limits import significance, upper_limit
from analysis.inference.model import build
from analysis.inference.optimizer import NotConvergedWarning
from analysis.inference.predictions import Prediction, prediction
from analysis.inference.profiles import Impact, ranking, scan
from analysis.inference.templates import Templates, merged, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from analysis.inference.backends import Backend, Optimizer
    from analysis.inference.limits import Limit, Significance

SCHEMA: Final = 1
SHOWN: Final = 10
"""Parameters of the ranking that are printed; all of them are written."""


@dataclass(frozen=True)
class Source:
    """Histograms of a model, and how to fit it: arguments of `read`, `build`, `open_backend`."""

    histograms: Path
    inputs: Path | None = None
    files_per_process: int | None = None
    data: str = "pseudodata"
    signal: str = "ttbar"
    backend: Backend = "numpy"
    optimizer: Optimizer | None = None

    @property
    def files(self) -> list[Path]:
        """Files that are read."""
        return [self.histograms, *filter(None, [self.inputs])]

    def read(self) -> Templates:
        """The histograms."""
        return read(
            self.histograms,
            inputs=self.inputs,
            files_per_process=self.files_per_process,
            data=self.data,
        )


def fit_command(
    source: Source, output: Path, *, workspace: Path | None = None, rank: bool = True
) -> None:
    """Fit, and write the result to `output` and the pyhf workspace, if wanted, to `workspace`.

    `rank` tells whether to rank the parameters by impact, which takes four fits of each.
    """
    for path in filter(None, (output, workspace)):
        check(path, inputs=source.files)
    templates = source.read()
    console = Console(stderr=True)
    with open_backend(source.backend, source.optimizer), _spoken(console):
        model = build(templates, source.signal)
        if workspace is not None:
            write_json(workspace, model.spec)
        _say(console, model.notes)
        result = fit(model)
        if at_bound := [one.name for one in result.parameters.values() if one.at_bound]:
            names = ", ".join(at_bound)
            _say(console, [f"{names} ended at a bound: the uncertainties say little"])
        impacts = ranking(model, result, progress=_shown(console)) if rank else []
        profile = scan(model, result)
        predictions = {
            "prefit": prediction(model),
            "postfit": prediction(model, result.values, result.covariance),
        }
    write_json(
        output,
        {
            "schema": SCHEMA,
            **_plain(result),
            "ranking": [asdict(one) for one in impacts],
            "scan": asdict(profile),
            "prediction": {
                when: {region: _plain_prediction(one) for region, one in regions.items()}
                for when, regions in predictions.items()
            },
            "notes": list(model.notes),
            "provenance": _provenance(source, result.optimizer),
        },
    )
    out = Console()
    out.print(_parameters(result))
    if impacts:
        out.print(_impacts(impacts, result.poi))
    best, quality = result.parameters[result.poi], result.goodness_of_fit
    p_value = "" if quality.p_value is None else f", p = {quality.p_value:.3g}"
    out.print(
        f"{best.name} = {best.value:.4f} ± {best.uncertainty:.4f}; twice the negative log "
        f"likelihood {result.twice_nll:.3f}; goodness of fit: chi2 {quality.chi2:.2f} for "
        f"{quality.degrees_of_freedom} degrees of freedom{p_value}; written to {output}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def limit_command(source: Source, output: Path | None, *, level: float) -> None:
    """Find the upper limit at a confidence level, and the significance of the signal."""
    if output is not None:
        check(output, inputs=source.files)
    templates = merged(source.read(), source.signal)
    console = Console(stderr=True)
    with open_backend(source.backend, source.optimizer), _spoken(console):
        model = build(templates, source.signal)
        _say(console, model.notes)
        with console.status("") as status:
            if not console.is_terminal:
                status.stop()
            status.update("discovery")
            discovery = significance(model)
            limit = upper_limit(model, level, tick=lambda at: status.update(f"CLs at {at:.4g}"))
    if output is not None:
        write_json(
            output,
            {
                "schema": SCHEMA,
                "limit": asdict(limit),
                "significance": asdict(discovery),
                "notes": list(model.notes),
                "provenance": _provenance(source, source.optimizer),
            },
        )
    out = Console()
    out.print(_limits(limit, discovery))
    if output is not None:
        out.print(f"written to {output}", soft_wrap=True, highlight=False)


def _shown(console: Console) -> Callable[[list[int]], Iterable[int]]:
    """A progress bar of a ranking, if there is a terminal."""
    disable = not console.is_terminal
    return lambda todo: track(todo, "ranking", console=console, transient=True, disable=disable)


def _say(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _spoken(console: Console) -> Iterator[None]:
    """Print each warning of optimisers once, as a sentence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotConvergedWarning)
        yield
    said = (str(one.message) for one in caught if one.category is NotConvergedWarning)
    _say(console, dict.fromkeys(said))


def _plain(result: Fit) -> dict[str, Any]:
    """A fit for JSON."""
    names = list(result.parameters)
    return {
        "parameters": {
            name: {key: value for key, value in asdict(one).items() if key != "name"}
            for name, one in result.parameters.items()
        },
        "poi": result.poi,
        "twice_nll": result.twice_nll,
        "goodness_of_fit": asdict(result.goodness_of_fit),
        "correlation": {"names": names, "matrix": result.correlation.tolist()},
    }


def _plain_prediction(one: Prediction) -> dict[str, Any]:
    return {
        "edges": one.edges.tolist(),
        "data": one.data.tolist(),
        "samples": {
            name: values.tolist() for name, values in zip(one.samples, one.yields, strict=True)
        },
        "uncertainty": one.uncertainty.tolist(),
    }


def _provenance(source: Source, optimizer: str | None) -> dict[str, Any]:
    known = provenance(
        histograms=str(source.histograms),
        files_per_process=source.files_per_process,
        data=source.data,
        signal=source.signal,
        backend=source.backend,
        optimizer=optimizer,
    )
    for package in ("pyhf", PACKAGES.get(source.backend), PACKAGES.get(optimizer or "")):
        if package:
            known["versions"][package] = version(package)
    return known


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(first, title=title)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _parameters(result: Fit) -> Table:
    table = _table("Fit", "parameter", "value", "uncertainty", "pull", "constraint")
    for one in result.parameters.values():
        table.add_row(
            escape(one.name),
            f"{one.value:.4f}",
            f"{one.uncertainty:.4f}",
            "" if one.pull is None else f"{one.pull:+.3f}",
            "" if one.constraint is None else f"{one.constraint:.3f}",
        )
    return table


def _impacts(impacts: list[Impact], poi: str) -> Table:
    title = f"Impact on {escape(poi)}, the largest {SHOWN}"
    table = _table(title, "parameter", "up", "down", "prefit up", "prefit down")
    for one in impacts[:SHOWN]:
        numbers = (one.up, one.down, one.prefit_up, one.prefit_down)
        table.add_row(
            escape(one.name), *("-" if number is None else f"{number:+.4f}" for number in numbers)
        )
    return table


def _limits(limit: Limit, discovery: Significance) -> Table:
    title = f"{escape(limit.poi)}, {limit.level:.0%} confidence"
    table = _table(title, "", "observed", "expected", "68 %", "95 %")
    low_2, low_1, median, high_1, high_2 = limit.expected
    table.add_row(
        "upper limit (CLs)",
        f"{limit.observed:.4g}",
        f"{median:.4g}",
        f"{low_1:.4g} to {high_1:.4g}",
        f"{low_2:.4g} to {high_2:.4g}",
    )
    strength = f"{discovery.observed:.3g}", f"{discovery.expected:.3g}"
    table.add_row("significance (sigma)", *strength, "", "")
    return table
