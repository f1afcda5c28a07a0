"""Batches on Parsl: processes that it starts here or through a batch system, or threads.

A task goes from this process by way of the interchange (one process) and a manager (one a node)
to a worker, and its result the same way back.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import sysconfig
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
import psutil
from coffea.processor import ParslExecutor

from analysis.errors import InputError, NotInstalledError
from analysis.executors.batches import LARGE, fetch, process_batch, spill, worker_name
from analysis.executors.folders import plain_folder, unlisted
from analysis.executors.pool import PoolExecutor
from analysis.executors.worker import environment as allocator
from analysis.executors.worker import warm
from analysis.interruption import postponed
from analysis.processes import end_with, ending_command, environment

try:
    import parsl
    from parsl.dataflow.dflow import DataFlowKernel
    from parsl.errors import NoDataFlowKernelError
    from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
    from parsl.executors.high_throughput.executor import (
        DEFAULT_INTERCHANGE_LAUNCH_CMD,
        DEFAULT_LAUNCH_CMD,
    )
    from parsl.jobs.error_handlers import windowed_error_handler
    from parsl.launchers import SimpleLauncher
    from parsl.logconfigs.noop import NoopLogging
    from parsl.providers import LocalProvider
except ImportError as error:
    _msg = f"the parsl executor needs Parsl ({error}): pip install 'coffea[parsl]'"
    raise NotInstalledError(_msg) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from coffea.processor.executor import ExecutorBase
    from parsl.config import Config

    from analysis.executors.batches import Payload
    from analysis.executors.options import ParslOptions

HEARTBEAT: Final = 1
"""Seconds. So often a manager looks for dead workers, and idle workers for a dead manager."""

EXPLAINED: Final = 3 * HEARTBEAT
"""Seconds in which Parsl reports the death of a worker that was at work."""

SILENCE: Final = 20
"""Seconds without a heartbeat after which a manager is taken for dead; Parsl's default is 120."""

POLL: Final = 200
"""Milliseconds after which threads that wait for messages look for the end of the run."""

ANSWER: Final = 5.0
"""Seconds in which an interchange answers when Parsl asks about its managers."""

CLEANUP: Final = 15.0
"""Seconds that Parsl has to end its processes before they are killed."""

GRACE: Final = 3.0
"""Seconds that processes have to end by themselves when Parsl has told them to."""

POOL: Final = "process_worker_pool.py"
"""Parsl's script that starts workers."""


@dataclass
class ParslPool(PoolExecutor):
    """Batches on a DataFlowKernel.

    Parameters
    ----------
    engine
        Holds the kernel.
    folder
        Of one run: large code and results go by files in it, and batches that have not begun
        when it is gone are not, as Parsl cannot take them back. None where workers may not see
        it.
    """

    lost: ClassVar[tuple[type[BaseException], ...]] = (WorkerLost, ManagerLost)

    engine: Engine | None = None
    folder: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine, which stays here."""
        return {**self.__dict__, "engine": None}

    @property
    def inside(self) -> bool:
        """As of `BatchedExecutor`."""
        return self.engine is not None and self.engine.threads

    def submit(self, code: bytes, batch: Sequence[Any]) -> Future[Payload]:
        """As `PoolExecutor.submit`."""
        assert self.engine is not None
        work = code, self.packed(batch), self.compression
        if self.engine.threads:
            return self.engine.submit(process_batch, *work)
        return self.engine.submit(_work, *work, self.folder)

    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """As `PoolExecutor.results`."""
        assert self.engine is not None
        if self.engine.folder is None:
            yield from super().results(code, batches)
            return
        with tempfile.TemporaryDirectory(
            prefix="run-", dir=self.engine.folder, ignore_cleanup_errors=True
        ) as name:
            run: ParslPool = self.copy(folder=Path(name))
            if len(code) >= LARGE:
                path = Path(name, "code")
                path.write_bytes(code)
                code = cloudpickle.dumps(_Code(path))
            for payload in super(ParslPool, run).results(code, batches):
                self.engine.met(payload.worker)
                yield fetch(payload)


class Engine:
    """A DataFlowKernel at work.

    Parameters
    ----------
    kernel
        Loaded.
    folder
        Which workers are sure to see, None if there is none.
    """

    def __init__(self, kernel: DataFlowKernel, folder: Path | None = None) -> None:
        self.kernel = kernel
        self.folder = folder
        self.threads = all(isinstance(one, ThreadPoolExecutor) for one in kernel.config.executors)
        self._apps: dict[Callable[..., Any], Callable[..., Future[Any]]] = {}
        self._pending: set[Future[Any]] = set()
        self._workers: set[int] = set()
        self._reported: list[float] = []
        self._unexplained: tuple[float, list[Any]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="parsl-watch", daemon=True).start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have a function called by a worker.

        The future can be cancelled, which Parsl's own cannot, and fails when the interchange
        dies, which Parsl does not notice.
        """
        if function not in self._apps:
            self._apps[function] = parsl.python_app(function, data_flow_kernel=self.kernel)
        future: Future[Any] = Future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._apps[function](*args).add_done_callback(partial(self._hand_on, future))
        return future

    def met(self, worker: str) -> None:
        """Take note of a worker that answered, by its name."""
        self._workers.add(int(worker.rpartition("-")[2]))

    def wait_for(self, workers: int, patience: float, *, each: bool) -> None:
        """Wait until workers are warm.

        Parameters
        ----------
        workers
            How many.
        patience
            Seconds.
        each
            Whether to make sure that there are so many; otherwise one may answer for another.

        Raises
        ------
        InputError
            If they are not.
        """
        until = time.monotonic() + patience
        ready: set[str] = set()
        while len(ready) < workers:
            futures = [self.submit(_ready) for _ in range(workers)]
            asked = wait(futures, until - time.monotonic(), return_when=FIRST_EXCEPTION)
            for future in asked.done:
                if error := future.exception():
                    msg = f"Parsl did not start workers: {_line(error)}"
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
        # What was cancelled or has failed meanwhile is not waited for any more.
        with suppress(InvalidStateError):
            if error:
                outer.set_exception(error)
            else:
                outer.set_result(inner.result())

    def _watch(self) -> None:
        while not self._closed.wait(1.0):
            if dead := _dead(self.kernel.config):
                msg = "Parsl's interchange has died: start the executor again, and run it"
                for future in list(self._pending):
                    with suppress(InvalidStateError):
                        future.set_exception(InputError(msg))
                _give_up(dead)
            elif self.folder is not None and not self.threads:
                self._look_for_the_dead()

    def _look_for_the_dead(self) -> None:
        """Replace a manager of whose workers one died and nothing was reported.

        A worker that waits for work holds the lock of a queue. If it dies then, no other worker
        gets any, and Parsl waits for ever.
        """
        now = time.monotonic()
        reported = [when for when in self._reported if now - when < 2 * EXPLAINED]
        dead = {pid for pid in self._workers if not psutil.pid_exists(pid)}
        (executor,) = self.kernel.config.executors
        if len(dead) <= len(reported):
            self._workers -= dead
            self._reported = reported[len(dead) :]
            self._unexplained = None
        elif self._unexplained is None:
            self._unexplained = now, list(executor.provider.resources)
        elif now - self._unexplained[0] > EXPLAINED:
            # What was there then; a manager that has replaced it since is left alone.
            executor.provider.cancel(self._unexplained[1])
            self._workers.clear()
            self._unexplained = None


# --- large code


class _Code(NamedTuple):
    """Code in a file, which unpickling reads: once in each worker, as it knows what it unpickled."""

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
    """As `process_batch`, in a process that Parsl may have started in place of a dead one."""
    _prepare()
    if folder is not None and not folder.exists():
        msg = "the run has ended"
        raise RuntimeError(msg)
    return spill(process_batch(code, batch, compression), folder)


def _ready() -> str:
    """Name of a worker that is warm. One that was so before lets others come first."""
    if _prepare.cache_info().currsize:
        time.sleep(0.1)
    return _prepare()


# --- starting and ending


@contextmanager
def start(options: ParslOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start Parsl, yield the executor that uses it, and end its processes.

    Without a config, a DataFlowKernel that is loaded already is used and left as it is.

    Raises
    ------
    InputError
        If Parsl or its workers do not start.
    """
    config, tuned = options.config, options.tuned
    loaded = _loaded()
    if config is not None and loaded is not None and not tuned:
        msg = "a Parsl DataFlowKernel is loaded already: use it, without a config, or clean it up"
        raise InputError(msg)
    variables = {**_variables(), **_given(options.environment, tuned=tuned)}
    with ExitStack() as stack:
        folder = None
        if config is None and loaded is None:
            _check(workers, options.memory)
            folder = stack.enter_context(plain_folder("coffea-parsl-"))
            # Parsl's manager leaves a folder behind in the one for temporary files.
            inside = {**variables, "TMPDIR": str(folder)}
            executor = (
                ThreadPoolExecutor(max_threads=workers)
                if options.pool == "threads"
                else _processes(options, workers, inside)
            )
            config = _config(executor, folder)
        with environment(variables):
            kernel = loaded
            if config is not None:
                # coffea's executor uses the one that is loaded.
                make = DataFlowKernel if tuned else parsl.load
                kernel = stack.enter_context(_kernel(make, config))
            engine = stack.enter_context(closing(Engine(kernel, folder)))
            if not engine.threads:
                engine.wait_for(workers, options.patience, each=folder is not None)
        if not tuned:
            yield ParslExecutor(**options.of_coffea())
            return
        fields = options.batched(**({"compression": "plain"} if engine.threads else {}))
        yield ParslPool(workers=workers, engine=engine, **fields)


def _given(more: Mapping[str, str | None], *, tuned: bool) -> dict[str, str]:
    """Environment variables of workers; without the allocator's for coffea's own executor."""
    plain: dict[str, str | None] = {} if tuned else dict.fromkeys(allocator())
    return allocator({**plain, **more})


def _check(workers: int, memory: float | None) -> None:
    """Whether Parsl will find the memory, without which it starts fewer workers, and no word."""
    free = psutil.virtual_memory().available / 2**30
    if memory is not None and workers * memory > free:
        msg = (
            f"{workers} workers with {memory} GB each do not fit in the {free:.1f} GB that are "
            "free: ask for less memory or for fewer workers"
        )
        raise InputError(msg)


def _loaded() -> DataFlowKernel | None:
    try:
        return parsl.dfk()
    except NoDataFlowKernelError:
        return None


def _variables() -> dict[str, str]:
    """Variables by which workers find Parsl's scripts and import what this process can."""
    name = unlisted()
    return {
        # Parsl wants one.
        **({"LOGNAME": name} if name else {}),
        # The virtual environment need not be activated.
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
    }


def _processes(
    options: ParslOptions, workers: int, variables: Mapping[str, str]
) -> HighThroughputExecutor:
    """Worker processes on this machine."""
    exports = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    return HighThroughputExecutor(
        label="workers",
        address=options.address,
        max_workers_per_node=workers,
        # As many as were asked for, whatever the number of cores.
        cores_per_worker=1e-3,
        mem_per_worker=options.memory,
        heartbeat_period=HEARTBEAT,
        heartbeat_threshold=SILENCE,
        poll_period=POLL,
        encrypted=options.encrypted,
        launch_cmd=DEFAULT_LAUNCH_CMD.replace(POOL, shlex.join(_ending(POOL)), 1),
        # A manager that died is replaced, twice.
        block_error_handler=windowed_error_handler,
        provider=LocalProvider(
            launcher=SimpleLauncher(), min_blocks=1, worker_init="\n".join(exports)
        ),
    )


def _ending(script: str) -> list[str]:
    """Command line of a script of Parsl's that ends with this process."""
    path = shutil.which(script, path=_variables()["PATH"])
    return ending_command(path) if path else [script]


def _config(executor: HighThroughputExecutor | ThreadPoolExecutor, folder: Path) -> Config:
    return parsl.Config(
        executors=[executor],
        run_dir=str(folder),
        # A block starts, and starts again, no sooner than a period of 5 seconds by default.
        strategy_period=0.2,
        initialize_logging=NoopLogging(),
    )


@contextmanager
def _kernel(make: Callable[[Config], DataFlowKernel], config: Config) -> Iterator[DataFlowKernel]:
    """Make a kernel, and end all that it started."""
    loading: Future[DataFlowKernel] = Future()
    # In a thread, as Parsl waits two minutes for an interchange that does not start.
    threading.Thread(target=_load, args=(make, config, loading), daemon=True).start()
    try:
        done = False
        while not done:
            done = bool(wait([loading], timeout=0.1).done)
            for executor in _dead(config):
                status = executor.interchange_proc.poll()
                msg = f"Parsl's interchange did not start: it ended with status {status}"
                raise InputError(msg)
        if error := loading.exception():
            msg = f"Parsl did not start: {_line(error)}"
            raise InputError(msg) from error
        yield loading.result()
    finally:
        _end(config, loading)


def _load(
    make: Callable[[Config], DataFlowKernel], config: Config, loading: Future[DataFlowKernel]
) -> None:
    for executor in _high_throughput(config):
        if list(executor.interchange_launch_cmd) == DEFAULT_INTERCHANGE_LAUNCH_CMD:
            executor.interchange_launch_cmd = _ending(*DEFAULT_INTERCHANGE_LAUNCH_CMD)
    try:
        with postponed():
            kernel = make(config)
    except BaseException as error:  # noqa: BLE001 - the client raises it
        executors = _high_throughput(config)
        _give_up(executors)
        for executor in executors:
            for name in ("outgoing_q", "command_client"):
                if hasattr(executor, name):
                    getattr(executor, name).close()
        loading.set_exception(error)
        return
    for executor in _high_throughput(config):
        # Without a bound Parsl asks an interchange that has died for ever.
        executor.command_client.run = partial(executor.command_client.run, timeout_s=ANSWER)
    loading.set_result(kernel)


def _high_throughput(config: Config) -> list[HighThroughputExecutor]:
    return [one for one in config.executors if isinstance(one, HighThroughputExecutor)]


def _dead(config: Config) -> list[HighThroughputExecutor]:
    """Executors whose interchange has ended."""
    return [
        one
        for one in _high_throughput(config)
        if one.interchange_proc is not None and one.interchange_proc.poll() is not None
    ]


def _give_up(executors: Sequence[HighThroughputExecutor]) -> None:
    """Have Parsl take executors for broken: it neither sends to them nor asks them."""
    for executor in executors:
        if not executor.bad_state_is_set:
            executor.set_bad_state_and_fail_all(RuntimeError("the interchange has ended"))


def _end(config: Config, loading: Future[DataFlowKernel]) -> None:
    """Clean up; in bounded time unless threads are at work, which cannot be ended."""
    dead = _dead(config)
    _give_up(dead)
    # If the interchange did not even start, Parsl's thread and port wait for it two minutes.
    if wait([loading], timeout=GRACE if dead else CLEANUP).done and not loading.exception():
        kernel = loading.result()
        for executor in config.executors:
            if isinstance(executor, ThreadPoolExecutor):
                executor.executor.shutdown(wait=True, cancel_futures=True)
        if not kernel.cleanup_called:
            # In a thread, lest Parsl waits for what does not come.
            cleaner = threading.Thread(target=_clean_up, args=(kernel,), daemon=True)
            cleaner.start()
            cleaner.join(CLEANUP)
            atexit.unregister(kernel.atexit_cleanup)
        if _loaded() is kernel:
            parsl.clear()
    for executor in _high_throughput(config):
        if executor.interchange_proc is not None:
            executor.interchange_proc.kill()
            executor.interchange_proc.wait()
            if executor.interchange_proc.stdin is not None:
                with suppress(BrokenPipeError):  # It did not read what it was sent.
                    executor.interchange_proc.stdin.close()
    scripts = {
        job["script_path"]
        for executor in config.executors
        if isinstance(provider := getattr(executor, "provider", None), LocalProvider)
        for job in provider.resources.values()
    }
    _, left = psutil.wait_procs(_started_by(scripts), timeout=GRACE)
    while left:
        for one in left:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(left, timeout=GRACE)
        left = _started_by(scripts)


def _clean_up(kernel: DataFlowKernel) -> None:
    # What this does not end is killed.
    with suppress(Exception):
        kernel.cleanup()


def _started_by(scripts: set[str]) -> list[psutil.Process]:
    """Processes on this machine that scripts of `LocalProvider` started, and their shells."""
    names = {Path(script).stem for script in scripts}
    found = []
    for process in psutil.process_iter() if scripts else ():
        with suppress(psutil.Error):
            if process.environ().get("JOBNAME") in names or scripts & set(process.cmdline()):
                found.append(process)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
