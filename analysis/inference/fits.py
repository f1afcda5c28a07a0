"""Fits of the model, and what is learnt from them.

All of it is of maximum likelihood: twice the negative log likelihood, with all its constant
terms as pyhf and cabinetry count them (Poisson terms with the logarithm of the factorial, normal
terms with that of their width), is minimised. Units of yields are events.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyhf
import scipy.stats

from analysis.inference.backends import FitError, guarded
from analysis.inference.covariance import covariance_of
from analysis.inference.model import LEAST, numpy, tensor
from analysis.inference.optimizer import NotConvergedWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from analysis.inference.model import Model

STEP: Final = 1e-3
"""Of finite differences of what is expected, over the width of a parameter: their error is some
1e-6, and the rounding some 1e-13 of first and 1e-10 of second ones."""

CONVERGED: Final = 1e-4
"""Decrease of twice the negative log likelihood that may be left at the end of a fit."""

NEWTON_STEPS: Final = 300
HALVINGS: Final = 40
"""Of one step at most."""
LEAST_CURVATURE: Final = 1e-8
"""Relative, of the eigenvalues of second derivatives that a step is made of."""
NEXT_TO_BOUND: Final = 1e-9
"""As `AT_BOUND`, of a parameter that is held there while the others step."""

AT_BOUND: Final = 1e-6
"""Distance from a bound, relative to that between both, of a parameter that is said to be at it."""

SCAN_POINTS: Final = 21
SCAN_WIDTH: Final = 2.0
"""Uncertainties to either side."""


@dataclass(frozen=True)
class Parameter:
    """A parameter before and after the fit.

    Attributes
    ----------
    name
        Of it.
    value, uncertainty
        After the fit; the uncertainty by the second derivatives at the minimum.
    nominal, width
        Before the fit; the width is None where nothing constrains it.
    pull
        (value - nominal) / width.
    constraint
        uncertainty / width: 1 if the data say nothing of it.
    at_bound
        Whether it ended at a bound, where its uncertainty says little.
    """

    name: str
    value: float
    uncertainty: float
    nominal: float
    width: float | None
    pull: float | None
    constraint: float | None
    at_bound: bool


@dataclass(frozen=True)
class GoodnessOfFit:
    """How well the model describes the data.

    Attributes
    ----------
    chi2
        Twice the logarithm of the likelihood ratio to the saturated model, which expects what
        was observed.
    degrees_of_freedom
        Bins less parameters that nothing constrains.
    p_value
        Of a worse one.
    """

    chi2: float
    degrees_of_freedom: int
    p_value: float | None


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit.

    Attributes
    ----------
    parameters
        By name, in pyhf's order.
    twice_nll
        Twice the negative log likelihood at the minimum.
    covariance
        Parameters x parameters; 0 for those that are fixed.
    goodness_of_fit
        By the saturated model.
    poi
        Name of the parameter of interest.
    backend, optimizer
        That it was made with.
    """

    parameters: Mapping[str, Parameter]
    twice_nll: float
    covariance: NDArray[np.float64]
    goodness_of_fit: GoodnessOfFit
    poi: str
    backend: str
    optimizer: str

    @property
    def values(self) -> NDArray[np.float64]:
        """Of all parameters."""
        return np.array([one.value for one in self.parameters.values()], dtype=np.float64)

    @property
    def correlation(self) -> NDArray[np.float64]:
        """Parameters x parameters."""
        widths = np.sqrt(np.diag(self.covariance))
        scale = np.divide(1, widths, out=np.zeros_like(widths), where=widths > 0)
        correlation: NDArray[np.float64] = self.covariance * np.outer(scale, scale)
        np.fill_diagonal(correlation, 1.0)
        return correlation


@dataclass(frozen=True)
class Impact:
    """What a parameter does to the parameter of interest.

    Attributes
    ----------
    name
        Of the parameter.
    up, down
        Change of the parameter of interest when it is held at its fitted value plus and minus its
        uncertainty after the fit, and all others are fitted again.
    prefit_up, prefit_down
        The same with its width before the fit. Each is None where fewer than no events would be
        expected in a bin, as a mirrored variation can do that has few events.
    """

    name: str
    up: float | None
    down: float | None
    prefit_up: float | None
    prefit_down: float | None

    @property
    def largest(self) -> float:
        """Larger of both sides after the fit, which parameters are ranked by."""
        return max(abs(self.up or 0.0), abs(self.down or 0.0))


@dataclass(frozen=True)
class Scan:
    """Profile of the likelihood along a parameter.

    Attributes
    ----------
    name
        Of the parameter.
    values
        At which it was held.
    delta
        Twice the negative log likelihood there, less that at the minimum.
    """

    name: str
    values: tuple[float, ...]
    delta: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model expects in one region.

    Attributes
    ----------
    region
        Name of it.
    edges
        Of the bins in GeV, one more than there are bins.
    data
        Events observed in each bin.
    samples
        Names of the processes.
    yields
        Events expected: samples x bins.
    uncertainty
        Of their sum in each bin: of all parameters together, with their correlations.
    """

    region: str
    edges: NDArray[np.float64]
    data: NDArray[np.float64]
    samples: tuple[str, ...]
    yields: NDArray[np.float64]
    uncertainty: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """Events expected in each bin."""
        return np.asarray(self.yields.sum(axis=0))


def fit(model: Model, data: NDArray[np.float64] | None = None) -> Fit:
    """Fit the model with pyhf's backend and optimiser (`backends.open_backend`).

    Parameters
    ----------
    model
        The likelihood.
    data
        As of `Model.data`, by default those.

    Raises
    ------
    InputError
        If the fit does not converge, or not to a minimum.
    """
    observed = model.data if data is None else data
    values, twice_nll, hessian = _minimum(model, observed)
    covariance = _covariance(model, values, hessian)
    backend, optimizer = pyhf.get_backend()
    return Fit(
        parameters={
            name: _parameter(name, *numbers)
            for name, *numbers in zip(
                model.names,
                values.tolist(),
                np.sqrt(np.diag(covariance)).tolist(),
                model.nominal.tolist(),
                model.widths.tolist(),
                _at_bound(model, values).tolist(),
                strict=True,
            )
        },
        twice_nll=twice_nll,
        covariance=covariance,
        goodness_of_fit=_goodness_of_fit(model, observed, twice_nll),
        poi=model.names[model.poi],
        backend=backend.name,
        optimizer=optimizer.name,
    )


def _minimum(
    model: Model, data: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Parameters, minimum and second derivatives: of the optimiser if it did find a minimum."""
    _, optimizer = pyhf.get_backend()
    start = model.nominal
    try:
        values, twice_nll, found = minimise(model, data)
        if "hess" in found:
            return values, twice_nll, np.asarray(found.hess)
        gradient, hessian = derivatives(model, data, values)
        _, left = _newton_step(model, values, gradient, hessian)
        if left <= CONVERGED:
            return values, twice_nll, hessian
        reason = f"a decrease of {left:.2g} is left"
        if left < 1:
            start = values
    except FitError as error:
        if not np.isfinite(
            float(pyhf.infer.mle.twice_nll(tensor(start), tensor(data), model.pdf)[0])
        ):
            # There is nowhere to step from.
            raise
        reason = str(error)
    warnings.warn(
        f"the optimizer {optimizer.name} found no minimum ({reason}); Newton's steps take over, "
        "which takes longer",
        NotConvergedWarning,
        stacklevel=3,
    )
    return newton(model, data, start)


def _at_bound(model: Model, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    margin = AT_BOUND * (high - low)
    return np.asarray((values < low + margin) | (values > high - margin))


def _covariance(
    model: Model, values: NDArray[np.float64], hessian: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariance at a minimum."""
    covariance = covariance_of(hessian, model.fixed)
    if not np.isfinite(covariance).all():
        # At a bound the likelihood need not have a minimum.
        held = model.fixed | _at_bound(model, values)
        covariance = covariance_of(hessian, held)
    if not np.isfinite(covariance).all():
        msg = (
            "the fit ended where the likelihood has no minimum, so that uncertainties cannot be "
            "told: look for parameters that do the same, or for bins with very few events"
        )
        raise FitError(msg)
    return covariance


def _parameter(
    name: str,
    value: float,
    uncertainty: float,
    nominal: float,
    width: float,
    at_bound: bool,  # noqa: FBT001
) -> Parameter:
    return Parameter(
        name,
        value,
        uncertainty,
        nominal,
        width or None,
        (value - nominal) / width if width else None,
        uncertainty / width if width else None,
        at_bound,
    )


def minimise(
    model: Model,
    data: NDArray[np.float64],
    held: Mapping[int, float] | None = None,
    start: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], float, Any]:
    """Minimise twice the negative log likelihood.

    Parameters
    ----------
    model, data
        What is fitted, to what.
    held
        Parameters to be held, by index, and at what.
    start
        Where to begin; by default before the fit.

    Returns
    -------
    numpy.ndarray, float, scipy.optimize.OptimizeResult
        Parameters, the minimum, and what the optimiser says of it.

    Raises
    ------
    InputError
        If the fit does not converge.
    """
    begin = (model.nominal if start is None else start).copy()
    fixed = model.fixed
    for index, value in (held or {}).items():
        begin[index], fixed[index] = value, True
    bounds = np.array(model.pdf.config.suggested_bounds())
    # A parameter may be held beyond its bounds, as a strength at what a limit is sought for.
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
            # JAX each set of held ones would be compiled anew.
            do_stitch=pyhf.tensorlib.name == "numpy",
        )
    values = numpy(values)
    main = data[: model.pdf.config.nmaindata]
    if (model.expected(values) < np.where(main > 0, 0.0, -LEAST)).any():
        msg = "the fit ended where fewer than no events are expected: look for bins with very few"
        raise FitError(msg)
    return values, float(minimum), found


def curvature(
    model: Model, data: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Second derivatives of twice the negative log likelihood: parameters x parameters.

    As of `derivatives`.
    """
    return derivatives(model, data, at)[1]


def derivatives(
    model: Model, data: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First and second derivatives of twice the negative log likelihood.

    For backends that have none. Of what is expected, derivatives are taken by finite differences;
    those of the likelihood follow, so that nothing large cancels and no parameter leaves its
    place, be it at a bound.

    Parameters
    ----------
    model, data
        The likelihood.
    at
        Parameters.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Parameters, and parameters x parameters.
    """
    observed, auxiliary = np.split(data, [model.pdf.config.nmaindata])
    widths = model.widths
    steps = np.diag(STEP * np.where(widths > 0, widths, 1.0))
    size = np.diag(steps)
    with guarded():
        here = model.expected(at)
        plus, minus = (
            np.array([model.expected(at + sign * one) for one in steps]) for sign in (1.0, -1.0)
        )
        first = (plus - minus) / (2 * size[:, np.newaxis])
        bent = plus + minus - 2 * here
        # Of bins without events the likelihood is linear in what is expected.
        seen = observed > 0
        squared = np.divide(observed, here**2, out=np.zeros_like(here), where=seen)
        slope = np.where(here < 0, -1.0, 1.0)
        slope -= np.divide(observed, here, out=np.zeros_like(here), where=seen)
        gradient = 2 * first @ slope
        hessian = 2 * np.einsum("ib,jb,b->ij", first, first, squared)
        hessian += np.diag(2 * (bent @ slope) / size**2)
        for i, j in itertools.combinations(np.flatnonzero(~model.fixed), 2):
            step = steps[i] + steps[j]
            both = model.expected(at + step) + model.expected(at - step) - 2 * here
            mixed = (both - bent[i] - bent[j]) @ slope / (size[i] * size[j])
            hessian[i, j] += mixed
            hessian[j, i] += mixed
        weights = np.divide(2, widths**2, out=np.zeros_like(widths), where=widths > 0)
        gradient += weights * (at - numpy(_at(model, auxiliary)))
        hessian += np.diag(weights)
    return gradient, hessian


def _newton_step(
    model: Model,
    at: NDArray[np.float64],
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """Step towards a minimum within the bounds, and the decrease that it promises."""
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    margin = NEXT_TO_BOUND * (high - low)
    held = model.fixed | ((at <= low + margin) & (gradient > 0))
    held |= (at >= high - margin) & (gradient < 0)
    free = np.flatnonzero(~held)
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(hessian)[free]), 1e-300))
    values, vectors = np.linalg.eigh(hessian[np.ix_(free, free)] * np.outer(scale, scale))
    # Downhill where the likelihood bends down, too.
    curved = np.maximum(np.abs(values), LEAST_CURVATURE * np.abs(values).max())
    step = np.zeros_like(at)
    step[free] = -scale * (vectors @ ((vectors.T @ (gradient[free] * scale)) / curved))
    return step, float(-0.5 * gradient @ step)


def newton(
    model: Model, data: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Minimise by projected Newton steps: slow without automatic derivatives, and sure.

    As of `analysis.inference.newton`, for any backend.

    Returns
    -------
    numpy.ndarray, float, numpy.ndarray
        Parameters, the minimum, and the second derivatives there.

    Raises
    ------
    FitError
        If no minimum is found.
    """
    low, high = np.array(model.pdf.config.suggested_bounds()).T
    observed = tensor(data)

    def value(x: NDArray[np.float64]) -> float:
        return float(pyhf.infer.mle.twice_nll(tensor(x), observed, model.pdf)[0])

    at = np.where(model.fixed, start, np.clip(start, low, high))
    for _ in range(NEWTON_STEPS):
        here, (gradient, hessian) = value(at), derivatives(model, data, at)
        step, decrease = _newton_step(model, at, gradient, hessian)
        # From there the next step would square what is left.
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


def _goodness_of_fit(model: Model, data: NDArray[np.float64], twice_nll: float) -> GoodnessOfFit:
    """By the saturated model: it expects in each bin what was observed."""
    config = model.pdf.config
    main, auxiliary = np.split(data, [config.nmaindata])
    constraints = float(
        np.sum(numpy(model.pdf.constraint_logpdf(tensor(auxiliary), _at(model, auxiliary))))
    )
    saturated = -2 * (
        float(np.sum(numpy(pyhf.tensorlib.poisson_logpdf(tensor(main), tensor(main)))))
        + constraints
    )
    chi2 = max(twice_nll - saturated, 0.0)
    free = int(np.count_nonzero((model.widths == 0) & ~model.fixed))
    degrees = len(main) - free
    p_value = float(scipy.stats.chi2.sf(chi2, degrees)) if degrees > 0 else None
    return GoodnessOfFit(chi2, degrees, p_value)


def _at(model: Model, auxiliary: NDArray[np.float64]) -> Any:
    """Parameters that auxiliary data agree with best."""
    values, position = model.nominal, 0
    for name in model.pdf.config.auxdata_order:
        where = model.pdf.config.par_slice(name)
        length = where.stop - where.start
        values[where] = auxiliary[position : position + length]
        position += length
    return tensor(values)


def ranking(
    model: Model,
    result: Fit,
    *,
    data: NDArray[np.float64] | None = None,
    names: Iterable[str] | None = None,
    progress: Callable[[list[int]], Iterable[int]] = list,
) -> list[Impact]:
    """What each parameter does to the parameter of interest, the largest first.

    Parameters
    ----------
    model, result
        The likelihood, and its fit.
    data
        That were fitted, by default those of the model.
    names
        Of the parameters; by default all but that of interest.
    progress
        Goes through what is to be done and shows how far it is.
    """
    observed = model.data if data is None else data
    best = result.values
    bounds = np.array(model.pdf.config.suggested_bounds())

    def shift(index: int, by: float) -> float | None:
        held = float(np.clip(best[index] + by, *bounds[index]))
        try:
            values, _, _ = minimise(model, observed, {index: held}, best)
        except FitError:
            return None
        return float(values[model.poi] - best[model.poi])

    impacts = []
    wanted = range(len(best)) if names is None else [model.index(name) for name in names]
    todo = [i for i in wanted if i != model.poi and not model.fixed[i]]
    for index in progress(todo):
        parameter = result.parameters[model.names[index]]
        after, before = parameter.uncertainty, parameter.width or parameter.uncertainty
        impacts.append(
            Impact(
                parameter.name,
                up=shift(index, after),
                down=shift(index, -after),
                prefit_up=shift(index, before),
                prefit_down=shift(index, -before),
            )
        )
    return sorted(impacts, key=lambda impact: -impact.largest)


def scan(
    model: Model,
    result: Fit,
    name: str | None = None,
    *,
    points: int = SCAN_POINTS,
    width: float = SCAN_WIDTH,
    data: NDArray[np.float64] | None = None,
) -> Scan:
    """Profile the likelihood.

    Parameters
    ----------
    model, result
        The likelihood, and its fit.
    name
        Of a parameter; by default that of interest.
    points
        How many, the minimum among them if the number is odd.
    width
        How far to either side, in uncertainties; not beyond the parameter's bounds.
    data
        That were fitted, by default those of the model.
    """
    observed = model.data if data is None else data
    name = name or result.poi
    index, parameter = model.index(name), result.parameters[name]
    # At a bound it may have none.
    reach = width * (parameter.uncertainty or 1.0)
    bounds = model.pdf.config.suggested_bounds()[index]
    low, high = np.clip([parameter.value - reach, parameter.value + reach], *bounds)
    values = np.linspace(low, high, points)
    delta = [
        minimise(model, observed, {index: float(value)}, result.values)[1] - result.twice_nll
        for value in values
    ]
    return Scan(name, tuple(values.tolist()), tuple(delta))


def prediction(
    model: Model,
    parameters: NDArray[np.float64] | None = None,
    covariance: NDArray[np.float64] | None = None,
) -> dict[str, Prediction]:
    """What is expected in each region, and how well that is known.

    Parameters
    ----------
    model
        The likelihood.
    parameters, covariance
        Of a fit: `Fit.values`, `Fit.covariance`. By default before the fit: nominal, uncorrelated
        and with the widths of their constraints, a free normalisation without uncertainty.

    Returns
    -------
    dict of Prediction
        By region. The uncertainty is propagated linearly, each parameter moved by its own to both
        sides, as cabinetry does.
    """
    at = model.nominal if parameters is None else parameters
    spread = np.diag(model.widths**2) if covariance is None else covariance
    by_sample = numpy(model.pdf.main_model.expected_data(tensor(at), return_by_sample=True))
    sigma = np.sqrt(np.diag(spread))
    change = np.zeros((len(at), by_sample.shape[1]))
    for index in np.flatnonzero(sigma > 0):
        step = np.zeros_like(at)
        step[index] = sigma[index]
        change[index] = (model.expected(at + step) - model.expected(at - step)) / 2
    scale = np.divide(1, sigma, out=np.zeros_like(sigma), where=sigma > 0)
    correlation = spread * np.outer(scale, scale)
    variance = np.einsum("ib,ij,jb->b", change, correlation, change)
    uncertainty = np.sqrt(np.maximum(variance, 0.0))
    config = model.pdf.config
    found = {}
    for region in config.channels:
        bins = config.channel_slices[region]
        found[region] = Prediction(
            region,
            model.edges[region],
            model.data[: config.nmaindata][bins],
            tuple(config.samples),
            by_sample[:, bins],
            uncertainty[bins],
        )
    return found


def fit_toys(
    model: Model, toys: Iterable[NDArray[np.float64]]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Fit data sets one after the other: values and uncertainties of all parameters."""
    for data in toys:
        values, _, hessian = _minimum(model, data)
        yield values, np.sqrt(np.diag(_covariance(model, values, hessian)))
