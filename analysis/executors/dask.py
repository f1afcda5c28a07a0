"""Batches on a Dask cluster: one of this machine, made for columnar analysis, or the user's own."""

from __future__ import annotations

import asyncio
import logging
import math
import pickle
import tempfile
import time
import uuid
import warnings
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from coffea.processor import DaskExecutor
from distributed import CancelledError, Client, KilledWorker, WorkerPlugin, get_worker
from distributed.utils import silence_logging_cmgr

from analysis.errors import InputError, WorkerLostError
from analysis.executors import _dask_cluster as clusters
from analysis.executors import machine_code
from analysis.executors.batches import BatchedExecutor, merge_payloads, process_batch
from analysis.executors.order import guided, split, weight
from analysis.executors.worker import environment as worker_environment
from analysis.executors.worker import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future as Fetched

    from coffea.processor.executor import ExecutorBase
    from distributed import Future

    from analysis.executors.options import DaskOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload

    _Parts = tuple[Any, Payload]

SENT_ALONG: Final = 1_000_000
"""Bytes of the function of a run, over all its batches; a larger one is sent to each worker once,
which takes 10 ms a run."""

LOOKING_SECONDS: Final = 5.0
"""Seconds without a result after which the scheduler is asked whether it has workers."""


class Warm(WorkerPlugin):
    """Warms each worker before it is given work, also one that joins later."""

    name = "coffea-scaling-warm"

    def __init__(self, compiled: bytes = b"") -> None:
        self.compiled = compiled

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """Run on a worker that has registered, before it gets a task."""
        warm()
        machine_code.unpack(self.compiled)


class Code(WorkerPlugin):
    """Sends the function of a run to each worker once, also to one that joins later.

    A future on which tasks depend would bind them to the worker that holds it (coffea issue
    1490); scattered data would be lost with that worker (coffea issue 465).
    """

    def __init__(self, code: bytes) -> None:
        self.code = code


def _process(
    batch: bytes, code: bytes | str, compression: int | str | None, topic: str | None
) -> _Parts:
    """Call `process_batch` on a worker; `code` is the function, or the name of a `Code` plugin.

    What chunks took is told under `topic`, if there is one: results may stay on workers.
    """
    payload = process_batch(_known(code), pickle.loads(batch), compression)
    if topic is not None:
        # In a dictionary of its own, into which the scheduler writes.
        get_worker().log_event(topic, {"took": payload.took})
    return _apart(payload)


def _merge(parts: Iterable[_Parts], code: bytes | str, compression: int | str | None) -> _Parts:
    """Call `merge_payloads` on a worker."""
    return _apart(merge_payloads(map(_together, parts), compression, _known(code)))


def _known(code: bytes | str) -> bytes:
    known: bytes = get_worker().plugins[code].code if isinstance(code, str) else code
    return known


def _apart(payload: Payload) -> _Parts:
    """Split a payload so that Dask sends its bytes without copying: 16 MB in 16 ms, not 30."""
    return payload.data, payload._replace(data=None)


def _together(parts: _Parts) -> Payload:
    data, payload = parts
    return payload._replace(data=data)


def _learn(order: Order, message: Mapping[str, Any]) -> None:
    """Take what `_process` tells."""
    order.learn(message["took"])


class _StuckError(OSError):
    """The scheduler will give no result though it is connected; the message says why."""


class _Work(NamedTuple):
    """What a future will hold."""

    items: list[int]
    """Their numbers."""
    level: int = 0
    """How often payloads were merged."""


@dataclass
class DaskBatches(BatchedExecutor):
    """Batches as futures of a Dask client, whose cluster may grow and shrink between calls.

    What its fields mean is said of the options of the same names in `options.py`.
    """

    unpickled: ClassVar[tuple[str, ...]] = ("client",)

    client: Client | None = None
    priority: int = 0
    affinity: bool = False
    silence: float = 60.0
    patience: float = 60.0

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        """Raise InputError if the scheduler is lost, is silent or has no workers."""
        assert self.client is not None
        try:
            self.workers = max(1, sum(self.client.nthreads().values()))
            return super().__call__(items, function, accumulator)
        except (CancelledError, OSError) as error:
            address = self.client.scheduler.address
            if isinstance(error, _StuckError):
                msg = f"the Dask scheduler at {address} {error}"
                raise InputError(msg) from error
            if not clusters.is_lost(self.client):
                raise
            msg = (
                f"the connection to the Dask scheduler at {address} was lost: see what ended it, "
                "start it again and repeat the run"
            )
            raise InputError(msg) from error

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Submit batches, and merge payloads on workers while they are many."""
        assert self.client is not None
        run = _Run(self, self.client, order)
        with ExitStack() as stack:
            if run.topic is not None:
                learn = partial(_learn, order)
                stack.enter_context(clusters.listening(self.client, run.topic, learn))
            if len(code) * run.expected <= SENT_ALONG:
                yield from run.payloads(code)
                return
            stack.enter_context(clusters.registered(self.client, Code(code), run.name))
            yield from run.payloads(run.name)


class _Run:
    """One call of an executor."""

    def __init__(self, executor: DaskBatches, client: Client, order: Order) -> None:
        self.executor = executor
        self.client = client
        self.order = order
        self.name = f"coffea-{uuid.uuid4().hex}"
        self.code: bytes | str = b""
        self.began = time.time()
        self.items: list[Any] = []
        if executor.affinity:  # Each item has its worker, whatever chunks took.
            self.items += order.items
        self.first = [] if executor.affinity else order.begin()
        self.expected = len(self.first) + order.expected()
        self.deaths: Counter[int] = Counter()
        self.at_work: dict[Future, _Work] = {}
        self.keys = 0
        # Payloads are merged on workers until no more than fan_in are left for the client.
        self.levels, width = 0, self.expected
        while width > executor.fan_in > 1:
            width = math.ceil(width / executor.fan_in)
            self.levels += 1
        self.waiting: list[dict[Future, _Work]] = [{} for _ in range(self.levels)]
        # Not distributed's as_completed, which can miss that a future is done and then sleeps for
        # a tenth of a second, and after which results are fetched one by one.
        self.done: SimpleQueue[tuple[Future, Fetched[Any] | None]] = SimpleQueue()
        # Where payloads stay on workers until many are merged, these tell what chunks took.
        self.topic = self.name if order.left and self.levels else None

    def payloads(self, code: bytes | str) -> Iterator[Payload]:
        """Payloads as they come; `code` is the function, or the name of a `Code` plugin."""
        self.code = code
        if self.executor.affinity:
            self._submit_by_worker()
        else:
            self._submit(self._numbered(self.first))
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
                    self._submit_rest()
                # All is done: merge what waits for more.
                rest = (level for level in range(self.levels) if self.waiting[level])
                self._merge(next(rest, None))
        finally:
            for held in (self.at_work, *self.waiting):
                for future in held:
                    future.release()

    def _next(self) -> tuple[Future, Fetched[Any] | None]:
        """Wait for a future; ask a scheduler that is silent whether it answers and has workers."""
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

    def _numbered(self, batches: Sequence[Sequence[Any]]) -> list[list[int]]:
        """Take the items of batches, and give their numbers."""
        begin = len(self.items)
        self.items += chain.from_iterable(batches)
        return split(range(begin, len(self.items)), map(len, batches))

    def _submit_rest(self) -> None:
        """Submit what is left of the items when workers soon have no others."""
        if self.order.left:
            at_work = sum(work.level == 0 for work in self.at_work.values())
            self._submit(self._numbered(self.order.rest(at_work)))

    def _submit(self, batches: Sequence[list[int]], **where: Any) -> None:
        if not batches:
            return
        names = [(f"process-{self.name}", self.keys + n) for n in range(len(batches))]
        self.keys += len(batches)
        with warnings.catch_warnings():
            # Of a file set with many chunks, about which a user can do nothing.
            warnings.filterwarnings("ignore", message="Sending large graph")
            futures = self.client.map(
                _process,
                # Bytes, in which Dask does not look for futures.
                [self.executor.packed([self.items[n] for n in batch]) for batch in batches],
                # Not by keyword: for one over 100 kB Dask makes a task named like the keyword,
                # "code", and a run would be given that of another.
                [self.code] * len(batches),
                compression=self.executor.compression,
                topic=self.topic,
                key=names,
                pure=False,
                priority=self.executor.priority,
                **where,
            )
        for future, batch in zip(futures, batches, strict=True):
            self._watch(future, _Work(batch))

    def _watch(self, future: Future, work: _Work) -> None:
        """Put a future into `done` when it is done, one of the last level when it is here."""
        self.at_work[future] = work
        if work.level < self.levels:
            future.add_done_callback(lambda one: self.done.put((one, None)))
            return
        gathering = self.client.gather(future, asynchronous=True)
        fetched = asyncio.run_coroutine_threadsafe(gathering, self.client.loop.asyncio_loop)
        fetched.add_done_callback(lambda one: self.done.put((future, one)))

    def _submit_by_worker(self) -> None:
        """Give each worker every n-th chunk, so that the order does not depend on batches."""
        threads = self.client.nthreads()
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        # A worker that was restarted has another address, and the same name.
        addresses = sorted(threads, key=lambda one: str(known.get(one, {}).get("name", one)))
        for turn, address in enumerate(addresses):
            mine = range(turn, len(self.items), len(addresses))
            weights = [weight(self.items[n]) for n in mine]
            sizes = guided(weights, threads[address], self.executor.batch)
            self._submit(split(mine, sizes), workers=[address], allow_other_workers=True)

    def _keep(self, future: Future, work: _Work) -> None:
        """Keep a payload on its worker until there are enough to merge."""
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
            # Before batches, so that workers hold less.
            priority=self.executor.priority + 1,
        )
        self._watch(future, _Work(items, level + 1))

    def _again(self, items: list[int], error: KilledWorker) -> None:
        """Process the items of a dead worker again, each alone, so that the one that kills shows."""
        deaths = error.allowed_failures + 1
        self.deaths.update(dict.fromkeys(items, deaths))
        if len(items) == 1 and self.deaths[items[0]] > self.executor.retries:
            msg = f"workers died {self.deaths[items[0]]} times"
            events = self.client.get_events("worker-restart-memory") or ()
            if any(when >= self.began for when, _ in events):
                msg += ", over their memory limit"
            raise WorkerLostError(msg) from error
        self.executor.statistics.lost += 1
        self._submit([[item] for item in items])


def job_environment() -> dict[str, str]:
    """Environment variables for workers of a Dask cluster that is not started here.

    A batch system's job script exports them before it starts a worker: the allocator, which must
    be set when a process starts, and the settings of `_dask_cluster.CONFIGURATION`, which Dask
    reads from variables. Without them a worker that keeps its memory would be paused for it.

    Returns
    -------
    dict of str to str
        Values by name. None has blanks or quotes, so that any shell takes them as they are.
    """
    settings = clusters.CONFIGURATION.items()
    return worker_environment() | {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(value)
        for name, value in settings
    }


@contextmanager
def start(options: DaskOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start a cluster or connect to one, and yield the executor that uses it."""
    given = options.address if options.cluster is None else options.cluster
    fields = options.batched()
    with ExitStack() as stack:
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        if given is not None:
            client = stack.enter_context(clusters.connected(given, options))
        elif options.tuned:
            # Within a machine bytes are sent faster than lz4 compresses them: a task that returns
            # 16 MB takes 16 ms, and 24 ms with ``auto``.
            fields = options.batched(compression=None)
            folder = tempfile.TemporaryDirectory(prefix="coffea-dask-")
            name = stack.enter_context(folder)
            client = stack.enter_context(clusters.tuned(options, workers, name))
        else:
            client = stack.enter_context(clusters.stock(options, workers))
        # Threads of this process are as warm as it is.
        warmed = options.tuned and (options.processes or given is not None)
        warming = Warm()
        if given is not None:
            from analysis.executors.rehearsal import compiled  # noqa: PLC0415

            warming = Warm(compiled())
        for plugin in (warming, *options.plugins) if warmed else options.plugins:
            stack.enter_context(clusters.registered_plugin(client, plugin))
        if options.tuned:
            yield DaskBatches(
                client=client,
                priority=options.priority,
                affinity=options.affinity,
                silence=options.silence,
                patience=options.patience,
                inside=given is None and not options.processes,
                **fields,
            )
        else:
            yield DaskExecutor(
                client=client,
                priority=options.priority,
                worker_affinity=options.affinity,
                **options.of_coffea(),
            )
