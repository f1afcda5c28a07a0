"""What a peer is asked: a query and its axis. It is imported in environments without coffea."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

TTBAR: Final = "ttbar"
"""The nominal ttbar selection, among the names of the ADL queries."""

CHANNELS: Final = ("electron", "muon")
REGIONS: Final = ("4j1b", "4j2b")
"""The histograms of `TTBAR`: those of both regions for electrons, then for muons."""

CHUNK: Final = 250_000
"""Events that peers which read by chunks hold at a time."""

Edges = Literal["boost-histogram", "ROOT"]
"""Whose rounding says to which of two bins a value exactly on their edge belongs.

The first counts ``(value - low) / (high - low) * bins``, ROOT's TAxis
``bins * (value - low) / (high - low)``: 580 on 100 bins from 0 to 2000 is one bin apart.
"""


class Query(NamedTuple):
    """A query with the regular axis of its histograms; NaN belongs to the overflow."""

    name: str
    """"1" to "5", "6a", "6b", "7", "8", or `TTBAR`."""
    bins: int
    low: float
    high: float
    edges: Edges = "boost-histogram"

    @property
    def histograms(self) -> int:
        """How many histograms it fills."""
        return len(CHANNELS) * len(REGIONS) if self.name == TTBAR else 1

    @property
    def size(self) -> int:
        """Bins of one histogram, with underflow and overflow."""
        return self.bins + 2
