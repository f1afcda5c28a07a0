"""One local ServiceX endpoint for the tests of the endpoint and of its client."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.servicex.endpoint import Endpoint
    from tests.support.servicex import Rest

# Imported in the fixtures, because most tests need no endpoint.


@pytest.fixture(scope="session")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second folder that the endpoint may read."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="session")
def endpoint(
    synthetic: Path, allowed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """An endpoint that may read the synthetic files, those of tests, and nothing else."""
    from analysis.servicex.server import serving

    with serving(tmp_path_factory.mktemp("endpoint"), allow=[synthetic, allowed]) as running:
        yield running


@pytest.fixture
def own_files(allowed: Path) -> Path:
    """Folder that the endpoint may read, for what one test writes: other workers read `synthetic`."""
    return Path(tempfile.mkdtemp(dir=allowed))


@pytest.fixture(scope="session")
def rest(endpoint: Endpoint) -> Rest:
    """The endpoint's protocol."""
    from tests.support.servicex import Rest

    return Rest.of(endpoint)


@pytest.fixture(scope="session")
def funcadl(endpoint: Endpoint) -> None:
    """Skips where FuncADL has no environment to run in."""
    from analysis.servicex.worker_pool import FUNCADL_PYTHON

    if "uproot" not in endpoint.codegens:
        pytest.skip(f"FuncADL cannot run: `make dask-awkward`, or set {FUNCADL_PYTHON}")


@pytest.fixture(scope="session")
def files(synthetic: Path) -> list[str]:
    """ROOT files that the endpoint may read."""
    return sorted(map(str, synthetic.glob("*.root")))
