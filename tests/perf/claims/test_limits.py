"""Claims about the limit and readers: how ratios are made, and that all can be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.errors import NotInstalledError
from perf.cases.data import Store
from perf.claims import limits as claims
from perf.limits import rounds
from perf.limits.rounds import Cell, Samples
from perf.limits.sides import Side, processor
from perf.records.limits import SUMS
from tests.support.limit_records import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perf.claims.verdict import Verdict

FUSED, COMPILED = processor("fused"), processor("compiled")


def measured(**cpu: Sequence[float]) -> claims.Measured:
    """Parts and processors in some processes."""
    sides = {
        **{Side(task=part): cpu[part] for part in SUMS["data only"]},
        FUSED: cpu["fused"],
        COMPILED: cpu["compiled"],
    }
    samples = Samples()
    for side, seconds in sides.items():
        samples.cpu[side] = samples.wall[side] = list(seconds)
        samples.check[side] = "c" * 64
    cell = Cell({}, IDENTITY, tuple(sides), "default")
    return claims.Measured(cell, samples, np.random.default_rng(0))


def found() -> claims.Measured:
    return measured(
        read=[1, 2, 1],
        data=[2, 4, 2],
        compute=[1, 2, 1],
        fused=[4.4, 8.8, 4.4],
        compiled=[6, 10.8, 9],
    )


def test_a_claim_about_the_limit_is_of_the_sum_of_its_parts_in_each_process() -> None:
    parts = [Side(task=part) for part in SUMS["data only"]]
    verdict = found().over("fused / limit", 1.2, FUSED, parts)
    assert verdict.measured.value == pytest.approx(1.1)
    assert (verdict.measured.low, verdict.measured.high) == pytest.approx((1.1, 1.1))
    assert verdict.holds
    assert verdict.claim == "fused / limit (allocator as it comes)"


def test_a_side_of_several_claims_is_kept_once_and_each_verdict_with_its_own() -> None:
    parts = [Side(task=part) for part in SUMS["data only"]]
    one = found()
    first, second = (one.over("x", 1, side, parts) for side in (FUSED, COMPILED))
    assert [arm.what.subject for arm in first.arms] == ["read", "data", "compute", "ttbar"]
    assert [arm.what.implementation for arm in second.arms] == ["compiled"]
    assert all(arm.what.name.startswith("claim-limit-zstd-nominal-default-") for arm in first.arms)


def test_a_further_chunk_takes_what_many_take_more_than_one() -> None:
    verdict = found().more("a chunk", 1e3, COMPILED, FUSED, 4)
    # (6 - 4.4) / 4 s, (10.8 - 8.8) / 4 s and (9 - 4.4) / 4 s.
    assert verdict.measured.value == pytest.approx(500)
    assert verdict.measured.high == pytest.approx(1150)
    assert verdict.unit == "milliseconds"
    assert not verdict.holds


def test_a_real_file_that_is_absent_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COFFEA_SCALING_DATA", raising=False)
    with pytest.raises(NotInstalledError, match="data folder is absent"):
        claims.real_file(np.random.default_rng(0))


def bounds(verdicts: Sequence[Verdict]) -> list[float | None]:
    arms = [arm for verdict in verdicts for arm in verdict.arms]
    names = [arm.what.name for arm in arms]
    assert len({*names}) == len(names)
    assert all(
        verdict.claim.endswith(")") and "allocator" in verdict.claim for verdict in verdicts
    )
    return [verdict.bound for verdict in verdicts]


@pytest.mark.slow
def test_every_claim_can_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    for name in ("LIMIT_EVENTS", "READING_EVENTS", "MEMORY_EVENTS"):
        monkeypatch.setattr(claims, name, 1_000)
    monkeypatch.setattr(claims, "FULL_EVENTS", 200)
    monkeypatch.setattr(claims, "FULL_CHUNK", 100)
    monkeypatch.setenv("COFFEA_SCALING_DATA", str(shared_data))
    store, rng = Store(tmp_path, 1_000), np.random.default_rng(0)
    assert bounds(claims.limit(store, rng, 1)) == [1.10, 1.40, 1.30, 2.0, 1.15]
    assert bounds(claims.implementations(store, rng, 1)) == [0.55, 0.80]
    assert bounds(claims.reading(store, rng, "workers", 1)) == [0.72, 0.85, 0.78, 0.72]
    assert bounds(claims.held_out(store, rng, 1)) == [1.02, 1.02]
    assert bounds(claims.real_file(rng, 1)) == [80, 40, 40, 40]
    asked: list[Cell] = []

    def measure(cells: Sequence[Cell], seed: int) -> list[Samples]:
        asked.extend(cells)
        return rounds.measure(cells, seed)

    monkeypatch.setattr(claims, "measure", measure)
    memory = claims.memory(store, "compiled")
    assert [side.name for side in asked[0].beside] == ["reference"]
    assert bounds([memory]) == [450e6]
    assert 1e8 < memory.measured.value < 1e10
