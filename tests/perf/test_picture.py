"""Pictures: drawn from records alone, the same ones from the same records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf.picture import draw, draw_executors
from tests.perf.made import record

if TYPE_CHECKING:
    from pathlib import Path

    from perf.results import Record


def pair(executor: str, variant: str = "") -> list[Record]:
    """What `claims` records of an executor with two workers."""
    common = {
        "kind": "processor",
        "subject": "ttbar",
        "group": f"ttbar, nominal, {executor} x2 {variant}",
        "parameters": {"variant": variant} if variant else {},
    }
    name = f"claim-executor-{executor}-{variant}-processor"
    return [
        record(**common | {"name": f"{name}-iterative", "executor": "iterative", "workers": 1}),
        record(**common | {"name": f"{name}-{executor}", "executor": executor, "workers": 2}),
    ]


def test_executors_have_each_a_row(tmp_path: Path) -> None:
    records = [*pair("dask"), *pair("dask", "plain"), *pair("apart")]
    one, again = tmp_path / "one.svg", tmp_path / "again.svg"
    draw_executors(records, one)
    draw_executors(records, again)
    text = one.read_text()
    assert [text.count(f">{name}</text>") for name in ("dask", "the machine's limit")] == [1, 1]
    assert "1,000 events, 2 workers" in text
    assert one.read_bytes() == again.read_bytes()


def test_kernels_have_each_a_row(tmp_path: Path) -> None:
    records = [
        record(subject=name, implementation=one)
        for name in ("ht", "jets")
        for one in ("columnar", "compiled")
    ]
    draw(records, tmp_path / "kernels.svg", size=1_000)
    text = (tmp_path / "kernels.svg").read_text()
    assert ">ht</text>" in text
    assert ">jets</text>" in text


def test_without_records_one_sentence_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="claims --only 'executor-"):
        draw_executors([record()], tmp_path / "none.svg")
    with pytest.raises(InputError, match="--benchmark-only"):
        draw(pair("dask"), tmp_path / "none.svg", size=1_000)
    assert not list(tmp_path.iterdir())
