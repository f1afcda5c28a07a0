"""Ours: compiled kernels, branches read in bulk, coffea's Runner on the iterative executor.

A call does what ``coffea-analysis run`` does on one file: it inspects the file, and processes it in
chunks of `CHUNK` events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from coffea import processor

from analysis.adl import QUERIES, AdlProcessor, branches
from analysis.executors import open_executor
from analysis.files.columns import Columns
from analysis.files.fileset import FileSet
from analysis.kernels import bind
from analysis.runner.job import Job
from perf.peers.query import CHANNELS, CHUNK, REGIONS, TTBAR, Query
from perf.records import provenance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.ttbar import Implementation


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    if query.name == TTBAR:
        return ttbar(path, "compiled")
    name = query.name
    adl = ByRoot(query) if query.edges == "ROOT" else AdlProcessor("compiled", queries=(name,))
    histogram = _accumulated(Job(fileset(path), adl, branches((name,)), chunksize=CHUNK))[name]
    return [*(histogram.values(flow=True) if query.edges != "ROOT" else histogram)]


def ttbar(path: str, implementation: Implementation) -> list[float]:
    """Counts of the histograms of ttbar, nominal."""
    job = Job.of_ttbar(fileset(path), implementation, "nominal", chunksize=CHUNK)
    (histogram,) = _accumulated(job)["histograms"].values()
    return of_ttbar(histogram)


def _accumulated(job: Job) -> Any:
    with open_executor("iterative") as executor:
        return job.inspect().run(executor).accumulated


def versions() -> dict[str, str]:
    """None beside those that every record has."""
    return provenance.versions()


def of_ttbar(histogram: Any) -> list[float]:
    """Counts of `histograms.new` in the order of `TTBAR`."""
    return [
        count
        for channel in CHANNELS
        for region in REGIONS
        for count in histogram[
            {"channel": channel, "region": region, "process": 0, "variation": 0}
        ].values(flow=True)
    ]


def fileset(path: str) -> FileSet:
    """The file set of one file of nominal ttbar."""
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 1.0, "nevts": 1}
    return FileSet.of({"ttbar": {"files": {path: "Events"}, "metadata": metadata}}, analysis=True)


class ByRoot(processor.ProcessorABC):
    """One ADL query, counted as ROOT does: to check its histograms, and not timed."""

    def __init__(self, query: Query) -> None:
        self.query = query

    def process(self, events: Any) -> dict[str, NDArray[np.float64]]:
        """Counts of a chunk."""
        values = QUERIES[self.query.name].values(Columns(events), bind("compiled"))
        return {self.query.name: by_root(values, self.query)}

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator


def by_root(values: NDArray[np.float64], query: Query) -> NDArray[np.float64]:
    """Counts as ROOT's TH1D has them, see `Edges`."""
    bins, low, high = query.bins, query.low, query.high
    index = np.full(len(values), bins + 1)
    inside = (values >= low) & (values < high)
    index[values < low] = 0
    index[inside] = 1 + (bins * (values[inside] - low) / (high - low)).astype(np.int64)
    return np.bincount(index, minlength=query.size).astype(np.float64)
