"""Items in batches, each merged on its worker: few results are sent, few tasks are managed.

The base of all executors of this package. An engine has to bring a batch to a worker, call
`process_batch` there and bring the payload back; the rest is here.
"""

from __future__ import annotations

import pickle
import sys
import time
from abc import abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle
from coffea.processor import accumulate
from coffea.processor.executor import ExecutorBase, rich_bar

from analysis.executors.code import dumps, entered
from analysis.executors.limit import limit
from analysis.executors.order import Order, sample, weight
from analysis.executors.payload import (
    Payload,
    RaisedError,
    Spent,
    only_raised_errors,
    pack,
    worker_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from analysis.executors.code import Task


@dataclass
class Statistics:
    """What the runs of an executor took; shared by its copies, which coffea's Runner makes."""

    spent: Spent = field(default_factory=Spent)
    """Of the workers."""

    unpacking: float = 0.0
    merging: float = 0.0
    """Wall seconds of the client."""

    batches: int = 0
    """Number of payloads that the client received."""

    lost: int = 0
    """Batches that were given to another worker because theirs had died."""

    def clear(self) -> None:
        """Set all to zero."""
        self.__init__()  # type: ignore[misc]


# --- on workers


@only_raised_errors()
def process_batch(
    code: bytes, batch: bytes | Sequence[Any], compression: int | str | None = None
) -> Payload:
    """Call a function on each item of a batch and merge the results.

    Parameters
    ----------
    code
        The function, and what it needs, as `code.dumps` gives it.
    batch
        Items, or their pickle.
    compression
        See `payload.pack`.

    Raises
    ------
    RaisedError
        In place of every exception.
    """
    clock, cpu = time.perf_counter, time.thread_time()
    begin = clock()
    called = 0.0
    took: dict[str, list[float]] = {}
    failed: RaisedError | None = None

    def results(task: Task) -> Iterator[Any]:
        nonlocal called, failed
        for item in items:
            start = clock()
            try:
                result = task.call(item)
            except Exception as error:
                if not task.recoverable:
                    raise
                failed = failed or RaisedError.of(error)
                continue
            seconds = clock() - start
            called += seconds
            if name := sample(item):
                took.setdefault(name, []).append(seconds / weight(item))
            yield result

    with entered(code) as task:
        items = pickle.loads(batch) if isinstance(batch, bytes) else batch
        total = accumulate(results(task))
        merged = clock()
        kind, data = pack(total, compression)
    packed = clock()
    spent = Spent(
        processing=called,
        merging=merged - begin - called,
        packing=packed - merged,
        cpu=time.thread_time() - cpu,
        tasks=1,
    )
    return Payload(kind, data, len(items), worker_name(), spent, failed, took)


@only_raised_errors()
def merge_payloads(
    payloads: Iterable[Payload],
    compression: int | str | None = None,
    code: bytes | None = None,
) -> Payload:
    """Merge payloads of batches, or of earlier merges, into one, on a worker.

    Parameters
    ----------
    payloads
        At least one.
    compression
        See `payload.pack`.
    code
        See `process_batch`: accumulators may be of a class that was sent with it.

    Raises
    ------
    RaisedError
        In place of every exception.
    """
    clock, cpu = time.perf_counter, time.thread_time()
    begin = clock()
    items, packing, spent = 0, 0.0, Spent()
    took: dict[str, list[float]] = {}
    failed: RaisedError | None = None

    def unpacked() -> Iterator[Any]:
        nonlocal items, packing, spent, failed
        for payload in payloads:
            start = clock()
            accumulator = payload.unpack()
            packing += clock() - start
            items += payload.items
            spent = spent.plus(payload.spent)
            failed = failed or payload.error
            for name, seconds in payload.took.items():
                took.setdefault(name, []).extend(seconds)
            yield accumulator

    with nullcontext() if code is None else entered(code):
        # In one call, which changes none of its arguments: those of a thread are the objects
        # that the function returned, and it may still hold them.
        total = accumulate(unpacked())
        merging = clock() - begin - packing
        start = clock()
        kind, data = pack(total, compression)
        packing += clock() - start
    own = Spent(0.0, merging, packing, time.thread_time() - cpu, 1)
    return Payload(kind, data, items, worker_name(), spent.plus(own), failed, took)


# --- on the client


@dataclass
class BatchedExecutor(ExecutorBase):
    """Base of the executors of this package.

    What its fields mean is said of the options of the same names in `options.py`.
    """

    compression: int | str | None = "auto"
    workers: int = 1
    """Number of workers that batches are made for."""
    retries: int = 3
    """How often coffea tries a failed chunk again, and how often a batch whose worker died is
    given to another."""
    batch: int | None = None
    fan_in: int = 16
    chunk_timeout: float | None = None
    recoverable: bool = False
    statistics: Statistics = field(default_factory=Statistics)
    known: dict[str, list[float]] = field(default_factory=dict)
    """What chunks of the last run took (`order.Order`); shared by copies, as `statistics` is."""
    inside: bool = False
    """Whether workers are threads of this process."""

    unpickled: ClassVar[tuple[str, ...]] = ()
    """Fields that stay in this process: coffea pickles the executor with its function."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the fields that stay here."""
        return {**self.__dict__, "known": {}, **dict.fromkeys(self.unpickled)}

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        """Call the function on every item and merge the results into the accumulator.

        As coffea's Runner expects, the second value is 0, or an exception if items that failed
        were left out.
        """
        order = Order(items, self.workers, self.batch, self.known)
        todo = len(order.items)
        done = 0
        failed: BaseException | None = None
        with limit(self.chunk_timeout) as most, rich_bar() as progress:
            code = dumps(function, most, inside=self.inside, recoverable=self.recoverable)
            shown = self.status and sys.stdout.isatty()
            bar = progress.add_task(self.desc, total=todo, unit=self.unit, visible=shown)

            def unpacked() -> Iterator[Any]:
                nonlocal done, failed
                for payload in self._restored(code, order):
                    order.learn(payload.took)
                    start = time.perf_counter()
                    result = payload.unpack()
                    merged = time.perf_counter()
                    self.statistics.unpacking += merged - start
                    self.statistics.spent = self.statistics.spent.plus(payload.spent)
                    self.statistics.batches += 1
                    done += payload.items
                    if payload.error is not None and failed is None:
                        failed = payload.error.restored()
                    yield result
                    self.statistics.merging += time.perf_counter() - merged
                    progress.update(bar, completed=done)

            def recovered() -> Iterator[Any]:
                nonlocal failed
                try:
                    yield from unpacked()
                except Exception as error:
                    if not self.recoverable:
                        raise
                    failed = error

            # In one call, as in `merge_payloads`.
            accumulator = accumulate(recovered(), accumulator)
        if failed is not None:
            if accumulator is None:
                raise failed
            return accumulator, failed
        if done != todo:
            msg = f"{done} of {todo} items came back: the result is not used, run it again"
            raise RuntimeError(msg)
        return accumulator, 0

    def _restored(self, code: bytes, order: Order) -> Iterator[Payload]:
        try:
            yield from self.results(code, order)
        except RaisedError as error:
            raised = error.restored()
            raise raised from raised.__cause__

    def packed(self, batch: Sequence[Any]) -> bytes | Sequence[Any]:
        """A batch for `process_batch`: workers unpickle it once they have the user's modules."""
        data: bytes | Sequence[Any] = batch if self.inside else cloudpickle.dumps(batch)
        return data

    @abstractmethod
    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Have workers call `process_batch` with `code` and each batch of `order`, `packed`.

        Yields the payloads in any order. Raises RaisedError if a task raised, and
        WorkerLostError if workers died more often than `retries` allows.
        """
