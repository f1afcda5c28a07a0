"""Executors: the throughput of the processor, and what they cost beside the work, measured apart.

The start of workers takes seconds (each imports coffea), whatever they are then given to do, and so
does their end in places: these are benchmarks of their own, from a new process and from one that
did it before. All else is measured on workers that are warm: tasks that do nothing, the merging of
histograms from 1 kB to 100 MB, the number of files, the number of workers, the loss of a worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf.cases import catalogue
from perf.plugin import SESSION, parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each case of the catalogue."""
    scale = metafunc.config.stash[SESSION].scale
    metafunc.parametrize("case", parameters(catalogue.on_executors(scale)))


def test_executor(case: catalogue.OnExecutor, timed: Callable[..., Any]) -> None:
    """One thing on one executor."""
    timed(case)
