"""Pictures: drawn from records alone, the same ones from the same records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf.picture import draw, draw_executors, draw_history
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


def released(version: str, day: str, stack: str = "", act: str = "adl-1") -> Record:
    """What `history run` records."""
    of = {"coffea": version, "released": day, "stack": stack, "act": act}
    return record(parameters=of)


def test_releases_are_on_the_line_of_their_dependencies(tmp_path: Path) -> None:
    records = [
        released("2026.9.0", "2026-09-13"),
        released("2025.7.3", "2025-07-27"),
        released("2025.7.3", "2025-07-27", stack="2026.9.0"),
        released("0.7.31", "2026-02-13"),
        released("0.7.22", "2023-10-05", act="ttbar-futures"),
    ]
    one, again = tmp_path / "one.svg", tmp_path / "again.svg"
    draw_history(records, one)
    draw_history(records[::-1], again)
    text = one.read_text()
    lines = ["coffea 0.7", "dependencies of the time", "dependencies of 2026.9.0"]
    assert [text.count(f">{line}</text>") for line in lines] == [1, 1, 1]
    assert ">2024</text>" in text
    assert one.read_bytes() == again.read_bytes()


def test_without_records_one_sentence_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="claims --only 'executor-"):
        draw_executors([record()], tmp_path / "none.svg")
    with pytest.raises(InputError, match="history run"):
        draw_history([record()], tmp_path / "none.svg")
    with pytest.raises(InputError, match="--benchmark-only"):
        draw(pair("dask"), tmp_path / "none.svg", size=1_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["history.nosuch", "nosuch/history.svg"])
def test_a_picture_that_cannot_be_written_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .* name an \.svg"):
        draw_history([released("2026.9.0", "2026-09-13")], tmp_path / name)
