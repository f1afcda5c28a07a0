"""Synthetic events: the columns of any range of events of a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.errors import InputError
from analysis.samples import SAMPLE_VARIATIONS
from analysis.synthetic.columns import MANTISSA_BITS, jagged, offsets_of, truncate
from analysis.synthetic.detector import Output
from analysis.synthetic.full import extend_to_full
from analysis.synthetic.partons import MAX_JETS, MAX_LEPTONS
from analysis.synthetic.physics import simulate
from analysis.synthetic.random import stream_key
from analysis.synthetic.tunes import PROCESS_CODES, PROCESS_TUNES, TTBAR_TUNES

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.synthetic.columns import Columns
    from analysis.synthetic.tunes import Tune


GENERATOR_VERSION: Final = 1
"""Increased whenever the same seed no longer gives the same arrays."""

SLIM_BRANCHES: Final[tuple[str, ...]] = (
    "run",
    "luminosityBlock",
    "event",
    "genWeight",
    "nElectron",
    "Electron_pt",
    "Electron_eta",
    "Electron_phi",
    "Electron_mass",
    "Electron_charge",
    "Electron_cutBased",
    "Electron_sip3d",
    "nMuon",
    "Muon_pt",
    "Muon_eta",
    "Muon_phi",
    "Muon_mass",
    "Muon_charge",
    "Muon_tightId",
    "Muon_sip3d",
    "Muon_pfRelIso04_all",
    "nJet",
    "Jet_pt",
    "Jet_eta",
    "Jet_phi",
    "Jet_mass",
    "Jet_jetId",
    "Jet_btagCSVV2",
    "MET_pt",
    "MET_phi",
)
"""Branches that the analysis reads, with the names and types of CMS NanoAOD."""

BRANCH_SETS: Final = ("slim", "full")

EVENTS_PER_LUMINOSITY_BLOCK: Final = 100
BLOCK: Final = 65_536
"""Events simulated at a time: limits the memory, and does not change the arrays."""


def check_sample(process: str, variation: str) -> None:
    """Raise InputError if there is no sample of this process and variation."""
    if process not in SAMPLE_VARIATIONS:
        msg = f"unknown process {process!r}: choose from {', '.join(SAMPLE_VARIATIONS)}"
        raise InputError(msg)
    if variation not in SAMPLE_VARIATIONS[process]:
        msg = (
            f"{process} has no variation {variation!r}: "
            f"choose from {', '.join(SAMPLE_VARIATIONS[process])}"
        )
        raise InputError(msg)


def check_branches(branches: str) -> None:
    """Raise InputError if there is no such set of branches."""
    if branches not in BRANCH_SETS:
        msg = f"unknown branches {branches!r}: choose from {', '.join(BRANCH_SETS)}"
        raise InputError(msg)


def generate(
    process: str,
    variation: str,
    start: int,
    stop: int,
    *,
    seed: int,
    branches: str = "slim",
) -> Columns:
    """Columns of the events [start, stop) of one sample.

    Every event has its own random stream, so any division of a sample into ranges gives the same
    arrays.

    Parameters
    ----------
    process, variation
        Sample, of `analysis.samples.SAMPLE_VARIATIONS`.
    start, stop
        Range of event indices, ``0 <= start <= stop``.
    seed
        Any integer; another seed gives another sample.
    branches
        ``slim``: `SLIM_BRANCHES`. ``full``: about as many branches as CMS stores; the slim ones
        are the same arrays in both.

    Returns
    -------
    dict
        Name to column, of length ``stop - start``: a numpy array, or an awkward array of
        ``var`` lists for collections. Energies, momenta and masses in GeV, angles in rad.
        (run, luminosityBlock, event) is unique within the sample.

    Raises
    ------
    InputError
        If there is no such sample, branch set or range.
    """
    check_sample(process, variation)
    check_branches(branches)
    if not 0 <= start <= stop:
        msg = f"no events [{start}, {stop}): give 0 <= start <= stop"
        raise InputError(msg)
    columns = _slim(process, variation, start, stop, seed)
    if branches == "full":
        return extend_to_full(columns, stream_key(seed, process, variation, "full"), start)
    return columns


def _slim(process: str, variation: str, start: int, stop: int, seed: int) -> Columns:
    key = stream_key(seed, process, variation)
    tune = TTBAR_TUNES[variation] if process == "ttbar" else PROCESS_TUNES[process]
    edges = [*range(start, stop, BLOCK), stop] if stop > start else [start, start]
    parts = [
        _simulated(key, PROCESS_CODES[process], tune, low, high) for low, high in pairwise(edges)
    ]
    flat = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = {
        collection: offsets_of(flat[f"n{collection}"])
        for collection in ("Electron", "Muon", "Jet")
    }
    index = np.arange(start, stop, dtype=np.uint64)
    flat["run"] = np.ones(stop - start, np.uint32)
    flat["luminosityBlock"] = (index // EVENTS_PER_LUMINOSITY_BLOCK + 1).astype(np.uint32)
    flat["event"] = index + np.uint64(1)
    columns: Columns = {}
    for name in SLIM_BRANCHES:
        collection, _, _ = name.partition("_")
        if collection in offsets:
            columns[name] = jagged(offsets[collection], flat[name])
        else:
            columns[name] = flat[name]
    return columns


def _simulated(
    key: np.uint64, code: int, tune: Tune, start: int, stop: int
) -> dict[str, npt.NDArray[Any]]:
    n = stop - start
    # Memory pages that are never written take no memory.
    out = Output(
        n_electron=np.empty(n, np.uint32),
        n_muon=np.empty(n, np.uint32),
        n_jet=np.empty(n, np.uint32),
        gen_weight=np.empty(n, np.float32),
        met_pt=np.empty(n, np.float32),
        met_phi=np.empty(n, np.float32),
        electron=np.empty((5, n * MAX_LEPTONS), np.float32),
        electron_integer=np.empty((2, n * MAX_LEPTONS), np.int32),
        muon=np.empty((6, n * MAX_LEPTONS), np.float32),
        muon_integer=np.empty((2, n * MAX_LEPTONS), np.int32),
        jet=np.empty((5, n * MAX_JETS), np.float32),
        jet_id=np.empty(n * MAX_JETS, np.int32),
    )
    electrons, muons, jets = simulate(key, code, tune, start, stop, out)
    electron = out.electron[:, :electrons]
    muon = out.muon[:, :muons]
    jet = out.jet[:, :jets]
    bits = MANTISSA_BITS
    return {
        "genWeight": truncate(out.gen_weight, 10),
        "nElectron": out.n_electron,
        "Electron_pt": electron[0],
        "Electron_eta": truncate(electron[1], bits["eta"]),
        "Electron_phi": truncate(electron[2], bits["phi"]),
        "Electron_mass": truncate(electron[3], bits["mass"]),
        "Electron_charge": out.electron_integer[0, :electrons],
        "Electron_cutBased": out.electron_integer[1, :electrons],
        "Electron_sip3d": truncate(electron[4], bits["sip3d"]),
        "nMuon": out.n_muon,
        "Muon_pt": muon[0],
        "Muon_eta": truncate(muon[1], bits["eta"]),
        "Muon_phi": truncate(muon[2], bits["phi"]),
        "Muon_mass": truncate(muon[3], bits["mass"]),
        "Muon_charge": out.muon_integer[0, :muons],
        "Muon_tightId": out.muon_integer[1, :muons] != 0,
        "Muon_sip3d": truncate(muon[4], bits["sip3d"]),
        "Muon_pfRelIso04_all": muon[5],
        "nJet": out.n_jet,
        "Jet_pt": truncate(jet[0], bits["pt"]),
        "Jet_eta": truncate(jet[1], bits["eta"]),
        "Jet_phi": truncate(jet[2], bits["phi"]),
        "Jet_mass": truncate(jet[3], bits["mass"]),
        "Jet_jetId": out.jet_id[:jets],
        "Jet_btagCSVV2": truncate(jet[4], bits["btagCSVV2"]),
        "MET_pt": out.met_pt,
        "MET_phi": truncate(out.met_phi, bits["phi"]),
    }
