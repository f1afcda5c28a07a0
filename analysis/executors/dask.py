"""Batches on a Dask cluster: one of this machine, made for columnar analysis, or the user's own.

A plain LocalCluster takes more than twice the CPU time of the iterative executor; nearly all of
the difference is `TRIM`, and what is left is beside the entries of `CONFIGURATION`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
import signal
import tempfile
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coffea.processor import DaskExecutor
from rich.console import Console

from analysis.errors import InputError, WorkerLostError
from analysis.executors.batches import (
    BatchedExecutor,
    guided,
    merge_payloads,
    process_batch,
    split,
)
from analysis.executors.worker import environment as worker_environment
from analysis.executors.worker import warm
from analysis.interruption import postponed
from analysis.processes import end_children, environment

try:
    import dask
    from distributed import (
        CancelledError,
        Client,
        KilledWorker,
        LocalCluster,
        Nanny,
        Security,
        WorkerPlugin,
        get_worker,
    )
    from distributed.utils import LoopRunner, silence_logging_cmgr
except ImportError as _error:
    _message = f"the dask executor cannot start ({_error}): install coffea[dask]"
    raise InputError(_message) from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future as Fetched

    from coffea.processor.executor import ExecutorBase
    from distributed import Future

    from analysis.executors.batches import Payload
    from analysis.executors.options import DaskOptions

    _Parts = tuple[Any, Payload]

TRIM: Final = "MALLOC_TRIM_THRESHOLD_"
"""Dask's nannies set this to 64 kB, so that glibc gives memory back to the kernel as soon as it is
free, and faults it in again for the next array."""

CONFIGURATION: Final[dict[str, Any]] = {
    # Who samples every 10 ms what workers do is not at hand: 56 ms.
    "distributed.worker.profile.enabled": False,
    # Scheduler, nannies and workers look 50 times a second whether they are late: 52 ms.
    "distributed.admin.tick.interval": "1s",
    # Twice a second what the machine does, which dashboards show: 5 ms.
    "distributed.admin.system-monitor.interval": "10s",
    # Ten times a second whether to write results to disk, which are small, or to pause: 8 ms. And
    # a worker that pauses would do so for good: it keeps the memory of a chunk for the next one.
    # The nanny ends what exceeds its limit all the same.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Dask would give the whole batch to three more workers; here its items part at once.
    "distributed.scheduler.allowed-failures": 0,
    # A nanny that starts its worker again takes longer than 15 s on a busy machine, after which the
    # cluster would take it for lost, and end it.
    "distributed.deploy.lost-worker-timeout": "1h",
    # No second task waits at a worker that is busy, while another is idle or when it dies. Asking
    # for the next when one is done takes 2 ms.
    "distributed.scheduler.worker-saturation": 1.0,
}
"""What a cluster of this machine has otherwise than Dask's defaults.

Beside each what it spares: CPU time per second of an idle cluster of two workers, client included
(121 ms with the defaults, 17 to 20 with this).
"""

SENT_ALONG: Final = 1_000_000
"""Bytes of the function of a run, in all its batches: more is brought to each worker once, which
takes 10 ms a run."""

SOON_SECONDS: Final = 2.0
"""After which a user is told what is waited for."""

LOOKING_SECONDS: Final = 5.0
"""After which, without a result, the scheduler is asked whether it is there and has workers."""

TIDYING_SECONDS: Final = 5.0
"""After which a scheduler of the user's is left without a word: it may be stopped."""

CLOSING_SECONDS: Final = 20.0
"""After which closing what hangs is given up; it takes 0.1 s."""


class Warm(WorkerPlugin):
    """Makes each worker ready before it is given work; one that joins later too."""

    name = "coffea-scaling-warm"

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Called by a worker that has registered, before any task reaches it."""
        warm()


class Code(WorkerPlugin):
    """Brings the function of a run to each worker once; to one that joins later too.

    As a future that tasks depend on it would bind them to the worker that holds it (coffea issue
    1490); scattered it would be lost with that worker (coffea issue 465).
    """

    def __init__(self, code: bytes) -> None:
        self.code = code


def _process(batch: bytes, code: bytes | str, compression: int | str | None) -> _Parts:
    """Call `process_batch` on a worker, with the function or that which a plugin of it holds."""
    return _apart(process_batch(_known(code), pickle.loads(batch), compression))


def _merge(parts: Iterable[_Parts], code: bytes | str, compression: int | str | None) -> _Parts:
    """Call `merge_payloads` on a worker."""
    return _apart(merge_payloads(map(_together, parts), compression, _known(code)))


def _known(code: bytes | str) -> bytes:
    known: bytes = get_worker().plugins[code].code if isinstance(code, str) else code
    return known


def _apart(payload: Payload) -> _Parts:
    """A payload in the form that Dask sends without copying the bytes: 16 MB in 16 ms, not 30."""
    return payload.data, payload._replace(data=None)


def _together(parts: _Parts) -> Payload:
    data, payload = parts
    return payload._replace(data=data)


class _StuckError(OSError):
    """Nothing will come of waiting, though the connection stands; a clause that says why."""


class _Work(NamedTuple):
    """What a future will hold: numbers of the items, and how often payloads were merged."""

    items: list[int]
    level: int = 0


@dataclass
class DaskBatches(BatchedExecutor):
    """Batches as futures of a Dask client.

    Parameters
    ----------
    client
        Connected; its cluster has what number of workers it has when the executor is called.
    priority
        Of tasks, among those of others on the same cluster.
    affinity
        Whether a chunk of the same file set goes to the same worker in every run, if that is
        still there: for what workers or their machines have cached.
    silence
        Seconds that the scheduler has to answer when it is asked whether it is there.
    patience
        Seconds for which there may be no worker.
    here
        Whether its workers are threads of this process.
    """

    client: Client | None = None
    priority: int = 0
    affinity: bool = False
    silence: float = 60.0
    patience: float = 60.0
    here: bool = False

    @property
    def inside(self) -> bool:
        """As of `BatchedExecutor`."""
        return self.here

    def __getstate__(self) -> dict[str, Any]:
        """Without the client, which stays here."""
        return {**self.__dict__, "client": None}

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        """As `BatchedExecutor`.

        Raises
        ------
        InputError
            If the connection to the scheduler is lost, if it is silent, or has no workers.
        """
        assert self.client is not None
        try:
            self.workers = max(1, sum(self.client.nthreads().values()))
            return super().__call__(items, function, accumulator)
        except (CancelledError, OSError) as error:
            address = self.client.scheduler.address
            if isinstance(error, _StuckError):
                msg = f"the Dask scheduler at {address} {error}"
                raise InputError(msg) from error
            if not _lost(self.client):
                raise
            msg = (
                f"the connection to the Dask scheduler at {address} was lost: see what ended it, "
                "start it again and repeat the run"
            )
            raise InputError(msg) from error

    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """As `BatchedExecutor.results`."""
        assert self.client is not None
        run = f"coffea-{uuid.uuid4().hex}"
        if len(code) * len(batches) <= SENT_ALONG:
            yield from _Run(self, self.client, run, code, batches).payloads()
            return
        _register(self.client, Code(code), run)
        try:
            yield from _Run(self, self.client, run, run, batches).payloads()
        finally:
            _unregister(self.client, run)


class _Run:
    """One call of an executor."""

    def __init__(
        self,
        executor: DaskBatches,
        client: Client,
        name: str,
        code: bytes | str,
        batches: Sequence[Sequence[Any]],
    ) -> None:
        self.executor = executor
        self.client = client
        self.name = name
        self.code = code
        self.began = time.time()
        self.items = list(chain.from_iterable(batches))
        self.batches = split(range(len(self.items)), map(len, batches))
        self.deaths: Counter[int] = Counter()
        self.at_work: dict[Future, _Work] = {}
        self.keys = 0
        # So often are payloads merged on workers that no more than fan_in come to the client.
        self.levels, width = 0, len(batches)
        while width > executor.fan_in > 1:
            width = math.ceil(width / executor.fan_in)
            self.levels += 1
        self.waiting: list[dict[Future, _Work]] = [{} for _ in range(self.levels)]
        # Not distributed's as_completed, which can miss that a future is done, and then sleeps on
        # for a tenth of a second; and which has results fetched one by one.
        self.done: SimpleQueue[tuple[Future, Fetched[Any] | None]] = SimpleQueue()

    def payloads(self) -> Iterator[Payload]:
        """As `BatchedExecutor.results`."""
        if self.executor.affinity:
            self._submit_by_worker()
        else:
            self._submit(self.batches)
        try:
            while self.at_work:
                while self.at_work:
                    future, fetched = self._next()
                    work = self.at_work.pop(future)
                    try:
                        if fetched is not None:
                            yield _together(fetched.result())
                        elif future.status == "finished":
                            self._keep(future, work)
                        else:
                            future.result()  # Raises.
                    except KilledWorker as error:
                        self._again(work.items, error)
                # All is done; what waits for more to be merged with will not get any.
                rest = (level for level in range(self.levels) if self.waiting[level])
                self._merge(next(rest, None))
        finally:
            for held in (self.at_work, *self.waiting):
                for future in held:
                    future.release()

    def _next(self) -> tuple[Future, Fetched[Any] | None]:
        """What is done next; a scheduler that is stopped or has no workers would never say so."""
        executor = self.executor
        deserted = math.inf
        while True:
            try:
                return self.done.get(timeout=min(executor.silence, LOOKING_SECONDS))
            except Empty:
                pass
            asking = self.client.scheduler.identity
            try:
                found = self.client.sync(asking, callback_timeout=executor.silence)
            except TimeoutError as error:
                msg = (
                    f"has not answered for {executor.silence:g} s: see what stopped it, start it "
                    "again and repeat the run"
                )
                raise _StuckError(msg) from error
            now = time.monotonic()
            deserted = math.inf if found["n_workers"] else min(deserted, now)
            if now - deserted > executor.patience:
                msg = (
                    f"has had no worker for {executor.patience:g} s: start workers and repeat the "
                    "run, or have more patience"
                )
                raise _StuckError(msg)

    def _submit(self, batches: Sequence[list[int]], **where: Any) -> None:
        if not batches:
            return
        names = [(f"process-{self.name}", self.keys + n) for n in range(len(batches))]
        self.keys += len(batches)
        with warnings.catch_warnings():
            # All items of a big file set; there is nothing that a user could do about it.
            warnings.filterwarnings("ignore", message="Sending large graph")
            futures = self.client.map(
                _process,
                # Bytes, in which Dask does not look for futures.
                [self.executor.packed([self.items[n] for n in batch]) for batch in batches],
                # Not by keyword: of one over 100 kB Dask makes a task that is called as the
                # keyword is, "code", and a run would wait for that of another, or be given it.
                [self.code] * len(batches),
                compression=self.executor.compression,
                key=names,
                pure=False,
                priority=self.executor.priority,
                **where,
            )
        for future, batch in zip(futures, batches, strict=True):
            self._watch(future, _Work(batch))

    def _watch(self, future: Future, work: _Work) -> None:
        """Have `done` told when a future is; of a last payload when that is here."""
        self.at_work[future] = work
        if work.level < self.levels:
            future.add_done_callback(lambda one: self.done.put((one, None)))
            return
        gathering = self.client.gather(future, asynchronous=True)
        fetched = asyncio.run_coroutine_threadsafe(gathering, self.client.loop.asyncio_loop)
        fetched.add_done_callback(lambda one: self.done.put((future, one)))

    def _submit_by_worker(self) -> None:
        """Deal out chunks in turn, in an order that does not depend on batches."""
        threads = self.client.nthreads()
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        # A worker that was started again has another address, and its name.
        addresses = sorted(threads, key=lambda one: str(known.get(one, {}).get("name", one)))
        for turn, address in enumerate(addresses):
            mine = range(turn, len(self.items), len(addresses))
            sizes = guided(len(mine), threads[address], self.executor.batch)
            self._submit(split(mine, sizes), workers=[address], allow_other_workers=True)

    def _keep(self, future: Future, work: _Work) -> None:
        """Leave a payload on its worker until there are enough to merge."""
        waiting = self.waiting[work.level]
        waiting[future] = work
        if len(waiting) == self.executor.fan_in:
            self._merge(work.level)

    def _merge(self, level: int | None) -> None:
        if level is None:
            return
        futures, self.waiting[level] = self.waiting[level], {}
        items = list(chain.from_iterable(work.items for work in futures.values()))
        self.keys += 1
        future = self.client.submit(
            _merge,
            list(futures),
            self.code,
            self.executor.compression,
            key=(f"merge-{self.name}", self.keys),
            pure=False,
            # Before batches: what is merged need not be held.
            priority=self.executor.priority + 1,
        )
        self._watch(future, _Work(items, level + 1))

    def _again(self, items: list[int], error: KilledWorker) -> None:
        """Process items again whose worker died, each alone: the one that kills then stands out.

        Raises
        ------
        WorkerLostError
            If one that was alone has killed more workers than `retries` allows.
        """
        deaths = error.allowed_failures + 1
        self.deaths.update(dict.fromkeys(items, deaths))
        if len(items) == 1 and self.deaths[items[0]] > self.executor.retries:
            msg = f"workers died {self.deaths[items[0]]} times"
            events = self.client.get_events("worker-restart-memory") or ()
            if any(when >= self.began for when, _ in events):
                msg += ", over their memory limit"
            raise WorkerLostError(msg) from error
        self.executor.ledger.lost += 1
        self._submit([[item] for item in items])


def _register(client: Client, plugin: WorkerPlugin, name: str | None = None) -> None:
    """Register a plugin; a worker that dies meanwhile does not matter."""
    for left in reversed(range(3)):
        try:
            client.register_plugin(plugin, name=name)
        except OSError:
            if not left or _lost(client):
                raise
        else:
            return


def _unregister(client: Client, name: str) -> None:
    if client.status == "running":
        # Workers may be going away, and the plugin with them; if not, it is some kB that stay.
        with suppress(Exception):
            remove = client.scheduler.unregister_worker_plugin
            client.sync(remove, name=name, callback_timeout=TIDYING_SECONDS)


def _lost(client: Client) -> bool:
    """Whether a client has lost its scheduler; it learns of it some time after the failure."""
    until = time.monotonic() + 1
    while client.status == "running" and time.monotonic() < until:
        time.sleep(0.05)
    return str(client.status) != "running"


@contextmanager
def start(options: DaskOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start a cluster or connect to one, and yield the executor that uses it.

    Raises
    ------
    InputError
        If the scheduler cannot be reached, no worker joins it, or the cluster cannot be started.
    """
    given = options.address if options.cluster is None else options.cluster
    fields = options.batched()
    with ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        if given is not None:
            client = stack.enter_context(_connected(given, options))
        elif options.tuned:
            # Within a machine bytes travel faster than lz4 takes them in: of 16 tasks that return
            # 16 MB each one takes 16 ms, and 24 ms with ``auto``.
            fields = options.batched(compression=None)
            folder = tempfile.TemporaryDirectory(prefix="coffea-dask-")
            client = stack.enter_context(_tuned(options, workers, stack.enter_context(folder)))
        else:
            client = stack.enter_context(_plain(options, workers))
        # Threads of this process are as warm as it is.
        warmed = options.tuned and (options.processes or given is not None)
        for plugin in (Warm(), *options.plugins) if warmed else options.plugins:
            stack.enter_context(_registered(client, plugin))
        if options.tuned:
            yield DaskBatches(
                client=client,
                priority=options.priority,
                affinity=options.affinity,
                silence=options.silence,
                patience=options.patience,
                here=given is None and not options.processes,
                **fields,
            )
        else:
            yield DaskExecutor(
                client=client,
                priority=options.priority,
                worker_affinity=options.affinity,
                **options.of_coffea(),
            )


@contextmanager
def _connected(given: Any, options: DaskOptions) -> Iterator[Client]:
    """Connect to a cluster of the user's."""
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
        # It would try again to close what was not opened, and report that.
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
        # A task, for which an adaptive cluster starts a worker.
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
def _registered(client: Client, plugin: WorkerPlugin) -> Iterator[None]:
    name = getattr(plugin, "name", None) or f"{type(plugin).__name__}-{uuid.uuid4().hex}"
    try:
        _register(client, plugin, name)
    except Exception as error:
        msg = (
            f"the plugin {type(plugin).__name__} failed on a worker ({error}): workers need the "
            "packages that this process has, or are sent them with the option modules"
        )
        raise InputError(msg) from error
    try:
        yield
    finally:
        _unregister(client, name)


@contextmanager
def _tuned(options: DaskOptions, workers: int, folder: str) -> Iterator[Client]:
    """Start a LocalCluster with CONFIGURATION."""
    own: dict[str, Any] = {
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
        # Nannies prefer what stands in the environment of this process.
        with environment({**kept, **options.environment}), dask.config.set(settings):
            if options.processes:
                # A copy, for workers that are started again when dask.config is as it was.
                own |= {"config": deepcopy(dask.config.config), "env": _given(options)}
            try:
                cluster = LocalCluster(**own, loop=loop, silence_logs=logging.CRITICAL)
            except (RuntimeError, OSError, ValueError, TypeError) as error:
                msg = f"the Dask cluster cannot be started: {error}"
                raise InputError(msg) from error
            stack.callback(_close, cluster, lambda: finished)
            # Results come from the workers straight, not by way of the scheduler.
            client = Client(cluster, set_as_default=False, direct_to_workers=True)
        stack.callback(client.close, CLOSING_SECONDS)
        yield client
        finished = True


def _given(options: DaskOptions) -> dict[str, str]:
    """Environment variables of workers that the user has set."""
    return {name: value for name, value in options.environment.items() if value is not None}


@contextmanager
def _plain(options: DaskOptions, workers: int) -> Iterator[Client]:
    """Start a LocalCluster as it comes."""
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
    """An event loop in a thread that starts processes which Ctrl-C does not reach."""
    runner = LoopRunner()
    with postponed():
        runner.start()
    try:
        yield runner.loop
    finally:
        runner.stop()


def _close(cluster: LocalCluster, finished: Callable[[], bool]) -> None:
    """Take a cluster down; after an exception nobody waits for chunks that are still at work."""
    nannies = [one for one in cluster.workers.values() if isinstance(one, Nanny) and one.pid]
    end_children(nanny.pid for nanny in nannies)
    if not finished():
        for nanny in nannies:
            if nanny.pid:
                nanny.close_gracefully()  # Do not start it again.
                with suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
    cluster.close(timeout=CLOSING_SECONDS)


def _dashboard(wanted: bool | str) -> dict[str, Any]:  # noqa: FBT001
    """What a scheduler is told; even without a dashboard it serves metrics, at port 8787."""
    address = wanted if isinstance(wanted, str) else "127.0.0.1:0"
    return {"dashboard": bool(wanted), "dashboard_address": address}
