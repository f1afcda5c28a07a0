"""What a worker sends back: a packed accumulator with its timings, or what a task raised."""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import tempfile
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import cloudpickle
import lz4.frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.executors.order import Took

SAMPLE: Final = 1 << 16
"""Bytes that are compressed to find out whether compressing all pays."""

PAYING_RATIO: Final = 0.5
"""Compression pays if it halves: lz4 takes 2 ms a MB and loopback 1 ms."""

SMALL: Final = 1 << 12
"""Bytes that are not worth compressing: one packet or three, either way."""

LARGE: Final = 1 << 20
"""Bytes from which a payload goes by a file. With Spark, 16 MB then take 20 ms of CPU time, and 50
through its Java process, whose memory and arrays (2 GB) would limit them too."""


class RaisedError(Exception):
    """What a task raised, as text and bytes, so that it can always be sent to the client.

    A user's exception may fail to unpickle, or need a package that only one side has; engines
    take that for the death of a worker, or wait for ever. `words` are its type and message,
    `details` the traceback, `data` pickles of it and of its causes, as far as they can be
    pickled: coffea's Runner looks at all.
    """

    original: BaseException | None = None
    """The exception itself, in the process that raised it."""

    def __init__(self, words: str, details: str, data: Sequence[bytes] = ()) -> None:
        super().__init__(words, details, data)
        self.words = words
        self.details = details
        self.data = data

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Convert an exception."""
        words = type(error).__name__
        with suppress(Exception):
            words = f"{words}: {error}"
        # SystemExit and its like, which would end the client silently, are sent as words only.
        data: list[bytes] = []
        link: BaseException | None = error
        with suppress(Exception):
            while isinstance(link, Exception):
                data.append(cloudpickle.dumps(link))
                link = link.__cause__
        raised = cls(words, "".join(traceback.format_exception(error)), data)
        raised.original = error
        return raised

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """Pickle all but the original."""
        return type(self), self.args

    def restored(self) -> BaseException:
        """The exception that was raised, or one with the same words if it cannot be unpickled."""
        if self.original is not None:
            return self.original
        chain: list[BaseException] = []
        with suppress(Exception):
            errors = map(pickle.loads, self.data)
            chain.extend(error for error in errors if isinstance(error, Exception))
        chain = chain or [RuntimeError(self.words)]
        causes = [*chain[1:], RaisedError(f"on a worker:\n{self.details}", "")]
        for error, cause in zip(chain, causes, strict=True):
            error.__cause__ = cause
        return chain[0]

    def __str__(self) -> str:
        return self.words


@contextmanager
def only_raised_errors() -> Iterator[None]:
    """Turn every exception into a RaisedError; KeyboardInterrupt passes."""
    try:
        yield
    except (RaisedError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - engines take SystemExit for their own
        raise RaisedError.of(error) from None


class Spent(NamedTuple):
    """Wall seconds of workers by what they did, summed over batches.

    `processing` is in the function, `merging` adding up its results, `packing` (un)pickling and
    (de)compressing; `cpu` is the CPU time of all three, `tasks` the number of batches and of
    merges of batches.
    """

    processing: float = 0.0
    merging: float = 0.0
    packing: float = 0.0
    cpu: float = 0.0
    tasks: int = 0

    def plus(self, other: Spent) -> Spent:
        """Sum of two."""
        return Spent._make(a + b for a, b in zip(self, other, strict=True))


class Payload(NamedTuple):
    """Merged result of some items."""

    kind: str
    """How `data` is packed: ``pickle``, ``lz4`` or ``plain`` (the accumulator itself)."""

    data: Any
    """The accumulator, None if no item gave one."""

    items: int
    """Number of items that it is the result of."""

    worker: str
    """`worker_name` of the process that made it."""

    spent: Spent

    error: RaisedError | None = None
    """The first exception, if items that raise are left out."""

    took: Took = {}  # noqa: RUF012 - nobody adds to it
    """Of the chunks that it is the result of."""

    def unpack(self) -> Any:
        """The accumulator."""
        if self.kind == "plain":
            return self.data
        return pickle.loads(lz4.frame.decompress(self.data) if self.kind == "lz4" else self.data)


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def pack(accumulator: Any, compression: int | str | None) -> tuple[str, Any]:
    """Pack an accumulator, and say how (`Payload.kind`).

    `compression` is a level of lz4; None does not compress; ``auto`` compresses what shrinks to
    PAYING_RATIO; ``plain`` does not even pickle, for workers that are threads.
    """
    if accumulator is None or compression == "plain":
        return "plain", accumulator
    try:
        data = pickle.dumps(accumulator, protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        # A defaultdict of a lambda, say, or a class that was sent by value.
        data = cloudpickle.dumps(accumulator)
    if compression == "auto":
        compression = 1 if _compressible(data) else None
    if compression is None:
        return "pickle", data
    return "lz4", lz4.frame.compress(data, compression_level=int(compression))


def _compressible(data: bytes) -> bool:
    """Whether a sample from the middle compresses well."""
    if len(data) < SMALL:
        return False
    middle = max(0, len(data) // 2 - SAMPLE // 2)
    sample = data[middle : middle + SAMPLE]
    return len(lz4.frame.compress(sample)) < PAYING_RATIO * len(sample)


class Spilled(NamedTuple):
    """Data of a payload in a file, which pipes and sockets need not carry."""

    path: Path


def spill(payload: Payload, folder: Path | None) -> Payload:
    """Write large data to a file of a folder that worker and client share, if there is one."""
    if folder is None or payload.kind == "plain" or len(payload.data) < LARGE:
        return payload
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(payload.data)
    return payload._replace(data=Spilled(Path(file.name)))


def fetch(payload: Payload, *, keep: bool = False) -> Payload:
    """Read back what `spill` wrote, and remove the file unless it is to be kept."""
    if not isinstance(payload.data, Spilled):
        return payload
    path = payload.data.path
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if not keep:
        path.unlink()
    return payload._replace(data=data)
