"""The nominal ttbar analysis as it was published: records of vectors, no kernels.

It is the Analysis Grand Challenge's processor (version 2), written for today's coffea. It shares
only the histogram with `analysis.ttbar`, whose results it checks, and it is the baseline of
speed-ups: the code of an analyst who does not think of speed.
"""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
from coffea import processor

from analysis import histograms
from analysis.samples import sample_name

B_TAG_THRESHOLD = 0.5


class IdiomaticProcessor(processor.ProcessorABC):
    """Nominal histograms and cutflow, in the form of `analysis.ttbar.TtbarProcessor`."""

    def process(self, events: Any) -> dict[str, Any]:
        """Select, reconstruct and fill one chunk, as `TtbarProcessor.process` does."""
        process, variation = events.metadata["process"], events.metadata["variation"]
        histogram = histograms.new(process, [variation])
        electrons, muons, jets = events.Electron, events.Muon, events.Jet

        electron_reqs = (
            (electrons.pt > 30)
            & (np.abs(electrons.eta) < 2.1)
            & (electrons.cutBased == 4)
            & (electrons.sip3d < 4)
        )
        muon_reqs = (
            (muons.pt > 30)
            & (np.abs(muons.eta) < 2.1)
            & (muons.tightId)
            & (muons.sip3d < 4)
            & (muons.pfRelIso04_all < 0.15)
        )
        jet_reqs = (jets.pt > 30) & (np.abs(jets.eta) < 2.4) & (jets.jetId & 4 != 0)
        electrons = electrons[electron_reqs]
        muons = muons[muon_reqs]
        jets = jets[jet_reqs]

        one_lepton = ak.num(electrons) + ak.num(muons) == 1
        four_jets = one_lepton & (ak.num(jets) >= 4)
        n_btags = ak.sum(jets.btagCSVV2 > B_TAG_THRESHOLD, axis=1)
        regions = {"4j1b": four_jets & (n_btags == 1), "4j2b": four_jets & (n_btags >= 2)}

        for region, selection in regions.items():
            region_jets = jets[selection]
            if region == "4j1b":
                observable = ak.sum(region_jets.pt, axis=-1)
            else:
                # The hadronic top as the bjj system of largest pt.
                trijet = ak.combinations(region_jets, 3, fields=["j1", "j2", "j3"])
                trijet["p4"] = trijet.j1 + trijet.j2 + trijet.j3
                trijet["max_btag"] = np.maximum(
                    trijet.j1.btagCSVV2, np.maximum(trijet.j2.btagCSVV2, trijet.j3.btagCSVV2)
                )
                trijet = trijet[trijet.max_btag > B_TAG_THRESHOLD]
                largest = ak.argmax(trijet.p4.pt, axis=1, keepdims=True)
                observable = ak.flatten(trijet["p4"][largest].mass)
            has_electron = ak.num(electrons[selection]) == 1
            for channel, chosen in (("electron", has_electron), ("muon", ~has_electron)):
                histogram.fill(
                    channel=channel,
                    region=region,
                    process=process,
                    variation=variation,
                    observable=observable[chosen],
                )

        steps = {
            "all": len(events),
            "one_lepton": int(ak.sum(one_lepton)),
            "four_jets": int(ak.sum(four_jets)),
            **{region: int(ak.sum(selection)) for region, selection in regions.items()},
        }
        return {
            "histograms": {sample_name(process, variation): histogram},
            "cutflow": {process: {variation: {"nominal": steps}}},
        }

    def postprocess(self, accumulator: Any) -> Any:
        """Nothing."""
        return accumulator
