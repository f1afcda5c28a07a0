"""The campaign on hosts measures what it says, keeps records, and refuses another result."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import InputError
from perf.hosts import campaign, records
from perf.hosts.campaign import FIRST, LOST, SCENARIOS, Campaign, Measured
from perf.hosts.client import Answer
from perf.hosts.network import why_not
from perf.records.record_file import Input
from perf.scaling.reference import Reference
from tests.perf.hosts.test_engines import require
from tests.support.factories import record

GIVEN = Input(digest="d" * 64, events=800, source="made up")


def answer(content: dict[str, int], events: int = 800) -> Answer:
    pickled = base64.b64encode(pickle.dumps(content)).decode()
    return Answer(pickled, events, 8, 0.5, sent=8_000, received=16_000, results=4)


def test_an_answer_is_only_taken_if_it_is_that_of_the_reference() -> None:
    reference = Reference({"n": 3}, 8, single=True, sizes={})
    into = Measured("dask", SCENARIOS[0], 800, 8)
    assert campaign._checked(answer({"n": 3}), reference, into).accumulated == {"n": 3}
    for wrong, said in (
        (answer({"n": 4}), "differs from the reference"),
        (answer({"n": 3}, events=700), "differs from the reference: 700"),
        ("the scheduler is gone\nand more", "dask, near: the scheduler is gone$"),
    ):
        with pytest.raises(InputError, match=said):
            campaign._checked(wrong, reference, into)


def test_records_say_what_was_measured() -> None:
    made = []
    for scenario in (FIRST, *SCENARIOS, LOST):
        measured = Measured("dask", scenario, 800, 8)
        measured.add(answer({}))
        made.append(records.record(measured, GIVEN, "run", 0.1, "made-up"))
    assert len({one.what.name for one in made}) == len(made)
    assert records.of_last_run([record(), *made]) == made
    assert records.of_last_run([record()]) == []
    row = records.row(made[1])
    assert (row.engine, row.scenario, row.runs) == ("dask", "near", 1)
    assert (row.rate, row.sent, row.received, row.result) == (1600, 1000, 2000, 4000)
    assert row.rates == "1,600"
    several = made[1].model_copy(update={"wall_seconds": (0.5, 0.4, 1.0)})
    assert records.row(several).rates == "1,600 (800 to 2,000)"


@pytest.mark.slow
def test_delay_is_measured_and_reading_ahead_saves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    require("nginx")
    wanted = tuple(one for one in SCENARIOS if one.name in {"50 ms", "50 ms, by branch"})
    kept: list[Measured] = []
    # A relative folder, as the command's own is.
    monkeypatch.chdir(tmp_path)
    small = Campaign(Path("events"), 1600, 1, "columnar", wanted)
    done = small.measure(["iterative"], np.random.default_rng(1), lambda _: None, kept.append)
    assert done == kept
    first, ahead, by_branch = done
    assert first.scenario == FIRST
    # Of each chunk two waits for an answer with reading ahead, and a dozen more without.
    assert ahead.wall[0] >= 8 * 0.1
    assert by_branch.wall[0] >= 8 * 10 * 0.1
    # What was read, and for each branch a request.
    assert by_branch.sent[0] > 2 * ahead.sent[0] > 0
