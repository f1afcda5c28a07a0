"""Batches on a pool that hands out `concurrent.futures.Future`: loky, threads, Parsl."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from analysis.errors import WorkerLostError
from analysis.executors.batches import BatchedExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.executors.order import Order
    from analysis.executors.payload import Payload


class _Attempt(NamedTuple):
    """A batch, and how many workers have died with it."""

    batch: Sequence[Any]
    deaths: int = 0


@dataclass
class PoolExecutor(BatchedExecutor):
    """Base of executors whose engine is a pool."""

    lost: ClassVar[tuple[type[BaseException], ...]] = ()
    """What a future raises when its worker, not its work, has failed."""

    @abstractmethod
    def submit(self, code: bytes, batch: Sequence[Any]) -> Future[Payload]:
        """Have `process_batch` called by a worker."""

    def revive(self) -> None:
        """Make the pool ready for work again after a worker died."""

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Do what a dead worker had again, item by item."""
        pending = {self.submit(code, batch): _Attempt(batch) for batch in order.begin()}
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                again: list[_Attempt] = []
                cause: BaseException | None = None
                for future in done:
                    attempt = pending.pop(future)
                    try:
                        payload = future.result()
                    except self.lost as error:
                        again.append(attempt)
                        cause = error
                    else:
                        yield payload
                if cause is None:
                    for batch in order.rest(len(pending)):
                        pending[self.submit(code, batch)] = _Attempt(batch)
                    continue
                again.extend(self._broken(pending))
                # Counted for each item: one death may end many tasks, reported one by one.
                deaths = 1 + max(attempt.deaths for attempt in again)
                if deaths > self.retries:
                    msg = f"workers died {deaths} times"
                    raise WorkerLostError(msg) from cause
                self.statistics.lost += len(again)
                self.revive()
                # One item a task: the item that kills is then alone, and all others get done.
                for attempt in again:
                    for item in attempt.batch:
                        retry = _Attempt([item], attempt.deaths + 1)
                        pending[self.submit(code, [item])] = retry
        finally:
            for future in pending:
                future.cancel()

    def _broken(self, pending: dict[Future[Payload], _Attempt]) -> list[_Attempt]:
        """Take out of `pending` what the same death ended: with loky it is the whole pool."""
        return [
            pending.pop(future)
            for future in list(pending)
            if future.done() and isinstance(future.exception(), self.lost)
        ]
