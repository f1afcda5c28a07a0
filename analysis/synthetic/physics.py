"""Physics of the synthetic events: from the hard process to reconstructed objects.

One numba loop makes an event after the other: hard process, isotropic decays of tops and W,
radiation, soft leptons of heavy quarks, merging to jets, pile-up, resolution, identification.
Energies are in GeV. Shapes were fitted to the 1000 real CMS events of
``NanoAODv5_TTJets_1000.root`` (JuliaHEP/UnROOT.jl, RunIIFall17), called TTJets below; a table
holds the quantiles at `PROBABILITIES`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from analysis.kernels._compile import loop
from analysis.synthetic.random import (
    event_state,
    exponential,
    normal,
    poisson,
    power_law,
    rough_normal,
    uniform,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    State = npt.NDArray[np.uint64]

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

# Masses, widths and branching fractions: Particle Data Group 2024; the top mass of the samples.
TOP_MASS: Final = 172.5
TOP_WIDTH: Final = 1.4
W_MASS: Final = 80.4
W_WIDTH: Final = 2.09
B_MASS: Final = 4.8
MUON_MASS: Final = 0.10566
ELECTRON_MASS: Final = 0.000511
TAU_MASS: Final = 1.777
W_TO_LEPTON: Final = 0.1086  # each of e, mu, tau
ALL_CHANNELS: Final = 1.0
LEPTONS_ONLY: Final = 3.0 * W_TO_LEPTON
TAU_TO_LEPTON: Final = 0.176  # each of e, mu
LINE_WIDTHS: Final = 10.0  # a Breit-Wigner ends this many half widths from the peak

# What a parton or jet is made of.
LIGHT: Final = 0
CHARM: Final = 4
BOTTOM: Final = 5
ELECTRON: Final = 11
MUON: Final = 13
TAU: Final = 15
PILE_UP: Final = 1

MAX_JETS: Final = 32
MAX_LEPTONS: Final = 12
JET_RADIUS2: Final = 0.4**2
JET_MIN_PT: Final = 15.0  # NanoAOD version 5 stores jets above
JET_MAX_ETA: Final = 5.0
ELECTRON_MIN_PT: Final = 5.0
ELECTRON_MAX_ETA: Final = 2.5
MUON_MIN_PT: Final = 3.0
MUON_MAX_ETA: Final = 2.4
CENTRAL_ETA: Final = 2.4  # b-tagging needs tracks

JET_ID_NONE: Final = 0
JET_ID_TIGHT: Final = 2
JET_ID_TIGHT_LEPTON_VETO: Final = 6  # bit values 2 and 4


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

ISR_MIN_PT: Final = 10.0
ISR_MAX_PT: Final = 600.0
ISR_CHARM: Final = 0.06
ISR_BOTTOM: Final = 0.025  # gluon splitting; falls into one jet or two
FSR_MIN_FRACTION: Final = 0.08
FSR_MAX_FRACTION: Final = 0.5

# Rapidity: TTJets, rms of the mean of both tops 1.04, of their difference 1.18.
PAIR_RAPIDITY: Final = 1.04
RAPIDITY_GAP: Final = 1.18
W_RAPIDITY: Final = 2.0
SPECTATOR_PT: Final = 20.0

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

# Semileptonic decays: TTJets, soft leptons that carry the flavour of their jet.
B_TO_MUON: Final = 0.22
B_TO_ELECTRON: Final = 0.19
C_TO_MUON: Final = 0.11
C_TO_ELECTRON: Final = 0.08
B_ELECTRON_FOUND: Final = 0.75

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
ELECTRON_FOUND: Final = 0.90
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

# Columns of the scratch arrays of one event.
PX, PY, PZ, PT, ETA, PHI, FLAVOUR, MASS2, CSV, JET_ID = range(10)
JET_COLUMNS: Final = 10
LPT, LETA, LPHI, LORIGIN = range(4)
LEPTON_COLUMNS: Final = 4
PROMPT, FROM_TAU, FROM_B, FROM_C, OTHER = range(5)
N_JETS, N_ELECTRONS, N_MUONS = range(3)


class Scratch(NamedTuple):
    """Working memory of one event, and its stream of random numbers."""

    state: State
    number: npt.NDArray[np.int64]
    met: Floats
    jet: Floats
    electron: Floats
    muon: Floats


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
def breit_wigner(state: State, mass: float, width: float) -> float:
    """Mass of a resonance, cut `LINE_WIDTHS` half widths from the peak."""
    bound = math.atan(LINE_WIDTHS)
    value: float = mass + 0.5 * width * math.tan(bound * (2.0 * uniform(state) - 1.0))
    return value


@loop
def azimuth(state: State) -> float:
    """Uniform angle in [-pi, pi)."""
    value: float = math.pi * (2.0 * uniform(state) - 1.0)
    return value


@loop
def two_body(
    state: State,
    px: float,
    py: float,
    pz: float,
    mass: float,
    mass_1: float,
    mass_2: float,
) -> tuple[float, float, float]:
    """Momentum of the first of two daughters of an isotropic decay; the rest is the second's."""
    energy = math.sqrt(px * px + py * py + pz * pz + mass * mass)
    square = (mass * mass - (mass_1 + mass_2) ** 2) * (mass * mass - (mass_1 - mass_2) ** 2)
    momentum = math.sqrt(max(square, 0.0)) / (2.0 * mass)
    energy_1 = math.sqrt(momentum * momentum + mass_1 * mass_1)
    cosine = 2.0 * uniform(state) - 1.0
    sine = math.sqrt(1.0 - cosine * cosine)
    angle = azimuth(state)
    x = momentum * sine * math.cos(angle)
    y = momentum * sine * math.sin(angle)
    z = momentum * cosine
    along = ((px * x + py * y + pz * z) / (energy + mass) + energy_1) / mass
    return x + along * px, y + along * py, z + along * pz


@loop
def add_lepton(
    lepton: Floats,
    count: npt.NDArray[np.int64],
    which: int,
    pt: float,
    eta: float,
    phi: float,
    origin: int,
) -> None:
    """Store a reconstructed lepton, if there is room."""
    i = count[which]
    if i < MAX_LEPTONS:
        lepton[i, LPT] = pt
        lepton[i, LETA] = eta
        lepton[i, LPHI] = phi
        lepton[i, LORIGIN] = origin
        count[which] = i + 1


@loop
def add_parton(ev: Scratch, px: float, py: float, pz: float, flavour: int) -> None:
    """Merge a parton into the first jet closer than 0.4, or begin a jet with it."""
    pt2 = px * px + py * py
    if pt2 < 1.0:
        return
    pt = math.sqrt(pt2)
    eta = math.asinh(pz / pt)
    phi = math.atan2(py, px)
    jet = ev.jet
    n = ev.number[N_JETS]
    for i in range(n):
        delta_phi = abs(phi - jet[i, PHI])
        if delta_phi > math.pi:
            delta_phi = 2.0 * math.pi - delta_phi
        delta_eta = eta - jet[i, ETA]
        distance2 = delta_phi * delta_phi + delta_eta * delta_eta
        if distance2 < JET_RADIUS2:
            if jet[i, FLAVOUR] != BOTTOM and (flavour == BOTTOM or pt > jet[i, PT]):
                jet[i, FLAVOUR] = flavour
            jet[i, MASS2] += pt * jet[i, PT] * distance2
            jet[i, PX] += px
            jet[i, PY] += py
            jet[i, PZ] += pz
            jet[i, PT] = math.sqrt(jet[i, PX] ** 2 + jet[i, PY] ** 2)
            jet[i, ETA] = math.asinh(jet[i, PZ] / jet[i, PT])
            jet[i, PHI] = math.atan2(jet[i, PY], jet[i, PX])
            return
    if n < MAX_JETS:
        jet[n, PX] = px
        jet[n, PY] = py
        jet[n, PZ] = pz
        jet[n, PT] = pt
        jet[n, ETA] = eta
        jet[n, PHI] = phi
        jet[n, FLAVOUR] = flavour
        jet[n, MASS2] = 0.0
        ev.number[N_JETS] = n + 1


@loop
def add_quark(ev: Scratch, tune: Tune, px: float, py: float, pz: float, flavour: int) -> None:
    """Hadronise a quark: a hard gluon perhaps, a soft lepton of b or c perhaps, then a jet."""
    state = ev.state
    if flavour in (BOTTOM, CHARM):
        to_muon = B_TO_MUON if flavour == BOTTOM else C_TO_MUON
        to_electron = B_TO_ELECTRON if flavour == BOTTOM else C_TO_ELECTRON
        u = uniform(state)
        if u < to_muon + to_electron:
            # Lepton and neutrino share what the hadron's other products leave.
            fraction = 0.5 * (1.0 - uniform(state) ** 0.35)
            neutrino = 0.3 * uniform(state)
            whole = math.sqrt(px * px + py * py)
            pt = fraction * whole
            eta = math.asinh(pz / whole) + 0.03 * rough_normal(state)
            phi = math.atan2(py, px) + 0.03 * rough_normal(state)
            origin = FROM_B if flavour == BOTTOM else FROM_C
            if u < to_muon:
                if pt > MUON_MIN_PT and abs(eta) < MUON_MAX_ETA:
                    add_lepton(ev.muon, ev.number, N_MUONS, pt, eta, phi, origin)
            elif (
                pt > ELECTRON_MIN_PT
                and abs(eta) < ELECTRON_MAX_ETA
                and uniform(state) < B_ELECTRON_FOUND
            ):
                add_lepton(ev.electron, ev.number, N_ELECTRONS, pt, eta, phi, origin)
            ev.met[0] += neutrino * px
            ev.met[1] += neutrino * py
            px *= 1.0 - neutrino
            py *= 1.0 - neutrino
            pz *= 1.0 - neutrino
    if uniform(state) < tune.fsr_fraction:
        fraction = power_law(state, FSR_MIN_FRACTION, FSR_MAX_FRACTION, 0.5)
        angle = 0.3 + 0.5 * exponential(state)
        turn = azimuth(state)
        pt = math.sqrt(px * px + py * py)
        if pt > 1.0:
            eta = math.asinh(pz / pt) + angle * math.cos(turn)
            phi = math.atan2(py, px) + angle * math.sin(turn)
            soft = fraction * pt
            add_parton(ev, soft * math.cos(phi), soft * math.sin(phi), soft * math.sinh(eta), 0)
            px *= 1.0 - fraction
            py *= 1.0 - fraction
            pz *= 1.0 - fraction
    add_parton(ev, px, py, pz, flavour)


@loop
def add_prompt_lepton(
    ev: Scratch, px: float, py: float, pz: float, flavour: int, origin: int
) -> None:
    """Reconstruct an isolated electron or muon; it is a jet as well, as in NanoAOD."""
    state = ev.state
    pt = math.sqrt(px * px + py * py)
    if pt < 1.0:
        return
    eta = math.asinh(pz / pt)
    phi = math.atan2(py, px)
    if flavour == ELECTRON:
        pt *= 1.0 + 0.02 * normal(state)
        if (
            pt > ELECTRON_MIN_PT
            and abs(eta) < ELECTRON_MAX_ETA
            and uniform(state) < ELECTRON_FOUND
        ):
            add_lepton(ev.electron, ev.number, N_ELECTRONS, pt, eta, phi, origin)
    else:
        pt *= 1.0 + 0.012 * normal(state)
        if pt > MUON_MIN_PT and abs(eta) < MUON_MAX_ETA:
            add_lepton(ev.muon, ev.number, N_MUONS, pt, eta, phi, origin)
    # Pile-up and radiation around the lepton: TTJets, jet over lepton pt 1.05-1.3.
    scale = 1.04 + 0.14 * exponential(state)
    add_parton(ev, scale * px, scale * py, scale * pz, flavour)


@loop
def decay_w(
    ev: Scratch, tune: Tune, px: float, py: float, pz: float, mass: float, channels: float
) -> None:
    """Decay a W boson: `ALL_CHANNELS` or `LEPTONS_ONLY`."""
    state = ev.state
    ax, ay, az = two_body(state, px, py, pz, mass, 0.0, 0.0)
    bx, by, bz = px - ax, py - ay, pz - az
    u = channels * uniform(state)
    if u >= LEPTONS_ONLY:
        add_quark(ev, tune, ax, ay, az, LIGHT)
        add_quark(ev, tune, bx, by, bz, CHARM if uniform(state) < 0.5 else LIGHT)
        return
    ev.met[0] += bx
    ev.met[1] += by
    if u < W_TO_LEPTON:
        add_prompt_lepton(ev, ax, ay, az, ELECTRON, PROMPT)
    elif u < 2.0 * W_TO_LEPTON:
        add_prompt_lepton(ev, ax, ay, az, MUON, PROMPT)
    else:
        decay = uniform(state)
        if decay < 2.0 * TAU_TO_LEPTON:
            # Two neutrinos leave a third of the energy to the lepton.
            visible = 1.0 - math.sqrt(1.0 - 0.9 * uniform(state))
            flavour = ELECTRON if decay < TAU_TO_LEPTON else MUON
            add_prompt_lepton(ev, visible * ax, visible * ay, visible * az, flavour, FROM_TAU)
        else:
            visible = 0.25 + 0.7 * uniform(state)
            add_parton(ev, visible * ax, visible * ay, visible * az, TAU)
        ev.met[0] += (1.0 - visible) * ax
        ev.met[1] += (1.0 - visible) * ay


@loop
def decay_top(ev: Scratch, tune: Tune, px: float, py: float, pz: float, mass: float) -> None:
    """Decay a top quark to W and b, and the W further."""
    state = ev.state
    w_mass = breit_wigner(state, W_MASS, W_WIDTH)
    wx, wy, wz = two_body(state, px, py, pz, mass, w_mass, B_MASS)
    add_quark(ev, tune, px - wx, py - wy, pz - wz, BOTTOM)
    decay_w(ev, tune, wx, wy, wz, w_mass, ALL_CHANNELS)


@loop
def radiate(ev: Scratch, tune: Tune, rapidity: float) -> tuple[float, float]:
    """Radiate jets from the initial state; return the transverse momentum of the recoil."""
    state = ev.state
    recoil_x = 0.0
    recoil_y = 0.0
    for _ in range(poisson(state, tune.isr_mean)):
        pt = power_law(state, ISR_MIN_PT, ISR_MAX_PT, tune.isr_exponent)
        phi = azimuth(state)
        eta = 0.5 * rapidity + 1.9 * normal(state)
        x = pt * math.cos(phi)
        y = pt * math.sin(phi)
        u = uniform(state)
        flavour = LIGHT
        if u < ISR_BOTTOM:
            flavour = BOTTOM
        elif u < ISR_BOTTOM + ISR_CHARM:
            flavour = CHARM
        recoil_x -= x
        recoil_y -= y
        if flavour == BOTTOM and uniform(state) < 0.5:
            # Both b quarks of the gluon are resolved.
            share = 0.25 + 0.5 * uniform(state)
            z = pt * math.sinh(eta + 0.6)
            add_quark(ev, tune, share * x, share * y, share * z, BOTTOM)
            share = 1.0 - share
            eta -= 0.6
            x *= share
            y *= share
            pt *= share
        add_quark(ev, tune, x, y, pt * math.sinh(eta), flavour)
    return recoil_x, recoil_y


@loop
def hard_process(ev: Scratch, tune: Tune, process: int) -> None:
    """Initial-state radiation, then the heavy particles that recoil against it."""
    state = ev.state
    rapidity = normal(state) * (W_RAPIDITY if process == WJETS else PAIR_RAPIDITY)
    recoil_x, recoil_y = radiate(ev, tune, rapidity)
    if process == WJETS:
        mass = breit_wigner(state, W_MASS, W_WIDTH)
        kick = 6.0 * exponential(state)
        phi = azimuth(state)
        x = recoil_x + kick * math.cos(phi)
        y = recoil_y + kick * math.sin(phi)
        z = math.sqrt(mass * mass + x * x + y * y) * math.sinh(rapidity)
        decay_w(ev, tune, x, y, z, mass, LEPTONS_ONLY)
        return

    pt = -tune.top_pt * math.log(uniform(state) * uniform(state))
    phi = azimuth(state)
    gap = 0.5 * RAPIDITY_GAP * normal(state)
    if process == T_CHANNEL:
        # The light quark that emitted the W goes forward.
        pt *= 0.6
        gap *= 2.0
    if process in (T_CHANNEL, TW):
        # The other b quark of the gluon that the initial b came from.
        soft = SPECTATOR_PT * exponential(state)
        angle = azimuth(state)
        eta = 1.8 * normal(state)
        x = soft * math.cos(angle)
        y = soft * math.sin(angle)
        recoil_x -= x
        recoil_y -= y
        add_quark(ev, tune, x, y, soft * math.sinh(eta), BOTTOM)
    x = pt * math.cos(phi)
    y = pt * math.sin(phi)
    mass = breit_wigner(state, TOP_MASS, TOP_WIDTH)
    ax = x + 0.5 * recoil_x
    ay = y + 0.5 * recoil_y
    az = math.sqrt(mass * mass + ax * ax + ay * ay) * math.sinh(rapidity + gap)
    decay_top(ev, tune, ax, ay, az, mass)
    bx = 0.5 * recoil_x - x
    by = 0.5 * recoil_y - y
    along = math.sinh(rapidity - gap)
    if process == TTBAR:
        mass = breit_wigner(state, TOP_MASS, TOP_WIDTH)
        decay_top(ev, tune, bx, by, math.sqrt(mass * mass + bx * bx + by * by) * along, mass)
    elif process == TW:
        mass = breit_wigner(state, W_MASS, W_WIDTH)
        bz = math.sqrt(mass * mass + bx * bx + by * by) * along
        decay_w(ev, tune, bx, by, bz, mass, ALL_CHANNELS)
    else:
        flavour = BOTTOM if process == S_CHANNEL else LIGHT
        add_quark(ev, tune, bx, by, math.sqrt(bx * bx + by * by) * along, flavour)


@loop
def soft_activity(ev: Scratch) -> None:
    """Add jets of pile-up and leptons that no W, b or c made."""
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
    """Put the order of falling values into `order`: insertion sort, stable, for few rows."""
    for i in range(n):
        j = i
        while j > 0 and rows[order[j - 1], column] < rows[i, column]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i


class Output(NamedTuple):
    """Flat columns of a run of events; the first `offsets[-1]` entries are used."""

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


@loop
def simulate(
    key: np.uint64, process: int, tune: Tune, start: int, stop: int, out: Output
) -> tuple[int, int, int]:
    """Simulate events [start, stop) into `out`.

    Parameters
    ----------
    key
        Key of the sample's streams.
    process
        Value of `PROCESS_CODES`.
    tune
        Shape parameters of the sample.
    start, stop
        Range of events.
    out
        Columns to fill: those per event of length ``stop - start``, the others with room for
        `MAX_JETS` or `MAX_LEPTONS` objects an event.

    Returns
    -------
    tuple of int
        Number of electrons, muons and jets stored.
    """
    ev = Scratch(
        np.empty(1, np.uint64),
        np.empty(3, np.int64),
        np.empty(2),
        np.empty((MAX_JETS, JET_COLUMNS)),
        np.empty((MAX_LEPTONS, LEPTON_COLUMNS)),
        np.empty((MAX_LEPTONS, LEPTON_COLUMNS)),
    )
    order = np.empty(MAX_JETS, np.int64)
    electrons = 0
    muons = 0
    jets = 0
    for event in range(start, stop):
        ev.state[0] = event_state(key, event)
        ev.number[:] = 0
        ev.met[:] = 0.0
        hard_process(ev, tune, process)
        soft_activity(ev)
        measure_jets(ev, tune)
        i = event - start
        electrons = store_electrons(ev, order, out, electrons)
        muons = store_muons(ev, order, out, muons)
        n = ev.number[N_JETS]
        descending(ev.jet, PT, n, order)
        for k in range(n):
            j = order[k]
            out.jet[0, jets] = ev.jet[j, PT]
            out.jet[1, jets] = ev.jet[j, ETA]
            out.jet[2, jets] = ev.jet[j, PHI]
            out.jet[3, jets] = ev.jet[j, MASS2]
            out.jet[4, jets] = ev.jet[j, CSV]
            out.jet_id[jets] = int(ev.jet[j, JET_ID])
            jets += 1
        out.n_electron[i] = ev.number[N_ELECTRONS]
        out.n_muon[i] = ev.number[N_MUONS]
        out.n_jet[i] = n
        out.met_pt[i] = math.sqrt(ev.met[0] ** 2 + ev.met[1] ** 2)
        out.met_phi[i] = math.atan2(ev.met[1], ev.met[0])
        # TTJets: 96.1 % are 1, 0.3 % -1, the others nearly 1.
        u = uniform(ev.state)
        weight = 1.0
        if u < 0.003:
            weight = -1.0
        elif u < 0.039:
            weight = 0.9 + 0.2 * uniform(ev.state)
        out.gen_weight[i] = weight
    return electrons, muons, jets
