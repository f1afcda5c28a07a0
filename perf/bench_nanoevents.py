"""NanoEvents: opening a file, reading columns, filling a histogram; by number of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_nanoevents(case: Case, timed: Timed) -> None:
    """Do with a file, or its columns, what coffea does for an analysis."""
    timed(case)
