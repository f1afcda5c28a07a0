"""Executors: the throughput of the processor, and what they cost beside the work.

Starting workers takes seconds, whatever they then do, because each imports coffea; ending them
may take seconds too. Both are benchmarks of their own, from a new process and from one that did
it before. The others are measured on running workers: tasks that do nothing, the merging of
histograms, the number of files, the number of workers, the loss of a worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_executor(case: Case, timed: Timed) -> None:
    """Measure an executor."""
    timed(case)
