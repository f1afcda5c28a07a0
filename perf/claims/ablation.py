"""Ablation: one tuning option of an executor is disabled at a time and the effect measured.

Every row has its own engine, started for it and measured beside the iterative executor in one run;
rows are compared by what both took over the iterative one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Final

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors.worker import FREEZE
from perf.claims import executors as claims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from perf.cases.data import Store
    from perf.claims.verdict import Verdict

ROUNDS: Final = 5
"""Pairs of runs: what is looked for are effects of 5 % and more."""

COLUMN_CACHE: Final = 2_000_000_000
"""Bytes a worker: the columns of all events, for whoever processes all of them in the end."""

TUNED: Final = "as it comes"
STOCK: Final = "coffea's own"


@dataclass(frozen=True)
class Setting:
    """An executor without one of its settings; `without` is TUNED if it has all.

    The options of `open_executor` are made when they are needed: some are in packages that need
    not be installed.
    """

    executor: str
    without: str
    options: Callable[[], dict[str, Any]] = dict
    column_cache: int | None = None

    def measured(
        self,
        store: Store,
        rng: np.random.Generator,
        rounds: int = ROUNDS,
        events: int = claims.EVENTS,
    ) -> list[Verdict]:
        """Verdicts, one for each of `executors.QUANTITIES`."""
        return claims.as_worker(
            claims.executor,
            store,
            rng,
            self.executor,
            self.without,
            rounds,
            self.options(),
            self.column_cache,
            events,
        )


def _environment(**variables: str | None) -> Callable[[], dict[str, Any]]:
    return lambda: {"environment": variables}


def _dask(*names: str) -> Callable[[], dict[str, Any]]:
    """Dask's defaults of what `dask.CONFIGURATION` changes whose name begins like this."""

    def options() -> dict[str, Any]:
        import dask  # noqa: PLC0415

        from analysis.executors._dask_cluster import CONFIGURATION  # noqa: PLC0415

        given = {key: dask.config.get(key) for key in CONFIGURATION if key.startswith(names)}
        return {"config": given}

    return options


def _spark(key: str, value: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"configuration": {key: value}}


def _stock() -> dict[str, Any]:
    return {"tuned": False, "status": False}


def _of_all(executor: str, unit: str = "task") -> tuple[Setting, ...]:
    """Settings that every executor has; `unit` is what a chunk becomes without batches."""
    return (
        Setting(executor, TUNED),
        Setting(executor, "without huge pages", _environment(GLIBC_TUNABLES=None)),
        Setting(executor, "without allocator settings", _environment(**dict.fromkeys(ALLOCATOR))),
        Setting(executor, f"a {unit} a chunk", lambda: {"batch": 1}),
        Setting(executor, "no freeze of garbage collection", _environment(**{FREEZE: "0"})),
    )


SETTINGS: Final = (
    *_of_all("futures"),
    Setting(
        "futures",
        "loky's bound on growth (300 MB)",
        _environment(LOKY_MAX_MEMORY_LEAK_SIZE="300000000"),
    ),
    Setting("futures", "threads", lambda: {"pool": "threads"}),
    *_of_all("parsl"),
    Setting("parsl", "not encrypted", lambda: {"encrypted": False}),
    *_of_all("dask"),
    Setting(
        "dask",
        "with the nanny's MALLOC_TRIM_THRESHOLD_",
        _environment(**{**dict.fromkeys(ALLOCATOR), "MALLOC_TRIM_THRESHOLD_": "65536"}),
    ),
    Setting("dask", "results compressed (auto)", lambda: {"compression": "auto"}),
    Setting("dask", "columns cached", dict, COLUMN_CACHE),
    Setting("dask", "columns cached, affinity", lambda: {"affinity": True}, COLUMN_CACHE),
    Setting("dask", "with the profiler of workers", _dask("distributed.worker.profile")),
    Setting("dask", "with ticks of 20 ms", _dask("distributed.admin.tick")),
    Setting("dask", "all of Dask's configuration", _dask("distributed")),
    Setting("dask", STOCK, _stock),
    *_of_all("spark", "partition"),
    Setting("spark", "pyspark's daemon", _spark("spark.python.daemon.module", "pyspark.daemon")),
    Setting("spark", "TCP to workers", _spark("spark.python.unix.domain.socket.enabled", "false")),
    Setting("spark", STOCK, _stock),
)


def of(executors: Sequence[str], only: Sequence[str] = ()) -> list[Setting]:
    """Settings of some executors whose names match a pattern (shell's), by default all.

    The executor as it comes is always among them: others are compared with it. An InputError if an
    executor has no settings, or a pattern matches none.
    """
    known = sorted({setting.executor for setting in SETTINGS})
    for name in executors:
        if name not in known:
            msg = f"the executor {name!r} has no settings to disable: use {', '.join(known)}"
            raise InputError(msg)
    found = [setting for setting in SETTINGS if setting.executor in executors]
    for pattern in only:
        if not any(fnmatch(setting.without, pattern) for setting in found):
            names = ", ".join(dict.fromkeys(setting.without for setting in found))
            msg = f"there is no setting {pattern!r}: there are {names}"
            raise InputError(msg)
    return [
        setting
        for setting in found
        if not only
        or setting.without == TUNED
        or any(fnmatch(setting.without, pattern) for pattern in only)
    ]
