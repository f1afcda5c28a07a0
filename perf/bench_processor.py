"""The ttbar processor in this process, by implementation and chunk size.

With worker processes it is measured by `perf.bench_executors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_processor(case: Case, timed: Timed) -> None:
    """Process every event of a file set."""
    timed(case)
