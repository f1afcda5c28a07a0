"""Ours with the fused implementation of ttbar: one compiled pass over the events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf.peers.ours import ttbar, versions

if TYPE_CHECKING:
    from perf.peers.query import Query

__all__ = ["run", "versions"]


def run(path: str, query: Query) -> list[float]:  # noqa: ARG001  (one signature for all)
    """Counts of the histograms of ttbar, of the events of a NanoAOD file."""
    return ttbar(path, "fused")
