"""Every kernel in every implementation, by number of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_kernel(case: Case, timed: Timed) -> None:
    """Call the kernel on columns in memory."""
    timed(case)
