"""Models and backends that the tests of inference share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.inference import (
    OPTIMIZERS,
    Model,
    Templates,
    build,
    open_backend,
)
from perf.cases.inference import published_templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from analysis.inference.backends import Backend, Optimizer

REFERENCE_VALUE = 0.960
REFERENCE_TWICE_NLL = 141.33
"""Of a HistFactory fit of the published histograms, one file of each process."""

COMBINATIONS = [(backend, one) for backend, optimizers in OPTIMIZERS.items() for one in optimizers]
FAST: list[tuple[Backend, Optimizer]] = [("numpy", "least_squares"), ("jax", "newton")]

fast = pytest.mark.parametrize("combination", FAST, ids="-".join, indirect=True)
fast_on_numpy = pytest.mark.parametrize(
    "combination",
    # JAX compiles some ten seconds long: its `test_reference_fit` stands for these.
    [FAST[0], pytest.param(FAST[1], marks=pytest.mark.slow)],
    ids="-".join,
    indirect=True,
)


@pytest.fixture(scope="session", autouse=True)
def compiled_fits(pytestconfig: pytest.Config) -> None:
    """JAX keeps the fits that it compiles, which takes longer than all else here."""
    import jax

    folder = pytestconfig.cache.mkdir("jax")
    jax.config.update("jax_compilation_cache_dir", str(folder))


@pytest.fixture
def combination(request: pytest.FixtureRequest) -> Iterator[tuple[Backend, Optimizer]]:
    """A backend and an optimiser, for as long as the test runs."""
    with open_backend(*request.param):
        yield request.param


@pytest.fixture(scope="session")
def models() -> Callable[[Templates], Model]:
    """Builds each model once, because JAX compiles a fit for each."""
    known: dict[tuple[int, str], tuple[Templates, Model]] = {}

    def model(templates: Templates, signal: str = "ttbar") -> Model:
        key = id(templates), signal
        if key not in known:
            known[key] = templates, build(templates, signal)
        return known[key][1]

    return model


@pytest.fixture(scope="session")
def reference(shared_data: Path) -> Templates:
    """The published histograms."""
    return published_templates(shared_data)


@pytest.fixture(scope="session")
def reference_files(shared_data: Path) -> tuple[Path, Path]:
    """Published histograms, and the input files that they were made from."""
    folder = shared_data / "real" / "agc_reference"
    return folder / "histos_1_file_per_process.json", folder / "nanoaod_inputs.json"
