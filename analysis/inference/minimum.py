"""Minimum of twice the negative log likelihood, and its curvature there."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyhf

from analysis.inference.backends import FitError, guarded
from analysis.inference.groups import groups
from analysis.inference.model import LEAST, numpy, tensor
from analysis.inference.optimizer import NotConvergedWarning, covariance_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.inference.model import Model

STEP: Final = 1e-3
"""Of finite differences of the expected events, over the width of a parameter: their error is some
1e-6, and rounding some 1e-13 of first and 1e-10 of second differences."""

CONVERGED: Final = 1e-4
"""Decrease of twice the negative log likelihood that may be left at the end of a fit."""

NEWTON_STEPS: Final = 300
HALVINGS: Final = 40
"""At most, of one step."""
LEAST_CURVATURE: Final = 1e-8
"""Relative, of the eigenvalues of the second derivatives that a step is made of."""
NEXT_TO_BOUND: Final = CONVERGED / 1000
"""Decrease that is left to a parameter up to its bound, below which it is held while the others
step. Its distance alone says nothing: the range of a strength may be 1000 times its width."""

AT_BOUND: Final = 1e-6
"""Distance from a bound at which a parameter is reported to be at it, relative to the range."""


def minimum(
    model: Model, data: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Parameters, minimum and second derivatives; by `newton` if the optimiser finds no minimum."""
    _, optimizer = pyhf.get_backend()
    start = model.nominal
    try:
        values, twice_nll, found = minimise(model, data)
        if "hess" in found:
            return values, twice_nll, np.asarray(found.hess)
        gradient, hessian = derivatives(model, data, values)
        decrease = left(model, values, gradient, hessian)
        if decrease <= CONVERGED:
            return values, twice_nll, hessian
        reason = f"a decrease of {decrease:.2g} is left"
        if decrease < 1:
            start = values
    except FitError as error:
        if not np.isfinite(
            float(pyhf.infer.mle.twice_nll(tensor(start), tensor(data), model.pdf)[0])
        ):
            # Newton's steps cannot begin there either.
            raise
        reason = str(error)
    warnings.warn(
        f"the optimizer {optimizer.name} found no minimum ({reason}); Newton's steps take over, "
        "which takes longer",
        NotConvergedWarning,
        stacklevel=3,
    )
    return newton(model, data, start)


def minimise(
    model: Model,
    data: NDArray[np.float64],
    held: Mapping[int, float] | None = None,
    start: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], float, Any]:
    """Minimise twice the negative log likelihood.

    `held` gives parameters to hold, by index, and their values; the fit begins at `start`, by
    default at the nominal parameters. Returns parameters, the minimum, and the optimiser's
    result. Raises FitError if the fit does not converge.
    """
    begin = (model.nominal if start is None else start).copy()
    fixed = model.fixed
    for index, value in (held or {}).items():
        begin[index], fixed[index] = value, True
    bounds = np.array(model.pdf.config.suggested_bounds())
    # A parameter may be held beyond its bounds, as a strength is in the search for a limit.
    begin = np.where(fixed, begin, np.clip(begin, bounds[:, 0], bounds[:, 1]))
    bounds[:, 0] = np.minimum(bounds[:, 0], begin)
    bounds[:, 1] = np.maximum(bounds[:, 1], begin)
    with guarded():
        values, minimum, found = pyhf.infer.mle.fit(
            tensor(data),
            model.pdf,
            begin.tolist(),
            [tuple(pair) for pair in bounds.tolist()],
            fixed.tolist(),
            return_fitted_val=True,
            return_result_obj=True,
            # Without it SLSQP holds parameters by constraints, and differentiates by them too. On
            # JAX it would compile anew for each set of held parameters.
            do_stitch=pyhf.tensorlib.name == "numpy",
        )
    values = numpy(values)
    main = data[: model.pdf.config.nmaindata]
    if (model.expected(values) < np.where(main > 0, 0.0, -LEAST)).any():
        msg = (
            "the fit ended where the predicted yield of a bin is negative: look for bins with very few "
            "events"
        )
        raise FitError(msg)
    return values, float(minimum), found


def derivatives(
    model: Model, data: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and second derivatives of twice the negative log likelihood, for any backend.

    Expected events are differentiated by finite differences, and the likelihood analytically by
    them: so nothing large cancels, and no parameter has to move away from a bound.
    """
    observed, auxiliary = np.split(data, [model.pdf.config.nmaindata])
    widths = model.widths
    steps = np.diag(STEP * np.where(widths > 0, widths, 1.0))
    size = np.diag(steps)
    members, changes = groups(model.pdf)
    changes = changes[:, : len(observed)]
    with guarded():
        here = model.expected(at)
        plus, minus = np.tile(here, (2, len(at), 1))
        for group in members:
            for moved, sign in ((plus, 1.0), (minus, -1.0)):
                there = model.expected(at + sign * steps[group].sum(axis=0))
                moved[group] = np.where(changes[group], there, here)
        first = (plus - minus) / (2 * size[:, np.newaxis])
        bent = plus + minus - 2 * here
        # In a bin without events the likelihood is linear in the expected events.
        seen = observed > 0
        squared = np.divide(observed, here**2, out=np.zeros_like(here), where=seen)
        slope = np.where(here < 0, -1.0, 1.0)
        slope -= np.divide(observed, here, out=np.zeros_like(here), where=seen)
        gradient = 2 * first @ slope
        hessian = 2 * np.einsum("ib,jb,b->ij", first, first, squared)
        hessian += np.diag(2 * (bent @ slope) / size**2)
        free = [some for group in members if len(some := group[~model.fixed[group]])]
        for some, others in itertools.combinations(free, 2):
            step = steps[some].sum(axis=0) + steps[others].sum(axis=0)
            both = model.expected(at + step) + model.expected(at - step) - 2 * here
            for i, j in itertools.product(some, others):
                bins = changes[i] & changes[j]
                change = (both - bent[i] - bent[j])[bins]
                mixed = change @ slope[bins] / (size[i] * size[j])
                hessian[i, j] += mixed
                hessian[j, i] += mixed
        weights = np.divide(2, widths**2, out=np.zeros_like(widths), where=widths > 0)
        gradient += weights * (at - numpy(auxiliary_best(model, auxiliary)))
        hessian += np.diag(weights)
    return gradient, hessian


def newton(
    model: Model, data: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Minimise by projected Newton steps on finite differences: slow, reliable, any backend.

    Returns parameters, the minimum, and the second derivatives there; raises FitError if there is
    no minimum. The method is that of `analysis.inference.newton`.
    """
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    observed = tensor(data)

    def value(x: NDArray[np.float64]) -> float:
        return float(pyhf.infer.mle.twice_nll(tensor(x), observed, model.pdf)[0])

    at = np.where(model.fixed, start, np.clip(start, low, high))
    for _ in range(NEWTON_STEPS):
        here, (gradient, hessian) = value(at), derivatives(model, data, at)
        step, decrease = _newton_step(model, at, gradient, hessian)
        # One more step would square what is left.
        if decrease <= CONVERGED / 100:
            return at, here, hessian
        for length in 0.5 ** np.arange(HALVINGS):
            moved = np.where(model.fixed, at, np.clip(at + length * step, low, high))
            if value(moved) <= here - 1e-4 * gradient @ (at - moved):
                break
        else:
            break
        at = moved
    msg = "the fit did not converge: look for bins with very few events"
    raise FitError(msg)


def left(
    model: Model,
    at: NDArray[np.float64],
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
) -> float:
    """Decrease of twice the negative log likelihood that a step within the bounds promises."""
    return _newton_step(model, at, gradient, hessian)[1]


def _newton_step(
    model: Model,
    at: NDArray[np.float64],
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Step towards a minimum within the bounds, and the decrease that it promises."""
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    to_bound = gradient * (at - np.where(gradient > 0, low, high))
    held = model.fixed | ((gradient != 0) & (to_bound <= NEXT_TO_BOUND))
    free = np.flatnonzero(~held)
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(hessian)[free]), 1e-300))
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)] * np.outer(scale, scale))
    # Go downhill also where the likelihood bends down.
    curved = np.maximum(np.abs(values), LEAST_CURVATURE * np.abs(values).max())
    step = np.zeros_like(at)
    step[free] = -scale * (vectors @ ((vectors.T @ (gradient[free] * scale)) / curved))
    return step, float(-0.5 * gradient @ step)


def covariance(
    model: Model, values: NDArray[np.float64], hessian: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariance of the parameters at a minimum; FitError if it has none."""
    found = covariance_of(hessian, model.fixed)
    if not np.isfinite(found).all():
        # At a bound the likelihood need not have a minimum.
        found = covariance_of(hessian, model.fixed | at_bound(model, values))
    if not np.isfinite(found).all():
        msg = (
            "the fit ended where the likelihood has no minimum, so that uncertainties cannot be "
            "told: look for parameters that do the same, or for bins with very few events"
        )
        raise FitError(msg)
    return found


def at_bound(model: Model, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each parameter ended at one of its bounds."""
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    margin = AT_BOUND * (high - low)
    return np.asarray((values < low + margin) | (values > high - margin))


def auxiliary_best(model: Model, auxiliary: NDArray[np.float64]) -> Any:
    """The parameters that agree best with auxiliary data."""
    values, position = model.nominal, 0
    for name in model.pdf.config.auxdata_order:
        where = model.pdf.config.par_slice(name)
        length = where.stop - where.start
        values[where] = auxiliary[position : position + length]
        position += length
    return tensor(values)
