"""Pictures: stacked prediction and data of each region, with uncertainty band and ratio.

`draw` takes plain arrays; `before_fit` makes them of a run's histograms, `of_fit` of what a fit
predicts.
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
"""Of processes, in the legend; the colours are told apart by all (Petroff, arXiv:2107.02270)."""

STACKED: Final = tuple(reversed(CROSS_SECTIONS))
"""Processes from below: the signal is on top."""

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
class Picture:
    """What `draw` draws, in events a bin.

    Attributes
    ----------
    name
        Of the file.
    title
        What it shows, in a few words; ``observable`` is the label of the axis.
    edges
        Of the bins, in GeV (bins + 1).
    samples
        Prediction of each process (bins), in the order of stacking.
    uncertainty
        Of their sum (bins).
    data
        Number of events seen (bins); None where there is none.
    data_name
        Process that they are of.
    """

    name: str
    title: str
    observable: str
    edges: NDArray[np.float64]
    samples: Mapping[str, NDArray[np.float64]]
    uncertainty: NDArray[np.float64]
    data: NDArray[np.float64] | None = None
    data_name: str = PSEUDODATA

    @property
    def total(self) -> NDArray[np.float64]:
        """The whole prediction (bins)."""
        return np.asarray(np.sum(list(self.samples.values()), axis=0))


def before_fit(run: histogram_io.Run) -> Iterator[Picture]:
    """Each region, of all events and of each channel, as predicted.

    The uncertainty is the sum in quadrature of the statistical one of the prediction and of what
    each source of systematic variation moves it by: all processes together, the larger of up and
    down. A variation of one process (`histograms.SHARED_VARIATIONS` are of all) is a source of
    its own.

    Parameters
    ----------
    run
        As of `saved.read`.

    Yields
    ------
    Picture
        Without data if they are not there.

    Raises
    ------
    InputError
        If there are no channels, bins differ, or contents are none that a histogram can have.
    """
    if not run.channels:
        msg = f"{run.source} has no histograms of channels: give what `run` wrote"
        raise InputError(msg)
    for region in REGIONS:
        for channel, histograms in {"": run.histograms, **run.channels}.items():
            contents = {
                name: _Bins.of(run.source, name, one)
                for name, one in histograms.items()
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
                not np.array_equal(one.edges, edges)
                for one in (*contents.values(), *filter(None, [seen]))
            ):
                msg = f"{run.source}: histograms of {region} have different bins: make them anew"
                raise InputError(msg)
            variance = np.sum([one.variances for one in nominal.values()], axis=0)
            for shift in _shifts(nominal, contents):
                variance = variance + shift**2
            yield Picture(
                name="_".join(filter(None, ("before", region, channel))),
                title=f"{region}{channel and f', {channel} channel'}, before the fit",
                observable=OBSERVABLES[region],
                edges=edges,
                samples={process: one.values for process, one in nominal.items()},
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
    def of(cls, source: str, name: Name, one: histogram_io.Histogram) -> Self:
        if one.variances is None:
            msg = f"{source}: {name.published} has no variances: give what `run` wrote"
            raise InputError(msg)
        values, variances = (
            histogram_io.inside(source, name, what, given, len(one.edges) - 1)
            for what, given in (("values", one.values), ("variances", one.variances))
        )
        return cls(np.array(one.edges), values, variances)


def _stacked(processes: Iterable[str]) -> list[str]:
    """Processes from below: the signal is on top, and on it what is not known here."""
    return sorted(processes, key=lambda process: (*STACKED, process).index(process))


class _Prediction(pydantic.BaseModel):
    """What a fit predicts in one region."""

    edges: list[float] = pydantic.Field(min_length=2)
    data: list[float]
    samples: dict[str, list[float]] = pydantic.Field(min_length=1)
    uncertainty: list[float]

    @pydantic.model_validator(mode="after")
    def _of_one_length(self) -> Self:
        found = {len(one) for one in (self.data, self.uncertainty, *self.samples.values())}
        if found != {len(self.edges) - 1}:
            msg = "the numbers of bins differ"
            raise ValueError(msg)
        return self


class _Predictions(pydantic.BaseModel):
    prefit: dict[str, _Prediction]
    postfit: dict[str, _Prediction]


class _Provenance(pydantic.BaseModel):
    data: str = PSEUDODATA


class _Fit(pydantic.BaseModel):
    """What is read of the output of ``python -m analysis fit``."""

    prediction: _Predictions
    provenance: _Provenance = _Provenance()


def of_fit(path: Path) -> Iterator[Picture]:
    """Each region in the bins of a fit, before and after it.

    Parameters
    ----------
    path
        Output of ``python -m analysis fit``.

    Yields
    ------
    Picture
        With the uncertainty of all parameters together.

    Raises
    ------
    InputError
        If there is no such file, or it holds something else.
    """
    try:
        found = _Fit.model_validate_json(path.read_bytes())
    except OSError as error:
        msg = f"the fit {path} cannot be read: {error.strerror}"
        raise InputError(msg) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        msg = f"{path} does not hold a fit: at {where}: {first['msg']}"
        raise InputError(msg) from None
    for name, title, regions in (
        ("prefit", "before the fit", found.prediction.prefit),
        ("postfit", "after the fit", found.prediction.postfit),
    ):
        for region, one in regions.items():
            yield Picture(
                name=f"{name}_{region}",
                title=f"{region}, {title}",
                observable=OBSERVABLES.get(region, "Observable [GeV]"),
                edges=np.array(one.edges),
                samples={one_: np.array(one.samples[one_]) for one_ in _stacked(one.samples)},
                uncertainty=np.array(one.uncertainty),
                data=np.array(one.data),
                data_name=found.provenance.data,
            )


def _shifts(
    nominal: Mapping[str, _Bins], contents: Mapping[Name, _Bins]
) -> list[NDArray[np.float64]]:
    """By how much each source of systematic uncertainty moves the prediction (bins)."""
    sources: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for (_, process, variation), varied in contents.items():
        if variation != NOMINAL and process in nominal:
            owner = "" if variation in SHARED_VARIATIONS else process
            sides = sources.setdefault((owner, side_of(variation)[0]), {})
            difference = varied.values - nominal[process].values
            sides[variation] = sides.get(variation, 0) + difference
    return [np.max(np.abs(list(sides.values())), axis=0) for sides in sources.values()]


def draw(picture: Picture) -> Figure:
    """Draw the stack with its band and the data, and below both over the prediction."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    main, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
    _stack(main, picture)
    _ratio(below, picture)
    common = {"transform": main.transAxes, "va": "bottom", "fontsize": "x-small"}
    main.text(0, 1.01, picture.title, **common)
    main.text(1, 1.01, f"{LUMINOSITY / 1000:.1f} fb$^{{-1}}$ (13 TeV)", ha="right", **common)
    figure.align_ylabels()
    return figure


def _stack(axes: Axes, picture: Picture) -> None:
    total = picture.total
    others = itertools.cycle(OTHER_COLOURS)
    common: dict[str, Any] = {"bins": picture.edges, "ax": axes, "flow": "none"}
    mplhep.histplot(
        list(picture.samples.values()),
        stack=True,
        histtype="fill",
        label=[_label(name) for name in picture.samples],
        color=[COLOURS.get(name) or next(others) for name in picture.samples],
        **common,
    )
    mplhep.histplot(total, yerr=picture.uncertainty, label="uncertainty", **_BAND, **common)
    top = total + picture.uncertainty
    if picture.data is not None:
        errors = np.sqrt(picture.data)
        _points(axes, picture, picture.data, errors, label=_label(picture.data_name))
        top = np.maximum(top, picture.data + errors)
    axes.set_ylim(0, 1.35 * max(top.max(), 1e-9))
    axes.set_ylabel("Events")
    axes.legend(fontsize="xx-small", ncols=2)


def _label(process: str) -> str:
    """In the legend, which takes no name that begins with _ and sets formulae between dollars."""
    plain = process.replace("$", r"\$")
    return LABELS.get(process, f" {plain}" if plain.startswith("_") else plain)


def _ratio(axes: Axes, picture: Picture) -> None:
    total = picture.total
    # Bins without prediction have no ratio.
    over = np.where(total > 0, total, np.nan)
    mplhep.histplot(
        np.ones_like(total),
        bins=picture.edges,
        yerr=np.nan_to_num(picture.uncertainty / over),
        **_BAND,
        ax=axes,
        flow="none",
    )
    if picture.data is not None:
        _points(axes, picture, picture.data / over, np.sqrt(picture.data) / over)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_ylim(0.5, 1.5)
    axes.set_xlim(picture.edges[0], picture.edges[-1])
    axes.set_xlabel(picture.observable)
    axes.set_ylabel("data / pred.", fontsize="small")


def _points(
    axes: Axes,
    picture: Picture,
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    label: str | None = None,
) -> None:
    mplhep.histplot(
        values,
        bins=picture.edges,
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
    """Draw all pictures of a run's histograms.

    Parameters
    ----------
    run
        As of `saved.read`.
    directory
        Made if there is none.
    data_format
        One of FORMATS.
    fit
        As of `of_fit`, to draw that as well.

    Returns
    -------
    list[Path]
        The files.

    Raises
    ------
    InputError
        If there is nothing to draw, or it cannot be written so.
    """
    pictures = list(before_fit(run))
    if not pictures:
        msg = "there is no nominal histogram to draw: process a nominal sample"
        raise InputError(msg)
    if fit is not None:
        pictures += of_fit(fit)
    check_folder(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder {directory} cannot be made: {error.strerror}"
        raise InputError(msg) from error
    console = Console(stderr=True)
    return [
        write(one, directory, data_format)
        for one in track(pictures, "pictures", console=console, disable=not console.is_terminal)
    ]


def write(picture: Picture, directory: Path, data_format: str) -> Path:
    """Draw into a file of this folder.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If it cannot be written, or not in this format.
    """
    if data_format not in FORMATS:
        msg = f"there are no pictures in {data_format!r}: use one of {', '.join(FORMATS)}"
        raise InputError(msg)
    path = directory / f"{picture.name}.{data_format}"
    # Fonts are looked up as late as that.
    with whole(path) as part, mpl.rc_context(STYLE):
        draw(picture).savefig(part)
    return path
