"""Pairs: their statistics on a made-up clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from perf.claims.catalogue import ROUNDS
from perf.claims.verdict import Verdict
from perf.measure import clocks, paired
from perf.measure.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
) -> Estimate:
    laboratory = Laboratory(seed, 0.05)
    monkeypatch.setattr("perf.measure.clocks.time.perf_counter", laboratory.clock)
    samples = paired.interleaved(
        {name: laboratory.act(one) for name, one in seconds.items()},
        rounds=ROUNDS,
        rng=np.random.default_rng(seed),
        cpu=laboratory.clock,
    )
    return paired.ratio(samples.cpu["a"], samples.cpu["b"], np.random.default_rng(seed))


@pytest.mark.parametrize("true", [4.0, 1.2, 0.5])
def test_ratio_of_a_made_up_pair_is_found_with_its_sign(
    true: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured({"a": true, "b": 1.0}, monkeypatch)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(true, rel=0.05)
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
    samples = paired.interleaved(
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
    ("sense", "low", "high", "says"),
    [
        ("at least", 4.1, 4.5, "holds"),
        ("at least", 3.9, 4.5, "undecided"),
        ("at least", 3.5, 3.9, "FAILS"),
        ("at most", 4.1, 4.5, "FAILS"),
        ("at most", 3.9, 4.5, "undecided"),
        ("at most", 3.5, 3.9, "holds"),
    ],
)
def test_a_claim_holds_or_fails_if_its_whole_interval_does(
    sense: str,
    low: float,
    high: float,
    says: str,
) -> None:
    verdict = Verdict("", sense, 4.0, Estimate((low + high) / 2, low, high), "ratio", ())  # type: ignore[arg-type]
    assert str(verdict) == says
    assert verdict.holds is (says == "holds")
    assert verdict.fails is (says == "FAILS")


def test_what_has_no_bound_cannot_fail() -> None:
    assert Verdict("", "at most", None, Estimate(9.0, 8.0, 10.0), "ratio", ()).holds


def test_each_side_can_have_a_clock_of_its_own() -> None:
    ticks = {"a": 0.0, "b": 0.0}

    def clock(name: str) -> Callable[[], float]:
        def read() -> float:
            ticks[name] += {"a": 1.0, "b": 3.0}[name]
            return ticks[name]

        return read

    samples = paired.interleaved(
        dict.fromkeys("ab", lambda: time.sleep(clocks.ROUND_SECONDS)),
        rounds=3,
        rng=np.random.default_rng(0),
        cpu={name: clock(name) for name in "ab"},
    )
    assert samples.cpu == {"a": [1.0] * 3, "b": [3.0] * 3}
