"""pyhf's backends and optimisers.

pyhf has one backend for the whole process. NumPy with SciPy needs nothing beside pyhf; JAX with
the Newton optimiser of this package is the fast one. PyTorch and TensorFlow are left out: pyhf
0.7.6 finds no limits with the first, and the next version drops both.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyhf

from analysis.errors import InputError, NotInstalledError
from analysis.inference.least_squares import least_squares_optimizer
from analysis.inference.optimizer import FALLBACK_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# JAX takes a second to import, and need not be installed.
# ruff: noqa: PLC0415

Backend = Literal["numpy", "jax"]
Optimizer = Literal["least_squares", "newton", "scipy", "minuit"]

OPTIMIZERS: Final[Mapping[Backend, tuple[Optimizer, ...]]] = {
    "numpy": ("least_squares", "scipy", "minuit"),
    "jax": ("newton", "scipy", "minuit"),
}
"""Optimisers of each backend; the first is the default."""

TOLERANCE: Final = 1e-9
"""Of SciPy's SLSQP: change of the objective. Its default, 1e-6, leaves ttbar_norm of the reference
fit 1e-5 from the minimum; this takes a tenth longer."""

PACKAGES: Final = {"jax": "jax", "minuit": "iminuit"}
"""Packages that are not installed by default, by the backend or optimiser that needs them."""


@contextmanager
def open_backend(backend: Backend = "numpy", optimizer: Optimizer | None = None) -> Iterator[None]:
    """Set pyhf's backend and optimiser, and restore the previous ones at the end.

    Parameters
    ----------
    backend
        numpy or jax; 64-bit in both.
    optimizer
        One of OPTIMIZERS; by default the first.

    Raises
    ------
    InputError
        If there is no such backend or optimiser, or the two do not go together.
    NotInstalledError
        If it is not installed.
    """
    if backend not in OPTIMIZERS:
        msg = f"there is no backend {backend!r}: use one of {', '.join(OPTIMIZERS)}"
        raise InputError(msg)
    chosen = optimizer or OPTIMIZERS[backend][0]
    if chosen not in OPTIMIZERS[backend]:
        msg = (
            f"there is no optimizer {chosen!r} with the backend {backend}: "
            f"use one of {', '.join(OPTIMIZERS[backend])}"
        )
        raise InputError(msg)
    for name in (backend, chosen):
        if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
            msg = (
                f"{PACKAGES[name]} is not installed, which {name} needs: "
                f"`pip install 'coffea-scaling[{name}]'`"
            )
            raise NotInstalledError(msg)
    before = pyhf.get_backend()
    # pyhf also logs the whole result of a fit whose failure it raises.
    logger = logging.getLogger("pyhf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        pyhf.set_backend(backend, _make(chosen), precision="64b")
        yield
    finally:
        pyhf.set_backend(*before)
        logger.setLevel(level)


def _make(optimizer: Optimizer) -> Any:
    if optimizer == "newton":
        from analysis.inference.newton import newton_optimizer

        return newton_optimizer()
    if optimizer == "least_squares":
        return least_squares_optimizer()
    if optimizer == "minuit":
        # The default strategy with gradients, 0, fails (pyhf issue 1928); with the default tolerance
        # the reference fit ends 1e-4 above the minimum.
        return pyhf.optimize.minuit_optimizer(strategy=1, tolerance=0.01)
    return pyhf.optimize.scipy_optimizer(tolerance=TOLERANCE, maxiter=FALLBACK_STEPS)


@contextmanager
def profiling() -> Iterator[None]:
    """Begin each fit of pyhf at the best known fit of the same data.

    A hypothesis test takes five fits, three of which do not depend on the tested strength: these
    are done once. And data without a signal as large as ttbar have a second minimum, with much
    signal and large pulls, in which a fit that begins there ends; pyhf's test then divides by zero.
    """
    backend, optimizer = pyhf.get_backend()
    pyhf.set_backend(backend, _Profiling(optimizer))
    try:
        yield
    finally:
        pyhf.set_backend(backend, optimizer)


class _Profiling:
    """An optimiser that remembers the minima that another one found."""

    def __init__(self, optimizer: Any) -> None:
        self.name = "profiling"
        self.optimizer = optimizer
        self._known: dict[Any, Any] = {}

    def minimize(
        self,
        objective: Callable[..., Any],
        data: Any,
        pdf: Any,
        init_pars: Sequence[float],
        par_bounds: Sequence[Sequence[float]],
        fixed_vals: Sequence[tuple[int, float]] | None = None,
        return_fitted_val: bool = False,  # noqa: FBT001, FBT002  (pyhf's signature)
    ) -> Any:
        """Parameters, or parameters and minimum, as of the other optimiser."""
        poi = int(pdf.config.poi_index)
        held = list(fixed_vals or ())

        def find(start: Sequence[float], fixed: list[tuple[int, float]]) -> Any:
            return self.optimizer.minimize(
                objective,
                data,
                pdf,
                list(start),
                par_bounds,
                fixed,
                return_fitted_val=True,
                do_stitch=pyhf.tensorlib.name == "numpy",
            )

        others = [(index, value) for index, value in held if index != poi]
        key = (pdf, np.asarray(data, dtype=float).tobytes(), tuple(others))
        if key not in self._known:
            without = [*init_pars[:poi], par_bounds[poi][0], *init_pars[poi + 1 :]]
            self._known[key] = min(
                (find(start, others) for start in (init_pars, without)),
                key=lambda found: float(found[1]),
            )
        best = found = self._known[key]
        if len(others) < len(held):
            strength = dict(held)[poi]
            if (*key, strength) not in self._known:
                start = np.asarray(best[0], dtype=float).tolist()
                start[poi] = strength
                self._known[*key, strength] = find(start, held)
            found = self._known[*key, strength]
        return found if return_fitted_val else found[0]


class FitError(InputError):
    """A fit did not converge."""


@contextmanager
def guarded() -> Iterator[None]:
    """Turn pyhf's error of a fit into one sentence, and suppress its warnings.

    They come from a minimiser that tries parameters where the likelihood has no value.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
        warnings.filterwarnings("ignore", ".* encountered in ", RuntimeWarning)
        try:
            yield
        except pyhf.exceptions.FailedMinimization as error:
            backend, optimizer = pyhf.get_backend()
            reason = " ".join(str(error).split()) or "no reason given"
            msg = (
                f"the fit did not converge ({backend.name}, {optimizer.name}: {reason[:200]}): "
                "try another --backend, and look for bins with very few events"
            )
            raise FitError(msg) from error
