"""The HistFactory model of the ttbar cross section, as a pyhf workspace.

Five samples in two regions (and those that a user adds), a free normalisation of ttbar, eleven
systematic variations and the statistical uncertainty of the total in each bin: 34 parameters. The
definition is the statistical model of the Analysis Grand Challenge, version 2
(``cabinetry_config.yml``), which cabinetry builds likewise: of a variation, the change of the total
is a ``normsys`` and the change of the shape a ``histosys`` of one parameter; of a variation with
one side, each part is mirrored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.errors import InputError
from analysis.histograms import Name, side_of
from analysis.inference.templates import total
from analysis.kernels.btag_weights import N_JETS
from analysis.samples import CROSS_SECTIONS, NOMINAL

if TYPE_CHECKING:
    from analysis.inference.templates import Region, Templates

SIGNAL: Final = "ttbar"
MEASUREMENT: Final = "ttbar_cross_section"
VERSION: Final = "1.0.0"
"""Of the workspace schema."""

SIGNAL_BOUNDS: Final = (0.0, 10.0)
"""Of ttbar_norm (AGC version 2)."""

OTHER_SIGNAL_BOUNDS: Final = (0.0, 1000.0)
"""Of another process: its cross section may be far below the uncertainties."""

LUMINOSITY: Final = 0.03
"""Relative uncertainty of the luminosity (AGC version 2)."""


class Systematic(NamedTuple):
    """A systematic variation of normalisation and shape."""

    name: str
    """Of its parameter."""
    up: str | None
    down: str | None
    """Variations of the histograms at +1 and -1; if one of them is None, it is mirrored."""
    samples: tuple[str, ...] | None
    """Which it acts on; None for all."""

    def acts_on(self, process: str) -> bool:
        """Whether it varies this process."""
        return self.samples is None or process in self.samples


SYSTEMATICS: Final = (
    Systematic("ME_variation", "ME_var", None, ("ttbar",)),
    Systematic("PS_variation", "PS_var", None, ("ttbar",)),
    Systematic("ttbar_scale", "scaleup", "scaledown", ("ttbar",)),
    Systematic("jet_energy_scale", "pt_scale_up", None, None),
    Systematic("jet_energy_resolution", "pt_res_up", None, None),
    *(
        Systematic(f"btag_{i}", f"btag_var_{i}_up", f"btag_var_{i}_down", None)
        for i in range(N_JETS)
    ),
    Systematic("wjets_scale", "scale_var_up", "scale_var_down", ("wjets",)),
)
"""Besides these: the luminosity, and for each process the other variations of its histograms."""

NORMALISATION: Final = 0.5
"""Relative uncertainty of the total of a process outside the AGC."""


def norm(process: str) -> str:
    """Name of the parameter that scales a process: ``ttbar_norm``."""
    return f"{process}_norm"


def systematics(templates: Templates) -> list[Systematic]:
    """SYSTEMATICS, and for each process its other variations, uncorrelated.

    InputError if two of them would be one parameter.
    """
    every = dict.fromkeys(key for region in templates.regions.values() for key in region.templates)
    found = {one.name: one for one in SYSTEMATICS}
    taken = {*found, "luminosity"}
    for process, _ in every:
        taken |= {norm(process), normalisation(process)}
    for process, variation in every:
        known = (one for one in SYSTEMATICS if one.acts_on(process))
        if variation in {NOMINAL, *(name for one in known for name in (one.up, one.down))}:
            continue
        source, side = side_of(variation)
        name = f"{process}_{source}"
        up, down = (None, variation) if side == "down" else (variation, None)
        one = found.get(name, Systematic(name, None, None, (process,)))
        # Only up and down of the same source share a parameter.
        pair = one.samples == (process,) and side and not (one.up if up else one.down)
        pair = pair and all(side_of(other)[1] for other in (one.up, one.down) if other)
        if name in taken or (name in found and not pair):
            msg = (
                f"{templates.source}: {variation} of {process} would be the same parameter "
                f"{name} as another variation: give it another name"
            )
            raise InputError(msg)
        found[name] = one._replace(up=up or one.up, down=down or one.down)
    return list(found.values())


def normalisation(process: str) -> str:
    """Name of the parameter that scales a process within its uncertainty."""
    return f"{process}_normalisation"


def workspace(templates: Templates, signal: str = SIGNAL) -> tuple[dict[str, Any], list[str]]:
    """Make a pyhf workspace.

    Parameters
    ----------
    templates
        Histograms in the bins of the model.
    signal
        Process whose strength is the parameter of interest. ttbar always has a free normalisation.

    Returns
    -------
    dict, list of str
        The workspace, and what had to be left out of it: one sentence each. A sample without
        events in a region is not in that region; a variation that leaves no events of a sample,
        or is mirrored and more than doubles them, does not act on it. A process outside the AGC
        has a normalisation uncertainty of NORMALISATION, and the variations of its histograms.

    Raises
    ------
    InputError
        If a variation is missing, there is no such process, or it has no events.
    """
    processes = next(iter(templates.regions.values())).processes
    if signal not in processes:
        msg = f"there is no process {signal!r}: use one of {', '.join(processes)}"
        raise InputError(msg)
    for process in dict.fromkeys((SIGNAL, signal)):
        if not total(templates.regions.values(), process):
            msg = f"{templates.source} has no events of {process}: process more events"
            raise InputError(msg)
    acting = systematics(templates)
    notes: list[str] = []
    channels = []
    for name, region in templates.regions.items():
        samples = []
        for process, nominal in region.nominal.items():
            assert nominal.variances is not None
            modifiers: list[dict[str, Any]] = [
                {
                    "name": f"staterror_{name}",
                    "type": "staterror",
                    "data": np.sqrt(nominal.variances).tolist(),
                },
                {
                    "name": "luminosity",
                    "type": "normsys",
                    "data": {"hi": 1 + LUMINOSITY, "lo": 1 - LUMINOSITY},
                },
            ]
            if process in {SIGNAL, signal}:
                modifiers.append({"name": norm(process), "type": "normfactor", "data": None})
            elif process not in CROSS_SECTIONS:
                modifiers.append(
                    {
                        "name": normalisation(process),
                        "type": "normsys",
                        "data": {"hi": 1 + NORMALISATION, "lo": 1 - NORMALISATION},
                    }
                )
            for systematic in acting:
                if not systematic.acts_on(process):
                    continue
                found = _modifiers(templates.source, name, region, process, systematic)
                modifiers += found
                if not found:
                    notes.append(
                        f"{systematic.name} was left out of {process} in {name}, where there "
                        "are too few events for it, or none varied: process more events"
                    )
            samples.append(
                {"name": process, "data": nominal.values.tolist(), "modifiers": modifiers}
            )
        channels.append({"name": name, "samples": samples})
    parameters = [
        {
            "name": norm(process),
            "inits": [1.0],
            "bounds": [list(SIGNAL_BOUNDS if process == SIGNAL else OTHER_SIGNAL_BOUNDS)],
        }
        for process in dict.fromkeys((SIGNAL, signal))
    ]
    return {
        "channels": channels,
        "measurements": [
            {
                "name": MEASUREMENT,
                "config": {"poi": norm(signal), "parameters": parameters},
            }
        ],
        "observations": [
            {"name": name, "data": region.data.tolist()}
            for name, region in templates.regions.items()
        ],
        "version": VERSION,
    }, notes


def _modifiers(
    source: str, name: str, region: Region, process: str, systematic: Systematic
) -> list[dict[str, Any]]:
    """Change of total and of shape; nothing if there are too few events for it."""
    nominal = region.templates[process, NOMINAL].values
    varied = {}
    for side, variation in (("hi", systematic.up), ("lo", systematic.down)):
        if variation is None:
            continue
        if (process, variation) in region.templates:
            varied[side] = region.templates[process, variation].values
        elif process in CROSS_SECTIONS:
            msg = (
                f"{source} has no {Name(name, process, variation).published}: run the analysis "
                "with all variations, over a file set with all samples"
            )
            raise InputError(msg)
    ratio = {side: float(values.sum() / nominal.sum()) for side, values in varied.items()}
    if min(ratio.values(), default=0) <= 0:
        return []
    shape = {side: values / ratio[side] for side, values in varied.items()}
    for side, other in (("lo", "hi"), ("hi", "lo")):
        if side not in ratio:
            ratio[side] = 2 - ratio[other]
            shape[side] = 2 * nominal - shape[other]
    if min(ratio.values()) <= 0:
        return []
    return [
        {"name": systematic.name, "type": "normsys", "data": ratio},
        {
            "name": systematic.name,
            "type": "histosys",
            "data": {"hi_data": shape["hi"].tolist(), "lo_data": shape["lo"].tolist()},
        },
    ]
