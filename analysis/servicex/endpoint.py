"""A local ServiceX endpoint without its web server: transforms, tokens, and what it delivered.

Its folder holds the delivered files and a database (`database`), from which the next endpoint of
that folder continues. Threads hand files to worker processes (`worker_pool`). `app` speaks
ServiceX's protocol for it, and `server` starts and stops all of it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import re
import secrets
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
import yaml

from analysis.errors import InputError
from analysis.files import output
from analysis.folders import alone
from analysis.servicex.database import RUNNING, State, timestamp
from analysis.servicex.signatures import Key
from analysis.servicex.worker_pool import JobCanceled, Limits, Worker, codegens

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.servicex.allowed_paths import Roots
    from analysis.servicex.database import Task
    from analysis.servicex.messages import Submission

HOST: Final = "127.0.0.1"
NAME: Final = "local"
"""Name of the endpoint in its servicex.yaml."""
SETTINGS: Final = "endpoint.json"
CONFIG: Final = "servicex.yaml"
ACCESS_SECONDS: Final = 3600
IDLE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 0.5
"""Pause after an error of the endpoint itself: a full disk, a locked database."""
TIDY_SECONDS: Final = 60
WAKE_SECONDS: Final = 0.2
STOP_SECONDS: Final = 4
"""For all threads to end; one that does not is left behind."""
SPARE: Final = 10 << 20
"""Bytes that must be free on the disk for the endpoint to call itself well."""
NAME_LENGTH: Final = 100
DIGEST_LENGTH: Final = 40
EXTENSIONS: Final = {"parquet": ".parquet"}


class FullError(Exception):
    """The endpoint keeps as many results as it may; one sentence."""


@dataclass(frozen=True)
class Kept:
    """How long results are kept.

    Above `size` or `number` the oldest transforms whose results were fetched are deleted; if that
    is not enough, no new request is taken.
    """

    seconds: float = 7 * 24 * 3600
    """After the end of their transform; then they are deleted."""
    size: int = 100 << 30
    """Bytes of all results."""
    number: int = 1000
    """Of transforms."""


class Endpoint:
    """A local endpoint; parameters as of `server.serving`.

    `token` is the refresh token of clients, `config` a servicex.yaml for them that only this user
    can read. `ended` is set when the web server has ended.
    """

    def __init__(
        self,
        folder: Path,
        roots: Roots,
        *,
        workers: int = 2,
        limits: Limits | None = None,
        kept: Kept | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.roots = roots
        self.limits = limits or Limits()
        self.kept = kept or Kept()
        self.codegens = codegens()
        with ExitStack() as stack:
            _make(folder)
            stack.enter_context(alone(folder))
            try:
                self.state = stack.enter_context(closing(State(folder / "transforms.sqlite")))
            except sqlite3.Error as error:
                msg = f"{folder} holds no state to go on with ({error}): name another folder"
                raise InputError(msg) from None
            settings = _settings(folder / SETTINGS)
            self.socket = stack.enter_context(_listen(port, settings["port"]))
            settings["port"] = self.socket.getsockname()[1]
            _write_private(folder / SETTINGS, json.dumps(settings))
            self._opened = stack.pop_all()
        self._results = folder / "results"
        self.address = f"{HOST}:{settings['port']}"
        self.url = f"http://{self.address}"
        self.token: str = settings["token"]
        self._signing: str = settings["key"]
        self.key = Key(*settings["s3_key"])
        self.config = folder / CONFIG
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self._troubles: dict[str, str] = {}
        self._sent: Counter[int] = Counter()
        self._checkers = self._worker_set("check")
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Daemon threads cannot keep the process from ending.
        self._threads = [
            threading.Thread(target=self._check_in_order, name="servicex-submit", daemon=True),
            *(
                threading.Thread(target=self._work, args=(i,), name=f"servicex-{i}", daemon=True)
                for i in range(workers)
            ),
        ]

    def _worker_set(self, name: str) -> dict[str, Worker]:
        return {
            codegen: Worker(codegen, python, self.folder / f"worker-{name}.log")
            for codegen, python in self.codegens.items()
        }

    def start(self) -> None:
        """Remove what a killed endpoint left behind, and start the threads."""
        known = {transform["request_id"] for transform in self.state.transforms()}
        for leftover in self.folder.glob("file-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for result in self._results.iterdir():
            if result.name not in known:
                shutil.rmtree(result, ignore_errors=True)
        for thread in self._threads:
            thread.start()

    def write_config(self) -> None:
        """Write the servicex.yaml that leads clients to this endpoint."""
        config = {
            "api_endpoints": [{"endpoint": self.url, "name": NAME, "token": self.token}],
            "default_endpoint": NAME,
            "cache_path": str(self.folder / "cache"),
        }
        _write_private(self.config, yaml.safe_dump(config, sort_keys=False))

    def wait(self) -> None:
        """Wait until the web server ends, which it does only after an error; raises InputError."""
        # Wake now and then: the kernel may give a signal to any thread, whose C handler wakes only
        # that thread, and Python's handlers run in this one.
        while not self.ended.wait(WAKE_SECONDS):
            pass
        msg = f"the endpoint at {self.url} has ended: start it again to go on with what is left"
        raise InputError(msg)

    def stop(self) -> None:
        """Stop the threads; the next endpoint of this folder does what is left to do."""
        until = time.monotonic() + STOP_SECONDS
        self.stopping.set()
        self._waiting.put(None)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(until - time.monotonic(), 0))
        self._opened.close()

    def trouble(self) -> str | None:
        """What keeps the endpoint from its work, in a sentence; None if it is well."""
        if dead := [thread.name for thread in self._threads if not thread.is_alive()]:
            return f"the thread {dead[0]} has ended: start the endpoint again"
        if (free := shutil.disk_usage(self.folder).free) < SPARE:
            return f"the disk of {self.folder} is full, {free >> 10} kB are left: make room"
        for trouble in list(self._troubles.values()):
            return trouble
        try:
            self.state.probe()
        except sqlite3.Error as error:
            return f"its database cannot be written: {error}"
        return None

    # --- what the application asks for

    def authorize(self, token: str) -> None:
        """Raise PermissionError unless an access token is one of ours and has not expired."""
        try:
            jwt.decode(token, self._signing, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.InvalidTokenError as error:
            msg = f"Not Authorized: {error}"
            raise PermissionError(msg) from None

    def access_token(self, token: str) -> str:
        """A new access token for the holder of the refresh token, else PermissionError."""
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            msg = "Invalid or outdated refresh token"
            raise PermissionError(msg)
        claims = {"sub": NAME, "exp": int(time.time()) + ACCESS_SECONDS}
        return jwt.encode(claims, self._signing, algorithm="HS256")

    def check(self, codegen: str, selection: str, limits: Limits) -> None:
        """Raise JobError if a selection cannot be run, JobCanceled if the endpoint is stopping."""
        if self.stopping.is_set():
            raise JobCanceled
        job = {"kind": "check", "codegen": codegen, "selection": selection}
        self._checkers[codegen].run(job, limits, self.stopping.is_set)

    def in_order(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call a function in the thread that checks selections, in the order of submission."""
        future: Future[Any] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001  (raised by the future)
                    future.set_exception(error)

        self._waiting.put(call)
        return future

    def _check_in_order(self) -> None:
        # In this thread, because a worker ends with the thread that started it. It imports what it
        # needs while the endpoint starts.
        self._checkers["uproot-raw"].start()
        try:
            while call := self._waiting.get():
                call()
        finally:
            for worker in self._checkers.values():
                worker.stop()

    def submit(self, asked: Submission) -> str:
        """Take a request and return its id; raises FullError if too many results are kept."""
        if full := self._tidy():
            raise FullError(full)
        request_id = str(uuid.uuid4())
        extension = EXTENSIONS.get(asked.result_format, "")
        self.state.add(
            request_id,
            asked.title,
            [(path, object_name(path, extension)) for path in asked.files],
            selection=asked.selection,
            codegen=asked.codegen,
            result_format=asked.result_format,
        )
        return request_id

    def delete(self, request_id: str) -> None:
        """Delete a transform and what it delivered."""
        self.state.delete(request_id)
        shutil.rmtree(self._results / request_id, ignore_errors=True)

    def result(self, request_id: str, name: str) -> Path:
        """Path of an object."""
        return self._results / request_id / name

    def sent(self, file: int, size: int, part: int) -> None:
        """Count the bytes sent of an object: it was fetched when all of them were."""
        self._sent[file] += part
        if self._sent[file] >= size:
            del self._sent[file]
            with suppress(sqlite3.Error):  # it is only kept longer
                self.state.fetched(file)

    def _tidy(self) -> str | None:
        """Delete results that are kept no longer; a sentence if those left are still too many."""
        before = timestamp(datetime.now(UTC) - timedelta(seconds=self.kept.seconds))
        left = self.state.transforms()

        def full() -> bool:
            size = sum(transform["bytes"] for transform in left)
            return size >= self.kept.size or len(left) >= self.kept.number

        for transform in list(left):
            if transform["status"] != RUNNING and (
                transform["finished"] < before or (full() and not transform["unfetched"])
            ):
                self.delete(transform["request_id"])
                left.remove(transform)
        if not full():
            return None
        size = sum(transform["bytes"] for transform in left)
        return (
            f"{len(left)} requests with {size >> 20} MB of results are kept, which is all that "
            "may be: fetch or delete some of them first"
        )

    # --- transforming

    def _work(self, number: int) -> None:
        """Transform files one after the other: the body of a worker thread."""
        workers = self._worker_set(str(number))
        tidied = 0.0
        try:
            while not self.stopping.is_set():
                try:
                    if time.monotonic() > tidied + TIDY_SECONDS:
                        self._tidy()
                        tidied = time.monotonic()
                    task = self.state.claim()
                    if task is not None:
                        self._transform(task, workers[task.codegen])
                except Exception as error:  # noqa: BLE001  (nothing may end the loop)
                    self._note(error)
                    self.stopping.wait(RETRY_SECONDS)
                else:
                    self._note(None)
                    if task is None:
                        self.stopping.wait(IDLE_SECONDS)
        finally:
            for worker in workers.values():
                worker.stop()

    def _note(self, error: Exception | None) -> None:
        """Note for `trouble` the last error of this thread, None if its work goes well."""
        name = threading.current_thread().name
        self._troubles.pop(name, None)
        if error is not None:
            self._troubles[name] = f"its work fails: {type(error).__name__}: {error}"

    def _transform(self, task: Task, worker: Worker) -> None:
        """Transform a file, and retry until the database has its outcome."""
        note = self._outcome(task, worker)
        while not self.stopping.is_set():
            try:
                note()
            except sqlite3.Error as error:
                self._note(error)
                self.stopping.wait(RETRY_SECONDS)
            else:
                return

    def _outcome(self, task: Task, worker: Worker) -> Callable[[], None]:
        started = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="file-") as folder:
                target = Path(folder) / "delivered"
                job = {
                    "kind": "transform",
                    "codegen": task.codegen,
                    "selection": task.selection,
                    # Resolved again: a link may lead elsewhere than at the time of the request.
                    "source": self.roots.resolve(task.path),
                    "urls": self.roots.urls,
                    "follow": self.roots.follow,
                    "target": str(target),
                    "format": task.result_format,
                }
                done = worker.run(job, self.limits, lambda: self._unwanted(task))
                result = self.result(task.request_id, task.object)
                result.parent.mkdir(exist_ok=True, mode=0o700)
                target.replace(result)
        except JobCanceled:
            return lambda: self.state.release(task)
        except Exception as error:  # noqa: BLE001  (any error fails the file, not the thread)
            what: dict[str, Any] = {"reason": str(error)}
        else:
            what = {"events": done["events"], "size": done["bytes"], "sha256": done["sha256"]}
        seconds = time.perf_counter() - started
        return lambda: self.state.finish(task, seconds, **what)

    def _unwanted(self, task: Task) -> bool:
        try:
            return self.stopping.is_set() or not self.state.wanted(task)
        except sqlite3.Error:
            return False


def object_name(path: str, extension: str = "") -> str:
    """Name of the object that a file becomes: the readable end of its path, and a digest.

    The digest keeps names distinct, also on the disk of clients, which replace some characters.
    """
    digest = hashlib.sha256(path.encode()).hexdigest()[:DIGEST_LENGTH]
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2])
    return f"{readable[-NAME_LENGTH:]}-{digest}{extension}"


def _make(folder: Path) -> None:
    """Make the folder of the state, and the one of the results in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "results").mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"{folder} cannot be written to: {error.strerror}; name another folder"
        raise InputError(msg) from None


def _settings(path: Path) -> dict[str, Any]:
    """Secrets and port: those of the earlier endpoint of the folder, which clients know."""
    fresh = {
        "token": secrets.token_urlsafe(32),
        "key": secrets.token_urlsafe(32),
        "port": 0,
        "s3_key": [secrets.token_hex(10), secrets.token_hex(20)],
    }
    try:
        return fresh | json.loads(path.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return fresh
    except (OSError, ValueError, TypeError) as error:
        msg = f"{path} cannot be read ({error}): delete it, or name another folder"
        raise InputError(msg) from None


def _listen(port: int | None, earlier: int) -> socket.socket:
    try:
        return socket.create_server((HOST, earlier if port is None else port))
    except OSError as error:
        if port is None and earlier:
            return _listen(None, 0)
        msg = f"port {port} of {HOST} cannot be listened on: {error.strerror}; choose another"
        raise InputError(msg) from None


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    with output.whole(path) as part:
        part.touch(mode=0o600)
        part.write_text(text)
