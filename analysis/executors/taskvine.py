"""Batches on TaskVine: worker processes that it starts on this machine.

Each worker holds a library, a Python process that has imported what chunks need and forks for
each batch. coffea's TaskVineExecutor makes a task of each chunk and of each merge, and every task
is a new interpreter that imports coffea, which takes some 3 s of CPU.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import ndcctools.taskvine as vine
import psutil
from coffea.processor import TaskVineExecutor, taskvine_executor

from analysis.errors import InputError, WorkerLostError
from analysis.executors.batches import BatchedExecutor, process_batch
from analysis.executors.payload import RaisedError, worker_name
from analysis.executors.worker import environment as worker_environment
from analysis.executors.worker import stock_environment, warm
from analysis.processes import kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.options import TaskvineOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload

LIBRARY: Final = "analysis"
"""Name of the library that workers hold."""

GRACE: Final = 5.0
"""Seconds that workers have to end by themselves."""


@dataclass
class VinePool(BatchedExecutor):
    """Batches on a TaskVine manager, which has workers and the library."""

    unpickled: ClassVar[tuple[str, ...]] = ("manager", "check_workers")

    manager: Any = None
    check_workers: Callable[[], None] | None = None
    """Raises if all workers are dead."""

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Do what a dead worker had again, item by item."""
        assert self.check_workers is not None
        pending: dict[int, Sequence[Any]] = {}

        def submit(batch: Sequence[Any]) -> None:
            call = vine.FunctionCall(
                LIBRARY, _work.__name__, code, self.packed(batch), self.compression
            )
            # Otherwise TaskVine itself tries for ever.
            call.set_retries(1)
            pending[self.manager.submit(call)] = batch

        for one in order.begin():
            submit(one)
        deaths = 0
        try:
            while pending:
                self.check_workers()
                call = self.manager.wait(1)
                if call is None:
                    continue
                batch = pending.pop(call.id)
                if call.successful():
                    payload, error = call.output
                    if error is not None:
                        raise error
                    yield payload
                    for one in order.rest(len(pending)):
                        submit(one)
                    continue
                deaths += 1
                if deaths > self.retries:
                    msg = f"workers died {deaths} times"
                    raise WorkerLostError(msg)
                self.statistics.lost += 1
                for item in batch:
                    submit([item])
        finally:
            for number in pending:
                self.manager.cancel_by_task_id(number)
            while not self.manager.empty() and pending:
                if call := self.manager.wait(1):
                    pending.pop(call.id, None)


class Untuned(TaskVineExecutor):
    """coffea's own executor, made fit to be called again; Ctrl-C stays as it was."""

    def __call__(self, *args: Any) -> Any:
        """Run, and forget coffea's global manager."""
        handler = signal.getsignal(signal.SIGINT)
        # The manager of an earlier run keeps the port until it is collected.
        taskvine_executor.manager = None
        gc.collect()
        try:
            return super().__call__(*args)
        finally:
            signal.signal(signal.SIGINT, handler)
            taskvine_executor.manager = None
            taskvine_executor.early_terminate = False
            gc.collect()


# --- on workers


def _work(
    code: bytes, batch: bytes, compression: int | str | None
) -> tuple[Payload | None, RaisedError | None]:
    """`process_batch`, which returns what is raised: TaskVine would keep only the traceback."""
    try:
        return process_batch(code, batch, compression), None
    except RaisedError as error:
        return None, error


def _ready() -> str:
    """Name of a worker; slow enough that the others get calls too."""
    time.sleep(0.1)
    return worker_name()


# --- starting and ending


@contextmanager
def start(options: TaskvineOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start a TaskVine manager and its workers, yield the executor that uses them, and end both."""
    tuned = options.tuned
    variables = {
        **os.environ,
        # The virtual environment need not be activated.
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
        **(worker_environment if tuned else stock_environment)(options.environment),
    }
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="coffea-vine-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        secret = folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex())
        if not tuned:
            with socket.socket() as free:
                free.bind(("", 0))
                port = free.getsockname()[1]
            stack.enter_context(_workers(workers, port, secret, variables))
            given = options.of_coffea()
            yield Untuned(port=port, password_file=str(secret), filepath=str(folder), **given)
            return
        manager = stack.enter_context(
            vine.Manager(port=0, staging_path=str(folder), run_info_path=str(folder / "info"))
        )
        manager.set_password_file(str(secret))
        manager.tune("wait-for-workers", 0)
        library = manager.create_library_from_functions(
            LIBRARY,
            _work,
            _ready,
            add_env=False,
            # Each call in a fork, whose death costs 0.1 s. In the library itself it would end the
            # library, and TaskVine takes 18 s to start another.
            exec_mode="fork",
            library_context_info=[warm, [], {}],
        )
        library.set_cores(1)
        library.set_function_slots(1)
        manager.install_library(library)
        processes = stack.enter_context(_workers(workers, manager.port, secret, variables))

        buried: set[int] = set()

        def check_workers() -> None:
            dead = {process.pid for process in processes if process.poll() is not None}
            # Its children hold the connection of a dead worker open: to the manager it lives.
            kill(_sessions(dead - buried))
            buried.update(dead)
            if len(dead) == len(processes):
                msg = "all workers died"
                raise WorkerLostError(msg)

        pool = VinePool(
            workers=workers, manager=manager, check_workers=check_workers, **options.batched()
        )
        _wait(manager, processes, workers, options.patience)
        yield pool


@contextmanager
def _workers(
    number: int, port: int, secret: Path, variables: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start workers of one core each, and end them."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(number):
            command = [
                *("vine_worker", "--password", str(secret), "--cores", "1", "--parent-death"),
                *("--workspace", str(secret.parent / f"worker-{index}")),
                *("localhost", str(port)),
            ]
            try:
                process = subprocess.Popen(
                    command,
                    env=variables,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # Ctrl-C in a terminal is for the client, which then ends them.
                    start_new_session=True,
                )
            except OSError as error:
                msg = f"TaskVine's vine_worker cannot be started: {error}"
                raise InputError(msg) from error
            processes.append(process)
        yield processes
    finally:
        family = _sessions({process.pid for process in processes})
        for process in processes:
            process.terminate()
        _, alive = psutil.wait_procs(family, timeout=GRACE)
        kill(alive, GRACE)
        for process in processes:
            process.wait()


def _sessions(leaders: set[int]) -> list[psutil.Process]:
    """Workers, dead or alive, with all processes that they started."""
    found = []
    for process in psutil.process_iter() if leaders else ():
        with suppress(OSError):
            if os.getsid(process.pid) in leaders:
                found.append(process)
    return found


def _wait(
    manager: Any, processes: Sequence[subprocess.Popen[bytes]], workers: int, patience: float
) -> None:
    """Wait until each worker has answered, which it does when its library is warm."""
    until = time.monotonic() + patience
    ready: set[str] = set()
    while len(ready) < workers:
        if manager.empty():
            for _ in range(workers):
                manager.submit(vine.FunctionCall(LIBRARY, _ready.__name__))
        call = manager.wait(1)
        if call is not None and call.successful():
            ready.add(call.output)
        ended = [process.poll() for process in processes if process.poll() is not None]
        if ended or time.monotonic() > until:
            msg = (
                f"TaskVine started {len(ready)} of {workers} workers in {patience:.0f} seconds: "
                f"{f'vine_worker ended with {ended[0]}' if ended else 'ask for fewer'}"
            )
            raise InputError(msg)
    while not manager.empty():
        manager.wait(1)
