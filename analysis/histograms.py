"""Histograms of the ttbar analysis: axes, pseudodata and published names.

A processor fills events that all weigh 1 (times the weight of a variation), so that the sums of
nominal histograms are whole numbers and come out the same to the last bit whatever the order in
which chunks are merged. What scales them to the luminosity is multiplied once, at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import hist
import numpy as np

from analysis.kernels.histogram import BINS, HIGH, LOW
from analysis.samples import NOMINAL, sample_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

CHANNELS: Final = ("electron", "muon")
REGIONS: Final = ("4j1b", "4j2b")
PSEUDODATA: Final = "pseudodata"
_PSEUDODATA_PARTS: Final = (
    ("ttbar", "ME_var", 0.5),
    ("ttbar", "PS_var", 0.5),
    ("wjets", NOMINAL, 1.0),
)


def new(process: str, variations: Sequence[str]) -> hist.Hist:
    """Empty histogram of one process.

    Parameters
    ----------
    process
        Name of the process.
    variations
        Names of its variations.

    Returns
    -------
    hist.Hist
        Weighted; axes channel, region, process, variation and observable (HT in 4j1b, mass of
        the trijet in 4j2b; 25 bins from 50 to 550 GeV, AGC version 2).
    """
    return hist.Hist(
        hist.axis.StrCategory(CHANNELS, name="channel", label="Channel", overflow=False),
        hist.axis.StrCategory(REGIONS, name="region", label="Region", overflow=False),
        hist.axis.StrCategory([process], name="process", label="Process", growth=True),
        hist.axis.StrCategory(variations, name="variation", label="Variation", growth=True),
        hist.axis.Regular(BINS, LOW, HIGH, name="observable", label="Observable [GeV]"),
        storage=hist.storage.Weight(),
    )


def add_sums(histogram: hist.Hist, sums: NDArray[np.float64]) -> None:
    """Add what the histogram kernel filled to a histogram of `new`.

    Parameters
    ----------
    histogram
        Of one process, with as many variations as `sums`.
    sums
        2 x categories x (underflow, bins, overflow) x variations: sums of weights and of squared
        weights; category = region + len(REGIONS) * channel.
    """
    view = histogram.view(flow=True)
    for field, one in zip(("value", "variance"), sums, strict=True):
        # The observable is the last axis of a histogram, the variation that of the kernel's sums.
        by_category = one.reshape(len(CHANNELS), len(REGIONS), *one.shape[1:])
        view[field] += np.moveaxis(by_category, -1, 2)[:, :, np.newaxis]


def pseudodata(scaled: Mapping[str, hist.Hist]) -> hist.Hist | None:
    """Pseudodata of normalised samples: (ME_var + PS_var) / 2 + wjets (AGC version 2, the code).

    Parameters
    ----------
    scaled
        Normalised histograms by sample.

    Returns
    -------
    hist.Hist or None
        Process ``pseudodata``, variation ``nominal``; None if a sample that it is made of is not
        there.
    """
    if not all(sample_name(process, name) in scaled for process, name, _ in _PSEUDODATA_PARTS):
        return None
    total = new(PSEUDODATA, [NOMINAL])
    for process, name, share in _PSEUDODATA_PARTS:
        part = scaled[sample_name(process, name)] * share
        total.view(flow=True)[:, :, 0, 0] += part[{"process": 0, "variation": name}].view(
            flow=True
        )
    return total


def combine(scaled: Mapping[str, hist.Hist]) -> hist.Hist:
    """One histogram of all processes and variations, with pseudodata where it can be made.

    A variation that a process does not have is empty for it.

    Parameters
    ----------
    scaled
        Normalised histograms by sample.

    Returns
    -------
    hist.Hist
        Axes as of `new`.
    """
    first, *others = _with_pseudodata(scaled)
    total = first.copy()
    for other in others:
        total = total + other
    return total


def named(scaled: Mapping[str, hist.Hist]) -> dict[str, hist.Hist]:
    """Histograms under the names that the AGC publishes them by.

    Parameters
    ----------
    scaled
        Normalised histograms by sample.

    Returns
    -------
    dict[str, hist.Hist]
        By name, sorted. Axes channel and observable; the sum over the channels is what the AGC
        publishes.
    """
    found = {}
    for part in _with_pseudodata(scaled):
        (process,) = part.axes["process"]
        for region in REGIONS:
            for variation in part.axes["variation"]:
                where = {"region": region, "process": process, "variation": variation}
                found[published_name(region, process, variation)] = part[where]
    return dict(sorted(found.items()))


def plain(histograms: Mapping[str, hist.Hist]) -> dict[str, Any]:
    """Contents of histograms of `named`, as numbers.

    Parameters
    ----------
    histograms
        By name; axes channel and observable.

    Returns
    -------
    dict
        ``histograms``: {name: {"edges", "values", "variances"}} summed over the channels, and
        ``channels``: the same of each channel. Values and variances include underflow and
        overflow.
    """
    return {
        "histograms": {name: numbers(one[{"channel": sum}]) for name, one in histograms.items()},
        "channels": {
            channel: {name: numbers(one[{"channel": channel}]) for name, one in histograms.items()}
            for channel in CHANNELS
        },
    }


def published(scaled: Mapping[str, hist.Hist]) -> dict[str, Any]:
    """Contents of normalised histograms by sample, as of `plain`, under the AGC's names."""
    return plain(named(scaled))


def published_name(region: str, process: str, variation: str) -> str:
    """Name of a histogram as the AGC publishes it: ``4j1b_ttbar_pt_scale_up``."""
    return "_".join(part for part in (region, process, variation) if part != NOMINAL)


def _with_pseudodata(scaled: Mapping[str, hist.Hist]) -> list[hist.Hist]:
    extra = pseudodata(scaled)
    parts = [scaled[name] for name in sorted(scaled)]
    return parts if extra is None else [*parts, extra]


def numbers(histogram: hist.Hist) -> dict[str, list[float]]:
    """Contents of a histogram of one axis.

    Parameters
    ----------
    histogram
        Of bins, underflow and overflow.

    Returns
    -------
    dict
        ``edges`` of the bins, ``values`` and ``variances`` with underflow and overflow.
    """
    return {
        "edges": histogram.axes[0].edges.tolist(),
        "values": histogram.values(flow=True).tolist(),
        "variances": histogram.variances(flow=True).tolist(),
    }
