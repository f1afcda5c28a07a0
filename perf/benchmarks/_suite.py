"""How asv measures a case: its result is checked, then it is timed by a stopwatch.

asv calls a function and subtracts two readings of its ``timer``. The timer here is a stopwatch
that runs only while the measured call runs, in seconds an event. So the check, compilation, the
start of workers and the inner loop do not count, without asv's ``setup`` (with which asv_runner
since 0.3.0 times each call of a short kernel by itself). No benchmark is a rate: asv takes the
larger number for the slower one.
"""

from __future__ import annotations

import gc
import hashlib
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perf.cases.case import Inputs, check, run_checked
from perf.cases.data import DEFAULT_DIRECTORY, Store, find_shared
from perf.cases.scales import SCALES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perf.cases.case import Case

ROOT: Final = Path(__file__).resolve().parents[2]

EVENTS: Final = 100_000
"""Of every input: coffea's default chunk size, and what docs/analysis.md states costs for."""

FILE_EVENTS: Final = 200_000
"""Enough for EVENTS with four selected jets."""

SCALE: Final = replace(
    SCALES["full"],
    name="asv",
    sizes=(EVENTS,),
    query_sizes=(EVENTS,),
    file_events=FILE_EVENTS,
    processor_events=2 * FILE_EVENTS,
    chunksizes=(EVENTS,),
)

SAMPLE_SECONDS: Final = 0.02
"""Length of a sample of a kernel, which is many calls."""

VERSION: Final = "1"
"""Raised when what is measured changes: asv then ignores older results."""

KERNEL_SAMPLES: Final = (5, 10, 1.0)
"""Least and most samples of a process, and seconds. Processes differ more than their samples."""

SLOW_SAMPLES: Final = (1, 3, 20.0)


class Stopwatch:
    """A timer for asv that runs only while told to; `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.total = 0.0

    def __call__(self) -> float:
        """Seconds so far, each divided by its count."""
        return self.total

    @contextmanager
    def running(self, count: float) -> Iterator[None]:
        """Add the seconds that the body takes, divided by `count`."""
        begin = self.clock()
        yield
        self.add((self.clock() - begin) / count)

    def add(self, seconds: float) -> None:
        """Add seconds that were measured elsewhere."""
        self.total += seconds


CPU: Final = Stopwatch(time.process_time)
WALL: Final = Stopwatch(time.perf_counter)
"""One of each is enough: asv runs each benchmark in a process of its own."""


@dataclass
class Prepared:
    """A case whose result was checked, ready to be timed."""

    run: Callable[[], Any]
    calls: int
    """In a sample."""
    events: int
    """Of each call."""

    def sample(self, watch: Stopwatch) -> None:
        """Add a sample to a stopwatch, in seconds an event."""
        run = self.run
        with watch.running(self.calls * self.events):
            for _ in range(self.calls):
                run()


def inputs() -> Inputs:
    """What the cases are measured on; no file depends on the commit of coffea."""
    return Inputs(Store(ROOT / DEFAULT_DIRECTORY, SCALE.file_events), find_shared(ROOT))


@cache
def prepared(case: Case) -> Prepared:
    """Check a case and choose the number of calls of a sample.

    Raises DisagreementError if results differ: asv then has a failure and no time.
    """
    stack, shared = ExitStack(), inputs()
    # Stays open: the process ends with the benchmark.
    ready = stack.enter_context(case.open(shared))
    run_checked(case, ready, shared)
    begin = time.perf_counter()
    ready.run()
    calls = max(1, int(SAMPLE_SECONDS / max(time.perf_counter() - begin, 1e-9)))
    gc.collect()
    gc.freeze()
    return Prepared(ready.run, calls, ready.identity.events)


def on_workers(case: Case, watch: Stopwatch) -> None:
    """Start an executor, check the case's result, time a second call, and end the executor."""
    shared = inputs()
    try:
        with case.open(shared) as ready:
            run_checked(case, ready, shared)
            with watch.running(ready.identity.events):
                result = ready.run()
            check(case, ready, shared, result)
    finally:
        shared.close_executor()


def setup_cache() -> str:
    """Make the events; asv calls it first, in a process of its own, and hands its result on."""
    shared = inputs()
    shared.store.fileset(SCALE.processor_events)
    return str(shared.store.directory)


def benchmark(
    name: str,
    body: Callable[..., Any],
    *,
    watch: Stopwatch | None = None,
    params: dict[str, tuple[Any, ...]] | None = None,
    source: str = "",
    **settings: Any,
) -> Callable[..., Any]:
    """Make a benchmark in asv's form: a function whose name begins with its kind, as ``time_``.

    `body` takes a value of each of `params`, after the result of `setup_cache` if its module has
    one. With another `source` of what is measured it is another benchmark. `settings` become
    attributes that asv reads.
    """

    def function(*arguments: Any) -> Any:
        return body(*arguments)

    function.__name__ = function.__qualname__ = name
    function.__module__ = body.__module__
    function.__doc__ = body.__doc__
    attributes: dict[str, Any] = {
        "version": hashlib.sha256(f"{VERSION}{name}{source}".encode()).hexdigest(),
        "pretty_name": name.replace("_", " "),
        **settings,
    }
    if watch is not None:
        # One call a sample, partly timed by the stopwatch; the first call prepares.
        attributes = {"timer": watch, "number": 1, "warmup_time": 1e-3, **attributes}
    if params:
        attributes |= {"params": list(map(list, params.values())), "param_names": list(params)}
    for key, value in attributes.items():
        setattr(function, key, value)
    return function
