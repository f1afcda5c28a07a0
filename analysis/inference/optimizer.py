"""pyhf's interface of an optimiser, for the optimisers of this package."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pyhf
from scipy.optimize import OptimizeResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


FALLBACK_STEPS: Final = 1000
"""Of SLSQP, which takes some 100; pyhf's own limit is 100,000, which is hours."""


class NotConvergedWarning(RuntimeWarning):
    """A fast optimiser did not converge, and pyhf's default took over."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A minimisation: the objective is a function of parameters, data and pdf."""

    objective: Callable[..., Any]
    pdf: Any
    data: Any
    start: NDArray[np.float64]
    """Parameters to begin with; the values of fixed ones."""
    bounds: NDArray[np.float64]
    """Parameters x (lower, upper)."""
    fixed: NDArray[np.bool_]


class DirectOptimizer(ABC):
    """An optimiser that is given the model itself, not just a function of parameters.

    If it does not converge within `maxiter` steps, it warns and falls back to SciPy's SLSQP, pyhf's
    default.
    """

    name: ClassVar[str]
    backend: ClassVar[str]

    def __init__(self, tolerance: float, maxiter: int) -> None:
        self.tolerance = tolerance
        self.maxiter = maxiter

    @abstractmethod
    def find(self, problem: Problem, tolerance: float, maxiter: int) -> OptimizeResult:
        """Find the minimum, as a result of numpy arrays.

        It has `x` of all parameters, `fun`, `nit`, `success` and `message`, and `hess`, `unc` and
        `corr` if they are known.
        """

    def minimize(
        self,
        objective: Callable[..., Any],
        data: Any,
        pdf: Any,
        init_pars: Sequence[float],
        par_bounds: Sequence[Sequence[float]],
        fixed_vals: Sequence[tuple[int, float]] | None = None,
        return_fitted_val: bool = False,  # noqa: FBT001, FBT002  (pyhf's signature)
        return_result_obj: bool = False,  # noqa: FBT001, FBT002
        return_uncertainties: bool = False,  # noqa: FBT001, FBT002
        return_correlations: bool = False,  # noqa: FBT001, FBT002
        do_grad: bool | None = None,  # noqa: ARG002, FBT001
        do_stitch: bool = False,  # noqa: ARG002, FBT001, FBT002
        **options: Any,
    ) -> Any:
        """Find the minimum, with the signature, results and errors of pyhf's own optimisers.

        ``do_grad`` and ``do_stitch`` have no effect: fixed parameters cost nothing here.
        """
        if pyhf.tensorlib.name != self.backend:
            msg = f"{self.name} needs the backend {self.backend}, this is {pyhf.tensorlib.name}"
            raise pyhf.exceptions.Unsupported(msg)
        tolerance = options.pop("tolerance", self.tolerance)
        maxiter = options.pop("maxiter", self.maxiter)
        if options:
            msg = f"{self.name} has no options {', '.join(options)}"
            raise pyhf.exceptions.Unsupported(msg)
        start = np.array(init_pars, dtype=float)
        fixed = np.zeros(len(start), dtype=bool)
        for index, value in fixed_vals or ():
            start[index], fixed[index] = value, True
        bounds = np.array(par_bounds, dtype=float)
        problem = Problem(objective, pdf, data, start, bounds, fixed)
        result = self.find(problem, tolerance, maxiter)
        if not result.success:
            within = np.where(fixed, start, np.clip(start, *bounds.T))
            if not np.isfinite(
                np.asarray(objective(pyhf.tensorlib.astensor(within), data, pdf))
            ).all():
                # No optimiser can leave such a point.
                reason = "the likelihood has no value where it begins"
                raise pyhf.exceptions.FailedMinimization(OptimizeResult(message=reason))
            warnings.warn(
                f"the optimizer {self.name} stopped after {result.nit} steps ({result.message}); "
                "SciPy's SLSQP takes over, which takes longer",
                NotConvergedWarning,
                stacklevel=2,
            )
            result = self._fall_back(problem)
        if (return_uncertainties or return_correlations) and "unc" not in result:
            msg = f"{self.name} gives no uncertainties: use `analysis.inference.fit`"
            raise pyhf.exceptions.Unsupported(msg)
        tensor = pyhf.tensorlib.astensor
        parameters = tensor(result.x)
        if return_uncertainties:
            parameters = pyhf.tensorlib.stack([parameters, tensor(result.unc)], axis=1)
        returned = [parameters]
        if return_correlations:
            returned.append(tensor(result.corr))
        if return_fitted_val:
            # Without a dimension, as pyhf's own.
            returned.append(tensor([result.fun])[0])
        if return_result_obj:
            returned.append(result)
        return tuple(returned) if len(returned) > 1 else returned[0]

    def _fall_back(self, problem: Problem) -> OptimizeResult:
        held = [(int(i), float(problem.start[i])) for i in np.flatnonzero(problem.fixed)]
        _, found = pyhf.optimize.scipy_optimizer(maxiter=FALLBACK_STEPS).minimize(
            problem.objective,
            problem.data,
            problem.pdf,
            problem.start.tolist(),
            problem.bounds.tolist(),
            held,
            return_result_obj=True,
        )
        found.x = np.array(found.x, dtype=float)
        found.fun = float(found.fun)
        # pyhf sets to None what SciPy does not know.
        for unknown in ("unc", "corr"):
            found.pop(unknown, None)
        return found


def covariance_of(hessian: NDArray[np.float64], fixed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Covariance of parameters, from the Hessian of twice the negative log likelihood.

    It is 2 / Hessian: NaN if that is not positive definite, and 0 for fixed parameters.
    """
    covariance = np.zeros_like(hessian)
    free = np.ix_(~fixed, ~fixed)
    try:
        np.linalg.cholesky(hessian[free])
        covariance[free] = 2 * np.linalg.inv(hessian[free])
    except np.linalg.LinAlgError:
        covariance[free] = np.nan
    return covariance
