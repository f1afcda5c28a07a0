"""Processors that are not as good as they look. Importable by workers, as a user's module is."""

from __future__ import annotations

import os
import signal
from multiprocessing import current_process
from typing import Any

from coffea.processor import ProcessorABC


class Counts(ProcessorABC):
    """Counts events: what the others do beside."""

    def process(self, events: Any) -> dict[str, Any]:
        return {"events": len(events), "weight": 0.1 * len(events), **self.beside()}

    def beside(self) -> dict[str, Any]:
        """Results that depend on what they must not depend on."""
        return {}

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


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
