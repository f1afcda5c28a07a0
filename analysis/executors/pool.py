"""Batches on any pool of workers that hands out `concurrent.futures.Future`: loky, threads, Parsl."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from analysis.errors import WorkerLostError
from analysis.executors.batches import BatchedExecutor, Payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Try(NamedTuple):
    """A batch, and on how many workers it was that died."""

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

    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """As `BatchedExecutor.results`; what a dead worker had is done again, item by item."""
        pending = {self.submit(code, batch): _Try(batch) for batch in batches}
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                again: list[_Try] = []
                cause: BaseException | None = None
                for future in done:
                    one = pending.pop(future)
                    try:
                        payload = future.result()
                    except self.lost as error:
                        again.append(one)
                        cause = error
                    else:
                        yield payload
                if cause is None:
                    continue
                again.extend(self._broken(pending))
                # Of each item: one death may end many tasks, and be told of each in turn.
                deaths = 1 + max(one.deaths for one in again)
                if deaths > self.retries:
                    msg = f"workers died {deaths} times"
                    raise WorkerLostError(msg) from cause
                self.ledger.lost += len(again)
                self.revive()
                # One item a task: what kills workers is then alone, and all else gets done.
                for one in again:
                    for item in one.batch:
                        pending[self.submit(code, [item])] = _Try([item], one.deaths + 1)
        finally:
            for future in pending:
                future.cancel()

    def _broken(self, pending: dict[Future[Payload], _Try]) -> list[_Try]:
        """Take out of `pending` what the same death ended: with loky it is the whole pool."""
        return [
            pending.pop(future)
            for future in list(pending)
            if future.done() and isinstance(future.exception(), self.lost)
        ]
