"""coffea's next way to run work: `coffea.compute`, on its threads. Its branch has it, no release.

Its data sets do not open events yet, so what it runs is the function of coffea's Runner, of one
chunk a step. It hands out the steps, merges what they give, two at a time, and returns the sum.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.executors._computable import threads, total
from analysis.executors.batches import BatchedExecutor, merge_payloads, process_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.executors.options import ComputeOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload


def _merged(one: Payload, other: Payload) -> Payload:
    return merge_payloads([one, other], "plain")


@dataclass
class Compute(BatchedExecutor):
    """Chunks on a running backend."""

    unpickled: ClassVar[tuple[str, ...]] = ("backend",)

    backend: Any = None

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """One payload: the backend merges all."""

        def process(item: Any) -> Payload:
            # The Runner's function tries a chunk again by itself, and what then fails ends the run.
            return process_batch(code, [item], "plain")

        if order.items:  # For none of which the backend has an error.
            yield total(self.backend, process, order.items, _merged, self.fan_in)


@contextmanager
def start(options: ComputeOptions, workers: int) -> Iterator[Compute]:
    """Start threads, yield the executor that uses them, and end them."""
    with threads(workers) as backend:
        yield Compute(workers=workers, inside=True, backend=backend, **options.batched())
