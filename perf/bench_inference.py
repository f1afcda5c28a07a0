"""The model, its fit, a hypothesis test and a limit, by backend and optimiser of pyhf.

Cold is a new process, with imports and everything that JAX compiles; warm is the next fit of the
same model, as of toys, scans and rankings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_inference(case: Case, timed: Timed) -> None:
    """Run one task with one backend and optimiser."""
    timed(case)
