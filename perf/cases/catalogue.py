"""Index of everything that is measured.

Cases are made from the registries of kernels, queries and executors, by subject, one module
each. pytest's benchmarks are generated from this index (`perf/conftest.py`); asv's, the claims
and the comparisons take cases from it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perf.cases.case import BASE, POOLS, Case, OnExecutor
from perf.cases.delivery import deliveries
from perf.cases.executors import StartCase, starts, tasks
from perf.cases.inference import inferences
from perf.cases.kernels import kernels, queries
from perf.cases.limits import limits
from perf.cases.nanoevents import nano_cases
from perf.cases.peers import peer_cases
from perf.cases.processor import many_files, processors, recoveries, scalings
from perf.cases.reading import formats, readings
from perf.cases.workflow import stages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perf.cases.scales import Scale


def in_process(scale: Scale) -> list[Case]:
    """The processor in this process, beside its limit."""
    return [*limits(scale), *(case for case in processors(scale) if not case.in_workers)]


def on_executors(scale: Scale) -> list[OnExecutor]:
    """Every case that needs workers, and what it is compared with; by executor.

    Cases that can share an executor follow each other: starting one takes seconds.
    """
    cases = [
        *(case for case in processors(scale) if case.in_workers),
        *starts(scale),
        *tasks(scale),
        *scalings(scale),
        *many_files(scale),
        *recoveries(scale),
    ]
    order = [BASE, *POOLS]
    return sorted(
        cases,
        key=lambda case: (
            order.index(case.executor),
            # Starts last: they end the open executor, and need one start before them.
            isinstance(case, StartCase),
            case.workers,
            case.variant,
        ),
    )


SUITES: Final[dict[str, Callable[[Scale], Sequence[Case]]]] = {
    "adl": queries,
    "delivery": deliveries,
    "executors": on_executors,
    "inference": inferences,
    "kernels": kernels,
    "nanoevents": nano_cases,
    "peers": peer_cases,
    "processor": in_process,
    "reading": lambda scale: [*readings(scale), *formats(scale)],
    "whole": stages,
}
"""Cases by the module that measures them, `perf/bench_*.py`."""


def everything(scale: Scale) -> list[Case]:
    """Every case of a scale."""
    return [case for cases in SUITES.values() for case in cases(scale)]
