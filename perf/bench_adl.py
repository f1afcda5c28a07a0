"""The ADL queries in every implementation, by number of events, and on real CMS events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_query(case: Case, timed: Timed) -> None:
    """Fill the histogram of the query from columns in memory."""
    timed(case)
