"""Other tools: the ADL queries and ttbar from the file to the histogram, by CPU time on one thread.

All that `make peers` has: RDataFrame, DuckDB, Polars, uproot with awkward, idiomatic coffea, and with
`make dask-awkward` that; beside them this suite. TTrees and Parquet have the same events, both zstd.
`python -m perf peers` measures ratios, in fresh processes side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_peer(case: Case, timed: Timed) -> None:
    """Answer a query in a tool."""
    timed(case)
