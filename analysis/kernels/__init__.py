"""The kernels: one module each, with three implementations of one signature.

`reference` is the definition in plain Python loops, `columnar` is awkward, `compiled` is numba
over contents and offsets. They are pure: arrays in, arrays out.

KERNELS is the registry. The proofs (tests/analysis/kernels/test_kernels.py), the benchmarks
(perf/bench_kernels.py) and the rows of every report are derived from it: adding a kernel is
adding one module and one line here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import awkward as ak
import numpy as np

from analysis.errors import InputError
from analysis.kernels._layout import join, split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

Implementation = Literal["reference", "columnar", "compiled"]
IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = get_args(Implementation)


@dataclass(frozen=True)
class Kernel:
    """One line of the registry.

    Attributes
    ----------
    name
        Name of the module in `analysis.kernels`.
    inputs
        Columns that the implementations take, in order: NanoAOD branches, or names in DERIVED.
    scales_with
        What its cost should grow with.
    options
        Keyword arguments that differ from the defaults, for proofs and benchmarks.
    dense
        Whether it is measured on the selected jets of events with at least four of them, as in the
        analysis, instead of on all objects of all events.
    """

    name: str
    inputs: tuple[str, ...]
    scales_with: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dense: bool = False

    @property
    def module(self) -> ModuleType:
        """The module that holds the three implementations."""
        return import_module(f"{__name__}.{self.name}")

    @property
    def exact(self) -> bool:
        """Whether the implementations agree to the last bit.

        Otherwise the module defines `agree`, whose docstring gives the bound and its reason.
        """
        return not hasattr(self.module, "agree")

    def arguments(self, columns: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs, read or derived from columns of events."""
        return tuple(column(columns, name) for name in self.inputs)

    def run(self, implementation: Implementation, *arguments: Any) -> Any:
        """Call an implementation with the options of this line."""
        function: Callable[..., Any] = getattr(self.module, implementation)
        return function(*arguments, **self.options)

    def agree(self, got: Any, want: Any, *arguments: Any) -> bool:
        """Whether the results of two implementations on `arguments` are equal.

        Types must be equal, values equal to the last bit or within the bound of the module. NaN
        equals NaN. Descriptions of branches in a file are not part of a type.
        """
        if _types(got) != _types(want):
            return False
        if self.exact:
            return _identical(got, want)
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(self.module.agree(got, want, *arguments, **self.options))


def bind(implementation: Implementation) -> Callable[..., Any]:
    """A function that calls kernels of one implementation: by name, with arguments and options.

    Raises
    ------
    InputError
        If there is no such implementation.
    """
    if implementation not in IMPLEMENTATIONS:
        msg = f"there is no implementation {implementation!r}: use one of {', '.join(IMPLEMENTATIONS)}"
        raise InputError(msg)

    def call(name: str, /, *arguments: Any, **options: Any) -> Any:
        return getattr(KERNELS[name].module, implementation)(*arguments, **options)

    return call


def _parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def _types(result: Any) -> tuple[str, ...]:
    # Of a jagged array the type of its objects; lengths are compared together with the values.
    return tuple(
        str(ak.without_parameters(part).type.content)
        if isinstance(part, ak.Array)
        else f"{part.dtype}{part.shape}"
        for part in _parts(result)
    )


def _identical(got: Any, want: Any) -> bool:
    return all(
        bool(ak.array_equal(a, b, equal_nan=True, check_parameters=False))
        if isinstance(a, ak.Array)
        else np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(_parts(got), _parts(want), strict=True)
    )


def column(columns: Mapping[str, Any], name: str) -> Any:
    """A column of events by name: a branch, or derived from branches by DERIVED."""
    if name in columns:
        return columns[name]
    if name not in DERIVED:
        msg = f"there is no column {name}: these events lack it, and DERIVED does not make it"
        raise InputError(msg)
    return DERIVED[name](columns)


def _run(name: str) -> Callable[[Mapping[str, Any]], Any]:
    """The columnar result of a kernel as an input of another."""

    def derive(columns: Mapping[str, Any]) -> Any:
        kernel = KERNELS[name]
        return kernel.run("columnar", *kernel.arguments(columns))

    return derive


def _leptons(field: str) -> Callable[[Mapping[str, Any]], ak.Array]:
    """A column of the electrons followed by the muons of each event."""

    def derive(columns: Mapping[str, Any]) -> ak.Array:
        return ak.concatenate(
            [column(columns, f"Electron_{field}"), column(columns, f"Muon_{field}")], axis=1
        )

    return derive


def _constant(like: str, value: int) -> Callable[[Mapping[str, Any]], ak.Array]:
    def derive(columns: Mapping[str, Any]) -> ak.Array:
        offsets, (contents,) = split(column(columns, like))
        return join(offsets, np.full(len(contents), value, np.int32))

    return derive


def _selected_events(columns: Mapping[str, Any]) -> Any:
    return _run("leptons")(columns) != 0


def _category(columns: Mapping[str, Any]) -> Any:
    return _run("leptons")(columns).astype(np.int64)


DERIVED: Final[dict[str, Callable[[Mapping[str, Any]], Any]]] = {
    "Electron_mask": _run("electrons"),
    "Muon_mask": _run("muons"),
    "Jet_mask": _run("jets"),
    "Electron_flavour": _constant("Electron_pt", 11),
    "Muon_flavour": _constant("Muon_pt", 13),
    **{
        f"Lepton_{field}": _leptons(field)
        for field in ("pt", "eta", "phi", "mass", "charge", "flavour")
    },
    "one_lepton": _selected_events,
    "Lepton_pair": _run("z_pair"),
    "Jet_trijet": lambda columns: _run("trijet_mass")(columns)[0],
    "observable": _run("ht"),
    "category": _category,
    "weights": _run("btag_weights"),
}
"""Inputs of kernels that are not branches: results of columnar kernels."""

_P4: Final = ("pt", "eta", "phi", "mass")


def _of(collection: str, *fields: str) -> tuple[str, ...]:
    return tuple(f"{collection}_{field}" for field in fields)


KERNELS: Final[dict[str, Kernel]] = {
    kernel.name: kernel
    for kernel in (
        Kernel("electrons", _of("Electron", "pt", "eta", "cutBased", "sip3d"), "electrons"),
        Kernel("muons", _of("Muon", "pt", "eta", "tightId", "sip3d", "pfRelIso04_all"), "muons"),
        Kernel("jets", _of("Jet", "pt", "eta", "jetId"), "jets"),
        Kernel("leptons", ("Electron_mask", "Muon_mask"), "events + leptons"),
        Kernel("regions", ("Jet_mask", "Jet_btagCSVV2"), "events + jets"),
        Kernel(
            "acceptance", ("Jet_pt", "Jet_eta"), "jets", options={"pt_min": 30.0, "eta_max": 2.4}
        ),
        Kernel("count", ("Jet_mask",), "events + jets"),
        Kernel("skim", ("Jet_pt", "one_lepton"), "events + kept jets"),
        Kernel("joined", ("Electron_pt", "Muon_pt", "one_lepton"), "events + kept leptons"),
        Kernel("selected", ("Jet_pt", "Jet_mask", "one_lepton"), "events + selected jets"),
        Kernel(
            "cleaning", _of("Jet", "eta", "phi") + _of("Lepton", "eta", "phi"), "jets x leptons"
        ),
        Kernel("pair_mass", _of("Muon", *_P4), "muons^2"),
        Kernel("charged_pair", _of("Muon", *_P4, "charge"), "muons^2"),
        Kernel("trijet_mass", _of("Jet", *_P4), "jets^3", dense=True),
        Kernel("trijet_pt", _of("Jet", *_P4, "btagCSVV2"), "jets^3", dense=True),
        Kernel("largest", ("Jet_btagCSVV2", "Jet_trijet"), "events", dense=True),
        Kernel("z_pair", _of("Lepton", *_P4, "charge", "flavour"), "leptons^2"),
        Kernel(
            "transverse_mass",
            ("Lepton_pt", "Lepton_phi", "Lepton_pair", "MET_pt", "MET_phi"),
            "events + leptons",
        ),
        Kernel("ht", ("Jet_pt",), "jets"),
        Kernel("jet_scale", ("Jet_pt",), "jets"),
        Kernel("jet_resolution", ("run", "luminosityBlock", "event", "Jet_pt"), "jets"),
        Kernel("btag_weights", ("Jet_pt",), "events", dense=True),
        Kernel(
            "histogram",
            ("observable", "category", "weights"),
            "events x variations",
            options={"categories": 3},
        ),
        Kernel("occupancy", ("Jet_pt", "Jet_mask"), "jets"),
    )
}
"""Every kernel, by name."""
