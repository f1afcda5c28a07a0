"""Expected events of each region before and after a fit, and their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.inference.model import numpy, tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analysis.inference.model import Model


@dataclass(frozen=True, eq=False)
class Prediction:
    """Expected events of one region.

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


def prediction(
    model: Model,
    parameters: NDArray[np.float64] | None = None,
    covariance: NDArray[np.float64] | None = None,
) -> dict[str, Prediction]:
    """Expected events of each region, and their uncertainty.

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
    predictions = {}
    for region in config.channels:
        bins = config.channel_slices[region]
        predictions[region] = Prediction(
            region,
            model.edges[region],
            model.data[: config.nmaindata][bins],
            tuple(config.samples),
            by_sample[:, bins],
            uncertainty[bins],
        )
    return predictions
