"""The statistical model, ready to be fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyhf

from analysis.errors import InputError
from analysis.inference.workspace import SIGNAL, workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from analysis.inference.templates import Templates

INTERPOLATION: Final = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
"""As in ROOT's HistFactory and cabinetry: smooth at nominal."""

LEAST: Final = 1e-3
"""Expected events of a bin below which the likelihood is changed so that a fit returns (`_Counts`)."""


@dataclass(frozen=True, eq=False)
class Model:
    """A likelihood and its data.

    Attributes
    ----------
    spec
        The pyhf workspace.
    pdf
        pyhf's model of it.
    data
        Events observed in all bins of all regions, in pyhf's order, and auxiliary data.
    edges
        Of the bins of each region in GeV.
    notes
        Differences from the definition of the model: one sentence each.
    """

    spec: dict[str, Any]
    pdf: Any
    data: NDArray[np.float64]
    edges: Mapping[str, NDArray[np.float64]]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in pyhf's order."""
        return list(self.pdf.config.par_names)

    @property
    def poi(self) -> int:
        """Index of the parameter of interest."""
        return int(self.pdf.config.poi_index)

    def index(self, name: str) -> int:
        """Index of a parameter; InputError if there is none of this name."""
        if name not in self.names:
            msg = f"the model has no parameter {name!r}: it has {', '.join(self.names)}"
            raise InputError(msg)
        return self.names.index(name)

    @property
    def nominal(self) -> NDArray[np.float64]:
        """Value of each parameter before the fit."""
        return np.array(self.pdf.config.suggested_init(), dtype=float)

    @property
    def widths(self) -> NDArray[np.float64]:
        """Uncertainty of each parameter before the fit; 0 where nothing constrains it."""
        widths: list[float] = []
        for name in self.pdf.config.par_order:
            parameter = self.pdf.config.param_set(name)
            widths += (
                parameter.width() if parameter.constrained else [0.0] * parameter.n_parameters
            )
        return np.where(self.fixed, 0.0, widths)

    @property
    def fixed(self) -> NDArray[np.bool_]:
        """Whether each parameter is fixed."""
        return np.array(self.pdf.config.suggested_fixed(), dtype=bool)

    def expected(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Events expected in all bins of all regions, in pyhf's order."""
        return numpy(self.pdf.expected_actualdata(tensor(parameters)))

    def asimov(self, parameters: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Asimov data, auxiliary data included: the expectation, by default before the fit."""
        at = self.nominal if parameters is None else parameters
        return numpy(self.pdf.expected_data(tensor(at)))

    def toys(
        self, parameters: NDArray[np.float64], number: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Draw data sets from the model with these true parameters.

        Returns data sets x (bins and auxiliary data): Poisson counts, and auxiliary measurements,
        all of which are normal in this model.
        """
        main = rng.poisson(self.expected(parameters), (number, self.pdf.config.nmaindata))
        expected = self.asimov(parameters)[self.pdf.config.nmaindata :]
        widths = [
            width
            for name in self.pdf.config.auxdata_order
            for width in self.pdf.config.param_set(name).width()
        ]
        return np.hstack([main, rng.normal(expected, widths, (number, len(expected)))])


def build(templates: Templates, signal: str = SIGNAL) -> Model:
    """Build the statistical model of histograms.

    Parameters
    ----------
    templates
        As of `templates.read`.
    signal
        Process whose strength is the parameter of interest.

    Raises
    ------
    InputError
        As of `workspace.workspace`.
    """
    spec, notes = workspace(templates, signal)
    edges = {name: region.edges for name, region in templates.regions.items()}
    return from_workspace(spec, edges, (*templates.notes, *notes))


def from_workspace(
    spec: dict[str, Any],
    edges: Mapping[str, NDArray[np.float64]],
    notes: tuple[str, ...] = (),
) -> Model:
    """Build the model of a workspace, which pyhf checks against its schema."""
    checked = pyhf.Workspace(spec)
    pdf = checked.model(modifier_settings=INTERPOLATION)
    pdf.main_model.make_pdf = lambda parameters: pyhf.probability.Independent(
        _Counts(pdf.main_model.expected_data(parameters))
    )
    return Model(spec, pdf, np.array(checked.data(pdf), dtype=float), edges, notes)


class _Counts(pyhf.probability.Poisson):
    """Poisson distributions that have a value where the predicted yield is negative.

    A histogram that is moved far along a variation goes below zero. There pyhf's likelihood is
    NaN or, without events in the bin, larger than anywhere else; a minimiser that tries it does
    not return. This likelihood falls the further it goes below zero, so that a fit returns.
    """

    def log_prob(self, observed: Any) -> Any:
        """As pyhf's where at least LEAST events are expected."""
        lib = pyhf.tensorlib
        rate = lib.clip(self.rate, LEAST, None)
        steep = observed * (rate - self.rate) / LEAST
        return lib.poisson_logpdf(observed, rate) - steep + rate - lib.abs(self.rate)


def tensor(numbers: NDArray[np.float64]) -> Any:
    """An array of pyhf's backend."""
    return pyhf.tensorlib.astensor(numbers.tolist())


def numpy(numbers: Any) -> NDArray[np.float64]:
    """A writable array of numpy."""
    return np.array(pyhf.tensorlib.to_numpy(numbers), dtype=float)
