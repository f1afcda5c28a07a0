"""Claims about executors: what they are made of, and what makes them refuse to report."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from coffea.processor import IterativeExecutor

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from perf.cases.data import Store
from perf.claims import executors as claims
from tests.support.process_helpers import children


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "EVENTS", 2_000)
    monkeypatch.setattr(claims, "PROCESSOR_CHUNK", 500)
    monkeypatch.setattr(claims, "EMPTY_TASKS", 50)
    monkeypatch.setattr(claims, "MERGED_BYTES", 100_000)
    monkeypatch.setattr(claims, "IDLE_SECONDS", 0.1)


@pytest.mark.usefixtures("small")
def test_claims_about_an_executor_are_measured_on_it(tmp_path: Path) -> None:
    before = children()
    found = claims.executor(Store(tmp_path, 1_000), np.random.default_rng(0), "futures", rounds=2)
    bounds = {one.claim.partition(": ")[2]: (one.sense, one.bound, one.unit) for one in found}
    assert bounds == {
        "CPU time an event": ("at most", 1.05, "ratio"),
        "events a second": ("at least", 1.75, "ratio"),
        "an empty task": ("at most", None, "milliseconds"),
        claims.MERGE: ("at most", 20.0, "milliseconds"),
        "CPU seconds a second": ("at most", None, "ratio"),
        "page faults a run": ("at most", None, "count"),
        "peak of a worker": ("at most", None, "bytes"),
    }
    memory = next(one for one in found if one.quantity == claims.MEMORY)
    # Of a process that has imported the analysis, and not of this machine.
    assert 1e8 < memory.measured.value < 1e10
    arms = [arm for verdict in found for arm in verdict.arms]
    assert len({arm.what.name for arm in arms}) == len(arms) == 5
    # The runs that were compared gave the same.
    assert arms[0].check == arms[1].check
    assert arms[0].input.events == 2_000
    assert children() <= before


@pytest.mark.usefixtures("small")
def test_independent_processes_share_all_events(tmp_path: Path) -> None:
    found = claims.independent_processes(Store(tmp_path, 500), np.random.default_rng(0), rounds=2)
    assert {one.quantity for one in found} == {*claims.QUANTITIES[:4]}
    assert all(one.bound is None for one in found)
    base, apart = found[0].arms
    assert base.check == apart.check
    assert (base.what.workers, apart.what.workers) == (1, 2)


class Losing(IterativeExecutor):
    """Loses the last item."""

    def __call__(self, items: object, function: object, accumulator: object) -> object:
        return super().__call__(list(items)[:-1], function, accumulator)  # type: ignore[call-overload]


@pytest.mark.usefixtures("small")
def test_no_claim_is_made_of_an_executor_that_loses_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    losing = Losing(status=False)
    subject = claims._Measured("dask", rounds=2, events=2_000)
    # Not the check that all workers are there, which says so already.
    monkeypatch.setattr("perf.cases.tasks.wait_for_workers", lambda *_: set())
    with pytest.raises(InputError, match="49 of 50 tasks"):
        claims._tasks(rng, losing, subject)
    act = partial(claims.process, executor=losing)
    with pytest.raises(InputError, match="the result is not used"):
        claims._work(Store(tmp_path, 1_000), rng, act, set(), subject)


def test_no_claim_is_made_where_workers_are_out_of_sight() -> None:
    with pytest.raises(InputError, match="1 workers cannot be seen"):
        claims._require_visible({1})


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux has /proc")
def test_the_iterative_executor_has_the_memory_settings_of_workers_and_hands_on_none() -> None:
    started_with = claims.as_worker(Path.read_bytes, Path("/proc/self/environ"))
    for name, value in ALLOCATOR.items():
        assert f"{name}={value}".encode() in started_with.split(b"\0")
        assert claims.as_worker(os.getenv, name) == os.getenv(name)
