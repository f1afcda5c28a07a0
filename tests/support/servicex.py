"""What tests of the local ServiceX endpoint and of its client share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil
import uproot
import yaml
from servicex import query

from analysis.servicex.endpoint import CONFIG
from tests.conftest import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from analysis.servicex.endpoint import Endpoint

PATIENCE: Final = 120
"""Seconds to wait for anything before a test calls it hung: far above what it takes."""
PER_FILE: Final = EVENTS // 2
COLUMNS: Final = ["run", "nJet", "Jet_pt"]
MET: Final = json.dumps([{"treename": "Events", "filter_name": ["MET_pt"]}])
"""A selection of uproot-raw."""
SLOW: Final = "MET_pt >= 0 * sum(concatenate([get('Jet_pt')] * 300, axis=1), axis=1)"
"""A cut that all events pass, and that takes a second or so to say so."""


def raw(cut: str = "MET_pt >= 0", **more: Any) -> Any:
    """A query that keeps all events."""
    return query.UprootRaw([{"treename": "Events", "expressions": COLUMNS, "cut": cut, **more}])


@contextmanager
def served(folder: Path, allowed: Path) -> Iterator[subprocess.Popen[str]]:
    """``python -m analysis servicex serve``, in a process of its own."""
    command = ["-m", "analysis", "servicex", "serve", "--allow", str(allowed), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, *command, "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "ServiceX is at http://127.0.0.1:" in line, line + process.stdout.read()
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def rest_of(folder: Path) -> Rest:
    """The protocol of an endpoint of another process, from its servicex.yaml."""
    (one,) = yaml.safe_load((folder / CONFIG).read_text())["api_endpoints"]
    return Rest(one["endpoint"], one["token"])


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """A process's descendants."""
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def write(path: Path, events: int) -> str:
    """Write a file of so many events, and give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "int32"}).extend({"x": list(range(events))})
    return str(path)


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
