"""How asv measures a case of the catalogue: checked first, then timed by a clock of ours.

asv calls a function and subtracts two readings of its ``timer``. Here the timer is a stopwatch
that runs only during the act that a benchmark names, in units of seconds an event: the check, the
compilation, the start of workers and the inner loop are not in the result, whatever asv's version
thinks of ``setup`` (which, from asv_runner 0.3.0 on, makes it time each call of a short kernel by
itself). A rate is nowhere: asv takes the larger number for the slower.
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

from perf.cases import catalogue
from perf.cases.data import DEFAULT_DIRECTORY, Store, find_shared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perf.cases.catalogue import Case

ROOT: Final = Path(__file__).resolve().parents[2]

EVENTS: Final = 100_000
"""Of every input: coffea's default chunk, and what the README states costs for."""

FILE_EVENTS: Final = 200_000
"""Enough for EVENTS with four selected jets."""

SCALE: Final = replace(
    catalogue.SCALES[catalogue.DEFAULT_SCALE],
    name="asv",
    sizes=(EVENTS,),
    query_sizes=(EVENTS,),
    file_events=FILE_EVENTS,
    processor_events=2 * FILE_EVENTS,
    chunksizes=(EVENTS,),
)

SAMPLE_SECONDS: Final = 0.02
"""A sample of a kernel is as many calls as take so long."""

VERSION: Final = "1"
"""Raised when what is measured changes: asv then draws no older result."""

KERNEL_SAMPLES: Final = (5, 10, 1.0)
"""Least and most samples of a process, and seconds. Processes differ more than samples of one."""

SLOW_SAMPLES: Final = (1, 3, 20.0)


class Stopwatch:
    """A timer for asv: it stands still but for what is timed.

    Parameters
    ----------
    clock
        Seconds of any beginning.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.total = 0.0

    def __call__(self) -> float:
        """What was timed so far, in seconds for each of what was counted."""
        return self.total

    @contextmanager
    def running(self, count: float) -> Iterator[None]:
        """Time what happens meanwhile, in seconds for each of `count`."""
        begin = self.clock()
        yield
        self.add((self.clock() - begin) / count)

    def add(self, seconds: float) -> None:
        """Count what was timed elsewhere."""
        self.total += seconds


CPU: Final = Stopwatch(time.process_time)
WALL: Final = Stopwatch(time.perf_counter)
"""One of each suffices: asv gives each benchmark a process of its own."""


@dataclass
class Prepared:
    """A case whose result was checked, ready to be timed.

    Attributes
    ----------
    act
        What is timed.
    calls
        How often in a sample.
    events
        That each call works on.
    """

    act: Callable[[], Any]
    calls: int
    events: int

    def sample(self, watch: Stopwatch) -> None:
        """Add a sample to a stopwatch, in seconds an event."""
        act = self.act
        with watch.running(self.calls * self.events):
            for _ in range(self.calls):
                act()


def inputs() -> catalogue.Inputs:
    """What every case is measured on; no file of it depends on the commit of coffea."""
    return catalogue.Inputs(Store(ROOT / DEFAULT_DIRECTORY, SCALE.file_events), find_shared(ROOT))


@cache
def prepared(case: Case) -> Prepared:
    """Check a case against another implementation; find out how often to call it in a sample.

    Raises
    ------
    DisagreementError
        If the results differ: then asv has a failure and no time.
    """
    stack, shared = ExitStack(), inputs()
    # Left open: the process ends with the benchmark.
    ready = stack.enter_context(case.open(shared))
    catalogue.checked(case, ready, shared)
    begin = time.perf_counter()
    ready.act()
    calls = max(1, int(SAMPLE_SECONDS / max(time.perf_counter() - begin, 1e-9)))
    gc.collect()
    gc.freeze()
    return Prepared(ready.act, calls, ready.identity.events)


def on_workers(case: Case, watch: Stopwatch) -> None:
    """Start an executor, check its result, time the same once more, and end it.

    Parameters
    ----------
    case
        On an executor, whose workers are in other processes.
    watch
        Runs during the second call, in seconds an event.
    """
    shared = inputs()
    try:
        with case.open(shared) as ready:
            catalogue.checked(case, ready, shared)
            with watch.running(ready.identity.events):
                got = ready.act()
            catalogue.compare(case, ready, shared, got)
    finally:
        shared.close()


def setup_cache() -> str:
    """Make the events in another process, where memory is measured; asv calls it before.

    Returns
    -------
    str
        Where they are. asv gives it to each benchmark.
    """
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
    """Make a benchmark as asv finds them: a function with a name and settings.

    Parameters
    ----------
    name
        Of the function: begins with its kind, as ``time_``.
    body
        Takes the value of each parameter, after that of `setup_cache` if its module has it.
    watch
        asv's timer.
    params
        Names of parameters with their values.
    source
        Of what is measured: another source is another benchmark.
    **settings
        Attributes that asv reads.
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
        # One call each, of which the stopwatch times what counts; the first prepares.
        attributes = {"timer": watch, "number": 1, "warmup_time": 1e-3, **attributes}
    if params:
        attributes |= {"params": list(map(list, params.values())), "param_names": list(params)}
    for key, value in attributes.items():
        setattr(function, key, value)
    return function
