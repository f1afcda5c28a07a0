"""A pyhf optimiser for the NumPy backend: SciPy's least squares.

Twice the negative log likelihood is, up to a constant, a sum of squares: (observed - expected) /
width of each auxiliary measurement, and of each bin the square root of its deviance, 2 (expected -
observed + observed log(observed / expected)). Least squares need first derivatives only, 13
predictions for a model of 34 parameters (`groups`), and converge in some ten steps; SLSQP takes 35
predictions for each of some hundred steps.

Baker and Cousins, Nucl. Instrum. Meth. 221 (1984) 437.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyhf
import scipy.optimize

from analysis.inference.groups import groups
from analysis.inference.model import LEAST
from analysis.inference.optimizer import DirectOptimizer, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.optimize import OptimizeResult

MAX_PREDICTIONS: Final = 1000
"""Not counting those for derivatives. The reference fit takes 11."""

TOLERANCE: Final = 1e-10
"""Relative change of the sum of squares, or of the parameters, at which a fit ends."""

STEP: Final = float(np.sqrt(np.finfo(float).eps))
"""Of derivatives, relative to the parameter or to 1: SciPy's."""

UNOBSERVED: Final = 10.0
"""Events. A larger number bends the residual of a bin without events less, but uses up more of the
tolerance."""


class least_squares_optimizer(DirectOptimizer):
    """SciPy's ``least_squares`` for ``pyhf.set_backend("numpy", least_squares_optimizer())``.

    For models whose auxiliary measurements are all normal: uncertainties are ``normsys``,
    ``histosys``, ``lumi`` and ``staterror``. `maxiter` counts predictions.
    """

    name = "least_squares"
    backend = "numpy"

    def __init__(self, tolerance: float = TOLERANCE, maxiter: int = MAX_PREDICTIONS) -> None:
        super().__init__(tolerance, maxiter)

    def find(self, problem: Problem, tolerance: float, maxiter: int) -> OptimizeResult:
        """As `DirectOptimizer.find`; Unsupported if an auxiliary measurement is not normal."""
        config = problem.pdf.config
        auxiliary = [config.param_set(name) for name in config.auxdata_order]
        if any(one.pdf_type != "normal" for one in auxiliary):
            msg = f"{self.name} takes normal auxiliary measurements only: use another optimizer"
            raise pyhf.exceptions.Unsupported(msg)
        widths = np.array([width for one in auxiliary for width in one.width()])
        data = np.asarray(problem.data, dtype=float)
        main, measured = np.split(data, [config.nmaindata])
        free = ~problem.fixed
        x = problem.start.copy()
        lower, upper = problem.bounds[free].T

        def residuals_at(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
            expected = np.asarray(problem.pdf.expected_data(parameters))
            return np.concatenate(
                [
                    _deviance(main, expected[: len(main)]),
                    (expected[len(main) :] - measured) / widths,
                ]
            )

        def residuals(moved: NDArray[np.float64]) -> NDArray[np.float64]:
            x[free] = moved
            return residuals_at(x)

        def jacobian(moved: NDArray[np.float64]) -> NDArray[np.float64]:
            here = residuals(moved)
            step = STEP * np.where(moved >= 0, 1.0, -1.0) * np.maximum(1.0, np.abs(moved))
            to = x.copy()
            to[free] += np.where((moved + step > upper) | (moved + step < lower), -step, step)
            derivatives = np.zeros((len(here), len(x)))
            members, changes = groups(problem.pdf)
            for group in members:
                wanted = group[free[group]]
                if len(wanted):
                    at = x.copy()
                    at[wanted] = to[wanted]
                    change = residuals_at(at) - here
                    for index in wanted:
                        rows = changes[index]
                        derivatives[rows, index] = change[rows] / (to[index] - x[index])
            return derivatives[:, free]

        start = np.clip(problem.start[free], lower, upper)
        if not free.any() or not np.isfinite(residuals(start)).all():
            found: Any = scipy.optimize.OptimizeResult(
                x=start, nfev=1, success=not free.any(), message="the likelihood has no value here"
            )
        else:
            try:
                # Its steps end on a bound; those of `trf` creep towards one, some hundred of them.
                found = scipy.optimize.least_squares(
                    residuals,
                    start,
                    jac=jacobian,
                    bounds=(lower, upper),
                    method="dogbox",
                    x_scale="jac",
                    ftol=tolerance,
                    xtol=tolerance,
                    gtol=None,
                    max_nfev=maxiter,
                )
            except ValueError as error:
                # Where the likelihood ends, a derivative is not a number.
                found = scipy.optimize.OptimizeResult(
                    x=start, nfev=1, success=False, message=str(error)
                )
        x[free] = found.x
        value = float(np.asarray(problem.objective(x, data, problem.pdf)).item())
        return scipy.optimize.OptimizeResult(
            x=x,
            fun=value,
            nit=int(found.nfev),
            success=bool(found.success) and np.isfinite(value),
            message=found.message,
        )


def _deviance(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the deviance of each bin, with the sign of expected - observed.

    It is accurate also where both agree, or derivatives would be rounding errors. Below
    `model.LEAST` expected events it continues as the likelihood does. In a bin without events the
    deviance is twice the expectation, whose root has no slope at zero: it is counted from
    -UNOBSERVED, which adds a constant to the sum of squares.
    """
    seen = observed > 0
    rate = np.maximum(expected, LEAST)
    excess = np.divide(rate, observed, out=np.ones_like(rate), where=seen) - 1
    half = observed * (excess - np.log1p(excess) + (rate - expected) / LEAST)
    # Negative only by rounding.
    size = np.sqrt(2 * np.maximum(half + np.abs(expected) - rate, 0.0))
    empty = np.sqrt(2 * (np.abs(expected) + UNOBSERVED))
    return np.where(seen, np.sign(expected - observed) * size, empty)
