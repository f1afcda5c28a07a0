"""The other branches of CMS NanoAOD, which make a real file large and slow to open.

Nothing reads these branches, so only their cost is imitated: names, types, multiplicities, entropy
(mantissas rounded to the bits that CMS keeps) and valid indices into other collections. Names and
multiplicities are those of NanoAOD version 5; the latter were counted in TTJets (see
`analysis.synthetic.physics`). Each value depends on the sample, the branch, the event and the
position in the list alone, so chunks do not matter.
"""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.kernels._compile import loop
from analysis.synthetic.columns import jagged, offsets_of, truncate
from analysis.synthetic.random import (
    DROPPED_BITS,
    GAMMA,
    TO_UNIT,
    event_state,
    mixed,
    rough_normal_of,
    stream_key,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from analysis.synthetic.columns import Columns

NORMAL, EXPONENTIAL, UNIFORM = range(3)


class Shape(NamedTuple):
    """Distribution of the float or integer values of a branch."""

    kind: int
    low: float
    """Mean of a normal number, lower end of the others."""
    scale: float
    """Standard deviation, mean above the lower end, or length of the range."""
    bits: int = 10
    """Mantissa bits kept; 10 is CMS's default."""


FLOAT_SHAPES: Final[tuple[tuple[str, Shape], ...]] = (
    (r"(^|_)pt$|rawPt|l[12]pt|HT|[sS]umEt|Vpt|scalePDF", Shape(EXPONENTIAL, 10.0, 30.0)),
    (r"eta$|DeltaEta", Shape(NORMAL, 0.0, 1.4, 12)),
    (r"[pP]hi$", Shape(UNIFORM, -math.pi, 2.0 * math.pi, 12)),
    (r"GenPart_mass", Shape(UNIFORM, 0.0, 0.0)),  # stored for heavy particles only
    (r"EF$|CHF$|CHPUF$", Shape(EXPONENTIAL, 0.0, 0.2, 6)),
    (r"mass|msoftdrop", Shape(EXPONENTIAL, 0.0, 8.0)),
    (r"btag|deepTag|mva|MVA|raw|qgl|r9|score|Iso|iso|tau\d|x[12]$", Shape(UNIFORM, 0, 1)),
    (r"[Ee]rr|chi2|ndof|dlen|Sig|hoe|sieie|Rho|nTrueInt|cov", Shape(EXPONENTIAL, 0.01, 5.0)),
    (r"Weight|XWGT|pdf|binvar", Shape(UNIFORM, 1.0, 0.0)),
    (r"area", Shape(NORMAL, 0.5, 0.01)),
    (r"", Shape(NORMAL, 0.0, 1.0)),
)
"""Shape of a float branch, by the first pattern that its name matches."""

INTEGER_SHAPES: Final[tuple[tuple[str, Shape], ...]] = (
    (r"pdgId", Shape(UNIFORM, -6.0, 13.0)),
    (r"[cC]harge", Shape(UNIFORM, 0.0, 2.0)),
    (r"Bitmap|filterBits|statusFlags|TtbarId", Shape(EXPONENTIAL, 0.0, 40.0)),
    (r"Constituents|OOT|nPU|npvs", Shape(NORMAL, 25.0, 8.0)),
    (r"HTXS|stage|njets", Shape(UNIFORM, 0.0, 0.0)),
    (r"", Shape(EXPONENTIAL, 0.0, 0.8)),
)

# Mean number of objects an event: TTJets. A collection of exactly that many if not Poisson.
MEAN_COUNTS: Final[dict[str, float]] = {
    "CorrT1METJet": 7.3,
    "FatJet": 0.39,
    "GenJetAK8": 1.4,
    "GenJet": 8.1,
    "GenPart": 52.4,
    "SubGenJetAK8": 2.7,
    "GenVisTau": 0.15,
    "IsoTrack": 0.33,
    "LHEPart": 6.5,
    "Photon": 1.5,
    "GenDressedLepton": 0.4,
    "SubJet": 0.54,
    "Tau": 1.2,
    "TrigObj": 9.5,
    "SV": 2.8,
}
FIXED_COUNTS: Final[dict[str, int]] = {
    "SoftActivityJet": 6,
    "OtherPV": 3,
    "PSWeight": 4,
    "LHEPdfWeight": 0,
    "LHEReweightingWeight": 0,
    "LHEScaleWeight": 0,
}

# fmt: off
# Collection or prefix: type letter to attribute names. f float, i int32, u uint8, b bool, x index:
# attribute>collection. {a,b} stands for one name with a and one with b.
ATTRIBUTES: Final[dict[str, dict[str, str]]] = {
    "Electron": {
        "f": "deltaEtaSC dr03{EcalRecHitSumEt,HcalDepth1TowerSumEt,TkSumPt,TkSumPtHEEP} "
             "d{xy,z} d{xy,z}Err eCorr eInvMinusPInv energyErr hoe ip3d jetPtRelv2 jetRelIso "
             "miniPFRelIso_{all,chg} pfRelIso03_{all,chg} mvaFall17V{1,2}{Iso,noIso} mvaTTH r9 "
             "sieie",
        "i": "cutBased_Fall17_V1 pdgId tightCharge vidNestedWPBitmap",
        "b": "convVeto cutBased_HEEP isPFcand mvaFall17V{1,2}{Iso,noIso}_WP{80,90,L}",
        "u": "lostHits seedGain genPartFlav cleanmask",
        "x": "jetIdx>Jet photonIdx>Photon genPartIdx>GenPart",
    },
    "Muon": {
        "f": "d{xy,z} d{xy,z}Err ip3d jetPtRelv2 jetRelIso miniPFRelIso_{all,chg} "
             "pfRelIso03_{all,chg} ptErr segmentComp softMva tkRelIso tunepRelPt mva{LowPt,TTH}",
        "i": "nStations nTrackerLayers pdgId tightCharge",
        "b": "inTimeMuon isGlobal isPFcand isTracker looseId mediumId mediumPromptId softId "
             "softMvaId triggerIdLoose",
        "u": "highPtId miniIsoId multiIsoId mvaId pfIsoId tkIsoId genPartFlav cleanmask",
        "x": "jetIdx>Jet genPartIdx>GenPart",
    },
    "Jet": {
        "f": "area btagCMVA btagDeep{B,C} btagDeepFlav{B,C} {ch,ne}EmEF {ch,ne}HEF muEF "
             "jercCH{,PU}F muonSubtrFactor qgl rawFactor bRegCorr bRegRes",
        "i": "nConstituents nElectrons nMuons puId hadronFlavour partonFlavour",
        "u": "cleanmask",
        "x": "electronIdx{1,2}>Electron muonIdx{1,2}>Muon genJetIdx>GenJet",
    },
    "FatJet": {
        "f": "pt eta phi mass area btagCMVA btagCSVV2 btagDDBvL btagDDC{vB,vL} btagDeepB btagHbb "
             "deepTagMD_{H4q,Hbb,T,W,ZHbb,ZHcc,Zbb,Z}vsQCD deepTagMD_{bb,cc}vsLight "
             "deepTag_{H,QCD,QCDothers,TvsQCD,WvsQCD,ZvsQCD} msoftdrop n{2,3}b1 rawFactor "
             "tau{1,2,3,4}",
        "i": "jetId",
        "x": "subJetIdx{1,2}>SubJet",
    },
    "SubJet": {
        "f": "pt eta phi mass btagCMVA btagCSVV2 btagDeepB n{2,3}b1 rawFactor tau{1,2,3,4}",
    },
    "Tau": {
        "f": "pt eta phi mass chargedIso d{xy,z} leadTkDelta{Eta,Phi} leadTkPtOverTauPt "
             "neutralIso photonsOutsideSignalCone puCorr rawAntiEle{,2018} rawIso{,dR03} "
             "rawMVA{newDM2017v2,oldDM,oldDM2017v1,oldDM2017v2,oldDMdR032017v2}",
        "i": "charge decayMode rawAntiEleCat{,2018}",
        "b": "idDecayMode{,NewDMs}",
        "u": "idAnti{Ele,Ele2018,Mu} cleanmask genPartFlav "
             "idMVA{newDM2017v2,oldDM,oldDM2017v1,oldDM2017v2,oldDMdR032017v2}",
        "x": "jetIdx>Jet genPartIdx>GenPart",
    },
    "Photon": {
        "f": "pt eta phi mass eCorr energyErr hoe mvaID{,V1} pfRelIso03_{all,chg} r9 sieie",
        "i": "charge cutBased{,V1}Bitmap pdgId vidNestedWPBitmap",
        "b": "electronVeto isScEta{EB,EE} mvaID_WP{80,90} pixelSeed",
        "u": "seedGain genPartFlav cleanmask",
        "x": "electronIdx>Electron jetIdx>Jet genPartIdx>GenPart",
    },
    "IsoTrack": {
        "f": "pt eta phi d{xy,z} pfRelIso03_{all,chg} miniPFRelIso_{all,chg}",
        "i": "fromPV pdgId",
        "b": "isHighPurityTrack isPFcand isFromLostTrack",
    },
    "TrigObj": {"f": "pt eta phi l1pt l1pt_2 l2pt", "i": "id l1iso l1charge filterBits"},
    "SV": {"f": "pt eta phi mass x y z dlen dlenSig pAngle chi2 ndof"},
    "CorrT1METJet": {"f": "area eta phi rawPt muonSubtrFactor"},
    "SoftActivityJet": {"f": "pt eta phi"},
    "GenPart": {
        "f": "pt eta phi mass", "i": "pdgId status statusFlags", "x": "genPartIdxMother>GenPart",
    },
    "GenJet": {"f": "pt eta phi mass", "i": "partonFlavour", "u": "hadronFlavour"},
    "GenJetAK8": {"f": "pt eta phi mass", "i": "partonFlavour", "u": "hadronFlavour"},
    "SubGenJetAK8": {"f": "pt eta phi mass"},
    "GenVisTau": {"f": "pt eta phi mass", "i": "charge status", "x": "genPartIdxMother>GenPart"},
    "GenDressedLepton": {"f": "pt eta phi mass", "i": "pdgId", "b": "hasTauAnc"},
    "LHEPart": {"f": "pt eta phi mass", "i": "pdgId"},
    "OtherPV": {"f": "z"},
    "PSWeight": {"f": ""},
    "LHEPdfWeight": {"f": ""},
    "LHEReweightingWeight": {"f": ""},
    "LHEScaleWeight": {"f": ""},
    "MET": {
        "f": "MetUnclustEnUpDelta{X,Y} cov{XX,XY,YY} significance sumEt fiducialGen{Phi,Pt}",
    },
    **{f"{kind}MET": {"f": "pt phi sumEt"} for kind in ("Calo", "Chs", "Puppi", "Raw", "Tk")},
    "GenMET": {"f": "pt phi"},
    "PV": {"f": "ndof x y z chi2 score", "i": "npvs{,Good}"},
    "Pileup": {"f": "nTrueInt pudensity gpudensity", "i": "nPU sum{E,L}OOT"},
    "Generator": {"f": "binvar scalePDF weight x{1,2} xpdf{1,2}", "i": "id{1,2}"},
    "LHE": {"f": "HT HTIncoming Vpt", "u": "Njets Nb Nc Nuds Nglu NpNLO NpLO"},
    "LHEWeight": {"f": "originalXWGTUP"},
    "btagWeight": {"f": "CSVV2 DeepCSVB"},
    "HTXS": {
        "f": "Higgs_{pt,y}",
        "i": "stage1_1_{cat,fine_cat}_pTjet{25,30}GeV stage_0 stage_1_pTjet{25,30}",
        "u": "njets{25,30}",
    },
    "": {
        "f": "fixedGridRhoFastjet{All,Central,CentralCalo,CentralChargedPileUp,CentralNeutral} "
             "SoftActivityJetHT{,2,5,10}",
        "i": "SoftActivityJetNjets{2,5,10} genTtbarId",
        "b": "HLTriggerFirstPath HLTriggerFinalPath L1simulation_step L1Reco_step",
    },
    "Flag": {
        "b": "HBHENoise{,Iso}Filter CSCTightHalo{,TrkMuUnveto,2015}Filter "
             "global{Tight,SuperTight}Halo2016Filter HcalStripHaloFilter hcalLaserEventFilter "
             "EcalDeadCell{TriggerPrimitive,BoundaryEnergy}Filter ecalBadCalibFilter{,V2} "
             "goodVertices eeBadScFilter ecalLaserCorrFilter trkPOGFilters muonBadTrackFilter "
             "BadChargedCandidate{,Summer16}Filter BadPFMuon{,Summer16}Filter "
             "chargedHadronTrackResolutionFilter METFilters "
             "trkPOG_{manystripclus53X,toomanystripclus53X,logErrorTooManyClusters}",
    },
    "HLT": {
        "b": "Ele{20,23,27,28,30,32,35,38,40,50,115,135,200,250,300}_WPTight_Gsf "
             "Ele{15,17,20}_WPLoose_Gsf Ele{8,12,17,23}_CaloIdM_TrackIdM_PFJet30 "
             "Ele{8,12,15,23}_CaloIdL_TrackIdL_IsoVL{,_PFJet30} Ele{50,115}_CaloIdVT_GsfTrkIdT "
             "{Iso,IsoTk,Tk,Old}Mu{17,20,24,27,30,50,100}{,_eta2p1} "
             "Mu{3,8,12,15,17,19,20,23,27,50,55}{,_TrkIsoVVL}{,_PFJet40} "
             "Mu{8,12,17,23}_TrkIsoVVL_{Ele12,Ele23,Ele8}_CaloIdL_TrackIdL_IsoVL{,_DZ} "
             "Mu{17,18,19,20,30,37}_{Mu8,Mu9,TkMu8,TkMu11}{,_DZ,_Mass8} "
             "{PF,AK4PF,AK8PF,AK4Calo}Jet{30,40,50,60,80,100,120,140,200,260,320,400,450,500} "
             "AK8PF{Jet,HT}{360,380,400,420,750,800,850,900}_TrimMass{30,50} "
             "DiPFJetAve{40,60,80,100,140,160,200,220,260,300,320,400,500}{,_HFJEC} "
             "PFHT{180,250,350,370,430,510,590,680,780,890,1050}{,_FivePFJet_100_100_60_30_30} "
             "PF{MET,METTypeOne,METNoMu}{100,110,120,130,140,200}_PFMHT{110,120,130}_IDTight "
             "Photon{20,25,33,50,75,90,120,150,165,175,200,300}{,_R9Id90_HE10_IsoM} "
             "Double{Mu,Ele,Photon,L2Mu}{4,8,20,25,33,43,50,70}{,_CaloIdL_MW} "
             "{Medium,Loose,Tight}ChargedIsoPFTau{20,27,35,50,180}_Trk{1,50}_eta2p1{,_Reg} "
             "HT{300,425,450,500,550,650}{,_DisplacedDijet40_DisplacedTrack,_Beamspot} "
             "Dimuon{0,10,18,20,25}_{Jpsi,PsiPrime,Upsilon,Phi}{,_noCorrL1}",
    },
    "L1": {
        "b": "SingleMu{0,3,5,7,10,12,14,16,18,20,22,25,30}{,er1p5,_BMTF,_EMTF} "
             "Single{EG,IsoEG}{8,10,15,18,24,26,28,30,32,34,38,40,45}{,er1p5,er2p1} "
             "SingleJet{16,20,35,43,60,90,120,140,160,170,180,200}{,er2p7,_FWD} "
             "SingleTau{20,70,120,130}{,er2p1} "
             "Double{Mu,EG,IsoTau,Jet}{0,4,5,8,12,15,18,22,25}{,er1p5,_SQ} "
             "HTT{120,160,200,240,255,280,300,320,340,380,450}{,er} "
             "ETM{HF,}{60,70,80,90,100,110,120,130,140,150}",
    },
}
# fmt: on

TYPES: Final[dict[str, np.dtype[Any]]] = {
    "f": np.dtype(np.float32),
    "i": np.dtype(np.int32),
    "u": np.dtype(np.uint8),
    "b": np.dtype(np.bool_),
    "x": np.dtype(np.int32),
}

# Fractions of trigger bits that never fire, always fire; the others fall off: TTJets.
TRIGGER_NEVER: Final = 0.12
TRIGGER_ALWAYS: Final = 0.04
TRIGGER_MEDIAN: Final = {"HLT": 0.02, "L1": 0.14}
TRIGGER_SPREAD: Final = 1.3
FLAG_PASSES: Final = 0.997


class Branch(NamedTuple):
    """One branch beyond the slim ones."""

    name: str
    collection: str
    """Whose counts it has; empty for one value per event."""
    letter: str
    target: str
    """Collection that an index points into."""


def _expanded(text: str) -> list[str]:
    """Names that a text with alternatives in braces stands for, in order."""
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        return [text]
    head, tail = text[: match.start()], text[match.end() :]
    return list(
        chain.from_iterable(_expanded(head + option + tail) for option in match[1].split(","))
    )


@cache
def full_branches() -> tuple[Branch, ...]:
    """All branches that `full` has beyond `slim`, counters not included."""
    branches = []
    for prefix, by_type in ATTRIBUTES.items():
        counted = prefix in MEAN_COUNTS or prefix in FIXED_COUNTS or prefix in _SLIM_COLLECTIONS
        for letter, text in by_type.items():
            for word in text.split() or [""]:
                for attribute in _expanded(word):
                    attribute_name, _, target = attribute.partition(">")
                    name = "_".join(part for part in (prefix, attribute_name) if part)
                    branches.append(Branch(name, prefix if counted else "", letter, target))
    return tuple(branches)


_SLIM_COLLECTIONS: Final = ("Electron", "Muon", "Jet")


@loop
def _fill(
    key: np.uint64,
    start: int,
    offsets: npt.NDArray[np.int64],
    kind: int,
    low: float,
    scale: float,
    out: npt.NDArray[np.float32],
) -> None:
    """Fill a branch: the values of event i stand from ``offsets[i]`` to ``offsets[i + 1]``."""
    for i in range(len(offsets) - 1):
        state = event_state(key, start + i)
        for k in range(offsets[i], offsets[i + 1]):
            state += GAMMA
            raw = mixed(state)
            if kind == NORMAL:
                value = low + scale * rough_normal_of(raw)
            else:
                unit = (float(raw >> DROPPED_BITS) + 0.5) * TO_UNIT
                value = low - scale * math.log(unit) if kind == EXPONENTIAL else low + scale * unit
            out[k] = value


@loop
def _fill_index(
    key: np.uint64,
    start: int,
    offsets: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    out: npt.NDArray[np.int32],
) -> None:
    """Fill an index from -1 to below the given size or, without sizes, below the own position."""
    for i in range(len(offsets) - 1):
        state = event_state(key, start + i)
        for k in range(offsets[i], offsets[i + 1]):
            state += GAMMA
            unit = float(mixed(state) >> DROPPED_BITS) * TO_UNIT
            size = sizes[i] if len(sizes) else k - offsets[i]
            out[k] = int(unit * (size + 1)) - 1


@loop
def _fill_bits(
    key: np.uint64,
    start: int,
    probability: float,
    activity: npt.NDArray[np.float32],
    out: npt.NDArray[np.bool_],
) -> None:
    """Fill a trigger bit; rare bits fire together, in events of high activity."""
    for i in range(len(out)):
        unit = float(mixed(event_state(key, start + i)) >> DROPPED_BITS) * TO_UNIT
        out[i] = unit < (probability * activity[i] if probability < 0.5 else probability)


@loop
def _fill_counts(key: np.uint64, start: int, mean: float, out: npt.NDArray[np.uint32]) -> None:
    """Poisson counts, from sums of exponential numbers."""
    for i in range(len(out)):
        state = event_state(key, start + i)
        total = 0.0
        count = -1
        while total < mean:
            state += GAMMA
            total -= math.log((float(mixed(state) >> DROPPED_BITS) + 0.5) * TO_UNIT)
            count += 1
        out[i] = count


def extend_to_full(columns: Columns, sample_key: np.uint64, start: int) -> Columns:
    """The slim columns of the events from `start` on, and about 1450 other columns of NanoAOD.

    `sample_key` is the key of the sample's other branches.
    """
    events = len(columns["event"])
    offsets: dict[str, npt.NDArray[np.int64]] = {"": np.arange(events + 1)}
    full: Columns = dict(columns)
    for name in _SLIM_COLLECTIONS:
        offsets[name] = offsets_of(columns[f"n{name}"])
    for name, mean in MEAN_COUNTS.items():
        counts = np.empty(events, np.uint32)
        _fill_counts(stream_key(sample_key, f"n{name}"), start, mean, counts)
        full[f"n{name}"] = counts
        offsets[name] = offsets_of(counts)
    for name, fixed in FIXED_COUNTS.items():
        full[f"n{name}"] = np.full(events, fixed, np.uint32)
        offsets[name] = np.arange(events + 1) * fixed
    activity = np.empty(events, np.float32)
    _fill(stream_key(sample_key, "activity"), start, offsets[""], UNIFORM, 0.0, 2.0, activity)
    for branch in full_branches():
        key = stream_key(sample_key, branch.name)
        flat = _values(branch, key, start, offsets, activity)
        full[branch.name] = jagged(offsets[branch.collection], flat) if branch.collection else flat
    return full


def _values(
    branch: Branch,
    key: np.uint64,
    start: int,
    offsets: dict[str, npt.NDArray[np.int64]],
    activity: npt.NDArray[np.float32],
) -> npt.NDArray[Any]:
    own = offsets[branch.collection]
    size = int(own[-1])
    dtype = TYPES[branch.letter]
    if branch.letter == "x":
        index = np.empty(size, np.int32)
        # An index into the own collection, such as that of the mother, points to an earlier object.
        itself = branch.target == branch.collection
        sizes = np.empty(0, np.int64) if itself else np.diff(offsets[branch.target])
        _fill_index(key, start, own, sizes, index)
        return index
    if branch.letter == "b" and not branch.collection:
        bits = np.empty(size, np.bool_)
        _fill_bits(key, start, _probability(branch.name), activity, bits)
        return bits
    values = np.empty(size, np.float32)
    if branch.letter == "b":
        _fill(key, start, own, UNIFORM, 0.0, 1.0, values)
        return values < 0.3
    shapes = FLOAT_SHAPES if branch.letter == "f" else INTEGER_SHAPES
    shape = next(shape for pattern, shape in shapes if re.search(pattern, branch.name))
    _fill(key, start, own, shape.kind, shape.low, shape.scale, values)
    if branch.letter == "f":
        return truncate(values, shape.bits)
    floor = np.floor(values)
    return (np.maximum(floor, 0.0) if branch.letter == "u" else floor).astype(dtype)


def _probability(name: str) -> float:
    """Mean of a bit stored once per event; a function of its name alone."""
    prefix = name.partition("_")[0]
    if prefix == "Flag":
        return FLAG_PASSES
    if prefix not in TRIGGER_MEDIAN:
        return 0.0
    unit = float(stream_key(name, "probability")) / 2.0**64
    if unit < TRIGGER_NEVER:
        return 0.0
    if unit > 1.0 - TRIGGER_ALWAYS:
        return 1.0
    rank = (unit - TRIGGER_NEVER) / (1.0 - TRIGGER_NEVER - TRIGGER_ALWAYS)
    odds = max(rank, 0.01) / max(1.0 - rank, 0.01)
    probability: float = TRIGGER_MEDIAN[prefix] * odds ** (1.0 / TRIGGER_SPREAD)
    return min(probability, 1.0)
