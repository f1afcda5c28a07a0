"""The model, its fit, a hypothesis test and a limit, by backend and optimiser of pyhf.

Each result is compared: a minimum with that of pyhf's default optimiser, to 1e-4 of twice the
negative log likelihood. Cold is a new process, with imports and all that JAX compiles; warm is the
next fit of the same model, as of toys, scans and rankings.
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
    metafunc.parametrize("case", parameters(catalogue.inferences(scale)))


def test_inference(case: catalogue.InferenceCase, timed: Callable[..., Any]) -> None:
    """One task with one backend and optimiser."""
    timed(case)
