"""Delivery by ServiceX, from a local endpoint that runs already, nothing cached.

It is the time that a user waits from the request to files on disk. It includes 0.2 s of polling,
the client's share of a short delivery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_delivery(case: Case, timed: Timed) -> None:
    """Deliver a file set."""
    timed(case)
