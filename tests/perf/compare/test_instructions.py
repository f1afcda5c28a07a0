"""Instructions are counted, the same each time, and more of more work."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf.compare import benchmarks, instructions, sides
from tests.support import toy_repository
from tests.support.toy_repository import TIMED, WORK

if TYPE_CHECKING:
    from pathlib import Path


counting = pytest.mark.skipif(
    instructions.missing() is not None, reason=str(instructions.missing())
)


@counting
@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.parametrize(
    ("name", "tolerance"), [("trijet_pt-compiled", 0.0), ("ht-columnar", 0.005)]
)
def test_three_runs_count_the_same(
    name: str, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (one,) = benchmarks.kernels(tmp_path, tmp_path / "data", [name], size=1000)
    here = sides.side(".")
    runs = [median(instructions.count(one, here)) for _ in range(3)]
    assert min(runs) > 1000
    assert max(runs) - min(runs) <= tolerance * min(runs)


@pytest.mark.slow
@counting
def test_twice_the_work_is_twice_the_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    states = {"base": {}, "five": {"beta": WORK * 105 // 100}, "double": {"beta": 2 * WORK}}
    repository = toy_repository.repository(tmp_path, states)
    (one,) = benchmarks.functions(toy_repository.suite(tmp_path, TIMED), ["beta"])
    base, again, five, double = (
        median(instructions.count(one, sides.side(f"{tag}@{repository}")))
        for tag in ("base", "base", "five", "double")
    )
    assert again == pytest.approx(base, rel=0.002)
    # All but the call of the function itself is its loop.
    assert five / base == pytest.approx(1.05, abs=0.01)
    assert double / base == pytest.approx(2.0, abs=0.1)


def test_why_nothing_can_be_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="make valgrind"):
        instructions.require()
