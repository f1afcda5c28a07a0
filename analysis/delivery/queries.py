"""Queries for ServiceX: the events and columns that the ttbar analysis needs.

The analysis needs events with exactly one selected lepton. No systematic variation changes a
lepton, so a cut on leptons is safe for all of them. It is looser than the selection in two ways:

- It requires at least one lepton, not exactly one, which the selection does: so the two need not
  agree on every lepton.
- Its bounds on eta and isolation are exact in float32. ServiceX rounds a bound to float32 before it
  compares, the kernels compare in double precision; 2.1 would be two bounds, and an electron
  between them would be lost.

There is no cut on jets. pt_res_up multiplies pt by an unbounded number, so no cut on pt is safe;
a jet must not be dropped from its event, because its position selects its random number; and with
all one-lepton events the cutflow is complete but for the events that were cut, whose number
`fileset` records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from analysis.files.nanoevents import form_of
from analysis.kernels import electrons, muons
from analysis.ttbar import INPUTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ETA_MAX: Final = 2.125
ISOLATION_MAX: Final = 0.15625
"""17/8 and 5/32: above the bounds of the kernels, and exact in float32."""
assert electrons.ETA_MAX <= ETA_MAX
assert muons.ETA_MAX <= ETA_MAX
assert muons.ISOLATION_MAX <= ISOLATION_MAX

_ELECTRON: Final = {
    "Electron_pt": f"> {electrons.PT_MIN}",
    "Electron_eta": f"< {ETA_MAX}",
    "Electron_cutBased": f"== {electrons.TIGHT}",
    "Electron_sip3d": f"< {electrons.SIP3D_MAX}",
}
_MUON: Final = {
    "Muon_pt": f"> {muons.PT_MIN}",
    "Muon_eta": f"< {ETA_MAX}",
    "Muon_tightId": "== 1",
    "Muon_sip3d": f"< {muons.SIP3D_MAX}",
    "Muon_pfRelIso04_all": f"< {ISOLATION_MAX}",
}


def columns(branches: Collection[str] = INPUTS) -> list[str]:
    """Columns to deliver: branches, and what NanoEvents needs to build objects from them."""
    return sorted({*form_of(branches)} - {"Jet_charge"})  # NanoEvents adds it


def uproot_raw(tree: str = "Events", replacements: Mapping[str, str] | None = None) -> Any:
    """The query for code generator uproot-raw; `tree` is the tree's name before and after.

    `replacements` names the branch to read in place of another. Returns a
    ``servicex.query.UprootRaw``.
    """
    from servicex import query  # noqa: PLC0415  (takes a second, and is an extra)

    counts = (
        f"count_nonzero({_mask(cuts, replacements, '{}')}, axis=1)" for cuts in (_ELECTRON, _MUON)
    )
    return query.UprootRaw(
        [
            {
                "treename": tree,
                "expressions": columns(_replaced(replacements)),
                "cut": f"{' + '.join(counts)} > 0",
                "fail_on_missing_trees": True,
            }
        ]
    )


def funcadl(tree: str = "Events", replacements: Mapping[str, str] | None = None) -> Any:
    """The same query in FuncADL, as a ``servicex.query.FuncADL_Uproot``.

    In delivered ROOT files the tree is called ``servicex``.
    """
    from servicex import query  # noqa: PLC0415

    counts = (
        f"e.{(replacements or {}).get(pt, pt)}[{_mask(cuts, replacements, 'e.{}')}].Count()"
        for pt, cuts in (("Electron_pt", _ELECTRON), ("Muon_pt", _MUON))
    )
    fields = ", ".join(f"'{name}': e.{name}" for name in columns(_replaced(replacements)))
    return (
        query.FuncADL_Uproot()
        .FromTree(tree)
        .Where(f"lambda e: {' + '.join(counts)} > 0")
        .Select(f"lambda e: {{{fields}}}")
    )


def _replaced(replacements: Mapping[str, str] | None) -> list[str]:
    return [(replacements or {}).get(name, name) for name in INPUTS]


def _mask(cuts: Mapping[str, str], replacements: Mapping[str, str] | None, form: str) -> str:
    parts = []
    for name, bound in cuts.items():
        column = form.format((replacements or {}).get(name, name))
        parts.append(
            f"(abs({column}) {bound})" if name.endswith("_eta") else f"({column} {bound})"
        )
    return " & ".join(parts)
