"""What differs from sample to sample: the process, and the shape parameters of a variation."""

from __future__ import annotations

from typing import Final, NamedTuple

TTBAR: Final = 0
S_CHANNEL: Final = 1
T_CHANNEL: Final = 2
TW: Final = 3
WJETS: Final = 4
PROCESS_CODES: Final[dict[str, int]] = {
    "ttbar": TTBAR,
    "single_top_s_chan": S_CHANNEL,
    "single_top_t_chan": T_CHANNEL,
    "single_top_tW": TW,
    "wjets": WJETS,
}


class Tune(NamedTuple):
    """What differs from sample to sample.

    The ttbar variations are set so that the pass rates and mean HT move as the published
    histograms do (for one, ME_var: 1.29 times as many events in 4j1b, mean HT +19 GeV).
    """

    isr_mean: float
    """Mean number of jets radiated from the initial state above `ISR_MIN_PT`."""
    isr_exponent: float
    """Fall of their pt spectrum: pt ** -(exponent + 1)."""
    fsr_fraction: float
    """Fraction of quarks that radiate a hard gluon."""
    top_pt: float
    """Scale of the top pt spectrum in GeV, before recoil."""
    response: float
    """Mean of measured over true jet pt."""
    b_efficiency: float
    """Fraction of b jets whose tag is that of a b quark; the rest look light."""


NOMINAL_TUNE: Final = Tune(
    isr_mean=2.6,
    isr_exponent=1.0,
    fsr_fraction=0.18,
    top_pt=57.0,
    response=1.0,
    b_efficiency=0.93,
)
TTBAR_TUNES: Final[dict[str, Tune]] = {
    "nominal": NOMINAL_TUNE,
    "scaledown": NOMINAL_TUNE._replace(isr_mean=2.35),
    "scaleup": NOMINAL_TUNE._replace(isr_mean=2.75),
    "ME_var": NOMINAL_TUNE._replace(
        isr_mean=3.9, isr_exponent=0.95, top_pt=60.0, b_efficiency=0.89
    ),
    "PS_var": NOMINAL_TUNE._replace(
        isr_mean=2.8, isr_exponent=1.1, response=0.99, b_efficiency=0.88
    ),
}
# Fewer or softer jets than ttbar: set by the published pass rates.
PROCESS_TUNES: Final[dict[str, Tune]] = {
    "single_top_s_chan": NOMINAL_TUNE._replace(isr_mean=1.05, isr_exponent=1.25),
    "single_top_t_chan": NOMINAL_TUNE._replace(isr_mean=0.6, isr_exponent=1.25),
    "single_top_tW": NOMINAL_TUNE._replace(isr_mean=1.6),
    "wjets": NOMINAL_TUNE._replace(isr_mean=1.55, isr_exponent=1.2),
}
