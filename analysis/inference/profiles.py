"""Fits with one parameter held: impacts on the parameter of interest, and profiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from analysis.inference.backends import FitError
from analysis.inference.minimum import minimise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from analysis.inference.fits import Fit
    from analysis.inference.model import Model

SCAN_POINTS: Final = 21
SCAN_WIDTH: Final = 2.0
"""Uncertainties to either side."""


@dataclass(frozen=True)
class Impact:
    """Impact of a parameter on the parameter of interest.

    Attributes
    ----------
    name
        Of the parameter.
    up, down
        Change of the parameter of interest when it is held at its fitted value plus and minus its
        uncertainty after the fit, and all others are fitted again.
    prefit_up, prefit_down
        The same with its width before the fit. Each is None where the predicted yield of a bin
        would be negative, as with a mirrored variation that has few events.
    """

    name: str
    up: float | None
    down: float | None
    prefit_up: float | None
    prefit_down: float | None

    @property
    def largest(self) -> float:
        """The larger of `up` and `down`, by which parameters are ranked."""
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


def ranking(
    model: Model,
    result: Fit,
    *,
    data: NDArray[np.float64] | None = None,
    names: Iterable[str] | None = None,
    progress: Callable[[list[int]], Iterable[int]] = list,
) -> list[Impact]:
    """Impact of each parameter on the parameter of interest, the largest first.

    Parameters
    ----------
    model, result
        The likelihood, and its fit.
    data
        Those that were fitted; by default those of the model.
    names
        Of the parameters; by default all but the parameter of interest.
    progress
        Iterates over the parameters and shows how far it is.
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
    """Profile the likelihood along one parameter.

    Parameters
    ----------
    model, result
        The likelihood, and its fit.
    name
        Of the parameter; by default the parameter of interest.
    points
        How many, the minimum among them if the number is odd.
    width
        How far to either side, in uncertainties; not beyond the parameter's bounds.
    data
        Those that were fitted; by default those of the model.
    """
    observed = model.data if data is None else data
    name = name or result.poi
    index, parameter = model.index(name), result.parameters[name]
    # At a bound the uncertainty may be 0.
    reach = width * (parameter.uncertainty or 1.0)
    bounds = model.pdf.config.suggested_bounds()[index]
    low, high = np.clip([parameter.value - reach, parameter.value + reach], *bounds)
    values = np.linspace(low, high, points)
    delta = [
        minimise(model, observed, {index: float(value)}, result.values)[1] - result.twice_nll
        for value in values
    ]
    return Scan(name, tuple(values.tolist()), tuple(delta))
