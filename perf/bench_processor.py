"""The ttbar processor by implementation, executor and chunk size; the start of executors.

The start of a pool of workers takes seconds (each imports coffea), whatever it is then given to
do: it is a benchmark of its own, and the throughput is that of a pool that is warm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf import catalogue
from perf.plugin import SESSION, parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each case of the catalogue."""
    make = catalogue.starts if metafunc.function is test_start else catalogue.processors
    scale = metafunc.config.stash[SESSION].scale
    metafunc.parametrize("case", parameters(make(scale)))


def test_processor(case: catalogue.ProcessorCase, timed: Callable[..., Any]) -> None:
    """Process every event of a file set."""
    timed(case)


def test_start(case: catalogue.StartCase, timed: Callable[..., Any]) -> None:
    """Start the executor, give each worker a task that takes no time, and end it."""
    timed(case)
