"""What executors cost beside the work that they are given: tasks that do nothing, or next to it.

Tasks run on workers, which import this module: it imports nothing that takes long. Each carries
what tells a result of its own from one that is lost, repeated, or left over from an earlier call.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
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

# The analysis takes seconds to import, which collecting tests need not wait for.
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
"""Options of `open_executor` by what the suite calls them: ``plain`` is coffea's own executor as
it comes, but for the progress bar."""

BYTES_A_BIN: Final = 16
"""Of Weight storage: sum of weights and of their squares."""

FILLED: Final = 1_000
"""One bin in so many has contents in a ``sparse`` histogram."""

MANTISSA: Final = 40
"""Random bits of a bin's contents: too many for lz4 to shrink, and so few that sums of up to
2^13 histograms are exact in whatever order."""

PATIENCE: Final = 60.0
"""Seconds that workers wait for each other: far above what an engine takes to start another."""

ITEMS: Final = "items"
HISTOGRAM: Final = "histogram"


# --- tasks


@dataclass(frozen=True)
class Empty:
    """A task that does nothing but count itself.

    Attributes
    ----------
    nonce
        Of one call of an executor: what an engine kept from an earlier one is told by it.
    """

    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __call__(self, item: int) -> dict[str, Any]:
        """1 under the nonce, and the item, so that no loss makes up for a repetition."""
        return {self.nonce: 1, ITEMS: item}

    def counted(self, result: dict[str, Any]) -> dict[str, Any]:
        """A result with the count under ``tasks``: the same for every call that went well."""
        return {"tasks": result.pop(self.nonce, 0), **result}

    def expected(self, tasks: int) -> dict[str, Any]:
        """What `counted` gives for items 0, 1, ... if each was given to a task once."""
        return {"tasks": tasks, ITEMS: tasks * (tasks - 1) // 2}


@dataclass(frozen=True)
class Returning(Empty):
    """A task that returns a histogram, which its worker makes once.

    Attributes
    ----------
    size
        Of the histogram in bytes, flow bins included.
    contents
        ``random`` cannot be compressed; ``sparse`` is all zeros but for one bin in FILLED.
    """

    size: int = 1_024
    contents: Contents = "random"

    def __call__(self, item: int) -> dict[str, Any]:
        """As `Empty`, and the histogram."""
        return {**super().__call__(item), HISTOGRAM: prepared(self.size, self.contents)}

    def expected(self, tasks: int) -> dict[str, Any]:
        """As `Empty.expected`."""
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
    made = hist.Hist.new.Reg(bins - 2, 0.0, 1.0, name="x").Weight()
    view = made.view(flow=True)
    for name in ("value", "variance"):
        values = rng.integers(1 << MANTISSA, size=bins).astype(float)
        if contents == "sparse":
            values[rng.permutation(bins)[bins // FILLED + 1 :]] = 0.0
        view[name] = values
    return made


@dataclass(frozen=True)
class Meeting:
    """A task that ends when there are as many at work as workers: then each worker has one.

    Attributes
    ----------
    folder
        Where each task leaves a file.
    workers
        How many there must be.
    first
        Called before, on each worker.
    """

    folder: str
    workers: int
    first: Callable[[], Any] | None = None

    def __call__(self, item: int) -> dict[str, Any]:
        """Process and thread that it ran in."""
        if self.first:
            self.first()
        folder = Path(self.folder)
        (folder / str(item)).touch()
        until = time.monotonic() + PATIENCE
        while sum(1 for _ in folder.iterdir()) < self.workers and time.monotonic() < until:
            time.sleep(0.001)
        return {"pids": {os.getpid()}, "threads": {(os.getpid(), threading.get_ident())}}


@dataclass(frozen=True)
class Deadly:
    """A processor; the worker that begins one chunk is killed, as where memory is short. Once.

    Attributes
    ----------
    process
        The processor's function of events.
    path
        Of the file whose first chunk it is.
    mark
        File that says that it was done.
    """

    process: Callable[[Any], Any]
    path: str
    mark: Path

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


# --- acts


def calls(executor: ExecutorBase, tasks: int, make: Callable[[], Empty]) -> Callable[[], Any]:
    """Make ready to give an executor tasks.

    Parameters
    ----------
    executor
        Called as coffea's Runner does, but directly.
    tasks
        How many.
    make
        Makes the function, anew for each call.

    Returns
    -------
    Callable
        Has the function called on items 0, 1, ..., and gives what `Empty.counted` makes of it.
    """
    items = list(range(tasks))

    def act() -> dict[str, Any]:
        function = make()
        return function.counted(_call(executor, items, function))

    return act


def _call(executor: ExecutorBase, items: list[int], function: Callable[[int], Any]) -> Any:
    if hasattr(executor, "heavy_input"):
        # coffea's Runner leaves its processor in the DaskExecutor, which then puts it beside items.
        executor = executor.copy(heavy_input=None)
    # coffea shows its progress whatever `status` says.
    with redirect_stdout(io.StringIO()):
        merged, _ = executor(items, function, None)
    return merged


def same(got: Any, want: Any) -> bool:
    """Whether counts are equal, and histograms to the last bit."""
    import numpy as np

    if got.keys() != want.keys():
        return False
    ours, theirs = got.get(HISTOGRAM), want.get(HISTOGRAM)
    if ours is not None and not (
        ours.axes == theirs.axes
        and all(
            np.array_equal(ours.view(flow=True)[one], theirs.view(flow=True)[one])
            for one in ("value", "variance")
        )
    ):
        return False
    return all(got[name] == want[name] for name in got if name != HISTOGRAM)


def meet(
    executor: ExecutorBase, workers: int, first: Callable[[], Any] | None = None
) -> tuple[int, set[int]]:
    """Give every worker a task at the same time.

    Parameters
    ----------
    executor
        Ready, or about to be: this waits for its workers.
    workers
        How many it has.
    first
        To be called by each of them.

    Returns
    -------
    number, pids
        Number of workers that met, and their processes.
    """
    with tempfile.TemporaryDirectory(prefix="coffea-meeting-") as folder:
        result = _call(executor, list(range(workers)), Meeting(folder, workers, first))
    return len(result["threads"]), result["pids"]


@dataclass
class Start:
    """An executor that can be started and ended again and again.

    Attributes
    ----------
    executor, workers, variant
        Which.
    """

    executor: str
    workers: int
    variant: Variant = ""
    _open: ExitStack = field(default_factory=ExitStack)

    def start(self) -> int:
        """Start it and give each worker a task; how many did one."""
        from analysis.executors import open_executor

        with ExitStack() as stack:
            opened = open_executor(self.executor, workers=self.workers, **VARIANTS[self.variant])
            number, _ = meet(stack.enter_context(opened), self.workers)
            self._open = stack.pop_all()
        return number

    def close(self) -> None:
        """End it."""
        self._open.close()


READY: Final = "ready"
MISSING: Final = "missing"


@dataclass
class FreshStart(Start):
    """The same in a process that is started for it, as a user's script."""

    _process: subprocess.Popen[str] | None = None

    def start(self) -> int:
        """Start Python, import what is needed, start the executor, give each worker a task."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from perf.cases.tasks import script; script()"),
                *(self.executor, str(self.workers), self.variant),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == READY:
                return int(rest)
            if word == MISSING:
                self.close()
                raise NotInstalledError(rest)
            lines.append(line)
        self.close()
        raise RuntimeError("".join(lines[-20:]))

    def close(self) -> None:
        """Have the script end, and wait for it."""
        if self._process is not None:
            self._process.communicate("", timeout=PATIENCE)
            self._process = None


def script() -> None:
    """What `FreshStart` runs: start an executor, say so, and end it when standard input ends."""
    executor, workers, variant = sys.argv[1:]
    one = Start(executor, int(workers), variant)  # type: ignore[arg-type]
    try:
        number = one.start()
    except NotInstalledError as error:
        _say(MISSING, error)
        return
    _say(READY, number)
    sys.stdin.read()
    one.close()


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@contextmanager
def orphans_adopted() -> Iterator[None]:
    """Be the parent of descendants that lose theirs, so that their CPU time is seen (on Linux).

    Parsl starts its workers by a shell that ends at once.
    """
    adopt_orphans()
    try:
        yield
    finally:
        adopt_orphans(wanted=False)


def require(
    executor: ExecutorBase, workers: int, first: Callable[[], Any] | None = None
) -> set[int]:
    """Wait until all workers of an executor are there, as `meet`.

    Returns
    -------
    set[int]
        Their processes.

    Raises
    ------
    InputError
        If they do not come.
    """
    number, pids = meet(executor, workers, first)
    if number != workers:
        msg = f"{number} of {workers} workers are there: start the executor again"
        raise InputError(msg)
    return pids
