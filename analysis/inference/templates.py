"""Histograms in the bins of the statistical model: read, checked, and merged."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.errors import InputError
from analysis.files import histogram_io
from analysis.histograms import PSEUDODATA, REGIONS, Name
from analysis.samples import CROSS_SECTIONS, NOMINAL, event_weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

FIRST_EDGE: Final = 110.0
"""GeV; the model has no bins below (AGC version 2). Four jets of 30 GeV have an HT of 120."""

MERGED: Final = 2
"""Bins that are merged into one of the model (AGC version 2)."""


@dataclass(frozen=True)
class Template:
    """One histogram in the bins of the model: sums of weights (expected events), and squared."""

    values: NDArray[np.float64]
    variances: NDArray[np.float64] | None
    """None where they are not known, as of published variations."""

    def merge(self, starts: NDArray[np.intp]) -> Template:
        """Merge bins: each new one begins at one of `starts`."""
        variances = self.variances
        return Template(
            np.add.reduceat(self.values, starts),
            None if variances is None else np.add.reduceat(variances, starts),
        )


@dataclass(frozen=True)
class Region:
    """The histograms of one region."""

    edges: NDArray[np.float64]
    """Of the bins in GeV, one more than there are bins."""
    data: NDArray[np.float64]
    """Events observed in each bin."""
    templates: Mapping[tuple[str, str], Template]
    """By process and variation."""

    @property
    def processes(self) -> list[str]:
        """Names of the processes, with events or without."""
        return list(dict.fromkeys(process for process, _ in self.templates))

    @property
    def nominal(self) -> dict[str, Template]:
        """Nominal template of each process that has events here."""
        return {
            process: template
            for (process, variation), template in self.templates.items()
            if variation == NOMINAL and template.values.any()
        }

    def merge(self, starts: NDArray[np.intp]) -> Region:
        """Merge bins of all histograms: each new one begins at one of `starts`."""
        return Region(
            np.append(self.edges[starts], self.edges[-1]),
            np.add.reduceat(self.data, starts),
            {key: template.merge(starts) for key, template in self.templates.items()},
        )


@dataclass(frozen=True)
class Templates:
    """All histograms of a model."""

    source: str
    """Where they come from, for messages."""
    regions: Mapping[str, Region]
    notes: tuple[str, ...] = ()
    """Changes that are not in the definition of the model: one sentence each."""


def read(
    path: Path,
    *,
    inputs: Path | None = None,
    files_per_process: int | None = None,
    data: str = PSEUDODATA,
) -> Templates:
    """Read the histograms of the ttbar analysis.

    Parameters
    ----------
    path
        What ``python -m analysis run`` wrote, in any of its formats, or histograms in the form
        that the AGC publishes: ``{name: {"contents", "edges"}}``, with underflow and overflow or
        without.
    inputs
        For published histograms, which have no variances: the AGC's ``nanoaod_inputs.json``. Every
        event of a sample has the same weight there, so that variance = content x weight.
    files_per_process
        The number of files of each process that published histograms were made from.
    data
        Process that is used as data.

    Returns
    -------
    Templates
        In the bins of the model: from 110 GeV up, merged in pairs. A bin in which no process has
        events is merged into the next, and `notes` say so.

    Raises
    ------
    InputError
        If the file cannot be read, has another format, lacks a nominal histogram or the data, or
        has invalid contents.
    """
    run = histogram_io.read(path, data)
    weights = _weights(inputs, files_per_process) if inputs else {}
    needed = dict.fromkeys((*CROSS_SECTIONS, *run.processes, data))
    regions = {}
    for region in REGIONS:
        for process in needed:
            name = Name(region, process, NOMINAL)
            if name not in run.histograms:
                msg = f"{path} has no {name.published}: {_remedy(process, data)}"
                raise InputError(msg)
        ours = {
            name: _read_one(run, name, weights.get(name.process))
            for name in run.histograms
            if name.region == region and name.process in needed
        }
        edges, observed = ours.pop(Name(region, data, NOMINAL))
        for name, (other, template) in ours.items():
            if not np.array_equal(other, edges):
                msg = f"{path}: {name.published} has other bins than the data: make them together"
                raise InputError(msg)
            if name.variation == NOMINAL and template.variances is None:
                msg = (
                    f"{path} has no variances: give --inputs nanoaod_inputs.json and "
                    "--files-per-process, from which event weights follow"
                )
                raise InputError(msg)
        regions[region] = Region(
            edges,
            observed.values,
            {
                (name.process, name.variation): template
                for name, (_, template) in ours.items()
                if name.process != data
            },
        )
    return merged(Templates(str(path), regions))


def _remedy(process: str, data: str) -> str:
    if process in CROSS_SECTIONS:
        return "run the analysis over a file set with every process"
    if process != data:
        return f"run the analysis over the nominal sample of {process}, or without its variations"
    if data == PSEUDODATA:
        return "it is made of the ttbar samples ME_var and PS_var and of wjets, run over them too"
    return "name another process by --data"


def _load(path: Path, what: str, maker: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        msg = f"there are no {what} {path}: make them with {maker}"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InputError(msg) from None
    except (ValueError, RecursionError):
        msg = f"{path} is not JSON: give what {maker} wrote"
        raise InputError(msg) from None
    if not isinstance(content, dict):
        msg = f"{path} holds no {what}: give what {maker} wrote"
        raise InputError(msg)
    return content


def _weights(path: Path, files_per_process: int | None) -> dict[str, float]:
    """Weight of an event of each nominal sample, for this many of the files that the AGC lists."""
    if files_per_process is None or files_per_process < 1:
        msg = "--inputs needs --files-per-process: how many files of each process, at least one"
        raise InputError(msg)
    listed = _load(path, "inputs", "the AGC, which publishes nanoaod_inputs.json,")
    weights = {}
    for process, section in CROSS_SECTIONS.items():
        try:
            files = listed[process][NOMINAL]["files"][:files_per_process]
            weights[process] = event_weight(section, sum(file["nevts"] for file in files))
        except (KeyError, TypeError, ValueError):
            msg = (
                f"{path} does not list files of {process} with their numbers of events (nevts): "
                "give the AGC's nanoaod_inputs.json"
            )
            raise InputError(msg) from None
    return weights


def _read_one(
    run: histogram_io.Run, name: Name, weight: float | None
) -> tuple[NDArray[np.float64], Template]:
    """Edges and contents in the bins of the model."""
    histogram = run.histograms[name]
    edges = np.array(histogram.edges)
    bins = len(edges) - 1
    values = histogram_io.inside(run.source, name, "values", histogram.values, bins)
    variances = None if weight is None else values * weight
    if histogram.variances is not None:
        variances = histogram_io.inside(run.source, name, "variances", histogram.variances, bins)
    first_bin = np.flatnonzero(np.isclose(edges, FIRST_EDGE))
    number = bins - int(first_bin[0]) if len(first_bin) else 0
    if number < MERGED or number % MERGED or not (np.diff(edges) > 0).all():
        msg = (
            f"{run.source}: {name.published} has bins from {edges[0]:g} to {edges[-1]:g}, and the "
            f"model takes an even number of them from {FIRST_EDGE:g} GeV up: use the binning of "
            "`run`"
        )
        raise InputError(msg)
    starts = np.arange(0, number, MERGED)
    template = Template(
        values[-number:], None if variances is None else variances[-number:]
    ).merge(starts)
    return np.append(edges[-number - 1 :][starts], edges[-1]), template


def merged(templates: Templates, signal: str | None = None) -> Templates:
    """Merge each bin without simulated events into the next; the last one into the one before.

    A likelihood has no value where nothing is expected and something is observed. Events of
    `signal`, whose absence is to be tested, do not count: where nothing else is expected, one event
    would prove it. InputError if a region has no simulated events, or none has data.
    """
    events = "no simulated event" if signal is None else f"no simulated event but of {signal}"
    regions, notes = {}, list(templates.notes)
    for name, region in templates.regions.items():
        nominal = [template for process, template in region.nominal.items() if process != signal]
        if not nominal:
            msg = f"{templates.source} has {events} in {name}: process more events"
            raise InputError(msg)
        filled = np.flatnonzero(np.sum([template.values for template in nominal], axis=0))
        # Each filled bin ends a new one, and the last of them takes what follows it.
        starts = np.append(0, filled[:-1] + 1)
        regions[name] = region.merge(starts)
        if lost := len(region.data) - len(starts):
            notes.append(
                f"{lost} of {len(region.data)} bins of {name} hold {events} and were merged with "
                "the next: process more events"
            )
    if not any(region.data.any() for region in regions.values()):
        msg = f"the data in {templates.source} have no events: there is nothing to fit"
        raise InputError(msg)
    return replace(templates, regions=regions, notes=tuple(notes))


def total(regions: Iterable[Region], process: str) -> float:
    """Nominal number of events of a process in these regions."""
    return float(sum(region.templates[process, NOMINAL].values.sum() for region in regions))
