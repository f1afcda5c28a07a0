"""Hard process of a synthetic event: radiation and decays, down to jets and leptons.

What the detector makes of them is in `detector`. Energies are in GeV; TTJets are the real events
that `physics` names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from analysis.kernels._compile import loop
from analysis.synthetic.random import (
    exponential,
    normal,
    poisson,
    power_law,
    rough_normal,
    uniform,
)
from analysis.synthetic.tunes import S_CHANNEL, T_CHANNEL, TTBAR, TW, WJETS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from analysis.synthetic.tunes import Tune

    Floats = npt.NDArray[np.float64]
    State = npt.NDArray[np.uint64]

# Masses, widths and branching fractions: Particle Data Group 2024; the top mass of the samples.
TOP_MASS: Final = 172.5
TOP_WIDTH: Final = 1.4
W_MASS: Final = 80.4
W_WIDTH: Final = 2.09
B_MASS: Final = 4.8
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
ELECTRON_MIN_PT: Final = 5.0
ELECTRON_MAX_ETA: Final = 2.5
MUON_MIN_PT: Final = 3.0
MUON_MAX_ETA: Final = 2.4
ELECTRON_FOUND: Final = 0.90  # of isolated ones; see the identification in `detector`

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

# Semileptonic decays: TTJets, soft leptons that carry the flavour of their jet.
B_TO_MUON: Final = 0.22
B_TO_ELECTRON: Final = 0.19
C_TO_MUON: Final = 0.11
C_TO_ELECTRON: Final = 0.08
B_ELECTRON_FOUND: Final = 0.75

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
