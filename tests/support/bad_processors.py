"""Processors that are not as good as they look. Importable by workers, as a user's module is."""

from __future__ import annotations

import os
import signal
from multiprocessing import current_process
from typing import Any

import awkward as ak
import hist
import numpy as np
import pandas as pd
from coffea.processor import ProcessorABC, column_accumulator


class Counts(ProcessorABC):
    """Counts events: what the others do beside."""

    def process(self, events: Any) -> dict[str, Any]:
        return {"events": len(events), "weight": 0.1 * len(events), **self.beside()}

    def beside(self) -> dict[str, Any]:
        """Results that depend on what they must not depend on."""
        return {}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


class Longest:
    """The longest chunk: merged by taking the larger."""

    def __init__(self, events: int) -> None:
        self.events = events

    def __add__(self, other: Longest) -> Longest:
        return Longest(max(self.events, other.events))


class ByLength(Counts):
    """Its result depends on the size of chunks."""

    def process(self, events: Any) -> Any:
        return {"longest": Longest(len(events))}


class MeanOfMeans(Counts):
    """Averages what chunks average, however many events each has."""

    def process(self, events: Any) -> Any:
        mean = float(np.mean(events.MET.pt))
        return hist.Hist.new.Reg(1, 0, 1).Mean().fill([0.5], sample=[mean])


class Ordinary(Counts):
    """Accumulates what users do, in every way that rounding and the order of chunks touch."""

    def process(self, events: Any) -> dict[str, Any]:
        jets, met = events.Jet, events.MET.pt
        rows = pd.DataFrame({"jets": [ak.count(jets.pt)], "pt": [ak.sum(jets.pt)]}, ["all"])
        both = ak.zip({"pt": jets.pt, "eta": jets.eta})
        axis, constant = hist.axis.Regular(4, 0, 200), np.full(len(met), 0.1)
        return {
            "python float": float(ak.sum(jets.pt)),
            "of both signs": float(ak.sum(jets.eta)) + 1.5 * float(ak.sum(jets.phi)),
            "normalised": 0.123 * float(ak.sum(events.genWeight)),
            "single": ak.sum(jets.pt),
            "array": np.array([ak.sum(jets.pt), ak.sum(jets.mass)]),
            "column": column_accumulator(jets.pt[met > 60]),
            "objects": column_accumulator(ak.materialize(both[met > 60])),
            "flat": column_accumulator(np.asarray(met)),
            "list": [float("nan") if one > 60 else one for one in met.tolist()],
            "rows": rows,
            "of a constant": hist.Hist(axis, storage="mean").fill(met, sample=constant),
            "weighted": hist.Hist(axis, storage="weightedmean").fill(met, sample=met, weight=met),
            "events": len(events),
        }


class ByProcess(Counts):
    """Its result depends on where it runs, as that of a processor with state does."""

    def beside(self) -> dict[str, Any]:
        return {"chunks in workers": int(current_process().name != "MainProcess")}


class Dies(Counts):
    """Takes any worker with it, but not the process of an iterative run."""

    def beside(self) -> dict[str, Any]:
        if current_process().name != "MainProcess":
            os.kill(os.getpid(), signal.SIGKILL)
        return {}
