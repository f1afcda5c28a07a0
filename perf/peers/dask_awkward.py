"""coffea's engine of lazy arrays: the idiomatic processors, by `analysis.runner.dask_awkward`.

That is `coffea.dataset_tools.apply_to_fileset` with a processor that is called once a partition, of
`CHUNK` events; the branches are said, because dask-awkward does not see which such a processor reads.
dask computes in this process. The environment is that of ``make dask-awkward``.
"""

from __future__ import annotations

from importlib.metadata import version

from analysis import adl, ttbar
from analysis.runner.dask_awkward import run_lazily
from analysis.runner.job import Job
from perf.peers.coffea_idiomatic import counts, of
from perf.peers.ours import fileset
from perf.peers.query import CHUNK, TTBAR, Query


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    read = ttbar.branches("nominal") if query.name == TTBAR else adl.branches((query.name,))
    job = Job(fileset(path), of(query), read, chunksize=CHUNK)
    return counts(run_lazily(job.inspect()).accumulated, query)


def versions() -> dict[str, str]:
    """Of dask-awkward and dask."""
    return {name: version(name) for name in ("dask-awkward", "dask")}
