"""One benchmark written out: set-up, check, run.

The benchmarks in the files beside this one do the same, by the fixture `timed`, for each case of
`perf/cases/catalogue.py`. They also write a record, which tables and plots are made from; this
one does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf.plugin import SESSION

if TYPE_CHECKING:
    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture


def test_example(benchmark: BenchmarkFixture, pytestconfig: pytest.Config) -> None:
    """HT of 1000 events, by the compiled kernel."""
    from analysis.kernels import KERNELS  # noqa: PLC0415  (imports in seconds)

    # Set-up: the input, which is not timed.
    events = pytestconfig.stash[SESSION].inputs.store.events(1_000)
    kernel = KERNELS["ht"]
    arguments = kernel.arguments(events.columns)

    # Check: another implementation on the same input. The first call also compiles.
    result = kernel.run("compiled", *arguments)
    expected = kernel.run("reference", *arguments)
    assert kernel.agree(result, expected, *arguments)

    # Run: what is timed.
    benchmark(kernel.run, "compiled", *arguments)
