"""Columns that a worker keeps: the same answer, without reading again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis import ttbar
from analysis.executors import open_executor
from analysis.runner.column_cache import ColumnCache, of_worker
from analysis.synthetic import write_fileset
from perf.records.difference import agree
from tests.support.jobs import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coffea.processor.executor import ExecutorBase

    from analysis.runner.result import Result

BRANCHES = ttbar.branches("nominal")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What threads and the iterative executor keep is of this process."""
    of_worker.cache_clear()
    yield
    of_worker.cache_clear()


@pytest.fixture
def two_samples(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """Two samples of the file set, four files."""
    return {name: synthetic_fileset[name] for name in sorted(synthetic_fileset)[:2]}


def processed(
    fileset: dict[str, Any], executor: ExecutorBase, column_cache: int | None = None
) -> Result:
    return run(
        fileset,
        ttbar.TtbarProcessor("compiled", "nominal"),
        executor,
        BRANCHES,
        chunksize=500,
        column_cache=column_cache,
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("iterative", {}),
        ("futures", {"pool": "threads"}),
        # The one whose chunks return to the worker that has their columns.
        pytest.param("dask", {"affinity": True}, marks=pytest.mark.slow),
    ],
)
def test_a_second_run_reads_less_and_gives_the_same(
    name: str, options: dict[str, Any], two_samples: dict[str, Any]
) -> None:
    workers = 1 if name == "iterative" else 2
    with open_executor("iterative") as base:
        want = processed(two_samples, base)
    with open_executor(name, workers=workers, **options) as executor:
        first, second = (processed(two_samples, executor, 10**9) for _ in range(2))
    assert agree(first.accumulated, want.accumulated)
    assert agree(second.accumulated, want.accumulated)
    assert first.bytes_read is not None
    assert second.bytes_read is not None
    # What is left is looking at the file.
    assert second.bytes_read < 0.5 * first.bytes_read


def test_other_events_are_not_taken_for_those_that_are_kept(two_samples: dict[str, Any]) -> None:
    with open_executor("iterative") as executor:
        for name, sample in two_samples.items():
            fileset = {name: sample}
            want = processed(fileset, executor).accumulated
            assert agree(processed(fileset, executor, 10**9).accumulated, want)


@pytest.mark.parametrize("kind", ["ttree", "parquet"])
def test_each_file_has_columns_of_its_own_and_new_ones_when_it_is_another(
    kind: str, tmp_path: Path
) -> None:
    """Of Parquet coffea's own keys are those of events 0 to 500 of whatever file."""

    def written(seed: int) -> dict[str, Any]:
        return write_fileset(
            tmp_path,
            events=1000,
            seed=seed,
            processes=["ttbar"],
            variations=["nominal"],
            format=kind,
            events_per_file=500,
        )

    with open_executor("iterative") as executor:
        for seed in (1, 2):
            fileset = written(seed)
            want = processed(fileset, executor).accumulated
            for _ in range(2):
                assert agree(processed(fileset, executor, 10**9).accumulated, want)


def test_a_cache_that_is_too_small_forgets_and_gives_the_same(two_samples: dict[str, Any]) -> None:
    capacity = 10_000
    with open_executor("iterative") as executor:
        want = processed(two_samples, executor).accumulated
        for _ in range(2):
            assert agree(processed(two_samples, executor, capacity).accumulated, want)
    assert 0 < of_worker(capacity).currsize <= capacity


def test_the_least_recently_used_goes_first_and_what_never_fits_is_not_kept() -> None:
    columns = ColumnCache(32)
    one, two, three = (np.full(2, value, dtype=np.int64) for value in (1, 2, 3))
    columns["one"], columns["two"] = one, two
    assert columns.get("one") is one
    columns["three"] = three
    assert columns.get("two", "gone") == "gone"
    assert columns.get("one") is one
    columns["large"] = np.zeros(5, dtype=np.int64)
    assert columns.get("large") is None
    assert columns.get("three") is three
