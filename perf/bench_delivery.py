"""Delivery of the events that the analysis needs, by ServiceX, from a local endpoint that runs.

How long a user waits from the request to files on disk, with nothing in any cache. It includes the
polling: 0.2 s, the client's share of what a short delivery takes.
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
    metafunc.parametrize("case", parameters(catalogue.deliveries(scale)))


def test_delivery(case: catalogue.DeliveryCase, timed: Callable[..., Any]) -> None:
    """Deliver a file set."""
    timed(case)
