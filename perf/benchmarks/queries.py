"""The ADL queries on columns in memory: CPU seconds an event."""

from __future__ import annotations

from typing import Any

from analysis.adl import QUERIES
from perf.cases.case import VECTORISED
from perf.cases.kernels import MAX_QUERY_SIZES, QueryCase

from ._suite import CPU, EVENTS, KERNEL_SAMPLES, benchmark, prepared


def _body(query: str) -> Any:
    def body(implementation: Any) -> None:
        prepared(QueryCase(query, implementation, EVENTS)).sample(CPU)

    body.__doc__ = f"Query {query}, {EVENTS:,} events."
    return body


for _query in QUERIES:
    if MAX_QUERY_SIZES.get(_query, EVENTS) >= EVENTS:
        _benchmark = benchmark(
            f"time_query_{_query}_cpu_seconds_per_event",
            _body(_query),
            watch=CPU,
            params={"implementation": VECTORISED},
            repeat=KERNEL_SAMPLES,
        )
        globals()[_benchmark.__name__] = _benchmark
