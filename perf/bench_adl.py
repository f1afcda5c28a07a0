"""The ADL queries in every implementation, by number of events, and on real CMS events."""

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
    metafunc.parametrize("case", parameters(catalogue.queries(scale)))


def test_query(case: catalogue.QueryCase, timed: Callable[..., Any]) -> None:
    """Fill the histogram of the query from columns in memory."""
    timed(case)
