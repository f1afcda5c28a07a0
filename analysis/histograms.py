"""Histograms of the ttbar analysis: axes, pseudodata and published names.

A processor fills events that all weigh 1 (times the weight of a variation), so that the sums of
nominal histograms are whole numbers and come out the same to the last bit whatever the order in
which chunks are merged. What scales them to the luminosity is multiplied once, at the end.
"""

from __future__ import annotations

import functools
import operator
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hist

from analysis.kernels.btag_weights import VARIATIONS as BTAG_VARIATIONS
from analysis.kernels.histogram import BINS, HIGH, LOW
from analysis.samples import (
    KINEMATIC_VARIATIONS,
    NOMINAL,
    SAMPLE_VARIATIONS,
    SCALE_PROCESS,
    SCALE_WEIGHTS,
    sample_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

CHANNELS: Final = ("electron", "muon")
REGIONS: Final = ("4j1b", "4j2b")
PSEUDODATA: Final = "pseudodata"
_PSEUDODATA_PARTS: Final = (
    ("ttbar", "ME_var", 0.5),
    ("ttbar", "PS_var", 0.5),
    ("wjets", NOMINAL, 1.0),
)

SHARED_VARIATIONS: Final = (*KINEMATIC_VARIATIONS, *BTAG_VARIATIONS)
"""Variations that all simulated processes share, of jets and of their tags. Others belong to one
process, even where two have the same name."""

_SUMS: Final = ("process", "channel", "region", "observable", "variation")
"""Axes of the sums of the histogram kernel, once categories are channels and regions."""


class Name(NamedTuple):
    """Region, process and variation of a histogram."""

    region: str
    process: str
    variation: str

    @property
    def published(self) -> str:
        """Name of the histogram as the AGC publishes it: ``4j1b_ttbar_pt_scale_up``."""
        return "_".join(part for part in self if part != NOMINAL)


def variations(process: str, variation: str) -> tuple[str, ...]:
    """Variations that are filled from a simulated sample: from the nominal one all."""
    if variation != NOMINAL:
        return (variation,)
    scales = tuple(SCALE_WEIGHTS) if process == SCALE_PROCESS else ()
    return (NOMINAL, *SHARED_VARIATIONS, *scales)


def side_of(variation: str) -> tuple[str, str]:
    """The source of uncertainty of a variation, and its side: up, down or empty.

    btag_var_0 and up for btag_var_0_up, scale and down for scaledown.
    """
    match = re.fullmatch(r"(.+?)_?(up|down)", variation, re.IGNORECASE)
    return (match[1], match[2].lower()) if match else (variation, "")


def known_names() -> dict[str, Name]:
    """The histograms that the AGC publishes, by their names there."""
    every = [
        Name(region, process, shift)
        for region in REGIONS
        for process, samples in SAMPLE_VARIATIONS.items()
        for sample in samples
        for shift in variations(process, sample)
    ]
    every += [Name(region, PSEUDODATA, NOMINAL) for region in REGIONS]
    return {name.published: name for name in every}


def new(process: str, variations: Sequence[str]) -> hist.Hist:
    """Empty weighted histogram of one process: channel, region, process, variation, observable.

    The observable is HT in 4j1b and the mass of the trijet in 4j2b, in 25 bins from 50 to 550 GeV
    (AGC version 2).
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
    """Add sums of the histogram kernel to a histogram of `new`, whose axes may have any order.

    `sums` are of weights and of squared weights: 2 x categories x (underflow, bins, overflow) x
    variations; category = region + len(REGIONS) * channel. ValueError says that axes do not fit.
    """
    names = [axis.name for axis in histogram.axes]
    if sorted(names) != sorted(_SUMS):
        msg = f"the kernel fills the axes {', '.join(_SUMS)}, and the histogram has {names}"
        raise ValueError(msg)
    view = histogram.view(flow=True)
    for field, values in zip(("value", "variance"), sums, strict=True):
        parts = values.reshape(1, len(CHANNELS), len(REGIONS), *values.shape[1:])
        ordered = parts.transpose([_SUMS.index(name) for name in names])
        if ordered.shape != view.shape:
            msg = f"sums of shape {ordered.shape} do not fit a histogram of {view.shape}"
            raise ValueError(msg)
        view[field] += ordered


def pseudodata(scaled: Mapping[str, hist.Hist]) -> hist.Hist | None:
    """Pseudodata of normalised samples: (ME_var + PS_var) / 2 + wjets (AGC version 2, the code).

    None if one of these samples is missing.
    """
    if not all(sample_name(process, name) in scaled for process, name, _ in _PSEUDODATA_PARTS):
        return None
    parts = (
        scaled[sample_name(process, name)][{"process": 0, "variation": name}] * share
        for process, name, share in _PSEUDODATA_PARTS
    )
    total = new(PSEUDODATA, [NOMINAL])
    # In the order of the axes by name; others are summed over.
    rest = [name for name in total.axes.name if name not in {"process", "variation"}]
    summed = functools.reduce(operator.add, parts).project(*rest)
    total[{"process": 0, "variation": 0}] = summed.view(flow=True)
    return total


def named(scaled: Mapping[str, hist.Hist]) -> dict[str, hist.Hist]:
    """Normalised histograms by the names that the AGC publishes, with pseudodata; sorted.

    Their axes are channel and observable; the AGC publishes the sum over the channels.
    """
    by_name = {
        name.published: part[name._asdict()]
        for part in _with_pseudodata(scaled)
        for name in _names(part)
    }
    return dict(sorted(by_name.items()))


def names(scaled: Mapping[str, hist.Hist]) -> dict[str, list[str]]:
    """Region, process and variation of the histograms of `named`, by name."""
    return {
        name.published: list(name) for part in _with_pseudodata(scaled) for name in _names(part)
    }


def _names(part: hist.Hist) -> list[Name]:
    (process,) = part.axes["process"]
    return [
        Name(region, process, variation)
        for region in REGIONS
        for variation in part.axes["variation"]
    ]


def plain(histograms: Mapping[str, hist.Hist]) -> dict[str, Any]:
    """Contents of histograms of `named`: ``histograms``, over all channels, and ``channels``.

    Both have by name what `numbers` gives.
    """
    return {
        "histograms": {
            name: numbers(histogram[{"channel": sum}]) for name, histogram in histograms.items()
        },
        "channels": {
            channel: {
                name: numbers(histogram[{"channel": channel}])
                for name, histogram in histograms.items()
            }
            for channel in CHANNELS
        },
    }


def _with_pseudodata(scaled: Mapping[str, hist.Hist]) -> list[hist.Hist]:
    extra = pseudodata(scaled)
    parts = [scaled[name] for name in sorted(scaled)]
    return parts if extra is None else [*parts, extra]


def numbers(histogram: hist.Hist) -> dict[str, list[float]]:
    """Edges, values and variances of a histogram of one axis, the latter two with flow bins."""
    (axis,) = histogram.axes
    return {
        "edges": axis.edges.tolist(),
        "values": histogram.values(flow=True).tolist(),
        "variances": histogram.variances(flow=True).tolist(),
    }
