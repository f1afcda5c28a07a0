"""Cases of kernels and of ADL queries, on columns in memory."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from perf.cases.case import REAL_EVENTS, Case, Ready, Source, cross_check, implementations
from perf.cases.data import Events, real_columns
from perf.records.format import label
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.kernels import Implementation
    from perf.cases.case import Inputs
    from perf.cases.scales import Scale

# ruff: noqa: PLC0415

MAX_QUERY_SIZES: Final = {"6a": 100_000, "6b": 100_000}
"""Largest input of queries that make every triple of all jets of all events: the columnar
implementation takes 1.7 GB for 1e5 events and more than 18 GB for 1e6."""

REAL_QUERIES: Final = "real/Run2012B_SingleMu_1000.root"
"""CMS data below the data folder, the queries' real input."""


@dataclass(frozen=True)
class KernelCase(Case):
    """A kernel in one implementation on a number of events."""

    kernel: str
    implementation: Implementation
    size: int

    @property
    def what(self) -> What:
        """Named by kernel, size and implementation."""
        return What(
            name=f"{self.kernel}-{label(self.size)}-{self.implementation}",
            group=self.kernel,
            kind="kernel",
            subject=self.kernel,
            implementation=self.implementation,
            size=self.size,
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Cut the kernel's arguments out of the synthetic events."""
        from analysis.kernels import KERNELS

        kernel = KERNELS[self.kernel]
        events = (inputs.store.dense if kernel.dense else inputs.store.events)(self.size)
        arguments = inputs.cached(
            "arguments", (self.kernel, self.size), lambda: kernel.arguments(events.columns)
        )
        other = cross_check(self.implementation, self.size)
        yield Ready(
            run=partial(kernel.run, self.implementation, *arguments),
            expected=partial(kernel.run, other, *arguments),
            result_key=(self.kernel, self.size),
            compare=lambda result, expected: kernel.agree(result, expected, *arguments),
            identity=events.identity,
        )


@dataclass(frozen=True)
class QueryCase(Case):
    """An ADL query in one implementation on a number of events."""

    query: str
    implementation: Implementation
    size: int
    source: Source = "synthetic"

    @property
    def what(self) -> What:
        """Named by query, size and implementation."""
        real = "-real" if self.source == "real" else ""
        return What(
            name=f"query_{self.query}-{label(self.size)}-{self.implementation}{real}",
            group=f"query {self.query}",
            kind="query",
            subject=self.query,
            implementation=self.implementation,
            size=self.size,
            parameters={"source": self.source},
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Read the columns that queries use."""
        import numpy as np

        from analysis.adl import QUERIES

        query = QUERIES[self.query]
        events = self._events(inputs)
        other = cross_check(self.implementation, self.size)
        yield Ready(
            run=partial(query.run, events.columns, self.implementation),
            expected=partial(query.run, events.columns, other),
            result_key=(self.query, self.source, self.size),
            compare=lambda result, expected: bool(np.array_equal(result, expected)),
            identity=events.identity,
        )

    def _events(self, inputs: Inputs) -> Events:
        from analysis.adl import BTAGS, INPUTS

        if self.source == "synthetic":
            return inputs.store.events(self.size)
        path = inputs.real_file(REAL_QUERIES)
        return cast(
            "Events", inputs.cached("real", path, lambda: real_columns(path, (*INPUTS, *BTAGS)))
        )


def kernels(scale: Scale) -> list[KernelCase]:
    """Every kernel x implementation x size."""
    from analysis.kernels import KERNELS

    return [
        KernelCase(name, implementation, size)
        for name in KERNELS
        for size in scale.sizes
        for implementation in implementations(size)
    ]


def queries(scale: Scale) -> list[QueryCase]:
    """Every query x implementation x size, and on the real file."""
    from analysis.adl import QUERIES

    inputs: list[tuple[Source, int]] = [("synthetic", size) for size in scale.query_sizes]
    return [
        QueryCase(name, implementation, size, source)
        for name in QUERIES
        for source, size in (*inputs, ("real", REAL_EVENTS))
        if size <= MAX_QUERY_SIZES.get(name, size)
        for implementation in implementations(size)
    ]
