"""Dask clusters: start one of this machine, or connect to one of the user's, and leave nothing.

A stock LocalCluster takes more than twice the CPU time of the iterative executor; nearly all of
the difference is `TRIM`, and what is left is beside the entries of `CONFIGURATION`.
"""

from __future__ import annotations

import logging
import os
import signal
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

import dask
from distributed import CancelledError, Client, LocalCluster, Nanny, Security, WorkerPlugin
from distributed.utils import LoopRunner
from rich.console import Console

from analysis.errors import InputError
from analysis.executors.fork_server import forking, named
from analysis.executors.worker import environment as worker_environment
from analysis.interruption import postponed
from analysis.processes import end_children, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Future

    from analysis.executors.options import DaskOptions

TRIM: Final = "MALLOC_TRIM_THRESHOLD_"
"""Dask's nannies set this to 64 kB, so that glibc gives freed memory back to the kernel at once,
and faults it in again for the next array."""

METHOD: Final = "distributed.worker.multiprocessing-method"
"""How a nanny starts its worker."""

CONFIGURATION: Final[dict[str, Any]] = {
    # Nobody looks at the profile of workers, sampled every 10 ms: 56 ms.
    "distributed.worker.profile.enabled": False,
    # Scheduler, nannies and workers check 50 times a second whether they are late: 52 ms.
    "distributed.admin.tick.interval": "1s",
    # The load of the machine, twice a second, for dashboards: 5 ms.
    "distributed.admin.system-monitor.interval": "10s",
    # Checks ten times a second whether to spill results, which are small, or to pause: 8 ms. And
    # a worker that pauses would do so for good: it keeps the memory of a chunk for the next one.
    # The nanny still ends a worker that exceeds its limit.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Dask would give the whole batch to three more workers; here its items are split at once.
    "distributed.scheduler.allowed-failures": 0,
    # On a busy machine a nanny takes longer than 15 s to restart its worker, after which the
    # cluster would take it for lost, and end it.
    "distributed.deploy.lost-worker-timeout": "1h",
    # No second task waits at a busy worker while another is idle, or is lost with it. Asking for
    # the next when one is done takes 2 ms.
    "distributed.scheduler.worker-saturation": 1.0,
}
"""Settings of a cluster of this machine that differ from Dask's defaults.

Beside each is the CPU time that it saves in a second of an idle cluster of two workers, client
included (121 ms with the defaults, 17 to 20 with these).
"""

TIDYING_SECONDS: Final = 5.0
"""Seconds after which a client of the user's scheduler, which may be stopped, is given up."""

CLOSING_SECONDS: Final = 20.0
"""Seconds after which closing is given up; it takes 0.1 s."""

SOON_SECONDS: Final = 2.0
"""Seconds after which a user is told what is waited for."""


@contextmanager
def connected(given: Any, options: DaskOptions) -> Iterator[Client]:
    """Connect to an address, or to a cluster object of the user's."""
    patience = options.patience
    name = given if isinstance(given, str) else getattr(given, "scheduler_address", repr(given))
    client = Client.__new__(Client)
    try:
        security = options.security
        client.__init__(
            given,
            # coffea's progress bar needs a client by default.
            set_as_default=not options.tuned,
            timeout=min(patience, 10.0),
            security=Security(**security) if isinstance(security, Mapping) else security,
        )
    except (OSError, ValueError, TypeError) as error:
        # Else the client would try to close what it did not open, and report that.
        client.status = "closed"
        msg = f"no Dask scheduler answers at {name}: check its address, and that it runs"
        if name.startswith("tls:") or options.security is not None:
            why = " ".join(str(error).split())[:200]
            msg = (
                f"the Dask scheduler at {name} cannot be reached ({why}): give certificates by the "
                "option security or in Dask's configuration (distributed.comm.tls), and check its "
                "address, and that it runs"
            )
        raise InputError(msg) from error
    try:
        # An adaptive cluster starts a worker only for a task.
        first = client.submit(abs, 1, pure=False)
        try:
            _wait(first, patience, f"a worker of the Dask scheduler at {name}")
        except TimeoutError as error:
            msg = (
                f"no worker of the Dask scheduler at {name} did anything for {patience:g} s: "
                "start workers, or have more patience"
            )
            raise InputError(msg) from error
        except (CancelledError, OSError) as error:
            msg = f"the connection to the Dask scheduler at {name} was lost: see what ended it"
            raise InputError(msg) from error
        yield client
    finally:
        with suppress(TimeoutError):
            client.close(timeout=TIDYING_SECONDS)


def _wait(future: Future, patience: float, what: str) -> None:
    """Wait for a result; on a terminal, tell the user so if it takes long."""
    with suppress(TimeoutError):
        future.result(timeout=min(patience, SOON_SECONDS))
        return
    with Console(stderr=True).status(f"waiting for {what}, up to {patience:g} s"):
        future.result(timeout=max(0.0, patience - SOON_SECONDS))


@contextmanager
def tuned(options: DaskOptions, workers: int, folder: str) -> Iterator[Client]:
    """Start a LocalCluster with CONFIGURATION."""
    keywords: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": options.threads,
        "memory_limit": options.memory_limit,
        "processes": options.processes,
        "scheduler_kwargs": _dashboard(options.dashboard),
        "local_directory": folder,
    }
    spawned = "distributed.nanny.pre-spawn-environ"
    before = {
        **dask.config.get(spawned),
        TRIM: None,
        **dict.fromkeys(options.environment),
        **worker_environment(options.environment),
    }
    kept = {name: os.environ.get(name) for name in {*before, "PYTHONHASHSEED"}}
    finished = False
    with ExitStack() as stack:
        # Nannies set the variables in this process too, whenever they start a worker.
        stack.enter_context(environment(kept))
        loop = stack.enter_context(_loop())
        settings = {
            "temporary-directory": folder,
            **CONFIGURATION,
            **options.config,
            spawned: before,
        }
        # As of `_forks`.
        with environment({**kept, **options.environment}), dask.config.set(settings):
            if options.processes:
                # A copy, for workers that are restarted when dask.config has been restored.
                keywords |= {"config": deepcopy(dask.config.config), "env": _given(options)}
            method: dict[str, str] = {}
            if options.processes and METHOD not in options.config:
                method[METHOD] = stack.enter_context(_forks(before))
            try:
                # Not longer: a worker that is restarted may start by itself.
                with dask.config.set(method):
                    cluster = LocalCluster(**keywords, loop=loop, silence_logs=logging.CRITICAL)
            except (RuntimeError, OSError, ValueError, TypeError) as error:
                msg = f"the Dask cluster cannot be started: {error}"
                raise InputError(msg) from error
            stack.callback(_close, cluster, lambda: finished)
            # Results come from the workers directly, not through the scheduler.
            client = Client(cluster, set_as_default=False, direct_to_workers=True)
        stack.callback(client.close, CLOSING_SECONDS)
        yield client
        finished = True


@contextmanager
def _forks(variables: Mapping[str, Any]) -> Iterator[str]:
    """A start method of multiprocessing by which nannies fork workers with these variables."""
    # Nannies prefer what stands in the environment of this process.
    given = {
        name: os.environ.get(name, None if value is None else str(value))
        for name, value in variables.items()
    }
    with forking(given, ["distributed.nanny"]) as forks, named(forks) as method:
        yield method


def _given(options: DaskOptions) -> dict[str, str]:
    """Environment variables of workers that the user has set."""
    return {name: value for name, value in options.environment.items() if value is not None}


@contextmanager
def stock(options: DaskOptions, workers: int) -> Iterator[Client]:
    """Start a LocalCluster with Dask's defaults."""
    names = {*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED"}
    with (
        environment({name: os.environ.get(name) for name in names}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=options.threads,
            memory_limit=options.memory_limit,
            env=_given(options),
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _loop() -> Iterator[Any]:
    """An event loop in a thread, whose child processes ignore Ctrl-C."""
    runner = LoopRunner()
    with postponed():
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


def _close(cluster: LocalCluster, finished: Callable[[], bool]) -> None:
    """Close a cluster; after an exception chunks that are still at work are not waited for."""
    nannies = [one for one in cluster.workers.values() if isinstance(one, Nanny) and one.pid]
    end_children((nanny.pid for nanny in nannies), go_on=finished())
    if not finished():
        for nanny in nannies:
            if nanny.pid:
                nanny.close_gracefully()  # Have it not restarted.
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
    cluster.close(timeout=CLOSING_SECONDS)


def _dashboard(wanted: bool | str) -> dict[str, Any]:  # noqa: FBT001
    """Keywords of a scheduler, which would serve metrics at port 8787 even without a dashboard."""
    address = wanted if isinstance(wanted, str) else "127.0.0.1:0"
    return {"dashboard": bool(wanted), "dashboard_address": address}


# --- plugins


@contextmanager
def registered_plugin(client: Client, plugin: WorkerPlugin) -> Iterator[None]:
    """Have a plugin on all workers, and say so in one sentence if it fails."""
    name = getattr(plugin, "name", None) or f"{type(plugin).__name__}-{uuid.uuid4().hex}"
    with ExitStack() as stack:
        try:
            stack.enter_context(registered(client, plugin, name))
        except Exception as error:
            msg = (
                f"the plugin {type(plugin).__name__} failed on a worker ({error}): workers need "
                "the packages that this process has, or are sent them with the option modules"
            )
            raise InputError(msg) from error
        yield


@contextmanager
def registered(client: Client, plugin: WorkerPlugin, name: str) -> Iterator[None]:
    """Have a plugin on all workers; one that dies meanwhile does not matter."""
    for left in reversed(range(3)):
        try:
            client.register_plugin(plugin, name=name)
            break
        except OSError:
            if not left or is_lost(client):
                raise
    try:
        yield
    finally:
        if client.status == "running":
            # Workers may be going away, and the plugin with them; if not, some kB stay.
            with suppress(Exception):
                remove = client.scheduler.unregister_worker_plugin
                client.sync(remove, name=name, callback_timeout=TIDYING_SECONDS)


@contextmanager
def listening(client: Client, topic: str, handle: Callable[[Any], None]) -> Iterator[None]:
    """Have messages handled that workers log under a topic, in the thread of the client's loop."""
    client.subscribe_topic(topic, lambda event: handle(event[1]))
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic(topic)


def is_lost(client: Client) -> bool:
    """Whether a client has lost its scheduler, which it learns some time after the failure."""
    until = time.monotonic() + 1
    while client.status == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return str(client.status) != "running"
