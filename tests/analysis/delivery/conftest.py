"""A real endpoint, with a real S3 server and real worker processes, for all tests of delivery."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from analysis.servicex.endpoint import Endpoint, serving
from analysis.servicex.worker_pool import FUNCADL_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 120
"""Seconds after which a test takes what it waits for to hang: far above what it takes."""


@pytest.fixture(scope="session")
def endpoint(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """An endpoint that may read the synthetic files and nothing else."""
    folder = tmp_path_factory.mktemp("endpoint")
    with serving(folder, allow=[synthetic]) as running:
        yield running


@pytest.fixture(scope="session")
def funcadl(endpoint: Endpoint) -> None:
    """Skips where FuncADL has no environment to run in."""
    if "uproot" not in endpoint.codegens:
        pytest.skip(f"FuncADL cannot run: `make dask-awkward`, or set {FUNCADL_PYTHON}")


@pytest.fixture(scope="session")
def files(synthetic: Path) -> list[str]:
    """ROOT files that the endpoint may read."""
    return sorted(map(str, synthetic.glob("*.root")))


class Rest:
    """The endpoint's protocol, with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        refresh = {"Authorization": f"Bearer {token}"}
        answer = httpx.post(f"{self.url}/token/refresh", headers=refresh)
        self.headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    @classmethod
    def of(cls, endpoint: Endpoint) -> Rest:
        """Of an endpoint of this process."""
        return cls(endpoint.url, endpoint.token)

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(
            method, f"{self.url}{path}", **{"headers": self.headers, "timeout": 60, **options}
        )

    def submit(
        self,
        files: list[str],
        selection: str | None = None,
        *,
        codegen: str = "uproot-raw",
        result_format: str = "parquet",
    ) -> httpx.Response:
        """Ask for a transform."""
        return self(
            "POST",
            "/servicex/transformation",
            json={
                "title": "t",
                "file-list": files,
                "selection": MET if selection is None else selection,
                "codegen": codegen,
                "result-destination": "object-store",
                "result-format": result_format,
            },
        )

    def done(self, files: list[str], selection: str | None = None, **options: Any) -> Any:
        """Status of a transform that was asked for, when it is done."""
        request_id = self.submit(files, selection, **options).json()["request_id"]
        path = f"/servicex/transformation/{request_id}"
        return wait_for(
            lambda: one if (one := self("GET", path).json())["finish-time"] != "None" else None
        )

    def results(self, request_id: str, **params: str) -> list[dict[str, Any]]:
        """Its files that are done."""
        path = f"/servicex/transformation/{request_id}/results"
        results: list[dict[str, Any]] = self("GET", path, params=params).json()["results"]
        return results


MET = json.dumps([{"treename": "Events", "filter_name": ["MET_pt"]}])
"""A selection of uproot-raw."""


@pytest.fixture(scope="session")
def rest(endpoint: Endpoint) -> Rest:
    """The endpoint's protocol."""
    return Rest.of(endpoint)


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition gives, once that is something."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.05)
    return found


class Background:
    """A call in a thread; its result or what it raised."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        # One that hangs must not keep the tests from ending.
        self._thread = threading.Thread(target=self._call, args=(function,), daemon=True)
        self._thread.start()

    def _call(self, function: Callable[[], Any]) -> None:
        try:
            self.result = function()
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            self.error = error

    def wait(self) -> Any:
        """The result; raises what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not end"
        if self.error is not None:
            raise self.error
        return self.result
