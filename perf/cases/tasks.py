"""Tasks that do nothing, or next to it, and starting executors: what executors cost by themselves.

Tasks run on workers, which import this module: it imports nothing that takes long. Each result
shows whether an item was lost or repeated, or whether it comes from an earlier call.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.errors import InputError, NotInstalledError
from analysis.processes import adopt_orphans
from perf.measure.fresh_process import Process, answers, python_call

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coffea.processor.executor import ExecutorBase

Contents = Literal["random", "sparse"]
Variant = Literal["", "plain", "threads"]

VARIANTS: Final[dict[Variant, dict[str, Any]]] = {
    "": {},
    "plain": {"tuned": False, "status": False},
    "threads": {"pool": "threads"},
}
"""Options of `open_executor` by variant: ``plain`` is coffea's own executor, without its progress
bar."""

BYTES_A_BIN: Final = 16
"""Of Weight storage: sum of weights and of their squares."""

FILLED: Final = 1_000
"""One bin in so many of a ``sparse`` histogram is not empty."""

MANTISSA: Final = 40
"""Random bits of a bin's contents: too many for lz4 to compress, and few enough that sums of up
to 2^13 histograms are exact in any order."""

TIMEOUT: Final = 60.0
"""Seconds that workers wait for each other: far more than an engine takes to start one."""

ITEMS: Final = "items"
HISTOGRAM: Final = "histogram"


# --- tasks


@dataclass(frozen=True)
class Empty:
    """A task that does nothing but count itself."""

    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of one call of an executor: distinguishes its results from those of earlier calls."""

    def __call__(self, item: int) -> dict[str, Any]:
        """1 under the nonce, and the item: the sum of items shows a loss that hides a repetition."""
        return {self.nonce: 1, ITEMS: item}

    def counted(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result with its count under ``tasks``: equal for all correct calls."""
        return {"tasks": result.pop(self.nonce, 0), **result}

    def expected(self, tasks: int) -> dict[str, Any]:
        """What `counted` returns for items 0, 1, ... if each had one task."""
        return {"tasks": tasks, ITEMS: tasks * (tasks - 1) // 2}


@dataclass(frozen=True)
class Returning(Empty):
    """A task that returns a histogram, which its worker makes once."""

    size: int = 1_024
    """Of the histogram in bytes, flow bins included."""
    contents: Contents = "random"
    """``random`` cannot be compressed; ``sparse`` is zero but for one bin in FILLED."""

    def __call__(self, item: int) -> dict[str, Any]:
        """The count of `Empty`, and the histogram."""
        return {**super().__call__(item), HISTOGRAM: prepared(self.size, self.contents)}

    def expected(self, tasks: int) -> dict[str, Any]:
        """The count of `Empty.expected`, and the sum of the histograms."""
        total = prepared(self.size, self.contents).copy()
        for name in ("value", "variance"):
            total.view(flow=True)[name] *= tasks
        return {**super().expected(tasks), HISTOGRAM: total}


@lru_cache(maxsize=2)
def prepared(size: int, contents: Contents) -> Any:
    """A histogram of Weight storage with so many bytes of contents; the same in every process."""
    import hist
    import numpy as np

    bins = size // BYTES_A_BIN
    rng = np.random.default_rng(bins)
    histogram = hist.Hist.new.Reg(bins - 2, 0.0, 1.0, name="x").Weight()
    view = histogram.view(flow=True)
    for name in ("value", "variance"):
        values = rng.integers(1 << MANTISSA, size=bins).astype(float)
        if contents == "sparse":
            values[rng.permutation(bins)[bins // FILLED + 1 :]] = 0.0
        view[name] = values
    return histogram


@dataclass(frozen=True)
class Meeting:
    """A task that ends when as many tasks run as there are workers: then each worker has one."""

    folder: str
    """Where each task leaves a file."""
    workers: int
    first: Callable[[], Any] | None = None
    """Called on each worker before."""

    def __call__(self, item: int) -> dict[str, Any]:
        """Process and thread that it ran in."""
        if self.first:
            self.first()
        folder = Path(self.folder)
        (folder / str(item)).touch()
        until = time.monotonic() + TIMEOUT
        while sum(1 for _ in folder.iterdir()) < self.workers and time.monotonic() < until:
            time.sleep(0.001)
        return {"pids": {os.getpid()}, "threads": {(os.getpid(), threading.get_ident())}}


@dataclass(frozen=True)
class KillWorker:
    """A processor whose worker is killed once, as where memory is short, when it begins a file."""

    process: Callable[[Any], Any]
    """The processor's function of events."""
    path: str
    """Of the file."""
    mark: Path
    """Exists as soon as a worker was killed."""

    def __call__(self, events: Any) -> Any:
        """Process a chunk, or be killed."""
        about = events.metadata
        if about["filename"] == self.path and about["entrystart"] == 0:
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.process(events)


# --- calls of executors


def calls(executor: ExecutorBase, tasks: int, make: Callable[[], Empty]) -> Callable[[], Any]:
    """A call of an executor on items 0, 1, ..., whose result is that of `Empty.counted`.

    `make` makes the function anew for each call. The executor is called as by coffea's Runner.
    """
    items = list(range(tasks))

    def run() -> dict[str, Any]:
        function = make()
        return function.counted(_call(executor, items, function))

    return run


def _call(executor: ExecutorBase, items: list[int], function: Callable[[int], Any]) -> Any:
    if hasattr(executor, "heavy_input"):
        # coffea's Runner leaves its processor in the DaskExecutor, which then puts it beside items.
        executor = executor.copy(heavy_input=None)
    # coffea shows its progress whatever `status` says.
    with redirect_stdout(io.StringIO()):
        merged, _ = executor(items, function, None)
    return merged


def same(result: Any, expected: Any) -> bool:
    """Whether counts are equal, and histograms to the last bit."""
    import numpy as np

    if result.keys() != expected.keys():
        return False
    ours, theirs = result.get(HISTOGRAM), expected.get(HISTOGRAM)
    if ours is not None and not (
        ours.axes == theirs.axes
        and all(
            np.array_equal(ours.view(flow=True)[field], theirs.view(flow=True)[field])
            for field in ("value", "variance")
        )
    ):
        return False
    return all(result[name] == expected[name] for name in result if name != HISTOGRAM)


def meet(
    executor: ExecutorBase, workers: int, first: Callable[[], Any] | None = None
) -> tuple[int, set[int]]:
    """Give every worker a task at the same time, which begins by calling `first`.

    Returns how many workers met, and their process ids.
    """
    with tempfile.TemporaryDirectory(prefix="coffea-meeting-") as folder:
        result = _call(executor, list(range(workers)), Meeting(folder, workers, first))
    return len(result["threads"]), result["pids"]


@dataclass
class Start:
    """An executor that can be started and ended again and again."""

    executor: str
    workers: int
    variant: Variant = ""
    _open: ExitStack = field(default_factory=ExitStack)

    def start(self) -> int:
        """Start it and give each worker a task; return how many did one."""
        from analysis.executors import open_executor

        with ExitStack() as stack:
            opened = open_executor(self.executor, workers=self.workers, **VARIANTS[self.variant])
            number, _ = meet(stack.enter_context(opened), self.workers)
            self._open = stack.pop_all()
        return number

    def close(self) -> None:
        """End it."""
        self._open.close()


@dataclass
class FreshStart(Start):
    """An executor started in a new process, as in a user's script."""

    _process: Process | None = None

    def start(self) -> int:
        """Start Python, import what is needed, start the executor, give each worker a task."""
        call = python_call("perf.cases.tasks.script", self.executor, self.workers, self.variant)
        with ExitStack() as stack:
            process = stack.enter_context(Process(call))
            number, missing = json.loads(process.answer())
            if missing:
                raise NotInstalledError(missing)
            self._open, self._process = stack.pop_all(), process
        return int(number)

    def close(self) -> None:
        """End the script, and wait for it."""
        process, self._process = self._process, None
        with self._open:
            if process:
                process.finish(timeout=TIMEOUT)


def script() -> None:
    """What `FreshStart` runs: start an executor, report it, end it when standard input ends."""
    executor, workers, variant = sys.argv[1:]
    with answers() as stream:
        start = Start(executor, int(workers), variant)  # type: ignore[arg-type]
        number, missing = 0, ""
        try:
            number = start.start()
        except NotInstalledError as error:
            missing = str(error)
        stream.write(json.dumps([number, missing]) + "\n")
        stream.flush()
        sys.stdin.read()
        start.close()


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """Adopt descendants whose parent ends, so that their CPU time counts (on Linux).

    Parsl starts its workers by a shell that ends at once.
    """
    adopt_orphans()
    try:
        yield
    finally:
        adopt_orphans(wanted=False)


def wait_for_workers(
    executor: ExecutorBase, workers: int, first: Callable[[], Any] | None = None
) -> set[int]:
    """Wait until all workers of an executor did a task, as by `meet`; return their process ids.

    Raises InputError if some do not come.
    """
    number, pids = meet(executor, workers, first)
    if number != workers:
        msg = f"{number} of {workers} workers are there: start the executor again"
        raise InputError(msg)
    return pids
