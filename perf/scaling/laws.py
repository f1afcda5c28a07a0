"""Laws of scaling, fitted to throughput measured against the number of workers.

With n workers, and the throughput X1 of one:

- linear: ``X = X1 n``
- Amdahl, for work of fixed size: ``X = X1 n / (1 + s (n - 1))``
- universal (Gunther): ``X = X1 n / (1 + s (n - 1) + k n (n - 1))``
- Gustafson, for work that grows with n: ``X = X1 (n - s (n - 1))``

s is the share of the work that is serial, k the cost of each worker's having to agree with every
other. The fit minimises the squares of ``log(measured / law)``, with 0 <= s <= 1 and k >= 0.
Every law is linear in something: ``n / X`` of the first three is ``a + b n + c n (n - 1)`` with
``s = b / (a + b)`` and ``k = c / (a + b)``, and X of Gustafson's is ``a + b n``. The bounds are
then ``a, b, c >= 0``, and each step of Gauss and Newton is a problem of non-negative least squares.

The intervals are of noise between samples alone. That a law is wrong they do not know: look at
`Fit.misfit`, and trust no law far outside of what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Law = Literal["linear", "amdahl", "universal", "gustafson"]

PARAMETERS: Final[dict[Law, int]] = {"linear": 1, "amdahl": 2, "universal": 3, "gustafson": 2}
"""Of each law. Its fit takes more numbers of workers than it has parameters."""

CONFIDENCE: Final = 0.95
"""Of intervals."""

RESAMPLES: Final = 1_000
"""Of the bootstrap: an end of a 95 % interval rests on 25 of them."""

MAX_STEPS: Final = 50
TOLERANCE: Final = 1e-10
"""Of the fit: the largest relative change of the law in its last step."""

LEAST_SPREAD: Final = 1 / 30
"""Two samples know so little of their spread that it could be zero: Student's t ends here, far
outside of the interval (12.7)."""

EXACT: Final = 1e-9
"""Relative error below which a fit is exact: what is left is rounding and chooses no law."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value
        Estimate.
    low, high
        Ends of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """Throughput that a law gives.

    Attributes
    ----------
    workers
        Number of workers.
    throughput
        The law's, in the unit of the samples. The interval is that of the law: a single
        measurement scatters about it.
    efficiency
        Throughput over n times that of one worker.
    measured
        Whether the number of workers lies within those measured; else it is a prediction.
    """

    workers: float
    throughput: Estimate
    efficiency: Estimate
    measured: bool


@dataclass(frozen=True)
class Fit:
    """A law with its parameters.

    Attributes
    ----------
    law
        Its name.
    single
        X1: throughput of one worker.
    serial
        s; exactly 0 of the linear law.
    crosstalk
        k; exactly 0 of all laws but the universal.
    workers
        Numbers of workers that were measured, ascending.
    scatter
        Root of the mean square of ``log(measured / law)``: the relative error of a sample.
    misfit
        How far the means at each number of workers lie from the law, over how far they would
        if the samples' noise were all that was wrong: about 1, and much more if the law is wrong.
    aicc
        Akaike's criterion for small samples: the smaller, the better. It compares laws of the
        same samples.
    draws
        (X1, s, k) of each resampling, one in a row: their joint uncertainty.
    """

    law: Law
    single: Estimate
    serial: Estimate
    crosstalk: Estimate
    workers: tuple[int, ...]
    scatter: float
    misfit: float
    aicc: float
    draws: NDArray[np.float64] = field(repr=False, compare=False)

    def predict(self, workers: float) -> Prediction:
        """Throughput at a number of workers.

        Parameters
        ----------
        workers
            At least 1.

        Raises
        ------
        InputError
            If it is less.
        """
        if not (math.isfinite(workers) and workers >= 1):
            msg = f"there is no throughput of {workers} workers: ask for one or more"
            raise InputError(msg)
        values = (self.single.value, self.serial.value, self.crosstalk.value)
        both = np.vstack([values, self.draws])
        throughput = _throughput(self.law, both, workers)
        efficiency = throughput / (workers * both[:, 0])
        return Prediction(
            workers,
            _estimate(throughput),
            _estimate(efficiency),
            measured=self.workers[0] <= workers <= self.workers[-1],
        )

    @property
    def peak(self) -> Estimate | None:
        """Number of workers at which the throughput is largest; None if the law has no peak.

        Infinite where k is 0, which the upper end of its interval often is.
        """
        if self.law != "universal":
            return None
        values = (self.single.value, self.serial.value, self.crosstalk.value)
        _, serial, crosstalk = np.vstack([values, self.draws]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            peak = np.sqrt((1 - serial) / crosstalk)
        # More than one worker is worse from the start; 0 / 0 is a law that never grows.
        return _estimate(np.fmax(peak, 1.0))


@dataclass(frozen=True)
class Choice:
    """The laws of strong scaling, and which of them the samples support.

    Attributes
    ----------
    fits
        Each law that the samples determine, by name.
    supported
        The universal law if the interval of its k excludes 0; else Amdahl's, if that of its s
        does; else the linear. AICc is for comparison alone: in one of ten cases or so it prefers
        a parameter that is not there.
    undetermined
        Laws that have as many parameters as numbers of workers were measured, or more.
    """

    fits: dict[Law, Fit]
    supported: Law
    undetermined: tuple[Law, ...]

    @property
    def fit(self) -> Fit:
        """The law that is supported."""
        return self.fits[self.supported]


def fit(
    workers: Sequence[int],
    throughput: Sequence[Sequence[float]],
    law: Law,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Fit:
    """Fit one law.

    Parameters
    ----------
    workers
        Numbers of workers.
    throughput
        Samples for each of these, two or more, in any unit.
    law
        Which one. Gustafson's is for work that grew with the number of workers.
    rng
        Draws the bootstrap: over the samples at each number of workers.
    resamples
        Of the bootstrap.

    Raises
    ------
    InputError
        If the samples do not determine the law, or are not positive numbers.
    """
    return _fit(_samples(workers, throughput), law, rng, resamples)


def choose(
    workers: Sequence[int],
    throughput: Sequence[Sequence[float]],
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Choice:
    """Fit every law of strong scaling, and say which the samples support.

    Parameters
    ----------
    workers, throughput, rng, resamples
        As of `fit`. Three numbers of workers are the least, and four determine every law.

    Raises
    ------
    InputError
        If there are too few, or they are not positive numbers.
    """
    samples = _samples(workers, throughput)
    laws: tuple[Law, ...] = ("linear", "amdahl", "universal")
    undetermined = tuple(law for law in laws if len(samples.workers) <= PARAMETERS[law])
    # Amdahl's law or none: nothing is chosen between the linear law and nothing.
    determined = [law for law in laws if law == "amdahl" or law not in undetermined]
    fits = {law: _fit(samples, law, rng, resamples) for law in determined}
    supported: Law = "linear"
    # What changes no throughput that was measured by more than rounding is 0.
    most = samples.workers[-1]
    if "universal" in fits and fits["universal"].crosstalk.low * most * (most - 1) > EXACT:
        supported = "universal"
    elif fits["amdahl"].serial.low * (most - 1) > EXACT:
        supported = "amdahl"
    return Choice(fits, supported, undetermined)


# --- samples


@dataclass(frozen=True)
class _Samples:
    """Logarithms of throughput.

    Attributes
    ----------
    workers
        Each number of workers once, ascending.
    logs
        For each of these.
    """

    workers: NDArray[np.float64]
    logs: tuple[NDArray[np.float64], ...]

    @property
    def counts(self) -> NDArray[np.float64]:
        return np.array([len(one) for one in self.logs], float)

    @property
    def means(self) -> NDArray[np.float64]:
        return np.array([one.mean() for one in self.logs])

    @property
    def within(self) -> float:
        """Sum of the squares of deviations from the means."""
        return float(sum(np.sum((one - one.mean()) ** 2) for one in self.logs))

    def resampled_means(self, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
        """Means of samples drawn anew at each number of workers, one set in a row."""
        drawn = []
        for one in self.logs:
            count = len(one)
            # Deviations from a mean of `count` are too small by this.
            deviations = (one - one.mean()) * math.sqrt(count / (count - 1))
            again = rng.choice(deviations, size=(resamples, count)).mean(axis=1)
            # So few samples do not know their own spread: Student's t, not a normal error.
            # Without it 84 to 93 of 100 intervals of 95 % hold the truth at 3 to 5 samples.
            spread = np.sqrt(rng.chisquare(count - 1, resamples) / (count - 1))
            drawn.append(one.mean() + again / np.maximum(spread, LEAST_SPREAD))
        return np.stack(drawn, axis=1)


def _samples(workers: Sequence[int], throughput: Sequence[Sequence[float]]) -> _Samples:
    if len(workers) != len(throughput):
        msg = (
            f"{len(workers)} numbers of workers have {len(throughput)} sets of samples: "
            "give one set for each"
        )
        raise InputError(msg)
    groups: dict[int, list[float]] = {}
    for number, values in zip(workers, throughput, strict=True):
        if number < 1:
            msg = f"{number} workers have no throughput: give numbers of 1 or more"
            raise InputError(msg)
        groups.setdefault(int(number), []).extend(float(one) for one in values)
    for number, values in groups.items():
        if len(values) < 2:
            msg = (
                f"{number} workers were measured {len(values)} times, which says nothing about "
                "noise: measure each number of workers twice or more"
            )
            raise InputError(msg)
        if not all(math.isfinite(one) and one > 0 for one in values):
            msg = f"throughput with {number} workers is not a positive number: measure it again"
            raise InputError(msg)
    ordered = sorted(groups)
    return _Samples(np.array(ordered, float), tuple(np.log(groups[one]) for one in ordered))


# --- the fit


def _fit(samples: _Samples, law: Law, rng: np.random.Generator, resamples: int) -> Fit:
    numbers, parameters = len(samples.workers), PARAMETERS[law]
    if numbers <= parameters:
        msg = (
            f"{numbers} numbers of workers do not determine the {parameters} parameters of the "
            f"{law} law: measure {parameters + 1} or more"
        )
        raise InputError(msg)
    means, counts = samples.means, samples.counts
    found = _solve(law, samples.workers, means, counts)
    draws = np.array(
        [
            _solve(law, samples.workers, one, counts)
            for one in samples.resampled_means(rng, resamples)
        ]
    )
    curve = np.array([_throughput(law, found[None], one)[0] for one in samples.workers])
    between = float(np.sum(counts * (means - np.log(curve)) ** 2))
    total = float(counts.sum())
    squares = max(samples.within + between, total * EXACT**2)
    # The noise is a parameter too.
    free = parameters + 1
    left = total - free - 1
    noise = max(samples.within / (total - numbers), EXACT**2)
    single, serial, crosstalk = (
        _estimate(np.concatenate([[value], column]))
        for value, column in zip(found, draws.T, strict=True)
    )
    return Fit(
        law=law,
        single=single,
        serial=serial,
        crosstalk=crosstalk,
        workers=tuple(int(one) for one in samples.workers),
        scatter=math.sqrt((samples.within + between) / total),
        misfit=math.sqrt(between / (numbers - parameters) / noise),
        aicc=total * math.log(squares / total)
        + 2 * free
        + (2 * free * (free + 1) / left if left > 0 else math.inf),
        draws=draws,
    )


def _solve(
    law: Law,
    workers: NDArray[np.float64],
    logs: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(X1, s, k) that minimise the squares of errors of the logarithms of throughput.

    Parameters
    ----------
    law
        Which one.
    workers, logs, counts
        Numbers of workers, means of the logarithms of throughput, and of how many samples.
    """
    # Who wants an Estimate alone, as a process whose memory is measured, needs none of it.
    from scipy.optimize import nnls  # noqa: PLC0415

    columns = [np.ones_like(workers), workers, workers * (workers - 1)][: PARAMETERS[law]]
    basis = np.stack(columns, axis=1)
    target = logs if law == "gustafson" else np.log(workers) - logs
    # The unit of throughput, and the range of workers, must not decide how well it converges.
    unit = float(target.mean())
    target = target - unit
    widths = basis.max(axis=0)
    basis = basis / widths
    weights = np.sqrt(counts)
    curve = np.exp(target)
    coefficients: NDArray[np.float64] = np.zeros(basis.shape[1])
    for _ in range(MAX_STEPS):
        # log(c) is about log(curve) + (c - curve) / curve, which is linear in the coefficients.
        rows = basis * (weights / curve)[:, None]
        coefficients, _ = nnls(rows, weights * (1 + target - np.log(curve)))
        # Positive wherever a coefficient is, but for k alone at one worker.
        new = np.maximum(basis @ coefficients, 1e-12 * curve)
        change = np.max(np.abs(new / curve - 1))
        curve = new
        if change < TOLERANCE:
            break
    a, b, c = np.pad(coefficients / widths, (0, 3 - len(widths))) * math.exp(unit)
    if law == "gustafson":
        # X = X1 s + X1 (1 - s) n.
        return np.array([a + b, a / (a + b), 0.0])
    one = max(a + b, np.finfo(float).tiny)
    return np.array([1 / one, b / one, c / one])


def _throughput(law: Law, parameters: NDArray[np.float64], workers: float) -> NDArray[Any]:
    """Throughput of a number of workers for each row (X1, s, k)."""
    single, serial, crosstalk = parameters.T
    if law == "gustafson":
        return np.asarray(single * (workers - serial * (workers - 1)))
    slowed = 1 + serial * (workers - 1) + crosstalk * workers * (workers - 1)
    return np.asarray(single * workers / slowed)


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """First of the values, with the interval that the others give."""
    tail = (1 - CONFIDENCE) / 2
    # Not interpolated: between a number and infinity there is none.
    low, high = np.quantile(values[1:], [tail, 1 - tail], method="nearest")
    return Estimate(float(values[0]), float(low), float(high))
