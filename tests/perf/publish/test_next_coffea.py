"""What coffea.compute takes over today's executors is of the same rounds of one campaign."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from perf.publish import next_coffea
from perf.publish.page import Material
from perf.publish.pages import written
from tests.support.scaled import scaled

if TYPE_CHECKING:
    from perf.records.record_file import Record

EVENTS, CHUNK = 1_000_000, 50_000


def run(executor: str, turn: int, noise: float, workers: int = 2, **options: Any) -> Record:
    """A worker run whose wall and CPU times are `noise` times those of the law."""
    one = scaled(1, EVENTS, CHUNK, workers, executor=executor, noise=noise)
    parameters = one.what.parameters | {"round": turn, "options": json.dumps(options)}
    return one.model_copy(
        update={
            "what": one.what.model_copy(update={"parameters": parameters}),
            "cpu_seconds": tuple(noise * of for of in one.cpu_seconds),
            "metrics": one.metrics | {"task_wall": noise * 1e-4, "start_wall": noise},
            "versions": one.versions | {"coffea.compute": "c8840381ff"},
        }
    )


def campaign(compute: float, drift: float = 0.0, rounds: int = 6) -> list[Record]:
    """Rounds, each slower than the one before: only ratios within a round are alike."""
    return [
        one
        for turn in range(rounds)
        for slow in [1.5**turn]
        for one in (
            run("compute", turn, compute * slow * (1 + drift * turn)),
            run("futures", turn, slow),
            run("futures", turn, 0.8 * slow, pool="threads"),
            run("futures", turn, slow, workers=1),
            run("iterative", turn, 2 * slow, workers=1),
        )
    ]


def test_ratios_are_of_the_same_round() -> None:
    made = campaign(1.2)
    found = next_coffea.beside([*reversed(made)])
    assert found
    rows = [row["label"] for row in found["rows"]]
    assert rows == ["iterative", "futures", "futures, pool=threads", "compute"]
    assert found["over"].keys() == {"iterative", "futures", "futures, pool=threads"}
    for label, ratio in (("futures", 1.2), ("futures, pool=threads", 1.5), ("iterative", 0.6)):
        of = found["over"][label]
        assert [*of["cpu"].values()] == pytest.approx([ratio] * 3)
        assert [*of["task"].values()] == pytest.approx([ratio] * 3)
    assert [*found["over"]["futures"]["rate"].values()] == pytest.approx([1 / 1.2] * 3)
    assert (found["rounds"], found["workers"], found["commit"]) == (6, 2, "c8840381ff")
    # Two workers and a client, and one process.
    processes, threads = (row["memory"] for row in found["rows"][1:3])
    assert processes > 2 * threads


def test_without_compute_there_is_nothing() -> None:
    assert next_coffea.beside([]) is None
    assert (
        next_coffea.beside([one for one in campaign(1) if one.what.executor != "compute"]) is None
    )


@pytest.mark.parametrize(
    ("compute", "sentence"),
    [
        (1.2, "1.50 (1.20 to 1.80) times the CPU time an event (more)"),
        (0.5, "0.625 (0.500 to 0.750) times the CPU time an event (less)"),
        (
            0.8,
            "1.00 (0.800 to 1.20) times the CPU time an event (no difference that can be told)",
        ),
    ],
)
def test_the_report_says_what_it_costs(compute: float, sentence: str) -> None:
    text = written.render(Material.of(campaign(compute, drift=0.1)))[written.REPORT]
    section = text.partition("## The next coffea")[2].partition("## Numba")[0]
    assert sentence in section
    assert "coffea.compute of commit c8840381ff in coffea 2026.9.0" in section
    assert "Not measured: `make next-coffea`" not in section
    assert "**The next coffea:** its branch" in text.partition("## The analysis")[0]
    few = written.render(Material.of(campaign(compute, drift=0.1, rounds=3)))[written.REPORT]
    assert "times the CPU time an event (not judged: too few rounds)" in few
