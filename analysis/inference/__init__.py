"""From histograms to a cross section: a HistFactory model, fitted with pyhf.

    with open_backend("jax"):
        model = build(read(Path("OUT.json")))
        result = fit(model)
        result.parameters["ttbar_norm"].value
        prediction(model, result.values, result.covariance)["4j1b"].uncertainty

Everything between `build` and the last prediction belongs inside `open_backend`: pyhf has one
backend at a time.
"""

from __future__ import annotations

from analysis.inference.backends import OPTIMIZERS, Backend, Optimizer, open_backend
from analysis.inference.fits import Fit, GoodnessOfFit, Parameter, fit
from analysis.inference.limits import Limit, Significance, significance, upper_limit
from analysis.inference.model import Model, build, from_workspace
from analysis.inference.predictions import Prediction, prediction
from analysis.inference.profiles import Impact, Scan, ranking, scan
from analysis.inference.templates import Templates, read
from analysis.inference.workspace import workspace

__all__ = [
    "OPTIMIZERS",
    "Backend",
    "Fit",
    "GoodnessOfFit",
    "Impact",
    "Limit",
    "Model",
    "Optimizer",
    "Parameter",
    "Prediction",
    "Scan",
    "Significance",
    "Templates",
    "build",
    "fit",
    "from_workspace",
    "open_backend",
    "prediction",
    "ranking",
    "read",
    "scan",
    "significance",
    "upper_limit",
    "workspace",
]
