"""Pictures: drawn from records alone, the same ones from the same records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf.publish.figures import draw, draw_executors, draw_history
from perf.records import record_file
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from pathlib import Path

    from perf.records.record_file import Record


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
    # Each may be of a run of its own; what the ablation changes, and what is older, is left out.
    apart = [one.model_copy(update={"run": f"{n:032x}"}) for n, one in enumerate(records)]
    older = [one.model_copy(update={"cpu_seconds": (9.0, 9.0)}) for one in pair("dask")]
    draw_executors([*older, *apart, *pair("dask", "a task a chunk")], again)
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
    with pytest.raises(InputError, match=r"no kernels of 10 events: .* those of 1000 with --size"):
        draw([record()], tmp_path / "none.svg", size=10)
    assert not list(tmp_path.iterdir())


def test_a_run_of_few_is_drawn_if_there_is_no_other(
    tmp_path: Path,
) -> None:
    path, drawn = tmp_path / "records.jsonl", tmp_path / "one.svg"
    for one in pair("dask"):
        record_file.append(path, one)
    for of, status in (("executors", 0), ("kernels", 2)):
        outcome = cli.perf("picture", drawn, "--records", path, "--of", of)
        assert outcome.exit_code == status
    assert ">dask</text>" in drawn.read_text()
    assert "run `pytest --benchmark-only`" in outcome.error


def test_a_picture_of_two_machines_names_both(tmp_path: Path) -> None:
    one = released("2026.9.0", "2026-09-13")
    other = one.machine.model_copy(update={"name": "another"})
    draw_history([one, one.model_copy(update={"machine": other})], tmp_path / "both.svg")
    text = (tmp_path / "both.svg").read_text()
    assert "made-up" in text
    assert "another" in text


@pytest.mark.parametrize("name", ["history.nosuch", "nosuch/history.svg"])
def test_a_picture_that_cannot_be_written_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written .* name an \.svg"):
        draw_history([released("2026.9.0", "2026-09-13")], tmp_path / name)
