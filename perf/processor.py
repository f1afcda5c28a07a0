"""The ttbar processor as it is measured: one call of coffea's Runner on files looked at before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

# The analysis takes seconds to import, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.kernels import Implementation

IDIOMATIC: Final = "idiomatic"
"""In the place of an implementation: the analysis as published, without kernels."""

RELATIVE_ROUNDING: Final = 1e-9
"""Between sums of weights that are not whole, added in another order: the least of the bounds
that double precision allows for 1e6 terms is 1e-16 x 1e6."""


def process(
    fileset: Mapping[str, Any],
    executor: ExecutorBase,
    *,
    implementation: Implementation | Literal["idiomatic"],
    variations: Literal["all", "nominal"],
    chunksize: int,
) -> Callable[[], Any]:
    """Make ready to process a file set.

    Parameters
    ----------
    fileset
        Of coffea's form.
    executor
        Ready, as `analysis.executors.open_executor` yields it.
    implementation, variations
        Of the processor; IDIOMATIC has nominal alone.
    chunksize
        In events.

    Returns
    -------
    Callable
        Processes every event and gives what the processor accumulated. Opening the files to look
        at them, and starting and ending the executor, are left out.
    """
    from analysis import ttbar
    from analysis.idiomatic import IdiomaticProcessor
    from analysis.inputs import inspect
    from analysis.run import run

    branches = ttbar.branches(variations)
    files = inspect(fileset, branches)
    processor = (
        IdiomaticProcessor()
        if implementation == IDIOMATIC
        else ttbar.TtbarProcessor(implementation, variations)
    )

    def act() -> Any:
        return run(
            fileset, processor, executor, files=files, chunksize=chunksize, branches=branches
        ).accumulated

    return act


def agree(got: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Whether two accumulated results are equal.

    The cutflow to the last event, the histograms to the rounding of sums in another order.
    """
    import numpy as np

    if got["cutflow"] != want["cutflow"] or got["histograms"].keys() != want["histograms"].keys():
        return False
    for name, one in got["histograms"].items():
        other = want["histograms"][name]
        if one.axes != other.axes:
            return False
        ours, theirs = one.view(flow=True), other.view(flow=True)
        for field in ("value", "variance"):
            if not np.allclose(ours[field], theirs[field], rtol=RELATIVE_ROUNDING, atol=0):
                return False
    return True


def start_and_stop(executor: str, workers: int) -> list[int]:
    """Start an executor, have each worker do a task that takes no time, and end it.

    Returns
    -------
    list[int]
        What the tasks gave: 0, 1, ... up to the number of workers.
    """
    from analysis.executors import open_executor

    with open_executor(executor, workers=workers) as ready:
        # The pool hands a task to each worker that is idle; without one there is nobody to wait for.
        pool = getattr(ready, "pool", None)
        return list(pool.map(abs, range(workers))) if pool else list(range(workers))
