"""Batches on any pool of workers that hands out `concurrent.futures.Future`: loky, threads, Parsl."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.errors import WorkerLostError
from analysis.executors.batches import BatchedExecutor, Payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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

    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """As `BatchedExecutor.results`; what a dead worker had is done again, item by item."""
        pending = {self.submit(code, batch): batch for batch in batches}
        deaths = 0
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                again: list[Sequence[Any]] = []
                cause: BaseException | None = None
                for future in done:
                    batch = pending.pop(future)
                    try:
                        payload = future.result()
                    except self.lost as error:
                        again.append(batch)
                        cause = error
                    else:
                        yield payload
                if cause is None:
                    continue
                deaths += 1
                if deaths > self.retries:
                    msg = f"workers died {deaths} times"
                    raise WorkerLostError(msg) from cause
                again.extend(self._broken(pending))
                self.ledger.lost += len(again)
                self.revive()
                # One item a task: what kills workers is then alone, and all else gets done.
                for batch in again:
                    pending.update({self.submit(code, [item]): [item] for item in batch})
        finally:
            for future in pending:
                future.cancel()

    def _broken(self, pending: dict[Future[Payload], Sequence[Any]]) -> list[Sequence[Any]]:
        """Take out of `pending` what the same death ended: with loky it is the whole pool."""
        return [
            pending.pop(future)
            for future in list(pending)
            if future.done() and isinstance(future.exception(), self.lost)
        ]
