"""A ServiceX of one's own, on this machine: `serving` starts it, and takes it down.

It has a web application that speaks ServiceX's protocol (`app`), worker processes that transform
files (`workers`), an S3 server that holds what they wrote (`store`), and a database from which it
goes on when it was stopped (`state`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
import uvicorn
import yaml

from analysis.delivery.app import application, new_request_id
from analysis.delivery.roots import NotAllowedError, Roots
from analysis.delivery.state import RUNNING, State
from analysis.delivery.store import HOST, ObjectStore, free_ports
from analysis.delivery.workers import JobCanceled, Limits, Worker, codegens
from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.delivery.app import Submission
    from analysis.delivery.state import Task

NAME: Final = "local"
"""Of the endpoint in its servicex.yaml."""
SETTINGS: Final = "endpoint.json"
CONFIG: Final = "servicex.yaml"
ACCESS_SECONDS: Final = 3600
IDLE_SECONDS: Final = 0.05
KEPT_TRANSFORMS: Final = 200
"""Finished transforms that are kept; each takes a volume or more of the S3 server."""
OBJECT_LENGTH: Final = 200
"""Characters of an object's name: a client makes a file of that name."""
EXTENSIONS: Final = {"parquet": ".parquet"}


class Endpoint:
    """A running endpoint.

    Parameters
    ----------
    folder
        For its state: the same folder goes on with what an earlier endpoint had begun.
    roots
        What may be read.
    workers
        Files that are transformed at a time.
    limits
        What one file may take.
    port
        To listen on; by default that of the earlier endpoint, or any that is free.

    Attributes
    ----------
    url
        Of the endpoint.
    token
        What a client refreshes its access with.
    config
        A servicex.yaml for clients, readable by this user only.
    """

    def __init__(
        self,
        folder: Path,
        roots: Roots,
        *,
        workers: int = 2,
        limits: Limits | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.roots = roots
        self.limits = limits or Limits()
        self.codegens = codegens()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = _settings(folder / SETTINGS)
        self._socket = _listen(settings["port"] if port is None else port)
        settings["port"] = self._socket.getsockname()[1]
        self._settings = settings
        self._write_settings()
        self.token: str = settings["token"]
        self._key: str = settings["key"]
        self.url = f"http://{HOST}:{settings['port']}"
        self.config = folder / CONFIG
        self.store = ObjectStore(folder / "s3", settings["s3"], settings["s3_ports"])
        self.state = State(folder / "state.sqlite")
        self._stopping = threading.Event()
        self._checker_lock = threading.Lock()
        self._checkers = self._worker_set("check")
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"servicex-{i}")
            for i in range(workers)
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(self), log_level="warning", access_log=False, lifespan="off"
            )
        )
        self._serving = threading.Thread(
            target=self._server.run, args=([self._socket],), name="servicex"
        )

    def _worker_set(self, name: str) -> dict[str, Worker]:
        return {
            codegen: Worker(codegen, python, self.folder / f"worker-{name}.log")
            for codegen, python in self.codegens.items()
        }

    def start(self) -> None:
        """Start all that belongs to it, and write its servicex.yaml."""
        self._checkers["uproot-raw"].start()  # while the S3 server takes its time
        self.store.start()
        self._settings["s3_ports"] = self.store.ports  # others, if these were taken
        self._write_settings()
        for thread in self._threads:
            thread.start()
        self._serving.start()
        while not self._server.started:
            if not self._serving.is_alive():
                msg = f"the endpoint does not start at {self.url}"
                raise InputError(msg)
            time.sleep(0.01)
        self.write_config(self.config)

    def _write_settings(self) -> None:
        _write_private(self.folder / SETTINGS, json.dumps(self._settings))

    def write_config(self, path: Path) -> None:
        """Write a servicex.yaml that leads to this endpoint."""
        config = {
            "api_endpoints": [{"endpoint": self.url, "name": NAME, "token": self.token}],
            "default_endpoint": NAME,
            "cache_path": str(self.folder / "cache"),
        }
        _write_private(path, yaml.safe_dump(config, sort_keys=False))

    def stop(self) -> None:
        """Stop all of it; what is not done is done by the next endpoint of this folder."""
        self._stopping.set()
        self._server.should_exit = True
        for thread in (self._serving, *self._threads):
            if thread.ident is not None:
                thread.join()
        for worker in self._checkers.values():
            worker.stop()
        self._socket.close()
        self.store.stop()
        self.state.close()

    # --- what the application asks for

    def authorize(self, token: str) -> None:
        """Whether an access token is one of ours and still good.

        Raises
        ------
        PermissionError
            If it is not.
        """
        try:
            jwt.decode(token, self._key, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.InvalidTokenError as error:
            msg = f"Not Authorized: {error}"
            raise PermissionError(msg) from None

    def access_token(self, token: str) -> str:
        """A new access token for the holder of the refresh token.

        Raises
        ------
        PermissionError
            If it is another token.
        """
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            msg = "Invalid or outdated refresh token"
            raise PermissionError(msg)
        claims = {"sub": NAME, "exp": int(time.time()) + ACCESS_SECONDS}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def check(self, codegen: str, selection: str, limits: Limits) -> None:
        """Whether a selection can be run.

        Raises
        ------
        JobError
            Says why not.
        """
        job = {"kind": "check", "codegen": codegen, "selection": selection}
        with self._checker_lock:
            self._checkers[codegen].run(job, limits)

    def submit(self, asked: Submission) -> str:
        """Take a request; its identity."""
        request_id = new_request_id()
        self.store.create(request_id)
        extension = EXTENSIONS.get(asked.result_format, "")
        self.state.add(
            request_id,
            asked.title,
            [(path, object_name(path, extension)) for path in asked.files],
            selection=asked.selection,
            codegen=asked.codegen,
            result_format=asked.result_format,
        )
        finished = [one for one in self.state.transforms() if one["status"] != RUNNING]
        for old in finished[:-KEPT_TRANSFORMS]:
            self.delete(old["request_id"])
        return request_id

    def delete(self, request_id: str) -> None:
        """Forget a transform and what it delivered."""
        self.store.delete(request_id)
        self.state.delete(request_id)

    # --- transforming

    def _work(self, number: int) -> None:
        """Transform files, one after the other, in a thread of its own."""
        workers = self._worker_set(str(number))
        try:
            while not self._stopping.is_set():
                if (task := self.state.claim()) is None:
                    self._stopping.wait(IDLE_SECONDS)
                else:
                    self._transform(task, workers[task.codegen])
        finally:
            for worker in workers.values():
                worker.stop()

    def _transform(self, task: Task, worker: Worker) -> None:
        started = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="file-") as folder:
                target = Path(folder) / "delivered"
                job = {
                    "kind": "transform",
                    "codegen": task.codegen,
                    "selection": task.selection,
                    # Looked at again: a link may lead elsewhere than when it was asked for.
                    "source": self.roots.resolve(task.path),
                    "target": str(target),
                    "format": task.result_format,
                }
                done = worker.run(job, self.limits, lambda: self._unwanted(task))
                self.store.put(task.request_id, task.object, target, self._stopping)
        except JobCanceled:
            self.state.release(task)
        except Exception as error:  # noqa: BLE001  (whatever it is, the file failed, not the thread)
            if self._stopping.is_set():
                self.state.release(task)
                return
            seconds = time.perf_counter() - started
            self.state.finish(task, seconds, reason=str(error))
        else:
            seconds = time.perf_counter() - started
            self.state.finish(task, seconds, events=done["events"], size=done["bytes"])

    def _unwanted(self, task: Task) -> bool:
        return self._stopping.is_set() or not self.state.wanted(task)


@contextmanager
def serving(
    folder: Path | None = None,
    *,
    allow: Sequence[str | Path] = (),
    workers: int = 2,
    limits: Limits | None = None,
    port: int | None = None,
) -> Iterator[Endpoint]:
    """Start a local endpoint, and take it down at the end, whatever happens.

    Parameters
    ----------
    folder
        For its state; a temporary one by default.
    allow
        Folders and beginnings of URLs whose files it may read.
    workers
        Files that are transformed at a time.
    limits
        What one file may take.
    port
        To listen on, of 127.0.0.1; any that is free by default.

    Yields
    ------
    Endpoint
        Ready; its ``config`` is a servicex.yaml for clients.

    Raises
    ------
    InputError
        If a root does not exist, or it does not start.
    """
    try:
        roots = Roots.of(tuple(allow))
    except NotAllowedError as error:
        raise InputError(str(error)) from None
    with tempfile.TemporaryDirectory(prefix="servicex-") as temporary:
        endpoint = Endpoint(
            (folder or Path(temporary)).resolve(), roots, workers=workers, limits=limits, port=port
        )
        try:
            endpoint.start()
            yield endpoint
        finally:
            endpoint.stop()


def object_name(path: str, extension: str = "") -> str:
    """Name of the object that a file becomes: its path, with colons for slashes."""
    name = path.replace("/", ":") + extension
    if len(name) <= OBJECT_LENGTH:
        return name
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
    return f"_{digest}{name[len(digest) + 1 - OBJECT_LENGTH :]}"


def _settings(path: Path) -> dict[str, Any]:
    """Secrets and ports: those of the earlier endpoint, so that its clients find it again."""
    if path.exists():
        settings: dict[str, Any] = json.loads(path.read_text())
        return settings
    return {
        "token": secrets.token_urlsafe(32),
        "key": secrets.token_urlsafe(32),
        "port": 0,
        "s3": {
            name: [secrets.token_hex(10), secrets.token_hex(20)] for name in ("owner", "reader")
        },
        "s3_ports": free_ports(8),
    }


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        msg = f"port {port} of {HOST} cannot be listened on: {error.strerror}; choose another"
        raise InputError(msg) from None


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
