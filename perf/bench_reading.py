"""Reading: the same events from this machine, by XRootD and by HTTP at a distance, and in other formats.

The servers are real and run on this machine; `perf.servers.latency_proxy` adds the latency of a
network. By chunk size too, since every chunk opens its file anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_reading(case: Case, timed: Timed) -> None:
    """Process every event of a file set, wherever it lies."""
    timed(case)
