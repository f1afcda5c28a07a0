"""What reading costs: the same events from this machine, by XRootD and by HTTP, at a distance.

The servers are real and run on loopback; `perf.servers.latency_proxy` adds the latency of a network, and nothing
else of it. By latency and chunk size, since every chunk opens its file anew.
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
    metafunc.parametrize("case", parameters(catalogue.readings(scale)))


def test_reading(case: catalogue.ReadingCase, timed: Callable[..., Any]) -> None:
    """Process every event of a file set, wherever it lies."""
    timed(case)
