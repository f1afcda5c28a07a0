"""What runs in Spark's Python workers, and how it tells the client."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark import AccumulatorParam, TaskContext

from analysis.executors.batches import (
    Payload,
    RaisedError,
    fetch,
    merge_payloads,
    process_batch,
    spill,
)
from analysis.executors.worker import warm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from queue import SimpleQueue

    from pyspark import Accumulator


class Sent(NamedTuple):
    """A payload on its way.

    Attributes
    ----------
    lost
        How often Spark had tried before, on workers that died.
    payload
        The payload, spilled if it is large.
    """

    lost: int
    payload: Payload


class ToQueue(AccumulatorParam[list[Any]]):
    """Accumulator that hands what tasks add to it to a queue of the client, as tasks end.

    An action's result comes when all of it is there. What its tasks add to an accumulator comes
    as each ends, and Spark applies it once however often it had to try that task.

    Parameters
    ----------
    queue
        None on workers.
    """

    def __init__(self, queue: SimpleQueue[Any] | None = None) -> None:
        self.queue = queue

    def __reduce__(self) -> tuple[type[ToQueue], tuple[()]]:
        return ToQueue, ()

    def zero(self, value: list[Any]) -> list[Any]:  # noqa: ARG002
        """Nothing added yet."""
        return []

    def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:
        """Add on a worker, hand over on the client."""
        if self.queue is None:
            return value1 + value2
        for value in value2:
            self.queue.put(value)
        return value1


@cache
def prepare() -> None:
    """Warm this process, if the one that forked it was not: one that the user's Spark started."""
    warm()


def ready(_: Iterable[Any]) -> Iterator[int]:
    """Take part of a partition that only starts a worker."""
    prepare()
    yield 1


def process(
    batches: Iterable[bytes],
    *,
    code: bytes,
    compression: int | str | None,
    folder: Path | None,
    failures: Accumulator[list[Any]],
) -> Iterator[Sent]:
    """Process the batches of a partition.

    Parameters
    ----------
    batches
        Pickled lists of items.
    code
        As of `process_batch`.
    compression
        As of `pack`.
    folder
        Where large payloads are left; None if the client does not see it.
    failures
        Told what the function raised. Raised here, Spark would try it again four times, after
        coffea did, and bring a Java exception.
    """
    prepare()
    context = TaskContext.get()
    lost = context.attemptNumber() if context else 0
    for batch in batches:
        try:
            payload = process_batch(code, batch, compression)
        except RaisedError as error:
            failures.add([error])
            return
        yield Sent(lost, spill(payload, folder))


def merge(
    sent: Iterable[Sent], *, code: bytes, compression: int | str | None, folder: Path | None
) -> Iterator[Sent]:
    """Merge the payloads of some partitions into one."""
    lost = 0

    def payloads() -> Iterator[Payload]:
        nonlocal lost
        for one in sent:
            lost += one.lost
            # Spark may try this again.
            yield fetch(one.payload, keep=True)

    payload = merge_payloads(payloads(), compression, code)
    if payload.items:
        yield Sent(lost, spill(payload, folder))


def deliver(sent: Iterable[Sent], *, results: Accumulator[list[Any]]) -> Iterator[int]:
    """Send payloads to the client."""
    for one in sent:
        results.add([one])
    yield 1
