"""Every kernel in every implementation, by number of events."""

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
    metafunc.parametrize("case", parameters(catalogue.kernels(scale)))


def test_kernel(case: catalogue.KernelCase, timed: Callable[..., Any]) -> None:
    """Call the kernel on columns in memory."""
    timed(case)
