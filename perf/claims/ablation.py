"""What each setting of our executors is worth: each is taken away alone, and measured as a claim is.

Every row has its own engine, started for it and measured beside the iterative executor in one run;
rows are compared by what both took over the iterative one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.executors.worker import ALLOCATOR, FREEZE
from perf.claims import executors as claims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from perf.cases.data import Store
    from perf.measure.paired import Verdict

ROUNDS: Final = 5
"""Pairs of runs: what is looked for are effects of 5 % and more."""

COLUMN_CACHE: Final = 2_000_000_000
"""Bytes a worker: the columns of all events, for whoever processes all of them in the end."""

TUNED: Final = "as it comes"
PLAIN: Final = "coffea's own"


@dataclass(frozen=True)
class Lever:
    """A setting that is taken away.

    Attributes
    ----------
    executor
        Whose.
    without
        What is taken away, in words; TUNED if nothing is.
    options
        Gives the options of `open_executor` that take it away: called when they are needed,
        because some are in packages that need not be installed.
    column_cache
        As of `analysis.runner.run.run`.
    """

    executor: str
    without: str
    options: Callable[[], dict[str, Any]] = dict
    column_cache: int | None = None

    def measured(self, store: Store, rng: np.random.Generator) -> dict[str, Verdict]:
        """Verdicts by quantity, of `executor_claims.QUANTITIES`; parameters as of `executor_claims.executor`."""
        measure = partial(claims.as_worker, claims.executor, store, rng, self.executor)
        found = measure(self.without, ROUNDS, self.options(), self.column_cache)
        return {verdict.quantity: verdict for verdict in found}


def _environment(**variables: str | None) -> Callable[[], dict[str, Any]]:
    return lambda: {"environment": variables}


def _dask(*names: str) -> Callable[[], dict[str, Any]]:
    """Dask's defaults of what `dask.CONFIGURATION` changes whose name begins like this."""

    def options() -> dict[str, Any]:
        import dask  # noqa: PLC0415

        from analysis.executors.dask import CONFIGURATION  # noqa: PLC0415

        given = {key: dask.config.get(key) for key in CONFIGURATION if key.startswith(names)}
        return {"config": given}

    return options


def _spark(key: str, value: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"configuration": {key: value}}


NO_HUGE_PAGES: Final = _environment(GLIBC_TUNABLES=None)
NO_ALLOCATOR: Final = _environment(**dict.fromkeys(ALLOCATOR))

LEVERS: Final = (
    Lever("futures", TUNED),
    Lever("futures", "without huge pages", NO_HUGE_PAGES),
    Lever("futures", "without allocator settings", NO_ALLOCATOR),
    Lever("futures", "a task a chunk", lambda: {"batch": 1}),
    Lever("futures", "no freeze of garbage collection", _environment(**{FREEZE: "0"})),
    Lever(
        "futures",
        "loky's bound on growth (300 MB)",
        _environment(LOKY_MAX_MEMORY_LEAK_SIZE="300000000"),
    ),
    Lever("futures", "threads", lambda: {"pool": "threads"}),
    Lever("parsl", TUNED),
    Lever("parsl", "without huge pages", NO_HUGE_PAGES),
    Lever("parsl", "without allocator settings", NO_ALLOCATOR),
    Lever("parsl", "a task a chunk", lambda: {"batch": 1}),
    Lever("parsl", "no freeze of garbage collection", _environment(**{FREEZE: "0"})),
    Lever("parsl", "not encrypted", lambda: {"encrypted": False}),
    Lever("dask", TUNED),
    Lever(
        "dask",
        "with the nanny's MALLOC_TRIM_THRESHOLD_",
        _environment(**{**dict.fromkeys(ALLOCATOR), "MALLOC_TRIM_THRESHOLD_": "65536"}),
    ),
    Lever("dask", "without huge pages", NO_HUGE_PAGES),
    Lever("dask", "without allocator settings", NO_ALLOCATOR),
    Lever("dask", "a task a chunk", lambda: {"batch": 1}),
    Lever("dask", "no freeze of garbage collection", _environment(**{FREEZE: "0"})),
    Lever("dask", "results compressed (auto)", lambda: {"compression": "auto"}),
    Lever("dask", "columns cached", dict, COLUMN_CACHE),
    Lever("dask", "columns cached, affinity", lambda: {"affinity": True}, COLUMN_CACHE),
    Lever("dask", "with the profiler of workers", _dask("distributed.worker.profile")),
    Lever("dask", "with ticks of 20 ms", _dask("distributed.admin.tick")),
    Lever("dask", "all of Dask's configuration", _dask("distributed")),
    Lever("dask", PLAIN, lambda: {"tuned": False, "status": False}),
    Lever("spark", TUNED),
    Lever("spark", "without huge pages", NO_HUGE_PAGES),
    Lever("spark", "without allocator settings", NO_ALLOCATOR),
    Lever("spark", "a partition a chunk", lambda: {"batch": 1}),
    Lever("spark", "no freeze of garbage collection", _environment(**{FREEZE: "0"})),
    Lever(
        "spark",
        "pyspark's daemon",
        _spark("spark.python.daemon.module", "pyspark.daemon"),
    ),
    Lever(
        "spark",
        "TCP to workers",
        _spark("spark.python.unix.domain.socket.enabled", "false"),
    ),
    Lever("spark", PLAIN, lambda: {"tuned": False, "status": False}),
)


def of(executors: Sequence[str]) -> list[Lever]:
    """Levers of some executors.

    Raises
    ------
    InputError
        If there are none of one.
    """
    known = sorted({lever.executor for lever in LEVERS})
    for name in executors:
        if name not in known:
            msg = f"the executor {name!r} has no levers to measure: choose of {', '.join(known)}"
            raise InputError(msg)
    return [lever for lever in LEVERS if lever.executor in executors]
