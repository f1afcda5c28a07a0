"""A ServiceX of one's own, on this machine: `serving` starts it, and takes it down.

It has a web application that speaks ServiceX's protocol and serves what was delivered (`app`),
worker processes that transform files (`workers`), a folder that holds what they wrote, and a
database from which it goes on when it was stopped (`state`). Nothing else listens.
"""

from __future__ import annotations

import fcntl
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
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jwt
import uvicorn
import yaml

from analysis.errors import InputError
from analysis.files import output
from analysis.servicex.allowed_paths import NotAllowedError, Roots
from analysis.servicex.app import FullError, Protocol, application, new_request_id
from analysis.servicex.database import RUNNING, State, timestamp
from analysis.servicex.signatures import Key
from analysis.servicex.worker_pool import JobCanceled, Limits, Worker, codegens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from analysis.servicex.app import Submission
    from analysis.servicex.database import Task

HOST: Final = "127.0.0.1"
NAME: Final = "local"
"""Of the endpoint in its servicex.yaml."""
SETTINGS: Final = "endpoint.json"
CONFIG: Final = "servicex.yaml"
ACCESS_SECONDS: Final = 3600
IDLE_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 0.5
"""After an error of the endpoint's own: a full disk, a locked database."""
TIDY_SECONDS: Final = 60
WAKE_SECONDS: Final = 0.2
STOP_SECONDS: Final = 4
"""For all threads to end; what does not is left behind."""
SPARE: Final = 10 << 20
"""Bytes that the disk must have left for the endpoint to be well."""
NAME_LENGTH: Final = 100
DIGEST_LENGTH: Final = 40
EXTENSIONS: Final = {"parquet": ".parquet"}


@dataclass(frozen=True)
class Kept:
    """For how long results are kept.

    Attributes
    ----------
    seconds
        Since their transform was done; after that they are deleted.
    size, number
        Bytes of results, and transforms. Where there are more, those that were fetched are
        deleted, the oldest first; if that is not enough, no new request is taken.
    """

    seconds: float = 7 * 24 * 3600
    size: int = 100 << 30
    number: int = 1000


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
    kept
        For how long results are kept.
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
        kept: Kept | None = None,
        port: int | None = None,
    ) -> None:
        self.folder = folder
        self.roots = roots
        self.limits = limits or Limits()
        self.kept = kept or Kept()
        self.codegens = codegens()
        with ExitStack() as stack:
            _lock(folder, stack)
            try:
                self.state = stack.enter_context(closing(State(folder / "transforms.sqlite")))
            except sqlite3.Error as error:
                msg = f"{folder} holds no state to go on with ({error}): name another folder"
                raise InputError(msg) from None
            settings = _settings(folder / SETTINGS)
            self._socket = stack.enter_context(_listen(port, settings["port"]))
            settings["port"] = self._socket.getsockname()[1]
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
        self._ended = threading.Event()
        self._troubles: dict[str, str] = {}
        self._sent: Counter[int] = Counter()
        self._checkers = self._worker_set("check")
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # Daemons: none can keep the process from ending.
        self._threads = [
            threading.Thread(target=self._check_in_order, name="servicex-submit", daemon=True),
            *(
                threading.Thread(target=self._work, args=(i,), name=f"servicex-{i}", daemon=True)
                for i in range(workers)
            ),
        ]
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(self),
                http=Protocol,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._serving = threading.Thread(target=self._serve, name="servicex", daemon=True)

    def _worker_set(self, name: str) -> dict[str, Worker]:
        return {
            codegen: Worker(codegen, python, self.folder / f"worker-{name}.log")
            for codegen, python in self.codegens.items()
        }

    def start(self) -> None:
        """Start all that belongs to it, and write its servicex.yaml."""
        known = {one["request_id"] for one in self.state.transforms()}
        for left in self.folder.glob("file-*"):  # by an endpoint that was killed
            shutil.rmtree(left, ignore_errors=True)
        for result in self._results.iterdir():
            if result.name not in known:
                shutil.rmtree(result, ignore_errors=True)
        for thread in (self._serving, *self._threads):
            thread.start()
        while not self._server.started:
            if self._ended.wait(0.01):
                msg = f"the endpoint does not start at {self.url}"
                raise InputError(msg)
        self.write_config(self.config)

    def _serve(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def write_config(self, path: Path) -> None:
        """Write a servicex.yaml that leads to this endpoint."""
        config = {
            "api_endpoints": [{"endpoint": self.url, "name": NAME, "token": self.token}],
            "default_endpoint": NAME,
            "cache_path": str(self.folder / "cache"),
        }
        _write_private(path, yaml.safe_dump(config, sort_keys=False))

    def wait(self) -> None:
        """Wait until it ends, which it does only for an error.

        Raises
        ------
        InputError
            When it has.
        """
        # Now and then awake: the kernel may give a signal to any thread, whose C handler wakes only
        # itself, and Python's handlers run in this one.
        while not self._ended.wait(WAKE_SECONDS):
            pass
        msg = f"the endpoint at {self.url} has ended: start it again to go on with what is left"
        raise InputError(msg)

    def stop(self) -> None:
        """Stop all of it; what is not done is done by the next endpoint of this folder."""
        until = time.monotonic() + STOP_SECONDS
        self.stopping.set()
        self._server.should_exit = True
        self._waiting.put(None)
        for thread in (self._serving, *self._threads):
            if thread.ident is not None:
                thread.join(max(until - time.monotonic(), 0))
        self._opened.close()

    def trouble(self) -> str | None:
        """What keeps it from its work, in a sentence; None if it is well."""
        if dead := [one.name for one in (self._serving, *self._threads) if not one.is_alive()]:
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
        """Whether an access token is one of ours and still good.

        Raises
        ------
        PermissionError
            If it is not.
        """
        try:
            jwt.decode(token, self._signing, algorithms=["HS256"], options={"require": ["exp"]})
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
        return jwt.encode(claims, self._signing, algorithm="HS256")

    def check(self, codegen: str, selection: str, limits: Limits) -> None:
        """Whether a selection can be run.

        Raises
        ------
        JobError
            Says why not.
        JobCanceled
            If the endpoint is being stopped.
        """
        if self.stopping.is_set():
            raise JobCanceled
        job = {"kind": "check", "codegen": codegen, "selection": selection}
        self._checkers[codegen].run(job, limits, self.stopping.is_set)

    def in_order(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Call it in the thread that checks selections, after those that came before."""
        future: Future[Any] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*arguments))
                except BaseException as error:  # noqa: BLE001  (raised where it is waited for)
                    future.set_exception(error)

        self._waiting.put(call)
        return future

    def _check_in_order(self) -> None:
        # In this thread, because a worker ends with the thread that started it.
        self._checkers["uproot-raw"].start()  # imports what it needs meanwhile
        try:
            while call := self._waiting.get():
                call()
        finally:
            for worker in self._checkers.values():
                worker.stop()

    def submit(self, asked: Submission) -> str:
        """Take a request; its identity.

        Raises
        ------
        FullError
            If as many results are kept as may be.
        """
        if full := self._tidy():
            raise FullError(full)
        request_id = new_request_id()
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
        """Forget a transform and what it delivered."""
        self.state.delete(request_id)
        shutil.rmtree(self._results / request_id, ignore_errors=True)

    def result(self, request_id: str, name: str) -> Path:
        """Where an object is."""
        return self._results / request_id / name

    def sent(self, file: int, size: int, part: int) -> None:
        """Note that so many bytes of an object were sent: all of them make it a fetched one."""
        self._sent[file] += part
        if self._sent[file] >= size:
            del self._sent[file]
            with suppress(sqlite3.Error):  # it is kept longer, that is all
                self.state.fetched(file)

    def _tidy(self) -> str | None:
        """Delete what is not to be kept any longer; whether what is left is still too much."""
        before = timestamp(datetime.now(UTC) - timedelta(seconds=self.kept.seconds))
        left = self.state.transforms()
        for one in list(left):
            size = sum(other["bytes"] for other in left)
            much = size >= self.kept.size or len(left) >= self.kept.number
            done = one["status"] != RUNNING
            if done and (one["finished"] < before or (much and not one["unfetched"])):
                self.delete(one["request_id"])
                left.remove(one)
        size = sum(one["bytes"] for one in left)
        if size < self.kept.size and len(left) < self.kept.number:
            return None
        return (
            f"{len(left)} requests with {size >> 20} MB of results are kept, which is all that "
            "may be: fetch or delete some of them first"
        )

    # --- transforming

    def _work(self, number: int) -> None:
        """Transform files, one after the other, in a thread of its own."""
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
        """Whether the work of this thread goes well, for `trouble`."""
        name = threading.current_thread().name
        self._troubles.pop(name, None)
        if error is not None:
            self._troubles[name] = f"its work fails: {type(error).__name__}: {error}"

    def _transform(self, task: Task, worker: Worker) -> None:
        """Transform a file, and write down what came of it, however long that takes."""
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
                    # Looked at again: a link may lead elsewhere than when it was asked for.
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
        except Exception as error:  # noqa: BLE001  (whatever it is, the file failed, not the thread)
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


@contextmanager
def serving(
    folder: Path | None = None,
    *,
    allow: Sequence[str | Path] = (),
    workers: int = 2,
    limits: Limits | None = None,
    kept: Kept | None = None,
    port: int | None = None,
    follow: bool = False,
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
    kept
        For how long results are kept.
    port
        To listen on, of 127.0.0.1; by default that of the earlier endpoint of the folder, or any
        that is free.
    follow
        Whether servers that it may read from may lead it on to any other.

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
        roots = Roots.of(tuple(allow), follow=follow)
    except NotAllowedError as error:
        raise InputError(str(error)) from None
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servicex-")))
        endpoint = Endpoint(
            folder.resolve(), roots, workers=workers, limits=limits, kept=kept, port=port
        )
        stack.callback(endpoint.stop)
        endpoint.start()
        yield endpoint


def object_name(path: str, extension: str = "") -> str:
    """Name of the object that a file becomes.

    No two paths have the same, on disk neither, where clients put other characters for some: its
    digest tells them apart, and the rest is for people to read.
    """
    digest = hashlib.sha256(path.encode()).hexdigest()[:DIGEST_LENGTH]
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2])
    return f"{readable[-NAME_LENGTH:]}-{digest}{extension}"


def _lock(folder: Path, stack: ExitStack) -> None:
    """Make the folder, and have it for this endpoint alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / "results").mkdir(exist_ok=True, mode=0o700)
        lock = stack.enter_context((folder / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"another endpoint is at work in {folder}: stop it, or name another folder"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"{folder} cannot be written to: {error.strerror}; name another folder"
        raise InputError(msg) from None


def _settings(path: Path) -> dict[str, Any]:
    """Secrets and port: those of the earlier endpoint, so that its clients find it again."""
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
