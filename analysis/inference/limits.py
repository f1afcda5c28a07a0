"""Upper limit and discovery significance of the strength of a signal, by asymptotic formulae.

G. Cowan, K. Cranmer, E. Gross, O. Vitells, Eur. Phys. J. C 71 (2011) 1554; the tests are pyhf's.
Limits are found here, because pyhf 0.7.6 fails at that on JAX (its issue 2466) and ignores the
level (2564).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyhf
import scipy.optimize
import scipy.stats

from analysis.errors import InputError
from analysis.inference.backends import guarded, profiling
from analysis.inference.fits import fit
from analysis.inference.model import numpy, tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.inference.model import Model

LEVEL: Final = 0.95
PRECISION: Final = 1e-3
"""Relative, of a limit."""

LOWEST: Final = 0.05
"""Strength at which a search begins, over its uncertainty: at 0, CLs is 0 / 0 (pyhf issue 2722), and
also where the test statistic is no larger than the rounding errors of fits."""

BANDS: Final = (-2, -1, 0, 1, 2)
"""Of the expected limits, in standard deviations; pyhf's order."""


@dataclass(frozen=True)
class Limit:
    """An upper limit.

    Attributes
    ----------
    poi
        Name of the strength.
    level
        Confidence level: CLs is 1 - level at the limit.
    observed
        In the data.
    expected
        Without signal: the median, and 1 and 2 standard deviations to either side, ascending.
    """

    poi: str
    level: float
    observed: float
    expected: tuple[float, ...]


@dataclass(frozen=True)
class Significance:
    """Significance of a signal.

    Attributes
    ----------
    poi
        Name of the strength.
    observed, expected
        Standard deviations from no signal: in the data, and for a strength of 1.
    observed_p, expected_p
        Probability of at least as much without signal; 0 beyond some 38 standard deviations.
    """

    poi: str
    observed: float
    expected: float
    observed_p: float
    expected_p: float


def upper_limit(
    model: Model, level: float = LEVEL, *, tick: Callable[[float], None] = lambda _: None
) -> Limit:
    """Find the strengths at which CLs is 1 - level.

    Parameters
    ----------
    model
        The likelihood.
    level
        Confidence level, between 0 and 1.
    tick
        Called with each tested strength.

    Raises
    ------
    InputError
        If the level is invalid, the limit lies beyond the bounds of the strength, or a fit fails.
    """
    if not 0 < level < 1:
        msg = f"a confidence level lies between 0 and 1, and {level:g} does not: 0.95 is usual"
        raise InputError(msg)
    parameter = fit(model).parameters[model.names[model.poi]]
    # At a bound the uncertainty may be 0.
    sigma = parameter.uncertainty or 1.0
    bound = float(model.pdf.config.suggested_bounds()[model.poi][1])
    data = tensor(model.data)
    known: dict[float, Any] = {}

    def test(strength: float) -> Any:
        """CLs: observed, and expected in BANDS."""
        if strength not in known:
            tick(strength)
            observed, expected = pyhf.infer.hypotest(
                strength, data, model.pdf, test_stat="qtilde", return_expected_set=True
            )
            known[strength] = np.array([float(observed), *(float(value) for value in expected)])
            if not np.isfinite(known[strength]).all():
                msg = (
                    f"CLs has no value at {parameter.name} = {strength:g}: look for bins with "
                    "very few events"
                )
                raise InputError(msg)
        return known[strength]

    def crossing(which: int) -> float:
        low = LOWEST * sigma
        high = min(bound, 2 * sigma + (parameter.value if which == 0 else 0.0))
        while test(low)[which] <= 1 - level:
            low, high = low / 10, low
        while test(high)[which] > 1 - level:
            if high >= bound:
                msg = (
                    f"the {level:.0%} upper limit on {parameter.name} lies above {bound:g}, where "
                    "the model ends: there is no sensitivity to this signal"
                )
                raise InputError(msg)
            low, high = high, min(bound, 1.5 * high)

        def excess(strength: float) -> float:
            return math.log(max(test(strength)[which], 1e-300) / (1 - level))

        return float(scipy.optimize.brentq(excess, low, high, xtol=1e-12, rtol=PRECISION))

    with profiling(), guarded():
        observed, *expected = (crossing(which) for which in range(1 + len(BANDS)))
    return Limit(parameter.name, level, observed, tuple(expected))


def significance(model: Model) -> Significance:
    """Test the hypothesis of no signal.

    Parameters
    ----------
    model
        The likelihood.

    Raises
    ------
    InputError
        If there is a bin in which nothing but signal is expected, or a fit fails.
    """
    config = model.pdf.config
    without = model.nominal
    without[model.poi] = 0.0
    for region, bins in config.channel_slices.items():
        empty = np.flatnonzero(~(model.expected(without)[bins] > 0))
        if len(empty):
            edges = model.edges[region]
            low, high = edges[empty[0]], edges[empty[0] + 1]
            msg = (
                f"nothing but signal is expected in {region} from {low:g} to {high:g} GeV, where "
                "one event would be proof of it: process more events of the other processes"
            )
            raise InputError(msg)
    settings = (config.suggested_init(), config.suggested_bounds(), config.suggested_fixed())
    with profiling(), guarded():
        observed = _significance(model, tensor(model.data), settings)
        asimov = pyhf.infer.calculators.generate_asimov_data(
            1.0, tensor(model.data), model.pdf, *settings
        )
        expected = _significance(model, asimov, settings)
    return Significance(
        model.names[model.poi],
        observed,
        expected,
        *(float(scipy.stats.norm.sf(sigmas)) for sigmas in (observed, expected)),
    )


def _significance(model: Model, data: Any, settings: Any) -> float:
    # From the test statistic: p-values of more than 38 standard deviations are 0 in floats.
    q0 = numpy(pyhf.infer.test_statistics.q0(0.0, data, model.pdf, *settings))
    return math.sqrt(max(float(np.ravel(q0)[0]), 0.0))
