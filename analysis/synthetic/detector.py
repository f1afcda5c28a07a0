"""Detector of the synthetic events: pile-up, resolution, b-tagging and identification.

Distributions are those of TTJets, the real events that `physics` names; a table holds the
quantiles at `PROBABILITIES`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from analysis.kernels._compile import loop
from analysis.synthetic.partons import (
    BOTTOM,
    CHARM,
    CSV,
    ELECTRON,
    ELECTRON_MAX_ETA,
    ELECTRON_MIN_PT,
    ETA,
    FLAVOUR,
    FROM_B,
    FROM_C,
    FROM_TAU,
    ISR_MAX_PT,
    JET_ID,
    JET_MIN_PT,
    LETA,
    LIGHT,
    LORIGIN,
    LPHI,
    LPT,
    MASS2,
    MAX_JETS,
    MUON,
    MUON_MAX_ETA,
    MUON_MIN_PT,
    N_ELECTRONS,
    N_JETS,
    N_MUONS,
    OTHER,
    PHI,
    PILE_UP,
    PROMPT,
    PT,
    PX,
    PY,
    add_lepton,
    azimuth,
)
from analysis.synthetic.random import (
    exponential,
    normal,
    poisson,
    power_law,
    rough_normal,
    uniform,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.synthetic.partons import Floats, Scratch
    from analysis.synthetic.tunes import Tune

MUON_MASS: Final = 0.10566
JET_MAX_ETA: Final = 5.0
CENTRAL_ETA: Final = 2.4  # b-tagging needs tracks

JET_ID_NONE: Final = 0
JET_ID_TIGHT: Final = 2
JET_ID_TIGHT_LEPTON_VETO: Final = 6  # bit values 2 and 4

# Jets that match no generated one: 2.0 an event in TTJets (34 interactions); somewhat more here,
# for what radiation below ISR_MIN_PT would add.
PILE_UP_JETS: Final = 2.45
PILE_UP_EXPONENT: Final = 4.3  # median 17.6, 90 % 25.1 GeV

# Relative width 0.20 at 25, 0.13 at 60, 0.09 at 180 GeV; TTJets has 0.21, 0.15 and 0.10, to which
# radiation and merging contribute.
RESOLUTION_STOCHASTIC: Final = 0.95
RESOLUTION_CONSTANT: Final = 0.05
MET_RESOLUTION: Final = 21.0  # per component, besides what the jets add

MASS_OVER_PT: Final = 0.244  # at 17 GeV
MASS_REFERENCE_PT: Final = 17.0
MASS_EXPONENT: Final = -0.32
MASS_SPREAD: Final = 0.2

# Misidentified and unmatched leptons per event, TTJets.
FAKE_ELECTRONS: Final = 0.73
FAKE_MUONS: Final = 0.31

PROBABILITIES: Final = np.array([0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0])
# fmt: off
# Rows of btagCSVV2: light below 30, 30-100, above 100 GeV; pile-up; charm below, above 30 GeV;
# b below 20, 20-30, above 30 GeV; jets outside the tracker.
CSV_TABLE: Final = np.array([
    [0.040, 0.125, 0.138, 0.158, 0.210, 0.345, 0.590, 0.700, 0.860, 0.997],
    [0.050, 0.075, 0.088, 0.115, 0.170, 0.305, 0.540, 0.685, 0.866, 0.985],
    [0.035, 0.065, 0.073, 0.093, 0.141, 0.254, 0.435, 0.526, 0.782, 0.930],
    [0.128, 0.208, 0.255, 0.475, 0.529, 0.548, 0.640, 0.760, 0.876, 0.975],
    [0.108, 0.141, 0.155, 0.180, 0.327, 0.660, 0.870, 0.920, 0.975, 0.997],
    [0.055, 0.085, 0.100, 0.166, 0.418, 0.755, 0.880, 0.935, 0.980, 0.999],
    [0.100, 0.183, 0.247, 0.547, 0.824, 0.957, 0.993, 0.998, 0.998, 0.999],
    [0.097, 0.206, 0.349, 0.610, 0.851, 0.974, 0.997, 0.998, 0.999, 0.999],
    [0.058, 0.200, 0.355, 0.785, 0.951, 0.992, 0.998, 0.999, 0.999, 1.000],
    [0.087, 0.221, 0.293, 0.465, 0.530, 0.551, 0.688, 0.788, 0.918, 0.976],
])
CSV_SENTINEL: Final = np.array([0.040, 0.012, 0.008, 0.090, 0.035, 0.006, 0.148, 0.019, 0.001,
                                0.61])
"""Fraction of jets of each row without a usable track; they are stored as -10."""
LEPTON_JET_SENTINEL: Final = 0.12  # the track of an isolated lepton is not a tag's
# Rows of sip3d: prompt electron, prompt muon, tau electron, tau muon, electron and muon of b,
# electron and muon of c, other electron, other muon.
SIP_TABLE: Final = np.array([
    [0.06, 0.30, 0.48, 0.77, 1.29, 1.98, 3.34, 5.50, 100., 400.],
    [0.05, 0.21, 0.30, 0.56, 0.93, 1.26, 2.14, 2.87, 4.1, 20.],
    [0.30, 0.67, 0.74, 1.00, 1.43, 1.90, 3.70, 4.80, 5.2, 20.],
    [0.30, 0.53, 0.59, 0.79, 2.06, 4.70, 9.40, 10.2, 13.5, 20.],
    [0.15, 0.55, 1.17, 2.41, 5.77, 13.4, 32.4, 45.3, 126., 400.],
    [0.30, 1.25, 1.72, 4.03, 10.2, 22.6, 38.0, 54.8, 105., 300.],
    [0.10, 0.42, 0.73, 1.19, 2.09, 4.25, 10.2, 12.0, 300., 400.],
    [0.20, 0.57, 0.65, 1.24, 3.02, 6.73, 15.4, 19.2, 21.0, 60.],
    [0.06, 0.41, 0.60, 1.04, 2.21, 7.86, 58.8, 451., 1835., 5300.],
    [0.08, 0.48, 0.71, 1.34, 6.11, 146., 678., 1200., 2119., 4950.],
])
# Rows of pfRelIso04_all: prompt, tau, of b or c, other.
ISOLATION_TABLE: Final = np.array([
    [0.00, 0.00, 0.00, 0.00, 0.020, 0.071, 0.368, 0.629, 0.882, 5.0],
    [0.00, 0.00, 0.00, 0.012, 0.062, 0.461, 1.05, 1.34, 2.01, 5.0],
    [0.00, 0.31, 0.49, 1.09, 2.51, 5.94, 11.5, 15.2, 22.8, 50.],
    [0.00, 0.00, 0.037, 0.378, 3.27, 8.55, 18.7, 24.2, 39.0, 51.],
])
ABS_ETA_PILE_UP: Final = np.array([[0.0, 0.345, 0.683, 1.65, 2.50, 2.86, 3.75, 4.30, 4.85, 5.0]])
# fmt: on

# Identification. Under the cuts of the analysis 10.8 % of TTJets pass, but 3.1 % of the published
# sample (2015 conditions). Part of it is that TTJets' muons count as jets, see MUON_JET_VETOED;
# the rest, by nearly the same factor for ttbar and tW, is put into the identification of isolated
# leptons, where it leaves all multiplicities and spectra as in TTJets.
ELECTRON_TIGHT: Final = 0.22
MUON_TIGHT: Final = 0.37
SOFT_MUON_TIGHT: Final = 0.86
OTHER_MUON_TIGHT: Final = 0.14
ELECTRON_JET_VETOED: Final = 0.68  # fraction of electrons' jets that fail the lepton veto
# The jets of muons pass in TTJets; by the bit's definition for 2015 (muEF < 0.8) those of TTJets
# would fail as often as this.
MUON_JET_VETOED: Final = 0.75
JET_ID_FAILS: Final = 0.004
FORWARD_JET_ID_FAILS: Final = 0.075


@loop
def quantile(table: Floats, row: int, probability: float) -> float:
    """Value of a table's row at a probability, linear between `PROBABILITIES`."""
    i = 1
    while PROBABILITIES[i] < probability:
        i += 1
    fraction = (probability - PROBABILITIES[i - 1]) / (PROBABILITIES[i] - PROBABILITIES[i - 1])
    low = table[row, i - 1]
    value: float = low + fraction * (table[row, i] - low)
    return value


@loop
def soft_activity(ev: Scratch) -> None:
    """Add jets of pile-up, and leptons that come from no W, b or c."""
    state = ev.state
    for _ in range(poisson(state, PILE_UP_JETS)):
        n = ev.number[N_JETS]
        if n >= MAX_JETS:
            break
        u = 2.0 * uniform(state) - 1.0
        eta = math.copysign(quantile(ABS_ETA_PILE_UP, 0, abs(u)), u)
        ev.jet[n, PT] = power_law(state, JET_MIN_PT, ISR_MAX_PT, PILE_UP_EXPONENT)
        ev.jet[n, ETA] = eta
        ev.jet[n, PHI] = azimuth(state)
        ev.jet[n, FLAVOUR] = PILE_UP
        ev.jet[n, MASS2] = 0.0
        ev.number[N_JETS] = n + 1
    for _ in range(poisson(state, FAKE_ELECTRONS)):
        pt = ELECTRON_MIN_PT + 6.0 * exponential(state) * (1.0 + exponential(state))
        eta = ELECTRON_MAX_ETA * (2.0 * uniform(state) - 1.0)
        add_lepton(ev.electron, ev.number, N_ELECTRONS, pt, eta, azimuth(state), OTHER)
    for _ in range(poisson(state, FAKE_MUONS)):
        pt = power_law(state, MUON_MIN_PT, 200.0, 1.9)
        eta = MUON_MAX_ETA * (2.0 * uniform(state) - 1.0)
        add_lepton(ev.muon, ev.number, N_MUONS, pt, eta, azimuth(state), OTHER)


@loop
def csv_row(flavour: int, pt: float, eta: float) -> int:
    """Row of `CSV_TABLE` for a jet."""
    if abs(eta) > CENTRAL_ETA:
        return 9
    if flavour == PILE_UP:
        return 3
    if flavour == BOTTOM:
        return 6 + (pt > 20.0) + (pt > 30.0)
    if flavour == CHARM:
        return 4 + (pt > 30.0)
    return 0 + (pt > 30.0) + (pt > 100.0)


@loop
def measure_jets(ev: Scratch, tune: Tune) -> None:
    """Smear the jets, drop those below threshold, tag and identify the others."""
    state = ev.state
    jet = ev.jet
    kept = 0
    for i in range(ev.number[N_JETS]):
        pt = jet[i, PT]
        eta = jet[i, ETA]
        phi = jet[i, PHI]
        flavour = int(jet[i, FLAVOUR])
        if flavour != PILE_UP:
            width = 0.03
            if flavour not in (ELECTRON, MUON):
                width = math.sqrt(RESOLUTION_STOCHASTIC**2 / pt + RESOLUTION_CONSTANT**2)
            ratio = max(tune.response + min(width, 0.4) * normal(state), 0.05)
            ev.met[0] -= (ratio - 1.0) * jet[i, PX]
            ev.met[1] -= (ratio - 1.0) * jet[i, PY]
            pt *= ratio
        if pt < JET_MIN_PT or abs(eta) > JET_MAX_ETA:
            continue
        logarithm = MASS_EXPONENT * math.log(pt / MASS_REFERENCE_PT)
        logarithm += MASS_SPREAD * rough_normal(state)
        mass = MASS_OVER_PT * pt * math.exp(logarithm)
        if flavour in (ELECTRON, MUON):
            mass *= 0.5
        missed = uniform(state) > tune.b_efficiency
        row = csv_row(LIGHT if flavour == BOTTOM and missed else flavour, pt, eta)
        u = uniform(state)
        sentinel = CSV_SENTINEL[row]
        if flavour in (ELECTRON, MUON):
            sentinel = max(sentinel, LEPTON_JET_SENTINEL)
        csv = -10.0
        if u >= sentinel:
            csv = quantile(CSV_TABLE, row, (u - sentinel) / (1.0 - sentinel))
        u = uniform(state)
        jet_id = JET_ID_TIGHT_LEPTON_VETO
        if u < (FORWARD_JET_ID_FAILS if abs(eta) > CENTRAL_ETA else JET_ID_FAILS):
            jet_id = JET_ID_NONE
        elif (flavour == ELECTRON and u < ELECTRON_JET_VETOED) or (
            flavour == MUON and u < MUON_JET_VETOED
        ):
            jet_id = JET_ID_TIGHT
        # The target row is never behind the source row.
        jet[kept, MASS2] = math.sqrt(mass * mass + jet[i, MASS2])
        jet[kept, PT] = pt
        jet[kept, ETA] = eta
        jet[kept, PHI] = phi
        jet[kept, FLAVOUR] = flavour
        jet[kept, CSV] = csv
        jet[kept, JET_ID] = jet_id
        kept += 1
    ev.number[N_JETS] = kept
    ev.met[0] += MET_RESOLUTION * rough_normal(state)
    ev.met[1] += MET_RESOLUTION * rough_normal(state)


@loop
def descending(rows: Floats, column: int, n: int, order: npt.NDArray[np.int64]) -> None:
    """Write the order of falling values into `order`: a stable insertion sort for few rows."""
    for i in range(n):
        j = i
        while j > 0 and rows[order[j - 1], column] < rows[i, column]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i


class Output(NamedTuple):
    """Flat columns of a range of events, filled from the front."""

    n_electron: npt.NDArray[np.uint32]
    n_muon: npt.NDArray[np.uint32]
    n_jet: npt.NDArray[np.uint32]
    gen_weight: npt.NDArray[np.float32]
    met_pt: npt.NDArray[np.float32]
    met_phi: npt.NDArray[np.float32]
    electron: npt.NDArray[np.float32]
    electron_integer: npt.NDArray[np.int32]
    muon: npt.NDArray[np.float32]
    muon_integer: npt.NDArray[np.int32]
    jet: npt.NDArray[np.float32]
    jet_id: npt.NDArray[np.int32]


@loop
def store_electrons(ev: Scratch, order: npt.NDArray[np.int64], out: Output, at: int) -> int:
    """Identify the electrons and store them in order of falling pt."""
    state = ev.state
    n = ev.number[N_ELECTRONS]
    descending(ev.electron, LPT, n, order)
    for k in range(n):
        row = ev.electron[order[k]]
        origin = int(row[LORIGIN])
        out.electron[0, at] = row[LPT]
        out.electron[1, at] = row[LETA]
        out.electron[2, at] = wrapped(row[LPHI])
        # Rounding in the track fit: a mass of either sign, around zero.
        out.electron[3, at] = 0.01 * normal(state) * (row[LPT] / 20.0) ** 0.8
        sip_row = 0 if origin == PROMPT else 2 * origin
        out.electron[4, at] = quantile(SIP_TABLE, sip_row, uniform(state))
        out.electron_integer[0, at] = 1 if uniform(state) < 0.5 else -1
        u = uniform(state)
        tight = 0.0
        if origin in (PROMPT, FROM_TAU):
            tight = ELECTRON_TIGHT
        elif origin == FROM_B:
            tight = 0.01
        grade = 0
        if u < tight:
            grade = 4
        elif origin in (PROMPT, FROM_TAU):
            grade = min(int(4.0 * (u - tight) / (1.0 - tight)), 3)
        elif u > 0.95:
            grade = 1 + int(60.0 * (u - 0.95))
        out.electron_integer[1, at] = grade
        at += 1
    return at


@loop
def wrapped(phi: float) -> float:
    """Angle brought back to [-pi, pi]."""
    if phi > math.pi:
        return phi - 2.0 * math.pi
    if phi < -math.pi:
        return phi + 2.0 * math.pi
    return phi


@loop
def store_muons(ev: Scratch, order: npt.NDArray[np.int64], out: Output, at: int) -> int:
    """Identify the muons and store them in order of falling pt."""
    state = ev.state
    n = ev.number[N_MUONS]
    descending(ev.muon, LPT, n, order)
    for k in range(n):
        row = ev.muon[order[k]]
        origin = int(row[LORIGIN])
        out.muon[0, at] = row[LPT]
        out.muon[1, at] = row[LETA]
        out.muon[2, at] = wrapped(row[LPHI])
        out.muon[3, at] = MUON_MASS
        sip_row = 1 if origin == PROMPT else 2 * origin + 1
        out.muon[4, at] = quantile(SIP_TABLE, sip_row, uniform(state))
        isolation_row = min(origin, 2) if origin != OTHER else 3
        out.muon[5, at] = quantile(ISOLATION_TABLE, isolation_row, uniform(state))
        out.muon_integer[0, at] = 1 if uniform(state) < 0.5 else -1
        tight = MUON_TIGHT
        if origin in (FROM_B, FROM_C):
            tight = SOFT_MUON_TIGHT
        elif origin == OTHER:
            tight = OTHER_MUON_TIGHT
        out.muon_integer[1, at] = 1 if uniform(state) < tight else 0
        at += 1
    return at
