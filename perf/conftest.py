"""Makes a benchmark of each case of the catalogue; `perf/bench_example.py` writes one out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf.cases import catalogue
from perf.plugin import SESSION, parameters

if TYPE_CHECKING:
    import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the function of `perf/bench_NAME.py` on the cases that the catalogue lists as NAME."""
    if "case" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition("bench_")[2]
        cases = catalogue.SUITES[name](metafunc.config.stash[SESSION].scale)
        metafunc.parametrize("case", parameters(cases))
