"""Laws of scaling, fitted to throughput measured against the number of workers.

With n workers, and the throughput X1 of one:

- linear: ``X = X1 n``
- Amdahl, for work of fixed size: ``X = X1 n / (1 + s (n - 1))``
- universal (Gunther): ``X = X1 n / (1 + s (n - 1) + k n (n - 1))``

s is the serial share of the work, k the cost of each worker's exchange with every other. The fit
minimises the squares of ``log(measured / law)``, with 0 <= s <= 1 and k >= 0. ``n / X`` is linear,
``a + b n + c n (n - 1)`` with ``s = b / (a + b)`` and ``k = c / (a + b)``. The bounds are then
``a, b, c >= 0``, and each step of Gauss and Newton is a problem of non-negative least squares.

The intervals are of noise between samples only. `Fit.misfit` tells if a law is wrong; trust no law
far outside of what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from analysis.errors import InputError
from perf.measure.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Law = Literal["linear", "amdahl", "universal"]

PARAMETERS: Final[dict[Law, int]] = {"linear": 1, "amdahl": 2, "universal": 3}
"""Of each law. Its fit takes more numbers of workers than it has parameters."""

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
class Fit:
    """A law with its parameters."""

    law: Law
    single: Estimate
    """X1: throughput of one worker, in the unit of the samples."""
    serial: Estimate
    crosstalk: Estimate
    """The parameters s and k; exactly 0 where the law has none."""
    workers: tuple[int, ...]
    """Numbers of workers that were measured, ascending."""
    scatter: float
    """Root of the mean square of ``log(measured / law)``: the relative error of a sample."""
    misfit: float
    """Distance of the means at each number of workers from the law, over what the samples' noise
    alone would give: about 1, and much more if the law is wrong."""
    draws: NDArray[np.float64] = field(repr=False, compare=False)
    """(X1, s, k) of each resampling, one in a row: their joint uncertainty."""

    @property
    def peak(self) -> Estimate | None:
        """Number of workers with the largest throughput; None if the law has no peak.

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
    """The fit of each law that the samples determine, and the law that they support.

    Supported is the universal law if the interval of its k excludes 0; else Amdahl's, if that of
    its s does; else the linear. `undetermined` are laws with as many parameters as numbers of
    workers were measured, or more.
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
    """Fit one law to two or more samples of throughput, in any unit, at each number of workers.

    The bootstrap draws over the samples at each number of workers.

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
    """Fit every law, and say which one the samples support; otherwise as `fit`.

    Three numbers of workers are the least; four determine every law.
    """
    samples = _samples(workers, throughput)
    undetermined = tuple(law for law in PARAMETERS if len(samples.workers) <= PARAMETERS[law])
    # Amdahl's law or none: nothing is chosen between the linear law and nothing.
    determined = [law for law in PARAMETERS if law == "amdahl" or law not in undetermined]
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
    """Each number of workers once, ascending, and the logarithms of throughput of each."""

    workers: NDArray[np.float64]
    logs: tuple[NDArray[np.float64], ...]

    @property
    def counts(self) -> NDArray[np.float64]:
        return np.array([len(logs) for logs in self.logs], float)

    @property
    def means(self) -> NDArray[np.float64]:
        return np.array([logs.mean() for logs in self.logs])

    @property
    def within(self) -> float:
        """Sum of the squares of deviations from the means."""
        return float(sum(np.sum((logs - logs.mean()) ** 2) for logs in self.logs))

    def resampled_means(self, rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
        """Means of samples drawn anew at each number of workers, one set in a row."""
        drawn = []
        for logs in self.logs:
            count = len(logs)
            # Deviations from a mean of `count` are too small by this.
            deviations = (logs - logs.mean()) * math.sqrt(count / (count - 1))
            again = rng.choice(deviations, size=(resamples, count)).mean(axis=1)
            # So few samples do not know their own spread: Student's t, not a normal error.
            # Without it 84 to 93 of 100 intervals of 95 % hold the truth at 3 to 5 samples.
            spread = np.sqrt(rng.chisquare(count - 1, resamples) / (count - 1))
            drawn.append(logs.mean() + again / np.maximum(spread, LEAST_SPREAD))
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
        groups.setdefault(int(number), []).extend(float(value) for value in values)
    for number, values in groups.items():
        if len(values) < 2:
            msg = (
                f"{number} workers were measured {len(values)} times, which says nothing about "
                "noise: measure each number of workers twice or more"
            )
            raise InputError(msg)
        if not all(math.isfinite(value) and value > 0 for value in values):
            msg = f"throughput with {number} workers is not a positive number: measure it again"
            raise InputError(msg)
    ordered = sorted(groups)
    return _Samples(np.array(ordered, float), tuple(np.log(groups[number]) for number in ordered))


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
    best = _solve(law, samples.workers, means, counts)
    draws = np.array(
        [
            _solve(law, samples.workers, drawn, counts)
            for drawn in samples.resampled_means(rng, resamples)
        ]
    )
    between = float(np.sum(counts * (means - np.log(_throughput(best, samples.workers))) ** 2))
    total = float(counts.sum())
    noise = max(samples.within / (total - numbers), EXACT**2)
    single, serial, crosstalk = (_estimate(column) for column in np.vstack([best, draws]).T)
    return Fit(
        law=law,
        single=single,
        serial=serial,
        crosstalk=crosstalk,
        workers=tuple(int(number) for number in samples.workers),
        scatter=math.sqrt((samples.within + between) / total),
        misfit=math.sqrt(between / (numbers - parameters) / noise),
        draws=draws,
    )


def _solve(
    law: Law,
    workers: NDArray[np.float64],
    logs: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(X1, s, k) with the least squares; of each number of workers the mean logarithm and count."""
    # Who needs no fit, as a process whose memory is measured, needs no scipy.
    from scipy.optimize import nnls  # noqa: PLC0415

    columns = [np.ones_like(workers), workers, workers * (workers - 1)][: PARAMETERS[law]]
    basis = np.stack(columns, axis=1)
    target = np.log(workers) - logs
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
    single = max(a + b, np.finfo(float).tiny)
    return np.array([1 / single, b / single, c / single])


def _throughput(parameters: NDArray[np.float64], workers: NDArray[np.float64]) -> NDArray[Any]:
    """Throughput of (X1, s, k) at numbers of workers."""
    single, serial, crosstalk = parameters
    slowed = 1 + serial * (workers - 1) + crosstalk * workers * (workers - 1)
    return np.asarray(single * workers / slowed)


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """The first of the values, with the interval that the others give."""
    # Not interpolated: between a number and infinity there is none.
    return Estimate.of_draws(values[0], values[1:], method="nearest")
