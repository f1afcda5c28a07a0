"""A pool of worker processes or threads on this machine, warm before the first chunk.

coffea's FuturesExecutor by default makes a new loky pool in every call, each worker of which
imports coffea again (seconds). Here one pool serves all calls.
"""

from __future__ import annotations

import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import loky
from coffea.processor import FuturesExecutor
from loky.process_executor import BrokenProcessPool

from analysis.executors.batches import process_batch
from analysis.executors.fork_server import forking
from analysis.executors.payload import fetch, spill
from analysis.executors.pool import PoolExecutor
from analysis.executors.worker import environment as worker_environment
from analysis.executors.worker import warm
from analysis.interruption import postponed
from analysis.processes import end_children, end_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.fork_server import ForkContext
    from analysis.executors.options import FuturesOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload

ENVIRONMENT: Final = {
    # By default loky replaces a worker that grew by 300 MB, as it does with any chunk of 250,000
    # events, which takes seconds. `analysis.runner.job` keeps the memory small.
    "LOKY_MAX_MEMORY_LEAK_SIZE": "1e12",
}
"""Environment variables of the workers."""


@dataclass
class FuturesPool(PoolExecutor):
    """Batches on a pool of this machine."""

    lost: ClassVar[tuple[type[BaseException], ...]] = (BrokenProcessPool,)

    unpickled: ClassVar[tuple[str, ...]] = ("pool", "make")

    pool: list[Executor] = field(default_factory=list)
    """Holds the pool; a death breaks a loky pool for good, and `make` then starts another."""
    make: Callable[[], Executor] | None = None
    folder: Path | None = None
    """Where workers leave large results; None for threads."""

    def submit(self, code: bytes, batch: Sequence[Any]) -> Future[Payload]:
        """Submit to the pool, to a new one if it is broken."""
        task = partial(_work, code, self.packed(batch), self.compression, self.folder)
        try:
            return self.pool[-1].submit(task)
        except self.lost:
            # Its workers died in an earlier run, which needed no others.
            self.revive()
            return self.pool[-1].submit(task)

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Read what workers left in files."""
        return map(fetch, super().results(code, order))

    def revive(self) -> None:
        """Start another pool."""
        assert self.make is not None
        self.pool[-1].shutdown(wait=True)
        self.pool[-1] = self.make()


@contextmanager
def start(options: FuturesOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start the pool, yield the executor that uses it, and end its processes."""
    if not options.tuned:
        yield FuturesExecutor(workers=workers, **options.of_coffea())
        return
    threads = options.pool == "threads"
    fields = options.batched(**({"compression": "plain"} if threads else {}))
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        make: Callable[[], Executor] = partial(ThreadPoolExecutor, workers)
        folder = None
        if not threads:
            temporary = tempfile.TemporaryDirectory(prefix="coffea-futures-")
            folder = Path(stack.enter_context(temporary))
            variables = worker_environment({**ENVIRONMENT, **options.environment})
            make = partial(_processes, workers, stack.enter_context(forking(variables)))
        held = [make()]
        finished = False
        try:
            yield FuturesPool(
                workers=workers, inside=threads, pool=held, make=make, folder=folder, **fields
            )
            finished = True
        finally:
            # After an exception or Ctrl-C chunks that are still at work are not waited for.
            if threads:
                held[-1].shutdown(wait=True, cancel_futures=True)
            else:
                pids = list(held[-1]._processes or ())  # type: ignore[attr-defined]
                end_children(pids, go_on=finished)
                held[-1].shutdown(wait=True, kill_workers=not finished)  # type: ignore[call-arg]


@contextmanager
def _quiet() -> Iterator[None]:
    """Have nothing logged by the thread that manages a pool, whose errors are raised anyway."""
    logger = logging.getLogger("concurrent.futures")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _work(
    code: bytes, batch: bytes | Sequence[Any], compression: int | str | None, folder: Path | None
) -> Payload:
    return spill(process_batch(code, batch, compression), folder)


def _processes(workers: int, context: ForkContext) -> Executor:
    begin = partial(_begin, os.getpid())
    pool = loky.ProcessPoolExecutor(max_workers=workers, initializer=begin, context=context)
    with postponed():
        # One task a worker starts them all.
        started = pool.map(abs, range(workers))
    try:
        list(started)
    except BaseException:
        pool.shutdown(wait=True, kill_workers=True)
        raise
    return pool  # type: ignore[no-any-return]


def _begin(client: int) -> None:
    end_with(client)
    warm()
