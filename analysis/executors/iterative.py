"""One chunk after another in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from analysis.executors.batches import BatchedExecutor, process_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.executors.options import IterativeOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload


class Iterative(BatchedExecutor):
    """Batches, one item each, in the thread that calls it."""

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Process items as their results are asked for."""
        return (process_batch(code, [item], "plain") for item in order.items)


@contextmanager
def start(options: IterativeOptions, workers: int) -> Iterator[Iterative]:
    """Yield the executor; there is nothing to start, and one worker."""
    assert workers == 1
    yield Iterative(inside=True, **options.batched())
