"""Batches on Parsl: processes that it starts here or through a batch system, or threads.

A task goes from this process by way of the interchange (one process) and a manager (one a node)
to a worker, and its result the same way back.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, Future, InvalidStateError, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import cloudpickle
import parsl
import psutil
from coffea.processor import ParslExecutor
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import ThreadPoolExecutor
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost

from analysis.errors import InputError
from analysis.executors import _parsl_kernel as kernels
from analysis.executors import machine_code
from analysis.executors.batches import process_batch
from analysis.executors.folders import plain_folder
from analysis.executors.payload import LARGE, Payload, fetch, spill, worker_name
from analysis.executors.pool import PoolExecutor
from analysis.executors.worker import environment as worker_environment
from analysis.executors.worker import stock_environment, warm
from analysis.processes import end_with, environment, kill_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.options import ParslOptions
    from analysis.executors.order import Order

EXPLAINED: Final = 3 * kernels.HEARTBEAT
"""Seconds in which Parsl reports the death of a worker that was at work."""


@dataclass
class ParslPool(PoolExecutor):
    """Batches on a DataFlowKernel."""

    lost: ClassVar[tuple[type[BaseException], ...]] = (WorkerLost, ManagerLost)

    unpickled: ClassVar[tuple[str, ...]] = ("engine",)

    engine: Engine | None = None
    folder: Path | None = None
    """Of one run, None where workers may not see it: large code and results go by files in it.
    Parsl cannot take batches back, but those that have not begun when it is gone do not."""

    def submit(self, code: bytes, batch: Sequence[Any]) -> Future[Payload]:
        """Submit to Parsl."""
        assert self.engine is not None
        work = code, self.packed(batch), self.compression
        if self.inside:
            return self.engine.submit(process_batch, *work)
        return self.engine.submit(_work, *work, self.folder)

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Send what is large by files, in a folder of this run."""
        assert self.engine is not None
        if self.engine.folder is None:
            yield from super().results(code, order)
            return
        with tempfile.TemporaryDirectory(
            prefix="run-", dir=self.engine.folder, ignore_cleanup_errors=True
        ) as name:
            run: ParslPool = self.copy(folder=Path(name))
            if len(code) >= LARGE:
                path = Path(name, "code")
                path.write_bytes(code)
                code = cloudpickle.dumps(_Code(path))
            yield from map(fetch, super(ParslPool, run).results(code, order))


class Engine:
    """A loaded DataFlowKernel, watched for deaths that Parsl itself does not notice.

    Workers can read and write its folder, if there is one.
    """

    def __init__(self, kernel: DataFlowKernel, folder: Path | None = None) -> None:
        self.kernel = kernel
        self.folder = folder
        self.threads = all(isinstance(one, ThreadPoolExecutor) for one in kernel.config.executors)
        self._apps: dict[Callable[..., Any], Callable[..., Future[Any]]] = {}
        self._pending: set[Future[Any]] = set()
        self._workers: dict[int, float] = {}  # when they answered last
        self._reported: list[float] = []
        self._unexplained: tuple[float, list[Any]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="parsl-watch", daemon=True).start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a worker call a function.

        Unlike Parsl's own, the future can be cancelled, and fails when the interchange dies.
        """
        if function not in self._apps:
            self._apps[function] = parsl.python_app(function, data_flow_kernel=self.kernel)
        future: Future[Any] = Future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._apps[function](*args).add_done_callback(partial(self._hand_on, future))
        return future

    def met(self, worker: str) -> None:
        """Note the process of a worker that answered."""
        self._workers[int(worker.rpartition("-")[2])] = time.monotonic()

    def wait_for(self, workers: int, patience: float, *, each: bool) -> None:
        """Wait until workers are warm: `each` of so many, or one that may answer for others.

        Raises InputError if they are not after `patience` seconds.
        """
        compiled: tuple[bytes, ...] = ()
        if self.folder is None:  # Workers are of other hosts.
            from analysis.executors.rehearsal import compiled as of_client  # noqa: PLC0415

            compiled = (of_client(),)
        until = time.monotonic() + patience
        ready: set[str] = set()
        while len(ready) < workers:
            futures = [self.submit(_ready, *compiled) for _ in range(workers)]
            asked = wait(futures, until - time.monotonic(), return_when=FIRST_EXCEPTION)
            for future in asked.done:
                if error := future.exception():
                    msg = f"Parsl did not start workers: {kernels.line(error)}"
                    raise InputError(msg) from error
                ready.add(future.result())
                self.met(future.result())
            if asked.not_done or (len(ready) < workers and time.monotonic() > until):
                msg = (
                    f"Parsl started {len(ready)} of {workers} workers in {patience:.0f} seconds: "
                    "ask for fewer or have more patience"
                )
                raise InputError(msg)
            if not each:
                return

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _hand_on(self, outer: Future[Any], inner: Future[Any]) -> None:
        error = inner.exception()
        if isinstance(error, WorkerLost):
            self._reported.append(time.monotonic())
        # It may have been cancelled, or have failed, meanwhile.
        with suppress(InvalidStateError):
            if error:
                outer.set_exception(error)
            else:
                result = inner.result()
                if isinstance(result, Payload):
                    self.met(result.worker)
                outer.set_result(result)

    def _watch(self) -> None:
        while not self._closed.wait(1.0):
            if dead := kernels.dead_executors(self.kernel.config):
                msg = "Parsl's interchange has died: start the executor again, and run it"
                for future in list(self._pending):
                    with suppress(InvalidStateError):
                        future.set_exception(InputError(msg))
                kernels.give_up(dead)
            elif self.folder is not None and not self.threads:
                self._look_for_the_dead()

    def _look_for_the_dead(self) -> None:
        """Replace a manager one of whose workers died without a report.

        A worker that waits for work holds the lock of a queue. If it dies then, no other worker
        gets work, and Parsl waits for ever.
        """
        now = time.monotonic()
        reported = sorted(when for when in self._reported if now - when < 2 * EXPLAINED)
        workers = sorted(self._workers.copy().items(), key=lambda one: one[1], reverse=True)
        dead = [(pid, met) for pid, met in workers if not psutil.pid_exists(pid)]
        (executor,) = self.kernel.config.executors
        # What was reported before a worker's last answer is the death of another.
        if all(met <= when for (_, met), when in zip(dead, reversed(reported), strict=False)) and (
            len(dead) <= len(reported)
        ):
            for pid, _ in dead:
                del self._workers[pid]
            self._reported = reported[: len(reported) - len(dead)]
            self._unexplained = None
        elif self._unexplained is None:
            self._unexplained = now, list(executor.provider.resources)
        elif now - self._unexplained[0] > EXPLAINED:
            # Not a manager that has replaced it since.
            jobs = self._unexplained[1]
            for job in jobs:
                # Parsl looks for processes by `ps`, which small images of containers lack.
                with suppress(psutil.NoSuchProcess):
                    kill_family(psutil.Process(executor.provider.resources[job]["remote_pid"]))
            executor.provider.cancel(jobs)
            self._workers.clear()
            self._unexplained = None


# --- large code


class _Code(NamedTuple):
    """Code in a file that unpickling reads; once in each worker, which caches what it unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Callable[[Path], Any], tuple[Path]]:
        return _read, (self.path,)


def _read(path: Path) -> Any:
    return cloudpickle.loads(path.read_bytes())


# --- on workers


@cache
def _prepare() -> str:
    end_with(os.getppid())
    warm()
    return worker_name()


def _work(
    code: bytes, batch: bytes | Sequence[Any], compression: int | str | None, folder: Path | None
) -> Payload:
    """`process_batch` in a process that Parsl may have started in place of a dead one."""
    _prepare()
    if folder is not None and not folder.exists():
        msg = "the run has ended"
        raise RuntimeError(msg)
    return spill(process_batch(code, batch, compression), folder)


def _ready(compiled: bytes = b"") -> str:
    """Warm a worker and return its name; one that was warm before lets others answer first."""
    if _prepare.cache_info().currsize:
        time.sleep(0.1)
    machine_code.unpack(compiled)
    return _prepare()


# --- starting


@contextmanager
def start(options: ParslOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start Parsl, yield the executor that uses it, and end its processes.

    Without a config, a DataFlowKernel that is loaded already is used and left as it is.
    """
    config, tuned = options.config, options.tuned
    loaded = kernels.loaded()
    if config is not None and loaded is not None and not tuned:
        msg = "a Parsl DataFlowKernel is loaded already: use it, without a config, or clean it up"
        raise InputError(msg)
    given = (worker_environment if tuned else stock_environment)(options.environment)
    variables = {**kernels.search_variables(), **given}
    with ExitStack() as stack:
        folder = None
        if config is None and loaded is None:
            _check(workers, options.memory)
            folder = stack.enter_context(plain_folder("coffea-parsl-"))
            # Parsl's manager leaves files in the folder for temporary files.
            inside = {**variables, "TMPDIR": str(folder)}
            executor = (
                ThreadPoolExecutor(max_threads=workers)
                if options.pool == "threads"
                else kernels.process_executor(options, workers, inside)
            )
            config = kernels.make_config(executor, folder)
        with environment(variables):
            kernel = loaded
            if config is not None:
                # coffea's executor uses the one that is loaded.
                make = DataFlowKernel if tuned else parsl.load
                kernel = stack.enter_context(kernels.kernel(make, config))
            engine = stack.enter_context(closing(Engine(kernel, folder)))
            if not engine.threads:
                engine.wait_for(workers, options.patience, each=folder is not None)
        if not tuned:
            yield ParslExecutor(**options.of_coffea())
            return
        fields = options.batched(**({"compression": "plain"} if engine.threads else {}))
        yield ParslPool(workers=workers, inside=engine.threads, engine=engine, **fields)


def _check(workers: int, memory: float | None) -> None:
    """Raise InputError if memory is short: Parsl would start fewer workers, and not say so."""
    free = psutil.virtual_memory().available / 2**30
    if memory is not None and workers * memory > free:
        msg = (
            f"{workers} workers with {memory} GB each do not fit in the {free:.1f} GB that are "
            "free: ask for less memory or for fewer workers"
        )
        raise InputError(msg)
