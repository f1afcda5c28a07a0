"""Samples of the CMS ttbar analysis: cross sections, luminosity and file sets.

They are those of the code of the Analysis Grand Challenge, version 2
(iris-hep/analysis-grand-challenge, analyses/cms-open-data-ttbar), which made the published
reference histograms. Cross sections are in pb, the luminosity in 1/pb.
"""

from __future__ import annotations

from typing import Final

LUMINOSITY: Final = 3378.0
"""Integrated luminosity in 1/pb (AGC version 2: 2015 CMS Open Data)."""

CROSS_SECTIONS: Final[dict[str, float]] = {
    "ttbar": 396.87 + 332.97,
    "single_top_s_chan": 2.0268 + 1.2676,
    "single_top_t_chan": (36.993 + 22.175) / 0.252,
    "single_top_tW": 37.936 + 37.906,
    "wjets": 61457 * 0.252,
}
"""Cross section in pb of each process (AGC version 2, ``utils/file_input.py``)."""

NOMINAL: Final = "nominal"

SAMPLE_VARIATIONS: Final[dict[str, tuple[str, ...]]] = {
    process: (
        (NOMINAL, "scaledown", "scaleup", "ME_var", "PS_var") if process == "ttbar" else (NOMINAL,)
    )
    for process in CROSS_SECTIONS
}
"""Variations of each process that are samples of their own."""


KINEMATIC_VARIATIONS: Final = ("pt_scale_up", "pt_res_up")
"""Variations of the energies of jets."""

SCALE_PROCESS: Final = "wjets"
SCALE_WEIGHTS: Final = {"scale_var_up": 1.025, "scale_var_down": 0.975}
"""Weights of the W+jets scale variation (AGC version 2, ``corrections.json``)."""


def sample_name(process: str, variation: str) -> str:
    """Name of a sample in a file set, as the AGC names it: ``ttbar__nominal``."""
    return f"{process}__{variation}"


def event_weight(cross_section: float, events: float) -> float:
    """Weight that scales a simulated event to the luminosity; genWeight is not used (AGC version 2).

    The cross section is in pb, and `events` are all in the files, not only those that pass.
    """
    if not events > 0:
        msg = f"cannot normalise a sample of {events} events"
        raise ValueError(msg)
    return cross_section * LUMINOSITY / events
