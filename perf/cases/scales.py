"""Scales: how much is measured, from a smoke test to what reports publish."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from perf.measure import clocks

if TYPE_CHECKING:
    from perf.cases.tasks import Contents

InferenceTask = Literal["build", "fit", "hypotest", "limit"]
"""Building the model, fitting it, one hypothesis test, an upper limit with its bands."""


EXAMPLES: Final = {"quick": 20, "ci": 60, "thorough": 1000}
"""Examples that each proof of a kernel draws before anything is measured, by hypothesis profile:
of `make test`, of CI and whatever else is run, and on request."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    name
        Of the scale.
    sizes, query_sizes
        Events of kernels, and of queries.
    seconds
        Time for the samples of one kernel or query, about.
    min_rounds
        Least number of samples of a kernel or query.
    processor_rounds
        Samples of the processor and of tasks on executors.
    start_rounds
        Samples of what starts anew each time: an executor, a process, a stage of the workflow.
    file_events
        Events of each file.
    processor_events
        Events processed, in whole files.
    chunksizes
        Of the processor, in events.
    tasks
        Numbers of empty tasks.
    merged
        Histograms that tasks return: bytes, number of tasks, contents.
    files_events, files
        Events processed and the numbers of equal files that hold them.
    fewest_workers
        Smallest worker count in scaling benchmarks; None to leave them out.
    delays
        Milliseconds to a server, each way: in the building, in the country, across an ocean.
    details
        Whether these are measured too: coffea's own executors, all variations on workers, the
        loss of a worker, starts in new processes; limits, pyhf's own optimisers, published histograms;
        uproot's own handlers of files of servers; the workflow from the fit on.
    workflow_events
        Events of each sample of the whole workflow.
    slow_tests
        Tasks that pyhf's own optimisers are measured on too; they take seconds a fit.
    """

    name: str
    sizes: tuple[int, ...]
    query_sizes: tuple[int, ...]
    seconds: float
    min_rounds: int
    processor_rounds: int
    start_rounds: int
    file_events: int
    processor_events: int
    chunksizes: tuple[int, ...]
    tasks: tuple[int, ...]
    merged: tuple[tuple[int, int, Contents], ...]
    files_events: int
    files: tuple[int, ...]
    fewest_workers: int | None
    delays: tuple[int, ...]
    details: bool
    workflow_events: int
    slow_tests: tuple[InferenceTask, ...]


_SMALL: Final = Scale(
    name="small",
    sizes=(1_000,),
    query_sizes=(1_000,),
    seconds=0.02,
    min_rounds=3,
    processor_rounds=1,
    start_rounds=1,
    file_events=2_000,
    processor_events=4_000,
    chunksizes=(2_000,),
    tasks=(10, 1_000),
    merged=((1_024, 8, "random"), (1_000_000, 8, "sparse")),
    files_events=4_000,
    files=(1, 8),
    fewest_workers=2,
    delays=(0, 10, 50),
    details=True,
    workflow_events=2_000,
    slow_tests=(),
)
"""A smoke test: every case is checked, the numbers mean little."""

_FULL: Final = Scale(
    name="full",
    sizes=(1_000, 10_000, 100_000, 1_000_000),
    query_sizes=(1_000, 10_000, 100_000),
    seconds=0.1,
    min_rounds=clocks.MIN_ROUNDS,
    processor_rounds=6,  # the fewest whose interval holds a median at 95 %
    start_rounds=2,
    file_events=250_000,
    processor_events=500_000,
    chunksizes=(50_000, 250_000),
    tasks=(10, 100, 1_000, 10_000),
    merged=(
        (1_024, 64, "random"),
        (100_000, 64, "random"),
        (16_000_000, 16, "random"),
        (16_000_000, 16, "sparse"),
        (100_000_000, 4, "random"),
    ),
    files_events=512_000,
    files=(1, 8, 64),
    fewest_workers=1,
    delays=(0, 10, 50),
    details=True,
    workflow_events=20_000,
    slow_tests=("hypotest",),
)

"""What `make report` publishes: about 15 minutes on two cores."""

_DEFAULT: Final = replace(
    _FULL,
    name="default",
    sizes=(1_000, 100_000),
    query_sizes=(1_000, 10_000),
    processor_rounds=2,
    start_rounds=1,
    chunksizes=(50_000,),
    tasks=(10, 1_000),
    merged=((1_024, 64, "random"), (16_000_000, 16, "random")),
    files_events=200_000,
    files=(1, 8),
    fewest_workers=None,
    delays=(10,),
    details=False,
    slow_tests=(),
)
"""What `make bench` measures within six minutes on two cores: the full scale with fewer sizes,
settings and rounds."""

_LARGE: Final = replace(
    _FULL,
    name="large",
    query_sizes=(1_000, 10_000, 100_000, 1_000_000),
    seconds=2.0,
    min_rounds=10,
    start_rounds=5,
    processor_events=2_000_000,
    chunksizes=(25_000, 50_000, 100_000, 250_000),
    files_events=2_048_000,
    workflow_events=250_000,
    slow_tests=("hypotest", "limit"),
)

SCALES: Final[dict[str, Scale]] = {
    scale.name: scale for scale in (_SMALL, _DEFAULT, _FULL, _LARGE)
}
DEFAULT_SCALE: Final = "default"
