"""Estimates with intervals: from bootstrap draws, or from the order of a few samples."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
"""Of intervals, where nothing else is said."""


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> Self:
        """A number without uncertainty."""
        return cls(value, value, value)

    @classmethod
    def of_draws(
        cls,
        value: float,
        draws: NDArray[np.float64],
        confidence: float = CONFIDENCE,
        method: Literal["linear", "nearest"] = "linear",
    ) -> Self:
        """The value with the quantiles of what a bootstrap drew; `method` as of `np.quantile`."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(draws, [tail, 1 - tail], method=method)
        return cls(float(value), float(low), float(high))

    def over(self, other: Estimate) -> Estimate:
        """The ratio to another, measured apart: its interval holds whatever both intervals allow."""
        return Estimate(self.value / other.value, self.low / other.high, self.high / other.low)


def of_median(samples: Sequence[float]) -> Estimate:
    """The median, with the narrowest interval between samples at CONFIDENCE, or all of them.

    It holds for any distribution: the true median is outside only if it lies below all samples
    from `low` on or above all up to `high`, and each sample is above or below it by the toss of a
    coin.
    """
    ordered = sorted(samples)
    skipped, _ = _order_interval(len(ordered))
    return Estimate(statistics.median(ordered), ordered[skipped], ordered[-1 - skipped])


def median_confidence(samples: int) -> float:
    """Probability that `of_median` of so many samples holds the true median."""
    return _order_interval(samples)[1]


def sure(samples: int) -> bool:
    """Whether `of_median` of so many holds it at CONFIDENCE; of fewer it gives their range."""
    return median_confidence(samples) >= CONFIDENCE


def _order_interval(n: int) -> tuple[int, float]:
    """Samples left out at each end, and the confidence of what remains."""
    outside, skipped = 2 / 2**n, 0
    while True:
        more = outside + 2 * math.comb(n, skipped + 1) / 2**n
        if 1 - more < CONFIDENCE or 2 * (skipped + 1) >= n:
            return skipped, max(0.0, 1 - outside)
        outside, skipped = more, skipped + 1
