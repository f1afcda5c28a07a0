"""The ttbar analysis as a coffea processor: single-lepton channel, AGC version 2, of kernels.

Source of all definitions: the code of iris-hep/analysis-grand-challenge (cms-open-data-ttbar).
The published reference histograms follow that code, not its documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
from coffea import processor

from analysis import histograms
from analysis.errors import InputError
from analysis.files.columns import Columns
from analysis.files.fileset import CUT_IN_DELIVERY
from analysis.kernels import Implementation as KernelImplementation
from analysis.kernels import bind
from analysis.kernels._layout import flat
from analysis.kernels.btag_weights import VARIATIONS as BTAG_VARIATIONS
from analysis.kernels.leptons import NEITHER
from analysis.kernels.regions import FOUR_JETS, FOUR_JETS_ONE_B, FOUR_JETS_TWO_B
from analysis.samples import (
    KINEMATIC_VARIATIONS,
    NOMINAL,
    SCALE_PROCESS,
    SCALE_WEIGHTS,
    event_weight,
    sample_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import awkward as ak
    import hist
    from numpy.typing import NDArray

Implementation = Literal[KernelImplementation, "fused"]
IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = get_args(Implementation)
"""Those of the kernels, and one pass over the events that does what all of them do."""

Variations = Literal["all", "nominal"]

INPUTS: Final = (
    "run",
    "luminosityBlock",
    "event",
    "Electron_pt",
    "Electron_eta",
    "Electron_cutBased",
    "Electron_sip3d",
    "Muon_pt",
    "Muon_eta",
    "Muon_tightId",
    "Muon_sip3d",
    "Muon_pfRelIso04_all",
    "Jet_pt",
    "Jet_eta",
    "Jet_phi",
    "Jet_mass",
    "Jet_jetId",
    "Jet_btagCSVV2",
)
"""Branches that the processor reads; the first three are only for the jet resolution."""

STEPS: Final = ("all", "one_lepton", "four_jets", *histograms.REGIONS)
"""Steps of the cutflow; both regions are subsets of four_jets."""

_JET_FIELDS: Final = ("pt", "eta", "phi", "mass", "jetId", "btagCSVV2")


def branches(variations: Variations) -> tuple[str, ...]:
    """Branches that the processor reads for these variations."""
    return INPUTS if variations == "all" else INPUTS[3:]


class TtbarProcessor(processor.ProcessorABC):
    """Histograms and cutflow of the ttbar analysis.

    Parameters
    ----------
    implementation
        Of the kernels, or ``fused``: one compiled pass over the events of a chunk.
    variations
        ``all``, or ``nominal`` for the nominal selection and weight only.
    replacements
        Branch to read in the place of another.
    """

    def __init__(
        self,
        implementation: Implementation = "columnar",
        variations: Variations = "all",
        replacements: Mapping[str, str] | None = None,
    ) -> None:
        if variations not in get_args(Variations):
            msg = f"there are no variations {variations!r}: use one of {get_args(Variations)}"
            raise InputError(msg)
        if implementation not in IMPLEMENTATIONS:
            msg = f"there is no implementation {implementation!r}: use one of {', '.join(IMPLEMENTATIONS)}"
            raise InputError(msg)
        self.implementation = implementation
        self.variations = variations
        self.replacements = dict(replacements or {})

    def process(self, events: Any) -> dict[str, Any]:
        """Select, reconstruct and fill one chunk, whose metadata name ``process`` and ``variation``.

        The result has ``histograms``: {sample: hist.Hist}, not normalised, and ``cutflow``:
        {process: {sample variation: {kinematic variation: {step: count}}}}.
        """
        process, variation = events.metadata["process"], events.metadata["variation"]
        kernels = bind("compiled" if self.implementation == "fused" else self.implementation)
        columns = Columns(events, self.replacements)
        every_variation = (
            self.variations == "all" and variation == NOMINAL and not is_data(events.metadata)
        )

        channel = _channel(columns, kernels)
        one_lepton = channel != NEITHER
        jets = {f: kernels("skim", columns[f"Jet_{f}"], one_lepton) for f in _JET_FIELDS}
        channel = channel[one_lepton] - 1

        shifted = {NOMINAL: jets["pt"]}
        if every_variation:
            identity = (
                flat(columns[name])[one_lepton] for name in ("run", "luminosityBlock", "event")
            )
            varied = (
                kernels("jet_scale", jets["pt"]),
                kernels("jet_resolution", *identity, jets["pt"]),
            )
            shifted |= zip(KINEMATIC_VARIATIONS, varied, strict=True)

        names: list[str] = []
        sums, cutflow = [], {}
        for shift, pt in shifted.items():
            region, found = _select({**jets, "pt": pt}, kernels)
            weights = {variation if shift == NOMINAL else shift: np.ones(len(found.values))}
            if every_variation and shift == NOMINAL:
                weights |= _weights(found.pt, process, kernels)
            names += weights
            sums.append(
                kernels(
                    "histogram",
                    found.values,
                    found.region + len(histograms.REGIONS) * channel[found.events],
                    np.column_stack(list(weights.values())),
                    categories=len(histograms.CHANNELS) * len(histograms.REGIONS),
                )
            )
            cutflow[shift] = _steps(len(events), region)

        histogram = histograms.new(process, names)
        histograms.add_sums(histogram, np.concatenate(sums, axis=-1))
        return {
            "histograms": {sample_name(process, variation): histogram},
            "cutflow": {process: {variation: cutflow}},
        }

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing: `normalise` scales the histograms later."""
        return accumulator


class _Observables(NamedTuple):
    """Entries of the histograms: one for each event in a region, those of 4j1b first."""

    values: NDArray[np.float64]
    """HT or mass of the trijet in GeV."""
    region: NDArray[np.int64]
    """Index into histograms.REGIONS."""
    events: NDArray[np.int64]
    """Index of the event among those with one lepton."""
    pt: tuple[ak.Array, ak.Array]
    """pt of the selected jets in GeV, of each region (events x jets)."""


def _channel(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> NDArray[np.int8]:
    electrons = (columns[f"Electron_{field}"] for field in ("pt", "eta", "cutBased", "sip3d"))
    muons = (
        columns[f"Muon_{field}"] for field in ("pt", "eta", "tightId", "sip3d", "pfRelIso04_all")
    )
    channel: NDArray[np.int8] = kernels(
        "leptons", kernels("electrons", *electrons), kernels("muons", *muons)
    )
    return channel


def _select(
    jets: Mapping[str, ak.Array], kernels: Callable[..., Any]
) -> tuple[NDArray[np.int8], _Observables]:
    """Regions and observables of events with one lepton, from their jets."""
    mask = kernels("jets", jets["pt"], jets["eta"], jets["jetId"])
    region = kernels("regions", mask, jets["btagCSVV2"])
    one_b, two_b = region == FOUR_JETS_ONE_B, region == FOUR_JETS_TWO_B
    one_b_pt = kernels("selected", jets["pt"], mask, one_b)
    two_b_jets = {
        field: kernels("selected", jets[field], mask, two_b)
        for field in ("pt", "eta", "phi", "mass", "btagCSVV2")
    }
    _, trijet_mass = kernels("trijet_pt", *two_b_jets.values())
    values = kernels("ht", one_b_pt), trijet_mass
    return region, _Observables(
        values=np.concatenate(values),
        region=np.repeat([0, 1], [len(part) for part in values]),
        events=np.concatenate([np.flatnonzero(one_b), np.flatnonzero(two_b)]),
        pt=(one_b_pt, two_b_jets["pt"]),
    )


def _weights(
    pt: tuple[ak.Array, ak.Array], process: str, kernels: Callable[..., Any]
) -> dict[str, NDArray[np.float64]]:
    """Weights of the variations that change only weights."""
    btag = np.concatenate([kernels("btag_weights", part) for part in pt])
    weights = dict(zip(BTAG_VARIATIONS, btag.T, strict=True))
    if process == SCALE_PROCESS:
        weights |= {name: np.full(len(btag), weight) for name, weight in SCALE_WEIGHTS.items()}
    return weights


def _steps(n_events: int, region: NDArray[np.int8]) -> dict[str, int]:
    counts: tuple[Any, ...] = (
        n_events,
        len(region),
        np.count_nonzero(region >= FOUR_JETS),
        np.count_nonzero(region == FOUR_JETS_ONE_B),
        np.count_nonzero(region == FOUR_JETS_TWO_B),
    )
    return {step: int(count) for step, count in zip(STEPS, counts, strict=True)}


def is_data(metadata: Mapping[str, Any]) -> bool:
    """Whether a data set is real data, which weighs 1 and has no variations."""
    return bool(metadata.get("isData"))


def _samples(fileset: Mapping[str, Any]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Metadata of the data sets of each sample, by process and variation."""
    samples: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for dataset in fileset.values():
        metadata = dataset["metadata"]
        sample = metadata["process"], metadata.get("variation", NOMINAL)
        samples.setdefault(sample, []).append(metadata)
    return samples


def real_data(fileset: Mapping[str, Any]) -> list[str]:
    """Processes of real data."""
    return sorted(
        {process for (process, _), every in _samples(fileset).items() if is_data(every[0])}
    )


def check(fileset: Mapping[str, Any], variations: Variations = "all") -> list[str]:
    """Names of the histograms that a file set will give; InputError if they are ambiguous.

    They are if two samples would have one name, a process is both real data and simulated, or one
    has the name of the pseudodata.
    """
    samples = _samples(fileset)
    kinds: dict[str, bool] = {}
    known: dict[str, tuple[str, str]] = {}
    names: dict[str, tuple[str, str]] = {}
    for (process, variation), every in samples.items():
        of_process = f"the process {process!r}"
        real = is_data(every[0])
        if process == histograms.PSEUDODATA:
            msg = f"{of_process} has the name that is made of samples: give it another"
            raise InputError(msg)
        if any(is_data(metadata) != kinds.setdefault(process, real) for metadata in every):
            msg = f"{of_process} is real data in one data set and simulated in another: name two"
            raise InputError(msg)
        filled = histograms.variations(process, variation)
        if variations != "all" or real:
            filled = (variation,)
        for where, name in (
            (known, sample_name(process, variation)),
            *(
                (names, histograms.Name(r, process, shift).published)
                for r in histograms.REGIONS
                for shift in filled
            ),
        ):
            other = where.setdefault(name, (process, variation))
            if other != (process, variation):
                msg = (
                    f"the samples {other[0]!r}, {other[1]!r} and {process!r}, {variation!r} would "
                    f"both be called {name}: name the process of one otherwise"
                )
                raise InputError(msg)
    return list(names)


def whole_cutflow(
    cutflow: Mapping[str, Any], fileset: Mapping[str, Any]
) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """Cutflow whose step ``all`` includes events that were not delivered.

    ``cut_in_delivery`` in the metadata of a data set is their number.
    """
    cut = {
        sample: round(sum(metadata.get(CUT_IN_DELIVERY, 0) for metadata in every))
        for sample, every in _samples(fileset).items()
    }
    return {
        process: {
            variation: {
                shift: {**steps, "all": steps["all"] + cut[process, variation]}
                for shift, steps in shifts.items()
            }
            for variation, shifts in samples.items()
        }
        for process, samples in cutflow.items()
    }


def normalise(accumulated: Mapping[str, Any], fileset: Mapping[str, Any]) -> dict[str, hist.Hist]:
    """Histograms by sample, scaled to the luminosity.

    An event weighs cross section x luminosity / number of events, and 1 in real data. Metadata of
    data sets have ``xsec`` (pb); without ``nevts``, the number of processed events is taken.
    """
    scaled = {}
    for (process, variation), every in _samples(fileset).items():
        name = sample_name(process, variation)
        if name not in accumulated["histograms"]:
            continue
        weight = 1.0
        if not is_data(every[0]):
            section, *others = {metadata["xsec"] for metadata in every}
            if others:
                msg = (
                    f"the data sets of {name} have different cross sections: "
                    "give them the same xsec"
                )
                raise InputError(msg)
            events = [metadata.get("nevts") for metadata in every]
            given = 0 if None in events else sum(filter(None, events))
            n_events = given or accumulated["cutflow"][process][variation][NOMINAL]["all"]
            if not n_events:
                msg = f"the sample {name} has no events to normalise to: leave it out"
                raise InputError(msg)
            weight = event_weight(section, n_events)
        scaled[name] = accumulated["histograms"][name] * weight
    return scaled
