"""Claims about the start of executors: what they are made of, and what they refuse to report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.errors import InputError
from perf.cases import tasks
from perf.cases.data import Store
from perf.claims import start as claims
from tests.support.process_helpers import children

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "MANY", 3)
    monkeypatch.setattr(claims, "EVENTS", 2_000)


@pytest.mark.slow
def test_a_start_is_that_of_so_many_workers_and_runs_are_right(tmp_path: Path) -> None:
    before = children()
    found = claims.start(Store(tmp_path, 1_000), np.random.default_rng(0), "futures", rounds=2)
    assert children() <= before
    assert [(one.sense, one.bound, one.unit) for one in found] == [
        ("at most", 30.0, "seconds"),
        ("at most", 2.0, "ratio"),
        ("at most", 1.3, "ratio"),
        ("at most", 1.3, "ratio"),
    ]
    assert [one.claim.rpartition(", ")[2] for one in found[2:]] == ["wall time", "user CPU time"]
    arms = [arm for one in found for arm in one.arms]
    assert [arm.what.workers for arm in arms] == [1, 3, 2, 2]
    assert len({arm.what.name for arm in arms}) == 4
    assert all(len(arm.wall) == len(arm.cpu) == 2 for arm in arms)
    # A start takes CPU time, in this process or another.
    assert all(seconds > 0 for arm in arms[:2] for seconds in arm.cpu)
    assert arms[2].check == arms[3].check


def test_no_claim_is_made_of_workers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "meet", lambda *_: (0, set()))
    with pytest.raises(InputError, match="0 of 1 workers are there"):
        claims._started("iterative", 1)


def test_no_claim_is_made_of_a_run_with_another_result() -> None:
    with pytest.raises(InputError, match="differs from that of the iterative executor"):
        claims._timed(lambda: {"n": 1}, {"n": 2})
