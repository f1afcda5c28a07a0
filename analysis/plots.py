"""Plots: stacked prediction and data of each region, with uncertainty band and ratio.

`draw` takes plain arrays: `before_fit` makes them of a run's histograms, `of_fit` of a fit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import matplotlib as mpl
import mplhep
import numpy as np
import pydantic
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from analysis.errors import InputError
from analysis.files import histogram_io
from analysis.files.output import check_folder, whole
from analysis.histograms import PSEUDODATA, REGIONS, SHARED_VARIATIONS, Name, side_of
from analysis.samples import CROSS_SECTIONS, LUMINOSITY, NOMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

OBSERVABLES: Final = {"4j1b": "$H_T$ [GeV]", "4j2b": "mass of the trijet system [GeV]"}
"""Observable of each region."""

LABELS: Final = {
    "ttbar": r"$t\bar{t}$",
    "single_top_s_chan": "t, s-channel",
    "single_top_t_chan": "t, t-channel",
    "single_top_tW": "tW",
    "wjets": "W + jets",
}
COLOURS: Final = {
    "ttbar": "#e42536",
    "single_top_s_chan": "#964a8b",
    "single_top_t_chan": "#9c9ca1",
    "single_top_tW": "#f89c20",
    "wjets": "#5790fc",
}
OTHER_COLOURS: Final = ("#7a21dd", "#86c8dd", "#a96b59", "#e76300", "#b9ac70", "#717581")
"""For other processes; people with colour-blindness can distinguish all (Petroff, arXiv:2107.02270)."""

STACKED: Final = tuple(reversed(CROSS_SECTIONS))
"""Processes from bottom to top: the signal is on top."""

STYLE: Final = {**mplhep.style.CMS, "font.size": 20}

_BAND: Final = {
    "histtype": "band",
    "facecolor": "none",
    "edgecolor": "0.25",
    "hatch": "////",
    "linewidth": 0,
    "alpha": 1,
}

FORMATS: Final = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Plot:
    """Content of a plot, in events a bin; edges in GeV."""

    name: str
    """Of the file."""
    title: str
    observable: str
    """Label of the axis."""
    edges: NDArray[np.float64]
    samples: Mapping[str, NDArray[np.float64]]
    """Prediction of each process, from bottom to top."""
    uncertainty: NDArray[np.float64]
    """Of the whole prediction."""
    data: NDArray[np.float64] | None = None
    data_name: str = PSEUDODATA
    """Process that is taken for data."""

    @property
    def total(self) -> NDArray[np.float64]:
        """The whole prediction."""
        return np.asarray(np.sum(list(self.samples.values()), axis=0))


def before_fit(run: histogram_io.Run) -> Iterator[Plot]:
    """Plots of each region, for all events and for each channel, before any fit.

    The uncertainty is the sum in quadrature of the statistical one and of the shift by each
    source of systematic variation: that of all processes together, the larger of up and down. A
    variation that only one process has is a source of its own.
    """
    if not run.channels:
        msg = f"{run.source} has no histograms of channels: give what `run` wrote"
        raise InputError(msg)
    for region in REGIONS:
        for channel, histograms in {"": run.histograms, **run.channels}.items():
            contents = {
                name: _Bins.of(run.source, name, histogram)
                for name, histogram in histograms.items()
                if name.region == region and name.process in {*run.processes, run.data}
            }
            seen = contents.pop(Name(region, run.data, NOMINAL), None)
            nominal = {
                process: contents[name]
                for process in _stacked(run.processes)
                if (name := Name(region, process, NOMINAL)) in contents
            }
            if not nominal:
                continue
            edges = next(iter(nominal.values())).edges
            if any(
                not np.array_equal(bins.edges, edges)
                for bins in (*contents.values(), *filter(None, [seen]))
            ):
                msg = f"{run.source}: histograms of {region} have different bins: make them anew"
                raise InputError(msg)
            variance = np.sum([bins.variances for bins in nominal.values()], axis=0)
            for shift in _shifts(nominal, contents):
                variance = variance + shift**2
            yield Plot(
                name="_".join(filter(None, ("before", region, channel))),
                title=f"{region}{channel and f', {channel} channel'}, before the fit",
                observable=OBSERVABLES[region],
                edges=edges,
                samples={process: bins.values for process, bins in nominal.items()},
                uncertainty=np.sqrt(variance),
                data=None if seen is None else seen.values,
                data_name=run.data,
            )


class _Bins(NamedTuple):
    """A histogram without underflow and overflow."""

    edges: NDArray[np.float64]
    values: NDArray[np.float64]
    variances: NDArray[np.float64]

    @classmethod
    def of(cls, source: str, name: Name, histogram: histogram_io.Histogram) -> Self:
        if histogram.variances is None:
            msg = f"{source}: {name.published} has no variances: give what `run` wrote"
            raise InputError(msg)
        values, variances = (
            histogram_io.inside(source, name, what, given, len(histogram.edges) - 1)
            for what, given in (("values", histogram.values), ("variances", histogram.variances))
        )
        return cls(np.array(histogram.edges), values, variances)


def _stacked(processes: Iterable[str]) -> list[str]:
    """Processes from bottom to top: the signal is on top, below it the AGC's, above it others."""
    return sorted(processes, key=lambda process: (*STACKED, process).index(process))


class _Prediction(pydantic.BaseModel):
    """Prediction of a fit in one region."""

    edges: list[float] = pydantic.Field(min_length=2)
    data: list[float]
    samples: dict[str, list[float]] = pydantic.Field(min_length=1)
    uncertainty: list[float]

    @pydantic.model_validator(mode="after")
    def _of_one_length(self) -> Self:
        bins = {len(numbers) for numbers in (self.data, self.uncertainty, *self.samples.values())}
        if bins != {len(self.edges) - 1}:
            msg = "the numbers of bins differ"
            raise ValueError(msg)
        return self


class _Predictions(pydantic.BaseModel):
    prefit: dict[str, _Prediction]
    postfit: dict[str, _Prediction]


class _Provenance(pydantic.BaseModel):
    data: str = PSEUDODATA


class _Fit(pydantic.BaseModel):
    """Content of the output of ``python -m analysis fit``, as far as it is drawn."""

    prediction: _Predictions
    provenance: _Provenance = _Provenance()


def of_fit(path: Path) -> Iterator[Plot]:
    """Plots of each region, in the bins of a fit, before and after it.

    `path` is the output of ``python -m analysis fit``. The uncertainty is that of all parameters.
    """
    try:
        fitted = _Fit.model_validate_json(path.read_bytes())
    except OSError as error:
        msg = f"the fit {path} cannot be read: {error.strerror}"
        raise InputError(msg) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        msg = f"{path} does not hold a fit: at {where}: {first['msg']}"
        raise InputError(msg) from None
    for when, title, regions in (
        ("prefit", "before the fit", fitted.prediction.prefit),
        ("postfit", "after the fit", fitted.prediction.postfit),
    ):
        for region, prediction in regions.items():
            yield Plot(
                name=f"{when}_{region}",
                title=f"{region}, {title}",
                observable=OBSERVABLES.get(region, "Observable [GeV]"),
                edges=np.array(prediction.edges),
                samples={
                    name: np.array(prediction.samples[name])
                    for name in _stacked(prediction.samples)
                },
                uncertainty=np.array(prediction.uncertainty),
                data=np.array(prediction.data),
                data_name=fitted.provenance.data,
            )


def _shifts(
    nominal: Mapping[str, _Bins], contents: Mapping[Name, _Bins]
) -> list[NDArray[np.float64]]:
    """Shift of the prediction by each source of systematic uncertainty (bins)."""
    sources: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for (_, process, variation), varied in contents.items():
        if variation != NOMINAL and process in nominal:
            owner = "" if variation in SHARED_VARIATIONS else process
            sides = sources.setdefault((owner, side_of(variation)[0]), {})
            difference = varied.values - nominal[process].values
            sides[variation] = sides.get(variation, 0) + difference
    return [np.max(np.abs(list(sides.values())), axis=0) for sides in sources.values()]


def draw(content: Plot) -> Figure:
    """Draw the stack with its band and the data, and below it the ratio to the prediction."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    main, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    _stack(main, content)
    _ratio(below, content)
    common = {"transform": main.transAxes, "va": "bottom", "fontsize": "x-small"}
    main.text(0, 1.01, content.title, **common)
    main.text(1, 1.01, f"{LUMINOSITY / 1000:.1f} fb$^{{-1}}$ (13 TeV)", ha="right", **common)
    figure.align_ylabels()
    return figure


def _stack(axes: Axes, content: Plot) -> None:
    total = content.total
    others = itertools.cycle(OTHER_COLOURS)
    common: dict[str, Any] = {"bins": content.edges, "ax": axes, "flow": "none"}
    mplhep.histplot(
        list(content.samples.values()),
        stack=True,
        histtype="fill",
        label=[_label(name) for name in content.samples],
        color=[COLOURS.get(name) or next(others) for name in content.samples],
        **common,
    )
    mplhep.histplot(total, yerr=content.uncertainty, label="uncertainty", **_BAND, **common)
    top = total + content.uncertainty
    if content.data is not None:
        errors = np.sqrt(content.data)
        _points(axes, content, content.data, errors, label=_label(content.data_name))
        top = np.maximum(top, content.data + errors)
    axes.set_ylim(0, 1.35 * max(top.max(), 1e-9))
    axes.set_ylabel("Events")
    axes.legend(fontsize="xx-small", ncols=2)


def _label(process: str) -> str:
    """Name in the legend, which drops names that begin with _ and sets formulae between dollars."""
    plain = process.replace("$", r"\$")
    return LABELS.get(process, f" {plain}" if plain.startswith("_") else plain)


def _ratio(axes: Axes, content: Plot) -> None:
    total = content.total
    # Bins without prediction have no ratio.
    over = np.where(total > 0, total, np.nan)
    mplhep.histplot(
        np.ones_like(total),
        bins=content.edges,
        yerr=np.nan_to_num(content.uncertainty / over),
        **_BAND,
        ax=axes,
        flow="none",
    )
    if content.data is not None:
        _points(axes, content, content.data / over, np.sqrt(content.data) / over)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_ylim(0.5, 1.5)
    axes.set_xlim(content.edges[0], content.edges[-1])
    axes.set_xlabel(content.observable)
    axes.set_ylabel("data / pred.", fontsize="small")


def _points(
    axes: Axes,
    content: Plot,
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    label: str | None = None,
) -> None:
    mplhep.histplot(
        values,
        bins=content.edges,
        yerr=errors,
        histtype="errorbar",
        color="black",
        markersize=8,
        label=label,
        ax=axes,
        flow="none",
    )


def plot(
    run: histogram_io.Run, directory: Path, data_format: str, fit: Path | None = None
) -> list[Path]:
    """Write all plots of a run's histograms, and of a fit's output, to a folder; give the files."""
    contents = list(before_fit(run))
    if not contents:
        msg = "there is no nominal histogram to draw: process a nominal sample"
        raise InputError(msg)
    if fit is not None:
        contents += of_fit(fit)
    check_folder(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder {directory} cannot be made: {error.strerror}"
        raise InputError(msg) from error
    console = Console(stderr=True)
    return [
        write(content, directory, data_format)
        for content in track(contents, "plots", console=console, disable=not console.is_terminal)
    ]


def write(content: Plot, directory: Path, data_format: str) -> Path:
    """Draw into a file of this folder, which is returned."""
    if data_format not in FORMATS:
        msg = f"there are no pictures in {data_format!r}: use one of {', '.join(FORMATS)}"
        raise InputError(msg)
    path = directory / f"{content.name}.{data_format}"
    # Fonts are looked up when the figure is saved.
    with whole(path) as part, mpl.rc_context(STYLE):
        draw(content).savefig(part)
    return path
