"""Covariance of the parameters of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def covariance_of(hessian: NDArray[np.float64], fixed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Covariance of the parameters.

    Parameters
    ----------
    hessian
        Of twice the negative log likelihood: parameters x parameters.
    fixed
        Of each parameter, whether it is.

    Returns
    -------
    numpy.ndarray
        2 / Hessian; rows and columns of fixed parameters are 0. NaN if the Hessian is not
        positive definite.
    """
    covariance = np.zeros_like(hessian)
    free = np.ix_(~fixed, ~fixed)
    try:
        np.linalg.cholesky(hessian[free])
        covariance[free] = 2 * np.linalg.inv(hessian[free])
    except np.linalg.LinAlgError:
        covariance[free] = np.nan
    return covariance
