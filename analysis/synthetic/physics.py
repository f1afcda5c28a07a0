"""Synthetic events, from the hard process to reconstructed objects.

One numba loop makes one event after the other: hard process, isotropic decays of top quarks and W
bosons, radiation, soft leptons of heavy quarks and merging to jets (`partons`), then pile-up,
resolution and identification (`detector`). Energies are in GeV. Shapes were fitted to the 1000
real CMS events of ``NanoAODv5_TTJets_1000.root`` (JuliaHEP/UnROOT.jl, RunIIFall17), called TTJets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from analysis.kernels._compile import loop
from analysis.synthetic.detector import (
    descending,
    measure_jets,
    soft_activity,
    store_electrons,
    store_muons,
)
from analysis.synthetic.partons import (
    CSV,
    ETA,
    JET_COLUMNS,
    JET_ID,
    LEPTON_COLUMNS,
    MASS2,
    MAX_JETS,
    MAX_LEPTONS,
    N_ELECTRONS,
    N_JETS,
    N_MUONS,
    PHI,
    PT,
    Scratch,
    hard_process,
)
from analysis.synthetic.random import event_state, uniform

if TYPE_CHECKING:
    from analysis.synthetic.detector import Output
    from analysis.synthetic.tunes import Tune


@loop
def simulate(
    key: np.uint64, process: int, tune: Tune, start: int, stop: int, out: Output
) -> tuple[int, int, int]:
    """Simulate the events [start, stop) into `out`.

    `key` is that of the sample's streams, `process` one of `tunes.PROCESS_CODES`. Columns of `out`
    have a row for each event, or room for `MAX_JETS` or `MAX_LEPTONS` objects of each. Returns the
    number of electrons, muons and jets that were stored.
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
