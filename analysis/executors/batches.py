"""Items in batches, each merged where it was processed: few results travel, few tasks are managed.

What every engine of this package has in common. An engine has to bring a batch to a worker, call
`process_batch` there and bring the payload back; the rest is here.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import sys
import tempfile
import time
import traceback
from abc import abstractmethod
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import cloudpickle
import lz4.frame
from coffea.processor import accumulate
from coffea.processor.executor import ExecutorBase, rich_bar

from analysis.executors.code import dumps, entered
from analysis.executors.limit import limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from analysis.executors.code import Task

BATCHES_AHEAD: Final = 2
"""Each batch takes one part in BATCHES_AHEAD x workers of the items that are left: the first are
large, which spares tasks, the last are single, so that no worker is waited for (guided
self-scheduling; Polychronopoulos and Kuck, IEEE Trans. Comput. C-36 (1987) 1425)."""

SAMPLE: Final = 1 << 16
"""Bytes by which it is judged whether compressing pays."""

PAYING_RATIO: Final = 0.5
"""Compression pays where it halves: lz4 takes 2 ms a MB and loopback 1 ms."""

SMALL: Final = 1 << 12
"""Bytes that are not worth compressing: one packet or three, either way."""

LARGE: Final = 1 << 20
"""Bytes from which a payload goes by a file. By Spark, 16 MB take 20 ms of CPU time then, and 50
through its Java process, whose memory and arrays (2 GB) would limit them too."""


class RaisedError(Exception):
    """What a task raised, on its way from a worker: of text and bytes, which always travel.

    What users raise may not unpickle, or only where a package is; engines take that for the death
    of a worker, or wait for ever.

    Parameters
    ----------
    words
        Type and message.
    details
        The traceback.
    data
        Pickles of it and of its causes, as far as there are any: coffea's Runner looks at all.
    """

    original: BaseException | None = None
    """It itself, in the process in which it was raised."""

    def __init__(self, words: str, details: str, data: Sequence[bytes] = ()) -> None:
        super().__init__(words, details, data)
        self.words = words
        self.details = details
        self.data = data

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Make ready to travel."""
        words = type(error).__name__
        with suppress(Exception):
            words = f"{words}: {error}"
        # What would end the client without a word, as SystemExit, travels as words only.
        data: list[bytes] = []
        one: BaseException | None = error
        with suppress(Exception):
            while isinstance(one, Exception):
                data.append(cloudpickle.dumps(one))
                one = one.__cause__
        made = cls(words, "".join(traceback.format_exception(error)), data)
        made.original = error
        return made

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        """Without the original."""
        return type(self), self.args

    def restored(self) -> BaseException:
        """What was raised, or an exception that says as much."""
        if self.original is not None:
            return self.original
        chain: list[BaseException] = []
        with suppress(Exception):
            found = map(pickle.loads, self.data)
            chain.extend(one for one in found if isinstance(one, Exception))
        chain = chain or [RuntimeError(self.words)]
        causes = [*chain[1:], RaisedError(f"on a worker:\n{self.details}", "")]
        for one, cause in zip(chain, causes, strict=True):
            one.__cause__ = cause
        return chain[0]

    def __str__(self) -> str:
        return self.words


@contextmanager
def _travelling() -> Iterator[None]:
    """Raise nothing but RaisedError."""
    try:
        yield
    except (RaisedError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too, which engines take for theirs
        raise RaisedError.of(error) from None


class Spent(NamedTuple):
    """Where the time of batches went, summed over them.

    Attributes
    ----------
    processing, merging, packing
        Wall seconds in the function, in adding up its results, and in (un)pickling and
        (de)compressing them, where a worker did it.
    cpu
        CPU seconds of the threads that did it.
    tasks
        Number of batches and of merges of batches.
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
    """Merged result of some items, on its way to the client.

    Attributes
    ----------
    kind
        How `data` is packed: ``pickle``, ``lz4`` or ``plain`` (the accumulator itself).
    data
        The accumulator, None if no item gave any.
    items
        How many items it is the result of.
    worker
        Host and process that made it.
    spent
        What it took.
    error
        The first, if items that raise are left out.
    """

    kind: str
    data: Any
    items: int
    worker: str
    spent: Spent
    error: RaisedError | None = None

    def unpack(self) -> Any:
        """The accumulator."""
        if self.kind == "plain":
            return self.data
        return pickle.loads(lz4.frame.decompress(self.data) if self.kind == "lz4" else self.data)


@dataclass
class Ledger:
    """What the runs of an executor took; shared by its copies, which coffea's Runner makes.

    Attributes
    ----------
    spent
        On the workers.
    unpacking, merging
        Wall seconds on the client.
    batches
        Number of payloads that the client received.
    lost
        Batches that were given to another worker because theirs had died.
    """

    spent: Spent = field(default_factory=Spent)
    unpacking: float = 0.0
    merging: float = 0.0
    batches: int = 0
    lost: int = 0

    def clear(self) -> None:
        """Begin anew."""
        self.__init__()  # type: ignore[misc]


def guided(items: int, workers: int, largest: int | None = None) -> list[int]:
    """Sizes of batches: large ones first, single items last.

    Parameters
    ----------
    items
        Number of items.
    workers
        Number of workers that take a batch when they are idle.
    largest
        Most items in a batch; by default there is no such bound.

    Returns
    -------
    list[int]
        They add up to `items`.
    """
    sizes = []
    while items:
        size = max(1, items // (BATCHES_AHEAD * workers))
        size = min(size, largest or size)
        sizes.append(size)
        items -= size
    return sizes


def split(items: Sequence[Any], sizes: Iterable[int]) -> list[list[Any]]:
    """Consecutive items in lists of these sizes."""
    batches, begin = [], 0
    for size in sizes:
        batches.append(list(items[begin : begin + size]))
        begin += size
    return batches


# --- on workers


@_travelling()
def process_batch(
    code: bytes, batch: bytes | Sequence[Any], compression: int | str | None = None
) -> Payload:
    """Call a function on each item of a batch and add up what it gives.

    Parameters
    ----------
    code
        The function, and what it needs, as of `code.dumps`.
    batch
        Items, or their pickle.
    compression
        As of `pack`.

    Raises
    ------
    RaisedError
        In the place of whatever is raised.
    """
    clock, cpu = time.perf_counter, time.thread_time()
    begin = clock()
    called = 0.0
    failed: RaisedError | None = None

    def results(task: Task) -> Iterator[Any]:
        nonlocal called, failed
        for item in items:
            start = clock()
            try:
                result = task.call(item)
            except Exception as error:
                if not task.recoverable:
                    raise
                failed = failed or RaisedError.of(error)
                continue
            called += clock() - start
            yield result

    with entered(code) as task:
        items = pickle.loads(batch) if isinstance(batch, bytes) else batch
        total = accumulate(results(task))
        merged = clock()
        kind, data = pack(total, compression)
    packed = clock()
    spent = Spent(
        processing=called,
        merging=merged - begin - called,
        packing=packed - merged,
        cpu=time.thread_time() - cpu,
        tasks=1,
    )
    return Payload(kind, data, len(items), worker_name(), spent, failed)


@_travelling()
def merge_payloads(
    payloads: Iterable[Payload],
    compression: int | str | None = None,
    code: bytes | None = None,
) -> Payload:
    """Merge some payloads into one, on a worker.

    Parameters
    ----------
    payloads
        Of batches or of earlier merges.
    compression
        As of `pack`.
    code
        As of `process_batch`: what is merged may be of a class that came with it.

    Raises
    ------
    RaisedError
        In the place of whatever is raised.
    """
    clock, cpu = time.perf_counter, time.thread_time()
    begin = clock()
    items, packing, spent = 0, 0.0, Spent()
    failed: RaisedError | None = None

    def unpacked() -> Iterator[Any]:
        nonlocal items, packing, spent, failed
        for payload in payloads:
            start = clock()
            one = payload.unpack()
            packing += clock() - start
            items += payload.items
            spent = spent.plus(payload.spent)
            failed = failed or payload.error
            yield one

    with nullcontext() if code is None else entered(code):
        # In one call, which adds to none of its arguments: of a thread they are what the function
        # returned, and may keep.
        total = accumulate(unpacked())
        merging = clock() - begin - packing
        start = clock()
        kind, data = pack(total, compression)
        packing += clock() - start
    own = Spent(0.0, merging, packing, time.thread_time() - cpu, 1)
    return Payload(kind, data, items, worker_name(), spent.plus(own), failed)


def worker_name() -> str:
    """Host and process."""
    return f"{socket.gethostname()}-{os.getpid()}"


def pack(accumulator: Any, compression: int | str | None) -> tuple[str, Any]:
    """Make an accumulator ready to travel.

    Parameters
    ----------
    accumulator
        Anything that can be pickled.
    compression
        Level of lz4; None does not compress; ``auto`` does where a sample shrinks to
        PAYING_RATIO; ``plain`` does not even pickle, for workers that are threads.

    Returns
    -------
    kind, data
        As of `Payload`.
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


class Spilled(NamedTuple):
    """Data of a payload in a file, which pipes and sockets need not carry."""

    path: Path


def spill(payload: Payload, folder: Path | None) -> Payload:
    """Leave what is large in a file, where worker and client share a folder.

    Parameters
    ----------
    payload
        Packed.
    folder
        Where; None if there is none.
    """
    if folder is None or payload.kind == "plain" or len(payload.data) < LARGE:
        return payload
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(payload.data)
    return payload._replace(data=Spilled(Path(file.name)))


def fetch(payload: Payload, *, keep: bool = False) -> Payload:
    """The payload with its data; the file is gone then, unless it is to be kept."""
    if not isinstance(payload.data, Spilled):
        return payload
    path = payload.data.path
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if not keep:
        path.unlink()
    return payload._replace(data=data)


def _compressible(data: bytes) -> bool:
    if len(data) < SMALL:
        return False
    middle = max(0, len(data) // 2 - SAMPLE // 2)
    sample = data[middle : middle + SAMPLE]
    return len(lz4.frame.compress(sample)) < PAYING_RATIO * len(sample)


# --- on the client


@dataclass
class BatchedExecutor(ExecutorBase):
    """Base of the executors of this package.

    Parameters
    ----------
    compression
        As of `pack`; of what workers send.
    workers
        Number of workers that batches are made for.
    retries
        How often coffea tries a chunk again that failed, and how often a batch is given to
        another worker when its worker died.
    batch
        Most items in a batch; 1 makes a task of each.
    fan_in
        Payloads that are merged in one task on the workers, where the engine can.
    chunk_timeout
        Seconds that a chunk may take, with all attempts; None for no limit.
    recoverable
        Whether to leave out chunks that fail, and to return the first exception beside what the
        others gave, for which coffea's Runner has ``partial_output``.
    ledger
        Told what every run took.
    """

    compression: int | str | None = "auto"
    workers: int = 1
    retries: int = 3
    batch: int | None = None
    fan_in: int = 16
    chunk_timeout: float | None = None
    recoverable: bool = False
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def inside(self) -> bool:
        """Whether workers are threads of this process."""
        return False

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int | BaseException]:
        """Call the function on every item and merge what it gives.

        Parameters
        ----------
        items
            Chunks or files.
        function
            Gives an accumulator, or None.
        accumulator
            Merged with the results; None for nothing.

        Returns
        -------
        accumulator, 0
            As coffea's Runner expects; or an exception in place of 0.
        """
        todo = list(items)
        batches = split(todo, guided(len(todo), self.workers, self.batch))
        done = 0
        failed: BaseException | None = None
        with limit(self.chunk_timeout) as most, rich_bar() as progress:
            code = dumps(function, most, inside=self.inside, recoverable=self.recoverable)
            shown = self.status and sys.stdout.isatty()
            bar = progress.add_task(self.desc, total=len(todo), unit=self.unit, visible=shown)

            def unpacked() -> Iterator[Any]:
                nonlocal done, failed
                for payload in self._restored(code, batches):
                    start = time.perf_counter()
                    one = payload.unpack()
                    merged = time.perf_counter()
                    self.ledger.unpacking += merged - start
                    self.ledger.spent = self.ledger.spent.plus(payload.spent)
                    self.ledger.batches += 1
                    done += payload.items
                    if payload.error is not None and failed is None:
                        failed = payload.error.restored()
                    yield one
                    self.ledger.merging += time.perf_counter() - merged
                    progress.update(bar, completed=done)

            def recovered() -> Iterator[Any]:
                nonlocal failed
                try:
                    yield from unpacked()
                except Exception as error:
                    if not self.recoverable:
                        raise
                    failed = error

            # In one call, which adds to none of its arguments: those of a thread are what the
            # function returned, and may keep.
            accumulator = accumulate(recovered(), accumulator)
        if failed is not None:
            if accumulator is None:
                raise failed
            return accumulator, failed
        if done != len(todo):
            msg = f"{done} of {len(todo)} items came back: the result is not used, run it again"
            raise RuntimeError(msg)
        return accumulator, 0

    def _restored(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        try:
            yield from self.results(code, batches)
        except RaisedError as error:
            raised = error.restored()
            raise raised from raised.__cause__

    def packed(self, batch: Sequence[Any]) -> bytes | Sequence[Any]:
        """A batch for `process_batch`: workers unpickle it when they have what it may be of."""
        data: bytes | Sequence[Any] = batch if self.inside else cloudpickle.dumps(batch)
        return data

    @abstractmethod
    def results(self, code: bytes, batches: Sequence[Sequence[Any]]) -> Iterator[Payload]:
        """Process batches on the workers, and yield payloads in any order as they come.

        Parameters
        ----------
        code
            First argument of `process_batch`.
        batches
            Each the second argument, when it is `packed`.

        Raises
        ------
        RaisedError
            If a task did.
        WorkerLostError
            If workers died more often than `retries` allows.
        """
