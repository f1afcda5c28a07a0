"""Fits of the model by maximum likelihood.

Twice the negative log likelihood, with all its constant
terms as pyhf and cabinetry count them (Poisson terms with the logarithm of the factorial, normal
terms with that of their width), is minimised. Units of yields are events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyhf
import scipy.stats

from analysis.inference.minimum import at_bound, auxiliary_best, covariance, minimum
from analysis.inference.model import numpy, tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.inference.model import Model


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
    values, twice_nll, hessian = minimum(model, observed)
    spread = covariance(model, values, hessian)
    backend, optimizer = pyhf.get_backend()
    return Fit(
        parameters={
            name: _parameter(name, *numbers)
            for name, *numbers in zip(
                model.names,
                values.tolist(),
                np.sqrt(np.diag(spread)).tolist(),
                model.nominal.tolist(),
                model.widths.tolist(),
                at_bound(model, values).tolist(),
                strict=True,
            )
        },
        twice_nll=twice_nll,
        covariance=spread,
        goodness_of_fit=_goodness_of_fit(model, observed, twice_nll),
        poi=model.names[model.poi],
        backend=backend.name,
        optimizer=optimizer.name,
    )


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


def _goodness_of_fit(model: Model, data: NDArray[np.float64], twice_nll: float) -> GoodnessOfFit:
    """By the saturated model, which expects in each bin what was observed."""
    config = model.pdf.config
    main, auxiliary = np.split(data, [config.nmaindata])
    constraints = float(
        np.sum(
            numpy(model.pdf.constraint_logpdf(tensor(auxiliary), auxiliary_best(model, auxiliary)))
        )
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
