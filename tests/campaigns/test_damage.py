"""Damaged files end in one sentence or in a result: a few of those of `make damage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.campaigns import damage
from tests.campaigns.damage import Kind

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [
    Kind("ttree", "zstd"),
    Kind("ttree", "none"),
    Kind("rntuple", "lz4"),
    Kind("parquet", "zstd"),
]


def test_damaged_files(tmp_path: Path) -> None:
    """Of four kinds, in four ways."""
    number = len(KINDS) * len(damage.DAMAGES)
    trials = damage.campaign(KINDS, number, 1, tmp_path, events=400)
    assert len(trials) == number
    wrong = [one for one in trials if one.ended not in damage.ENDS]
    assert not wrong, wrong
    # No file that was cut short passes for whole.
    assert {one.ended for one in trials if one.damage == "truncated"} == {"a sentence"}
