"""The ttbar processor in this process, by implementation and chunk size.

What needs workers is in `perf.bench_executors`.
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
    cases = catalogue.processors(metafunc.config.stash[SESSION].scale)
    metafunc.parametrize("case", parameters([case for case in cases if not case.in_workers]))


def test_processor(case: catalogue.ProcessorCase, timed: Callable[..., Any]) -> None:
    """Process every event of a file set."""
    timed(case)
