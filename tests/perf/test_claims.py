"""Claims: their statistics on a made-up clock, and what makes them refuse to report."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from coffea.processor import IterativeExecutor

from analysis.errors import InputError
from analysis.executors.worker import ALLOCATOR
from perf import claims, measure
from perf.data import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from perf.claims import Ratio


class Laboratory:
    """Acts that take made-up time on a machine whose speed drifts."""

    def __init__(self, seed: int, noise: float) -> None:
        self.now = 0.0
        self.calls = 0
        self._rng = np.random.default_rng(seed)
        self._noise = noise

    def clock(self) -> float:
        """Made-up seconds."""
        return self.now

    def act(self, seconds: float) -> Callable[[], None]:
        """What takes so long when it begins."""

        def one() -> None:
            self.calls += 1
            # Three times slower at the end of 10,000 calls than at the beginning.
            drift = 1 + 2 * self.calls / 10_000
            self.now += seconds * drift * self._rng.lognormal(0, self._noise)

        return one


def measured(
    seconds: Mapping[str, float], monkeypatch: pytest.MonkeyPatch, *, seed: int = 1
) -> Ratio:
    laboratory = Laboratory(seed, 0.05)
    monkeypatch.setattr("perf.measure.time.perf_counter", laboratory.clock)
    samples = claims.interleaved(
        {name: laboratory.act(one) for name, one in seconds.items()},
        rounds=claims.ROUNDS,
        rng=np.random.default_rng(seed),
        cpu=laboratory.clock,
    )
    return claims.ratio(samples.cpu["a"], samples.cpu["b"], np.random.default_rng(seed))


@pytest.mark.parametrize("true", [4.0, 1.2, 0.5])
def test_ratio_of_a_made_up_pair_is_found_with_its_sign(
    true: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured({"a": true, "b": 1.0}, monkeypatch)
    assert found.low <= found.median <= found.high
    assert found.median == pytest.approx(true, rel=0.05)
    assert (found.low > 1) == (true > 1)
    assert (found.high < 1) == (true < 1)


@pytest.mark.parametrize("seed", range(5))
def test_interval_of_a_pair_of_equals_contains_one(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured({"a": 1.0, "b": 1.0}, monkeypatch, seed=seed)
    assert found.low < 1 < found.high


def test_order_is_random_and_every_side_has_every_round() -> None:
    order: list[str] = []
    samples = claims.interleaved(
        {name: lambda name=name: order.append(name) for name in "ab"},  # type: ignore[misc]
        rounds=20,
        rng=np.random.default_rng(0),
    )
    assert {name: len(cpu) for name, cpu in samples.cpu.items()} == {"a": 20, "b": 20}
    first = "".join(order)
    # Neither strictly alternating nor one after the other: both orders of a pair occur.
    assert "ab" in first
    assert "ba" in first


@pytest.mark.parametrize(
    ("sense", "low", "high", "holds"),
    [
        ("at least", 4.1, 4.5, True),
        ("at least", 3.9, 4.5, False),
        ("at most", 3.9, 4.5, False),
        ("at most", 3.5, 3.9, True),
    ],
)
def test_a_claim_holds_if_its_whole_interval_does(
    sense: str,
    low: float,
    high: float,
    holds: bool,  # noqa: FBT001
) -> None:
    verdict = claims.Verdict("", sense, 4.0, (low + high) / 2, low, high, "ratio", ())  # type: ignore[arg-type]
    assert verdict.holds is holds


def test_what_has_no_bound_cannot_fail() -> None:
    assert claims.Verdict("", "at most", None, 9.0, 8.0, 10.0, "ratio", ()).holds


def test_each_side_can_have_a_clock_of_its_own() -> None:
    ticks = {"a": 0.0, "b": 0.0}

    def clock(name: str) -> Callable[[], float]:
        def read() -> float:
            ticks[name] += {"a": 1.0, "b": 3.0}[name]
            return ticks[name]

        return read

    samples = claims.interleaved(
        dict.fromkeys("ab", lambda: time.sleep(measure.ROUND_SECONDS)),
        rounds=3,
        rng=np.random.default_rng(0),
        cpu={name: clock(name) for name in "ab"},
    )
    assert samples.cpu == {"a": [1.0] * 3, "b": [3.0] * 3}


def test_claims_are_chosen_by_name(tmp_path: Path) -> None:
    def names(*only: str) -> set[str]:
        rng = np.random.default_rng(0)
        return {one.name for one in claims.every(Store(tmp_path), rng, only)}

    assert names("executor-dask*", "trijet") == {
        *("executor-dask", "executor-dask-plain", "trijet"),
    }
    assert names() >= {
        *("selection", "memory-compiled", "executor-iterative", "executor-futures"),
        "executor-ceiling",
        *("executor-parsl", "executor-spark", "executor-spark-plain"),
    }
    with pytest.raises(InputError, match="there is no claim 'dusk': there are trijet"):
        names("dusk")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "EXECUTOR_EVENTS", 2_000)
    monkeypatch.setattr(claims, "PROCESSOR_CHUNK", 500)
    monkeypatch.setattr(claims, "EMPTY_TASKS", 50)
    monkeypatch.setattr(claims, "MERGED_BYTES", 100_000)
    monkeypatch.setattr(claims, "IDLE_SECONDS", 0.1)


@pytest.mark.usefixtures("small")
def test_claims_about_an_executor_are_measured_on_it(tmp_path: Path) -> None:
    children = psutil.Process().children(recursive=True)
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
    assert 1e8 < memory.measured < 1e10
    arms = [arm for verdict in found for arm in verdict.arms]
    assert len({arm.what.name for arm in arms}) == len(arms) == 5
    # The runs that were compared gave the same.
    assert arms[0].check == arms[1].check
    assert arms[0].input.events == 2_000
    assert all(child in children for child in psutil.Process().children() if "loky" in str(child))


@pytest.mark.usefixtures("small")
def test_the_ceiling_is_of_processes_that_share_all_events(tmp_path: Path) -> None:
    found = claims.ceiling(Store(tmp_path, 500), np.random.default_rng(0), rounds=2)
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
    # Not the check that all workers are there, which says so already.
    monkeypatch.setattr("perf.overheads.require", lambda *_: set())
    with pytest.raises(InputError, match="49 of 50 tasks"):
        claims._tasks(rng, losing, "dask", "", "losing", 2)
    act = partial(claims._process, executor=losing)
    with pytest.raises(InputError, match="the result is not used"):
        claims._work(Store(tmp_path, 1_000), rng, act, set(), "dask", "", "losing", 2)


def test_no_claim_is_made_where_workers_are_out_of_sight() -> None:
    with pytest.raises(InputError, match="1 workers cannot be seen"):
        claims._see({1})


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="Linux has /proc")
def test_the_iterative_executor_has_the_memory_settings_of_workers_and_hands_on_none() -> None:
    started_with = claims.as_worker(Path.read_bytes, Path("/proc/self/environ"))
    for name, value in ALLOCATOR.items():
        assert f"{name}={value}".encode() in started_with.split(b"\0")
        assert claims.as_worker(os.getenv, name) == os.getenv(name)
