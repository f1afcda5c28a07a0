"""The whole workflow, from files to plots, stage by stage: the time that a user waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perf.cases.case import Case
    from perf.plugin import Timed


def test_whole(case: Case, timed: Timed) -> None:
    """Do one stage; those before it are done."""
    timed(case)
