"""coffea's next way to run work: `coffea.compute`, on its threads. Its branch has it, no release.

Its data sets do not open events yet, so what it runs is the function of coffea's Runner, of one
chunk a step. It hands out the steps, merges what they give, two at a time, and returns the sum.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from coffea.compute.backends.threaded import ThreadedBackend
from coffea.compute.errors import ErrorPolicy
from coffea.compute.protocol import WorkElement

from analysis.executors.batches import BatchedExecutor, merge_payloads, process_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.executors.options import ComputeOptions
    from analysis.executors.payload import Payload


@dataclass(frozen=True)
class _Sum:
    """A payload that can be added, as coffea.compute wants it."""

    payload: Payload

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(merge_payloads([self.payload, other.payload], "plain"))


@dataclass(frozen=True)
class _Step:
    """A chunk, by its number among all: input of a step."""

    start: int
    item: Any

    @property
    def stop(self) -> int:
        return self.start + 1

    def __len__(self) -> int:
        return 1

    def load(self) -> Any:
        return self.item


@dataclass(frozen=True)
class _Work:
    """All chunks of a run: a Computable."""

    code: bytes
    items: Sequence[Any]
    key: str = "coffea-scaling"

    def __len__(self) -> int:
        return len(self.items)

    def gen_steps(self) -> Iterator[WorkElement[_Sum]]:
        """Steps in their order; a generator, to which the backend may send a size in vain."""
        for number, item in enumerate(self.items):
            yield WorkElement(self.process, _Step(number, item))

    def process(self, item: Any) -> _Sum:
        """Call the function on a chunk."""
        return _Sum(process_batch(self.code, [item], "plain"))


@dataclass
class Compute(BatchedExecutor):
    """Chunks on a running backend."""

    unpickled: ClassVar[tuple[str, ...]] = ("backend",)

    backend: Any = None

    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """One payload: the backend merges all."""
        items = [item for batch in batches for item in batch]
        if not items:
            return  # For which the backend has an error.
        # The Runner's function tries a chunk again by itself, and what then fails ends the run.
        policy = ErrorPolicy(cancel_on=(Exception,))
        task = self.backend.compute(
            _Work(code, items), error_policy=policy, merge_every=self.fan_in
        )
        try:
            task.wait()
            total = task.result()
        except RuntimeError as error:
            raise error.__cause__ or error from None
        except BaseException:
            task.cancel()
            raise
        yield total.payload


@contextmanager
def start(options: ComputeOptions, workers: int) -> Iterator[Compute]:
    """Start threads, yield the executor that uses them, and end them."""
    # One thread is at work on nothing but handing out chunks: with one in all, none would be
    # processed, and the run would not end.
    threads = partial(ThreadPoolExecutor, workers + 1)
    with ThreadedBackend(threads, cancel_on_exit=True) as backend:
        yield Compute(workers=workers, inside=True, backend=backend, **options.batched())
