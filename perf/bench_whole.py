"""The whole analysis, from files to pictures, stage by stage: what a user waits for."""

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
    metafunc.parametrize("case", parameters(catalogue.wholes(scale)))


def test_whole(case: catalogue.WholeCase, timed: Callable[..., Any]) -> None:
    """One stage, those before it done."""
    timed(case)
