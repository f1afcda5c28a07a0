"""Is B slower than A? What processes that were started afresh say, and how sure that is.

A *block* is three processes started together: one of A, one of A again, one of B. Of each benchmark
a block gives one number for each process, so the process is the unit of replication: calls in one
process share its layout in memory and are no independent witnesses. From the three logarithms come
two contrasts, B against the mean of both A, and A again against A. The second is zero by
construction, so that whatever it shows is noise: it gives the error of the first one more degrees
of freedom, and bounds from below what is claimed.

The interval is Student's, or that of a studentised bootstrap of the blocks if it is wider: with
heavy tails it is. The benchmarks' standardised residuals are drawn from one pool: a tail of 1e-4
cannot be seen in the ten blocks of one benchmark. Holm's correction keeps the error over all benchmarks, and
what is spent at a look at the data is not spent again, so that looking repeatedly is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

ERROR: Final = 0.01
"""Probability that a run calls any benchmark faster or slower that is not; half of it slower."""

FIRST_LOOK: Final = 4
"""Blocks before the first look: the error has then 7 degrees of freedom."""

LOOK_GROWTH: Final = 1.4
"""Blocks from one look to the next: each look costs some of the error allowed."""

SMALLEST: Final = 0.01
"""Change below which nothing is claimed, however sure: where code lies in memory makes as much
(Mytkowicz et al., ASPLOS 2009; criterion.rs has the same noise threshold)."""

RESOLUTION: Final = 0.03
"""Change that matters: a benchmark is done when the interval excludes one, in either way."""

RESAMPLES: Final = 50_000
"""Of the bootstrap: a tail of 2e-4, as the second look of ten benchmarks has, holds ten of them."""

CONTRAST_VARIANCE: Final = 1.5
CONTROL_VARIANCE: Final = 2.0
"""Of both contrasts, in units of the variance of one process."""

Outcome = Literal["slower", "faster", "no change", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A ratio of times with its interval.

    Attributes
    ----------
    ratio, low, high
        Estimate and ends.
    """

    ratio: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far its farther end is from one, as a change: 0.03 for 0.98 to 1.03."""
        return max(self.high, 1 / self.low) - 1

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Judgement:
    """What is known of one benchmark.

    Attributes
    ----------
    outcome
        Verdict on B.
    effect
        B over A, at the level of this look corrected for all benchmarks.
    control
        A again over A, at `ERROR` for itself alone.
    smallest
        Smallest change that can be claimed: what the control reaches, SMALLEST at least.
    blocks
        Processes of each arm.
    """

    outcome: Outcome
    effect: Interval
    control: Interval
    smallest: float
    blocks: int

    def __str__(self) -> str:
        """The verdict in words."""
        if self.outcome == "no change":
            return f"no change down to {self.effect.reach:.1%}"
        return self.outcome


def looks() -> list[int]:
    """Numbers of blocks after which the data are looked at."""
    found = [FIRST_LOOK]
    while found[-1] < 1000:
        found.append(math.ceil(found[-1] * LOOK_GROWTH))
    return found


def spent(look: int, error: float = ERROR) -> float:
    """Error allowed at a look, of 1, 2, ...: together no more than `error`, however many."""
    return error / (look * (look + 1))


@dataclass(frozen=True)
class _Contrasts:
    """Contrasts of one benchmark: means in logarithms, and the error of one process."""

    effect: NDArray[Any]
    control: NDArray[Any]

    @property
    def blocks(self) -> int:
        return len(self.effect)

    @property
    def spread(self) -> float:
        """Standard deviation of one process."""
        return float(_spread(self.effect, self.control))

    @property
    def error(self) -> float:
        """Standard error of the effect."""
        return self.spread * math.sqrt(CONTRAST_VARIANCE / self.blocks)

    @property
    def t(self) -> float:
        return abs(float(np.mean(self.effect))) / self.error if self.error else math.inf

    def residuals(self) -> NDArray[Any]:
        """Deviations of processes in units of `spread`, of both contrasts."""
        n = self.blocks
        own = (self.effect - self.effect.mean()) * math.sqrt(n / (n - 1) / CONTRAST_VARIANCE)
        return np.concatenate([own, self.control / math.sqrt(CONTROL_VARIANCE)]) / self.spread


def _spread(effect: NDArray[Any], control: NDArray[Any]) -> NDArray[Any]:
    """Standard deviation of a process, of contrasts along the last axis.

    Of both contrasts; of the effect alone where this is more, because B may vary more than A.
    """
    n = effect.shape[-1]
    own = effect.var(axis=-1, ddof=1) / CONTRAST_VARIANCE
    shared = (control**2).sum(axis=-1) / CONTROL_VARIANCE
    pooled = ((n - 1) * own + shared) / (2 * n - 1)
    return np.asarray(np.sqrt(np.maximum(own, pooled)))


class _Critical:
    """How many standard errors an interval reaches, by level; of n blocks.

    The wider of Student's and of the bootstrap's.
    """

    def __init__(self, members: Sequence[_Contrasts], rng: np.random.Generator) -> None:
        self.n = members[0].blocks
        pool = np.concatenate([one.residuals() for one in members])
        # A sample knows no sign: the contrasts of identical sides have none.
        signs = rng.choice([-1.0, 1.0], size=(2, RESAMPLES, self.n))
        effect, control = rng.choice(pool, size=(2, RESAMPLES, self.n)) * signs
        effect = effect * math.sqrt(CONTRAST_VARIANCE)
        control = control * math.sqrt(CONTROL_VARIANCE)
        error = _spread(effect, control) * math.sqrt(CONTRAST_VARIANCE / self.n)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.drawn = np.nan_to_num(np.abs(effect.mean(axis=1)) / error, posinf=0.0)

    def __call__(self, level: float) -> float:
        student = float(stats.t.isf(level / 2, 2 * self.n - 1))
        return max(student, float(np.quantile(self.drawn, 1 - level)))


def judge(
    samples: Mapping[str, NDArray[Any]],
    rng: np.random.Generator,
    *,
    look: int,
    total: int,
    changed: int = 0,
    error: float = ERROR,
    resolution: float = RESOLUTION,
) -> dict[str, Judgement]:
    """Judge benchmarks that are undecided so far.

    Parameters
    ----------
    samples
        By benchmark, logarithms of seconds: (blocks, 3), of A, A again and B. All of as many
        blocks.
    rng
        Draws the bootstrap.
    look
        Which look at the data this is, from 1.
    total, changed
        Number of benchmarks of the run, and of those among them that an earlier look found
        changed: Holm's correction need not count these any more.
    error, resolution
        As ERROR and RESOLUTION.

    Returns
    -------
    dict[str, Judgement]
        Of each benchmark.
    """
    members = {
        name: _Contrasts(logs[:, 2] - logs[:, :2].mean(axis=1), logs[:, 1] - logs[:, 0])
        for name, logs in samples.items()
    }
    critical = _Critical(list(members.values()), rng)
    allowed, alone = spent(look, error), critical(error)
    levels: dict[str, float] = {}
    left, stopped = total - changed, False
    for name in sorted(members, key=lambda name: -members[name].t):
        levels[name] = allowed / left
        stopped = stopped or members[name].t <= critical(levels[name])
        # Holm: what was rejected leaves its share to the rest, until one is not.
        left -= not stopped
    return {
        name: _judgement(one, critical(levels[name]), alone, resolution)
        for name, one in members.items()
    }


def _judgement(contrasts: _Contrasts, factor: float, alone: float, resolution: float) -> Judgement:
    effect = _interval(contrasts.effect, factor * contrasts.error)
    of_control = contrasts.spread * math.sqrt(CONTROL_VARIANCE / contrasts.blocks)
    control = _interval(contrasts.control, alone * of_control)
    smallest = max(SMALLEST, control.reach)
    outcome: Outcome = "undecided"
    if effect.low > 1 and effect.ratio >= 1 + smallest:
        outcome = "slower"
    elif effect.high < 1 and effect.ratio <= 1 / (1 + smallest):
        outcome = "faster"
    elif effect.reach <= resolution:
        outcome = "no change"
    return Judgement(outcome, effect, control, smallest, contrasts.blocks)


def _interval(logs: NDArray[Any], reach: float) -> Interval:
    middle = float(logs.mean())
    return Interval(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))
