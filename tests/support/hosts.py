"""A client on hosts of their own, whose runs are compared with those of this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from perf.hosts.client import Answer, Run
from perf.hosts.clusters import served
from perf.records.difference import Arithmetic, difference
from tests.support.process_helpers import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perf.hosts.clusters import Client
    from perf.hosts.network import Host

CHUNK: Final = 250

BACK_SECONDS: Final = 20.0
"""How long a host is cut off that comes back."""

MODULES: Final = {
    "own_physics": """
import time
import uuid
from pathlib import Path

import hist
import numpy as np

from own_cuts import CUT


def counts(events):
    marks = Path("/tmp/marks")
    marks.mkdir(exist_ok=True)
    (marks / uuid.uuid4().hex).touch()
    jets = np.asarray(events.Jet.pt.layout.content.data)
    pt = hist.Hist.new.Reg(50, 0, 250, name="pt").Int64().fill(jets[jets > CUT])
    return {"pt": pt, "events": len(events)}


def slow_counts(events):
    time.sleep(1)
    return counts(events)
""",
    "own_cuts": "CUT = 30.0\n",
}
"""Modules that only the client has: its processors leave a file on the host for each call."""


@dataclass
class Cluster:
    """Hosts with a client whose executor is open."""

    hosts: Mapping[str, Host]
    client: Client
    fileset: Mapping[str, Any]
    address: str
    """Below which files are served."""
    reference: Answer | None = field(default=None)

    def own(self, name: str) -> Run:
        """A run of a processor in MODULES."""
        fileset = served(self.fileset, self.address)
        return Run(fileset, CHUNK, f"own_physics:{name}", MODULES)

    def ttbar(self, address: str | None = None) -> Run:
        """A run of the analysis."""
        fileset = served(self.fileset, address or self.address)
        return Run(fileset, CHUNK, implementation="columnar")

    def calls(self, host: str) -> int:
        """How often a processor was called on a host."""
        return len([*(self.hosts[host].root / "tmp").glob("marks/*")])

    def check_own(self, answer: Answer | str) -> None:
        """A run of own modules has every chunk once, and the histogram that the first one had."""
        assert isinstance(answer, Answer), answer
        events = 4000
        assert (answer.events, answer.chunks) == (events, events // CHUNK)
        assert answer.accumulated["events"] == events
        self.reference = self.reference or answer
        assert difference(answer.accumulated, self.reference.accumulated) is None

    def run_and_cut(self, victim: str, worker: str, back: float | None = None) -> Answer | str:
        """Cut a host off when this worker's host is at work, and join it again after a while."""
        before = self.calls(worker)
        self.client.begin(self.own("slow_counts"))
        wait_for(f"work on {worker}", lambda: self.calls(worker) > before)
        self.hosts[victim].cut_off()
        if back is not None:
            time.sleep(back)
            self.hosts[victim].connect()
        return self.client.end()


def check_ttbar(answer: Answer | str, expected: Any) -> None:
    """The analysis gave what it gives in this process."""
    assert isinstance(answer, Answer), answer
    arithmetic = Arithmetic(answer.events, answer.chunks, single=True)
    assert difference(answer.accumulated, expected, arithmetic=arithmetic) is None
