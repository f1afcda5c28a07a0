"""Stand-in for TaskVine's Python interface, with real worker processes.

It has what `analysis.executors.taskvine` uses, with the names and the behaviour of TaskVine: a
worker holds a library and forks for each call, a call whose fork dies is returned as failed, and
one whose worker dies is given to another worker.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
from multiprocessing.connection import (
    Client,
    Connection,
    Listener,
    answer_challenge,
    deliver_challenge,
)
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any, Self

import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Callable


class FunctionCall:
    """A call of a function of a library."""

    def __init__(self, library: str, function: str, *arguments: Any) -> None:
        self.library = library
        self.message = cloudpickle.dumps((function, arguments))
        self.id = 0
        self.cancelled = False
        self.succeeded = False
        self.output: Any = None

    def set_retries(self, number: int) -> None:
        """Of a task whose worker was lost; here there are as many as it takes."""

    def successful(self) -> bool:
        return self.succeeded


class Library:
    """Functions, and what is called before them."""

    def __init__(self, functions: dict[str, Callable[..., Any]], context: list[Any]) -> None:
        self.message = cloudpickle.dumps((functions, context))

    def set_cores(self, number: int) -> None:
        assert number == 1

    def set_function_slots(self, number: int) -> None:
        assert number == 1


class Manager:
    """Gives calls to workers, which connect to its port."""

    def __init__(self, port: int, staging_path: str, run_info_path: str) -> None:
        del staging_path, run_info_path
        self._listener = Listener(("localhost", port))
        self.port = self._listener.address[1]
        self._password = b""
        self._library = b""
        self._numbers = itertools.count(1)
        self._calls: dict[int, FunctionCall] = {}
        self._waiting: Queue[FunctionCall] = Queue()
        self._done: Queue[FunctionCall] = Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def set_password_file(self, path: str) -> None:
        self._password = Path(path).read_bytes()

    def tune(self, name: str, value: float) -> None:
        assert (name, value) == ("wait-for-workers", 0)

    def create_library_from_functions(
        self,
        name: str,
        *functions: Callable[..., Any],
        add_env: bool,
        exec_mode: str,
        library_context_info: list[Any],
    ) -> Library:
        assert (name, add_env, exec_mode) == ("analysis", False, "fork")
        return Library({one.__name__: one for one in functions}, library_context_info)

    def install_library(self, library: Library) -> None:
        self._library = library.message

    def submit(self, call: FunctionCall) -> int:
        call.id = next(self._numbers)
        self._calls[call.id] = call
        self._waiting.put(call)
        return call.id

    def wait(self, timeout: float) -> FunctionCall | None:
        try:
            call = self._done.get(timeout=timeout)
        except Empty:
            return None
        del self._calls[call.id]
        return call

    def empty(self) -> bool:
        return not self._calls

    def cancel_by_task_id(self, number: int) -> None:
        if number in self._calls:
            self._calls[number].cancelled = True

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return  # It was closed.
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        deliver_challenge(connection, self._password)
        answer_challenge(connection, self._password)
        connection.send_bytes(self._library)
        while True:
            call = self._waiting.get()
            try:
                if not call.cancelled:
                    connection.send_bytes(call.message)
                    call.succeeded, call.output = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                self._waiting.put(call)
                return
            self._done.put(call)


def work(password: bytes, host: str, port: int) -> None:
    """Do what a manager asks for, until it is gone."""
    with Client((host, port)) as connection:
        answer_challenge(connection, password)
        deliver_challenge(connection, password)
        functions, (setup, arguments, keywords) = pickle.loads(connection.recv_bytes())
        setup(*arguments, **keywords)
        while True:
            name, arguments = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_in_a_fork(functions[name], arguments))


def _in_a_fork(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """What a function returns, pickled with True; or False and None if it did not return."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with os.fdopen(writing, "wb") as file:
            file.write(cloudpickle.dumps((True, function(*arguments))))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    return answer if status == 0 else pickle.dumps((False, None))


def main() -> None:
    """Do what the program vine_worker does."""
    options = ("--password", "--cores", "--parent-death", "--workspace")
    assert all(one in sys.argv for one in options)
    password = Path(sys.argv[sys.argv.index("--password") + 1]).read_bytes()
    host, port = sys.argv[-2:]
    try:
        work(password, host, int(port))
    except (EOFError, OSError):
        sys.exit(1)
