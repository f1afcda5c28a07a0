"""A Parsl kernel of this machine: how it is configured, started, and ended with all processes."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import sys
import sysconfig
import threading
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import parsl
import psutil
from parsl.dataflow.dflow import DataFlowKernel
from parsl.errors import NoDataFlowKernelError
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.high_throughput.executor import (
    DEFAULT_INTERCHANGE_LAUNCH_CMD,
    DEFAULT_LAUNCH_CMD,
)
from parsl.jobs.error_handlers import windowed_error_handler
from parsl.launchers import SimpleLauncher
from parsl.logconfigs.noop import NoopLogging
from parsl.providers import LocalProvider

from analysis.errors import InputError
from analysis.executors.folders import unlisted
from analysis.interruption import postponed
from analysis.processes import ending_command, kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from parsl.config import Config

    from analysis.executors.options import ParslOptions

HEARTBEAT: Final = 1
"""Seconds between looks of a manager for dead workers, and of idle workers for their manager."""

SILENCE: Final = 20
"""Seconds without a heartbeat after which a manager is taken for dead; Parsl's default is 120."""

POLL: Final = 200
"""Milliseconds after which threads that wait for messages look whether the run has ended."""

ANSWER: Final = 5.0
"""Seconds in which an interchange answers when Parsl asks about its managers."""

CLEANUP: Final = 15.0
"""Seconds that Parsl has to end its processes before they are killed."""

GRACE: Final = 3.0
"""Seconds that processes have to end by themselves when Parsl has told them to."""

POOL: Final = "process_worker_pool.py"
"""Parsl's script that starts workers."""

MANAGER: Final = "analysis.executors.parsl_manager"
"""Ours in its place, which forks them."""


def loaded() -> DataFlowKernel | None:
    """The kernel that is loaded in this process, if one is."""
    try:
        return parsl.dfk()
    except NoDataFlowKernelError:
        return None


def search_variables() -> dict[str, str]:
    """Variables by which workers find Parsl's scripts and import what this process can."""
    name = unlisted()
    return {
        # Parsl wants one.
        **({"LOGNAME": name} if name else {}),
        # The virtual environment need not be activated.
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
    }


def process_executor(
    options: ParslOptions, workers: int, variables: Mapping[str, str]
) -> HighThroughputExecutor:
    """Worker processes on this machine."""
    exports = (f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    own = [sys.executable, "-m", MANAGER, str(os.getpid())]
    manager = own if options.tuned else _ending(POOL)
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
        launch_cmd=DEFAULT_LAUNCH_CMD.replace(POOL, shlex.join(manager), 1),
        # A manager that died is replaced, twice.
        block_error_handler=windowed_error_handler,
        provider=LocalProvider(
            launcher=SimpleLauncher(), min_blocks=1, worker_init="\n".join(exports)
        ),
    )


def _ending(script: str) -> list[str]:
    """Command line of a script of Parsl's that ends with this process."""
    path = shutil.which(script, path=search_variables()["PATH"])
    return ending_command(path) if path else [script]


def make_config(executor: HighThroughputExecutor | ThreadPoolExecutor, folder: Path) -> Config:
    """Configuration with one executor, which leaves its files in a folder."""
    return parsl.Config(
        executors=[executor],
        run_dir=str(folder),
        # A block starts, and restarts, after up to such a period, by default 5 seconds.
        strategy_period=0.2,
        initialize_logging=NoopLogging(),
    )


@contextmanager
def kernel(make: Callable[[Config], DataFlowKernel], config: Config) -> Iterator[DataFlowKernel]:
    """Make a kernel, and end all that it started."""
    loading: Future[DataFlowKernel] = Future()
    # In a thread: Parsl waits two minutes for an interchange that does not start.
    threading.Thread(target=_load, args=(make, config, loading), daemon=True).start()
    try:
        done = False
        while not done:
            done = bool(wait([loading], timeout=0.1).done)
            for executor in dead_executors(config):
                status = executor.interchange_proc.poll()
                msg = f"Parsl's interchange did not start: it ended with status {status}"
                raise InputError(msg)
        if error := loading.exception():
            msg = f"Parsl did not start: {line(error)}"
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
        give_up(executors)
        for executor in executors:
            for name in ("outgoing_q", "command_client"):
                if hasattr(executor, name):
                    getattr(executor, name).close()
        loading.set_exception(error)
        return
    for executor in _high_throughput(config):
        # Without a limit Parsl waits for ever for an answer of an interchange that has died.
        executor.command_client.run = partial(executor.command_client.run, timeout_s=ANSWER)
    loading.set_result(kernel)


def _high_throughput(config: Config) -> list[HighThroughputExecutor]:
    return [one for one in config.executors if isinstance(one, HighThroughputExecutor)]


def dead_executors(config: Config) -> list[HighThroughputExecutor]:
    """Executors whose interchange has ended."""
    return [
        one
        for one in _high_throughput(config)
        if one.interchange_proc is not None and one.interchange_proc.poll() is not None
    ]


def give_up(executors: Sequence[HighThroughputExecutor]) -> None:
    """Mark executors as broken, so that Parsl neither sends to them nor asks them."""
    for executor in executors:
        if not executor.bad_state_is_set:
            executor.set_bad_state_and_fail_all(RuntimeError("the interchange has ended"))


def _end(config: Config, loading: Future[DataFlowKernel]) -> None:
    """Clean up; in bounded time unless threads are at work, which cannot be ended."""
    dead = dead_executors(config)
    give_up(dead)
    # If the interchange did not start, Parsl's thread waits for it two minutes, with its port.
    if wait([loading], timeout=GRACE if dead else CLEANUP).done and not loading.exception():
        kernel = loading.result()
        for executor in config.executors:
            if isinstance(executor, ThreadPoolExecutor):
                executor.executor.shutdown(wait=True, cancel_futures=True)
        if not kernel.cleanup_called:
            # In a thread, as Parsl may wait for messages that do not come.
            cleaner = threading.Thread(target=_clean_up, args=(kernel,), daemon=True)
            cleaner.start()
            cleaner.join(CLEANUP)
            atexit.unregister(kernel.atexit_cleanup)
        if loaded() is kernel:
            parsl.clear()
    for executor in _high_throughput(config):
        if executor.interchange_proc is not None:
            executor.interchange_proc.kill()
            executor.interchange_proc.wait()
            if executor.interchange_proc.stdin is not None:
                with suppress(BrokenPipeError):  # It ended before it read what was sent.
                    executor.interchange_proc.stdin.close()
    scripts = {
        job["script_path"]
        for executor in config.executors
        if isinstance(provider := getattr(executor, "provider", None), LocalProvider)
        for job in provider.resources.values()
    }
    _, left = psutil.wait_procs(_started_by(scripts), timeout=GRACE)
    while left:
        kill(left, GRACE)
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


def line(error: BaseException) -> str:
    """Message of an error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
