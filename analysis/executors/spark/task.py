"""What runs in Spark's Python workers, and how results get to the client."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark import AccumulatorParam, TaskContext

from analysis.executors import machine_code
from analysis.executors.batches import merge_payloads, process_batch
from analysis.executors.payload import Payload, RaisedError, fetch, spill
from analysis.executors.worker import warm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from queue import SimpleQueue

    from pyspark import Accumulator


class Sent(NamedTuple):
    """A payload on its way."""

    lost: int
    """How often Spark had tried before, on workers that died."""
    payload: Payload
    """Spilled if it is large."""


class ToQueue(AccumulatorParam[list[Any]]):
    """Accumulator that puts what tasks add to it into a queue of the client (None on workers).

    An action's result comes when all tasks have ended. What a task adds to an accumulator comes
    as it ends, and Spark applies it once however often it had to try that task.
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
    """Warm this process, unless it was forked warm: a user's own Spark has another daemon."""
    warm()


def ready(_: Iterable[Any], compiled: bytes = b"") -> Iterator[int]:
    """Start a worker, and write the machine code that it is given."""
    prepare()
    machine_code.unpack(compiled)
    yield 1


def process(
    batches: Iterable[bytes],
    *,
    code: bytes,
    compression: int | str | None,
    folder: Path | None,
    failures: Accumulator[list[Any]],
) -> Iterator[Sent]:
    """Process the pickled batches of a partition, and leave large payloads in the folder.

    Exceptions are added to `failures`. If they were raised, Spark would try four times more,
    after coffea did, and report a Java exception.
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
        for message in sent:
            lost += message.lost
            # Spark may try this again.
            yield fetch(message.payload, keep=True)

    payload = merge_payloads(payloads(), compression, code)
    if payload.items:
        yield Sent(lost, spill(payload, folder))


def deliver(sent: Iterable[Sent], *, results: Accumulator[list[Any]]) -> Iterator[int]:
    """Send payloads to the client."""
    for message in sent:
        results.add([message])
    yield 1
