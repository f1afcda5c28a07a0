"""Intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from perf.measure.estimate import Estimate, median_confidence, of_median


def test_intervals_of_medians_are_as_sure_as_they_say() -> None:
    assert (of_median([3.0]), median_confidence(1)) == (Estimate(3.0, 3.0, 3.0), 0.0)
    assert (of_median([1.0, 2.0, 3.0]), median_confidence(3)) == (Estimate(2.0, 1.0, 3.0), 0.75)
    assert of_median([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == Estimate(3.5, 1.0, 6.0)
    assert median_confidence(6) == pytest.approx(1 - 2 / 64)
    # Tables of the sign test: of 20 samples the sixth and the fifteenth, 95.86 %.
    twenty = of_median([float(n) for n in range(1, 21)])
    assert (twenty.low, twenty.high) == (6.0, 15.0)
    assert median_confidence(20) == pytest.approx(0.9586, abs=1e-4)


def test_draws_give_their_quantiles() -> None:
    draws = np.linspace(0, 1, 1001)
    estimate = Estimate.of_draws(0.4, draws, 0.9)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.4, 0.05, 0.95))
    # Between a number and infinity there is none.
    infinite = Estimate.of_draws(1.0, np.array([1.0, np.inf]), method="nearest")
    assert (infinite.low, infinite.high) == (1.0, np.inf)
