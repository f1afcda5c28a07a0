"""NanoEvents: opening a file, reading columns, filling a histogram; by number of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf.cases import nanoevents
from perf.plugin import SESSION, parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One benchmark for each case."""
    scale = metafunc.config.stash[SESSION].scale
    metafunc.parametrize("case", parameters(nanoevents.reading(scale)))


def test_nanoevents(case: nanoevents.NanoCase, timed: Callable[..., Any]) -> None:
    """Do with a file, or its columns, what coffea does for an analysis."""
    timed(case)
