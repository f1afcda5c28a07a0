"""What a pool does about deaths: each item is given up after so many, whoever else died."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from analysis.errors import WorkerLostError
from analysis.executors.batches import process_batch
from analysis.executors.payload import Payload
from analysis.executors.pool import PoolExecutor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future


class LostError(Exception):
    """Of a worker."""


@dataclass
class Mortal(PoolExecutor):
    """A pool of one thread that loses the first attempts at every item, one after the other."""

    lost: ClassVar[tuple[type[BaseException], ...]] = (LostError,)

    losses: int = 1
    tries: dict[int, int] = field(default_factory=dict)
    threads: ThreadPoolExecutor | None = None

    def submit(self, code: bytes, batch: Sequence[Any]) -> Future[Payload]:
        """As `PoolExecutor.submit`."""
        assert self.threads is not None
        return self.threads.submit(self._work, code, batch)

    def _work(self, code: bytes, batch: Sequence[Any]) -> Payload:
        for item in batch:
            self.tries[item] = self.tries.get(item, 0) + 1
        if any(self.tries[item] <= self.losses for item in batch):
            # The client hears of each by itself.
            time.sleep(0.02)
            raise LostError
        return process_batch(code, batch, "plain")


def _one(item: int) -> dict[str, int]:
    return {"items": 1, "sum": item}


def test_deaths_that_are_told_one_by_one_are_counted_for_each_item() -> None:
    with ThreadPoolExecutor(1) as threads:
        pool = Mortal(threads=threads, batch=1, status=False, retries=2)
        # Eight items are each lost once, which is less than three times.
        assert pool(list(range(8)), _one, None)[0] == {"items": 8, "sum": 28}
    assert set(pool.tries.values()) == {2}
    assert pool.statistics.lost == 8


def test_an_item_that_is_lost_too_often_ends_the_run() -> None:
    with ThreadPoolExecutor(1) as threads:
        pool = Mortal(threads=threads, batch=1, status=False, retries=2, losses=3)
        with pytest.raises(WorkerLostError, match="workers died 3 times"):
            pool(list(range(8)), _one, None)
