"""Is B slower than A? The verdict on times of fresh processes, and its error.

A *block* is three processes started together: one of A, one of A again, one of B. A block gives one
number for each process and benchmark, so the process is the unit of replication: calls in one
process share its layout in memory and are not independent. The three logarithms give two contrasts,
B against the mean of both A, and A again against A. The second is zero by construction, so that
whatever it shows is noise: it gives the error of the first more degrees of freedom, and is a lower
bound on what is claimed.

The interval is Student's, or that of a studentised bootstrap of the blocks if it is wider: with
heavy tails it is. The benchmarks' standardised residuals are drawn from one pool: a tail of 1e-4
cannot be seen in the ten blocks of one benchmark. Holm's correction keeps the error over all benchmarks, and
the error spent at one look at the data is not spent again, so that looking repeatedly is allowed.

The control sees what differs from process to process, and nothing that always differs in the same
way between two environments. Places in memory would: randomisation of the address space moves whole
pages, so that an array begins at the same byte of its page in every process of an environment, and
at another where paths or variables are longer. That makes up to some percent (Mytkowicz et al.,
ASPLOS 2009), always of the same sign, for B and never for A again. So each process draws what an
environment would fix: where memory begins (`worker.displaced`), the order in which benchmarks are
opened, which places machine code, and the order in which the three start. The difference then is
noise of processes, which the control has as well, and which more blocks average out. A second
installation of A as the control would be a single draw of it: one degree of freedom, of which an
error of 1 % needs 64 standard deviations. What is left comes with the packages' files alone, which
uv links to the same ones where the versions are equal.
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
"""Probability that a run wrongly calls any benchmark faster or slower; half of it slower."""

FIRST_LOOK: Final = 4
"""Blocks before the first look: the error has then 7 degrees of freedom."""

LOOK_GROWTH: Final = 1.4
"""Blocks from one look to the next: each look costs some of the error allowed."""

SMALLEST: Final = 0.002
"""Change below which nothing is claimed, however sure. Were every difference drawn anew in each
process, there need be none; but the files of an environment lie in the machine's memory where they
do, as long as it runs. `compare-trials` shows what identical kernels differ by over all trials."""

RESOLUTION: Final = 0.03
"""Change that matters: a benchmark is decided when the interval excludes a larger one."""

RESAMPLES: Final = 50_000
"""Of the bootstrap: a tail of 2e-4, as the second look of ten benchmarks has, holds ten of them."""

CONTRAST_VARIANCE: Final = 1.5
CONTROL_VARIANCE: Final = 2.0
"""Variances of the contrasts, in units of the variance of one process."""

Outcome = Literal["slower", "faster", "no change", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A ratio of times, and the ends of its interval."""

    ratio: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Largest change in the interval: 0.03 for 0.98 to 1.03."""
        return max(self.high, 1 / self.low) - 1

    def __str__(self) -> str:
        return f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Judgement:
    """The verdict on one benchmark."""

    outcome: Outcome
    effect: Interval
    """B over A, at the level of this look corrected for all benchmarks."""
    control: Interval
    """A again over A, at the level of `ERROR` for this benchmark alone."""
    smallest: float
    """Smallest change that can be claimed: the reach of the control, or SMALLEST."""
    blocks: int
    """Processes of each arm."""

    def __str__(self) -> str:
        """The verdict in words."""
        if self.outcome == "no change":
            return f"no change down to {self.effect.reach:.1%}"
        return self.outcome


def looks() -> list[int]:
    """Numbers of blocks after which the data are judged."""
    numbers = [FIRST_LOOK]
    while numbers[-1] < 1000:
        numbers.append(math.ceil(numbers[-1] * LOOK_GROWTH))
    return numbers


def spent(look: int, error: float = ERROR) -> float:
    """Error allowed at look 1, 2, ...: the sum over all looks is no more than `error`."""
    return error / (look * (look + 1))


@dataclass(frozen=True)
class _Contrasts:
    """Contrasts of one benchmark, in logarithms, of each block."""

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
    """Standard deviation of a process, from contrasts along the last axis.

    From both contrasts, or from the effect alone if that is larger: B may vary more than A.
    """
    n = effect.shape[-1]
    own = effect.var(axis=-1, ddof=1) / CONTRAST_VARIANCE
    shared = (control**2).sum(axis=-1) / CONTROL_VARIANCE
    pooled = ((n - 1) * own + shared) / (2 * n - 1)
    return np.asarray(np.sqrt(np.maximum(own, pooled)))


class _Critical:
    """Standard errors that an interval reaches, by level: the larger of Student's and the bootstrap's."""

    def __init__(self, members: Sequence[_Contrasts], rng: np.random.Generator) -> None:
        self.n = members[0].blocks
        pool = np.concatenate([one.residuals() for one in members])
        # Contrasts of identical sides are symmetric: signs are drawn as well.
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

    `samples` are, by benchmark, logarithms of seconds of (blocks, 3): of A, A again and B, all of
    the same number of blocks. `look` counts the looks at the data from 1. `total` is the number of
    benchmarks of the run, `changed` that of those that an earlier look found changed: Holm's
    correction need not count them any more.
    """
    if not samples:
        return {}
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
        # Holm: each rejected one leaves its share to the rest, until one is not rejected.
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
