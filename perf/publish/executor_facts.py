"""What executors survive and what Dask is good and bad at, each with the test or claim that shows it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from perf.claims.executors import CPU, IDLE, MERGE, RATE, TASK

TESTS: Final = "tests/analysis/executors"

FAULTS: Final[dict[str, dict[str, str]]] = {
    "a worker dies": {
        "futures": "test_futures.py::test_a_worker_that_dies_costs_nothing_but_time",
        "dask": "test_dask.py::test_killed_worker_is_made_up_for",
        "parsl": "test_parsl.py::test_a_worker_that_dies_costs_nothing_but_time",
        "spark": "test_spark.py::test_worker_that_dies_is_made_up_for",
        "taskvine": "test_taskvine.py::test_a_process_that_dies_costs_nothing_but_time",
    },
    "a chunk kills its workers (it is named)": {
        "futures": "test_futures.py::test_a_chunk_that_kills_is_named_and_the_pool_is_usable",
        "dask": "test_dask.py::test_deadly_chunk_is_named",
        "parsl": "test_parsl.py::test_a_chunk_that_kills_is_named",
        "spark": "test_spark.py::test_deadly_chunk_is_named",
        "taskvine": "test_taskvine.py::test_a_chunk_that_kills_is_named",
    },
    "a worker takes too much memory": {
        "dask": "test_dask.py::test_memory_limit",
        "spark": "test_spark.py::test_memory_limit_of_workers",
    },
    "the engine dies (one sentence)": {
        "dask": "test_dask.py::test_a_cluster_that_stops_loses_its_workers_and_dies",
        "parsl": "test_parsl.py::test_an_interchange_that_dies_ends_the_run_and_leaves_nothing",
        "spark": "test_spark.py::test_java_that_dies_ends_the_run",
    },
}
"""By executor, the test of what happens; an executor without one is not tested for it."""


class Statement(NamedTuple):
    """A strength or weakness, with the quantities of `claims` behind it, or a test."""

    kind: Literal["strength", "weakness"]
    says: str
    claims: tuple[tuple[str, str], ...] = ()
    """What was measured (as `claims` calls it) and its quantity."""
    test: str | None = None


DASK: Final = (
    Statement(
        "strength",
        "As cheap as a pool of processes, with our settings.",
        (("dask x2", CPU), ("futures x2", CPU), ("dask x2", RATE), ("futures x2", RATE)),
    ),
    Statement(
        "strength",
        "A task costs little, where chunks go in batches; results are merged on workers.",
        (("dask x2", TASK), ("dask x2", MERGE)),
    ),
    Statement(
        "strength",
        "It makes up for a worker that dies, and starts another.",
        test="test_dask.py::test_killed_worker_is_made_up_for",
    ),
    Statement(
        "strength",
        "It limits the memory of each worker.",
        test="test_dask.py::test_memory_limit",
    ),
    Statement(
        "strength",
        "Workers may be lost, and a scheduler that is stopped or dead ends the run in a sentence.",
        test="test_dask.py::test_a_cluster_that_stops_loses_its_workers_and_dies",
    ),
    Statement(
        "weakness",
        "With its default settings workers give freed memory back at once, which costs CPU time.",
        (("dask x2 plain", CPU), ("dask x2 plain", RATE)),
    ),
    Statement(
        "weakness",
        "Its scheduler is one Python process, which pays for each task that is in no batch.",
        (("dask x2 plain", TASK),),
    ),
    Statement(
        "weakness",
        "Its tree of merges compresses all that it sends.",
        (("dask x2 plain", MERGE),),
    ),
    Statement(
        "weakness",
        "A cluster that has nothing to do takes CPU time.",
        (("dask x2 plain", IDLE), ("dask x2", IDLE)),
    ),
)
