"""The ttbar analysis as a coffea processor: single-lepton channel, AGC version 2, of kernels.

Source of all definitions: the code of iris-hep/analysis-grand-challenge (cms-open-data-ttbar).
The published reference histograms follow that code, not its documents.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
from coffea import processor

from analysis import fused, histograms
from analysis.errors import InputError
from analysis.files.columns import Columns
from analysis.files.fileset import CUT_IN_DELIVERY
from analysis.fused import IDENTITY, JET_FIELDS
from analysis.kernels import KERNELS, bind
from analysis.kernels import Implementation as KernelImplementation
from analysis.kernels._layout import flat
from analysis.kernels.btag_weights import VARIATIONS as BTAG_VARIATIONS
from analysis.kernels.leptons import ELECTRON, NEITHER
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
    from collections.abc import Callable, Mapping, Sequence

    import awkward as ak
    import hist
    from numpy.typing import NDArray

Implementation = Literal[KernelImplementation, "fused"]
IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = get_args(Implementation)
"""Those of the kernels, and one pass over the events that does what all of them do."""

Variations = Literal["all", "nominal"]

INPUTS: Final = (
    *IDENTITY,
    *KERNELS["electrons"].inputs,
    *KERNELS["muons"].inputs,
    *(f"Jet_{field}" for field in JET_FIELDS),
)
"""Branches that the processor reads; the first three are only for the jet resolution."""

STEPS: Final = ("all", "one_lepton", "four_jets", *histograms.REGIONS)
"""Steps of the cutflow; both regions are subsets of four_jets."""


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
        columns = Columns(events, self.replacements)
        every_variation = (
            self.variations == "all" and variation == NOMINAL and not is_data(events.metadata)
        )
        names: tuple[str, ...] = (variation,)
        shifts: tuple[str, ...] = (NOMINAL,)
        scales = SCALE_WEIGHTS if every_variation and process == SCALE_PROCESS else {}
        if every_variation:
            names += (*BTAG_VARIATIONS, *scales, *KINEMATIC_VARIATIONS)
            shifts += KINEMATIC_VARIATIONS

        fill = (
            fused.fill
            if self.implementation == "fused"
            else partial(fill_by_kernels, bind(self.implementation))
        )
        sums, regions = fill(columns, list(scales.values()), every_variation=every_variation)
        histogram = histograms.new(process, names)
        histograms.add_sums(histogram, sums)
        cutflow = {
            shift: _steps(len(events), of_shift)
            for shift, of_shift in zip(shifts, regions, strict=True)
        }
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


def fill_by_kernels(
    kernels: Callable[..., Any],
    columns: Mapping[str, Any],
    scales: Sequence[float],
    *,
    every_variation: bool,
) -> tuple[NDArray[np.float64], list[NDArray[np.int64]]]:
    """Sums of the histogram kernel by variation, and events with one lepton by shift and region.

    Variations are the nominal one and, if `every_variation` is wanted, those of b-tags, these
    `scales` as weights, and the shifts of the jets' energies.
    """
    channel = _channel(columns, kernels)
    one_lepton = channel != NEITHER
    jets = {f: kernels("skim", columns[f"Jet_{f}"], one_lepton) for f in JET_FIELDS}
    channel = channel[one_lepton] - ELECTRON

    shifted = [jets["pt"]]
    if every_variation:
        identity = (flat(columns[name])[one_lepton] for name in IDENTITY)
        shifted += [
            kernels("jet_scale", jets["pt"]),
            kernels("jet_resolution", *identity, jets["pt"]),
        ]

    sums, regions = [], []
    for pt in shifted:
        region, found = _select({**jets, "pt": pt}, kernels)
        weights = [np.ones(len(found.values))]
        if every_variation and pt is jets["pt"]:
            btag = [kernels("btag_weights", part) for part in found.pt]
            weights.extend(np.concatenate(btag).T)
            weights.extend(np.full(len(found.values), scale) for scale in scales)
        sums.append(
            kernels(
                "histogram",
                found.values,
                found.region + len(histograms.REGIONS) * channel[found.events],
                np.column_stack(weights),
                categories=len(histograms.CHANNELS) * len(histograms.REGIONS),
            )
        )
        regions.append(np.bincount(region, minlength=FOUR_JETS_TWO_B + 1))
    return np.concatenate(sums, axis=-1), regions


def _channel(columns: Mapping[str, Any], kernels: Callable[..., Any]) -> NDArray[np.int8]:
    masks = (
        kernels(name, *(columns[branch] for branch in KERNELS[name].inputs))
        for name in ("electrons", "muons")
    )
    channel: NDArray[np.int8] = kernels("leptons", *masks)
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


def _steps(n_events: int, regions: NDArray[np.int64]) -> dict[str, int]:
    """Cutflow of events of which so many with one lepton are in each region."""
    counts: tuple[Any, ...] = (
        n_events,
        regions.sum(),
        regions[FOUR_JETS:].sum(),
        regions[FOUR_JETS_ONE_B],
        regions[FOUR_JETS_TWO_B],
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
