"""Advice follows a law that is fitted to records, and there is none outside of what they measured."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import InputError
from analysis.executors import EXECUTORS
from analysis.executors.order import guided
from analysis.files import inspection
from perf.scaling import advice, advice_fit
from perf.scaling.advice import Question, advise
from tests.support.factories import record
from tests.support.scaled import (
    CHUNKSIZES,
    COSTS,
    SHAPES,
    WORKERS,
    machine,
    merging,
    records,
    scaled,
)

if TYPE_CHECKING:
    from perf.scaling.advice import Laws

JOB = Question(events=50_000_000, files=200, workers=8)


@cache
def laws(noise: float = 0.0) -> Laws:
    return advice_fit.fitted(records(noise=noise))[0].laws


# --- the fit


def test_the_coefficients_of_the_records_are_recovered() -> None:
    (one,) = advice_fit.fitted(records())
    futures = next(law for law in one.laws.laws if law.engine == "futures")
    for field in dataclasses.fields(COSTS):
        name = field.name
        assert getattr(futures.costs, name) == pytest.approx(getattr(COSTS, name), rel=1e-4), name
        assert one.errors["futures"][name] < 1e-3 * getattr(COSTS, name) + 1e-12
    assert futures.event_bytes == pytest.approx(400, rel=0.05)
    assert futures.ns == pytest.approx(1200)
    assert one.right("run") == one.right("whole") == (len(one.held_out), len(one.held_out))
    assert futures.run_spread < 1.001


def test_held_out_cells_are_not_used_to_predict_them() -> None:
    """One that does not follow the law is predicted by the others, and counted as wrong."""
    odd = scaled(16, 500_000, 125_000, 4, noise=3.0)
    (one,) = advice_fit.fitted([*records(["futures"], cells=30), odd])
    cell = (8_000_000, 16, 64, 4)
    (found,) = [each for each in one.held_out if each.seen.cell == cell]
    expected = scaled(16, 500_000, 125_000, 4).wall_median
    assert found.run == pytest.approx(expected, rel=1e-3)
    assert not found.close("run")


def test_intervals_hold_new_cells_in_about_the_stated_share() -> None:
    held = total = 0
    for seed in range(12):
        (one,) = advice_fit.fitted(records(["futures"], noise=0.1, cells=20, seed=seed))
        law = one.laws.laws[0]
        for new in records(["futures"], noise=0.1, cells=40, seed=seed + 1000):
            metrics, workers = new.metrics, new.what.workers or 0
            question = Question(int(metrics["events"]), int(metrics["files"]), workers)
            answer = advice.predict(law, question, workers, int(metrics["chunks"]))
            held += answer.run.low <= new.wall_median <= answer.run.high
            total += 1
    assert 0.7 < held / total < 0.95


def test_coefficients_of_few_numbers_of_workers_have_no_crosstalk() -> None:
    (one,) = advice_fit.fitted(records(["futures"], workers=(1, 2)))
    assert one.laws.laws[0].costs.crosstalk == 0
    assert one.right("run")[0] == len(one.held_out)


def test_the_worker_runs_of_a_cell_are_one_cell_and_only_the_newest_code_counts() -> None:
    parameters = scaled(*SHAPES[0], CHUNKSIZES[0], 2).what.parameters | {"code": "old"}
    old = records(["futures"], cells=12, seed=2, noise=1, parameters=parameters)
    new = records(["futures"], cells=12)
    again = [scaled(*SHAPES[0], CHUNKSIZES[0], 2), scaled(*SHAPES[0], CHUNKSIZES[0], 2)]
    (one,) = advice_fit.fitted([*old, *new])
    (more,) = advice_fit.fitted([*old, *new, *again, *again])
    assert one.laws.laws[0].cells == 12
    assert more.laws.laws[0].cells <= 13
    assert one.laws.laws[0].costs.event == pytest.approx(COSTS.event, rel=1e-3)


def test_newer_code_on_few_inputs_takes_away_no_law() -> None:
    parameters = scaled(*SHAPES[0], CHUNKSIZES[0], 2).what.parameters | {"code": "old"}
    old = records(["futures"], cells=12, parameters=parameters)
    few = [scaled(*SHAPES[0], CHUNKSIZES[0], count, noise=9) for count in (1, 2)]
    (one,) = advice_fit.fitted([*old, *few])
    assert one.laws.laws[0].cells == 12
    # But of another coffea nothing is told.
    versions = few[0].versions | {"coffea": "2026.10.0"}
    newer = [each.model_copy(update={"versions": versions}) for each in few]
    (none,) = advice_fit.fitted([*old, *newer])
    assert none.laws.laws == ()


def test_too_few_cells_give_no_law_and_other_records_none_at_all() -> None:
    (one,) = advice_fit.fitted(records(["futures"], cells=7))
    assert one.laws.laws == ()
    assert dict(one.laws.missing)["futures"] == "not measured: 7 inputs of at least 8"
    old = [each.model_copy(update={"metrics": {}}) for each in records(["futures"])]
    assert advice_fit.fitted([record(), *old]) == []


def test_the_machine_that_was_measured_first_comes_first_and_another_may_answer() -> None:
    small = records(["futures"], cells=10, workers=(1, 2), machine=machine("small", 2))
    few = records(["futures"], cells=3, machine=machine("few"))
    many = records(["futures"])
    fitted = advice_fit.fitted([*many, *few, *small])
    found = [one.laws for one in fitted]
    assert [one.machine.partition(":")[0] for one in found] == ["small", "many", "few"]
    assert advice.first_that_answers(found, JOB)[0] == found[1]
    cell = fitted[0].held_out[0].seen.cell
    known = Question(cell.events, cell.files, cell.workers)
    assert advice.first_that_answers(found, known)[0] == found[0]


def test_bytes_of_results_cost_what_the_benchmarks_of_merging_say() -> None:
    merged = [
        merging("futures", 10e-3, 0, tasks=10),
        merging("futures", 1.0, 0, tasks=1_000),
        merging("futures", 10 * (0.001 + 0.016), 16_000_000),
        merging("dask", 1.0, 16_000_000),
    ]
    assert len(guided([1] * 16, 2)) == 10
    (one,) = advice_fit.fitted([*records(["futures"]), *merged])
    law = one.laws.laws[0]
    assert law.merge == pytest.approx(1e-9)
    assert law.largest_accumulator == 16_000_000
    small = advise(one.laws, JOB).answers[0]
    large = advice._best(law, dataclasses.replace(JOB, accumulator=16_000_000), None)
    assert isinstance(large, advice.Answer)
    batches = len(guided([1] * large.chunks, 8))
    assert large.merging == pytest.approx(1e-9 * (16_000_000 - 20_000) * batches)
    assert large.run.value > small.run.value


# --- the answer


def test_an_answer_is_what_the_law_says() -> None:
    best = advise(laws(), JOB).answers[0]
    assert (best.engine, best.workers) == ("futures", 8)
    expected = scaled(200, 250_000, best.chunksize, 8)
    whole = sum(float(expected.metrics[k]) for k in ("inspect_wall", "start_wall", "first_wall"))
    assert best.chunks == expected.metrics["chunks"]
    assert best.run.value == pytest.approx(expected.wall_median, rel=1e-3)
    assert best.whole.value == pytest.approx(whole, rel=1e-3)
    assert best.start + best.work + best.waiting + best.merging == pytest.approx(best.whole.value)
    runs = {size: scaled(200, 250_000, size, 8).wall_median for size in CHUNKSIZES}
    assert runs[best.chunksize] == min(runs.values())


def test_executors_are_ranked_and_the_iterative_one_has_one_worker() -> None:
    found = advise(laws(), JOB)
    assert [one.engine for one in found.answers] == ["futures", "iterative"]
    assert found.answers[1].workers == 1
    times = [one.whole.value for one in found.answers]
    assert times == sorted(times)


def test_no_executor_without_records_is_advised() -> None:
    found = advise(laws(), JOB)
    advised = {one.engine for one in found.answers}
    refused = dict(found.refused)
    assert advised | refused.keys() == set(EXECUTORS)
    assert all(refused[name] == "not measured: there are no records of it" for name in refused)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(50_000_000, 200, 32), "not measured: 32 workers, only 1 to 16"),
        (Question(50_000_000, 201, 8), "not measured: 201 files, only 1 to 200"),
        (Question(50_000_001, 200, 8), "not measured: 50,000,001 events, only 1,000,000 to"),
        (Question(999_999, 1, 8), "not measured: 999,999 events"),
        (Question(1_000_000, 200, 8), "not measured: such chunks, only"),
        (Question(50_000_000, 200, 8, ns=1e6), "not measured: such chunks, only"),
        (
            Question(50_000_000, 200, 8, 20_001),
            "not measured: an accumulator of 20,001 bytes, only",
        ),
    ],
)
def test_nothing_is_said_outside_of_what_was_measured(question: Question, said: str) -> None:
    futures = dict(advise(laws(), question).refused)["futures"]
    assert futures.startswith(said)
    only = tuple(law for law in laws().laws if law.engine == "futures")
    with pytest.raises(InputError, match="not measured"):
        advice.first_that_answers([dataclasses.replace(laws(), laws=only)], question)


def test_the_iterative_executor_is_not_advised_because_no_other_was_measured() -> None:
    found = advise(laws(), dataclasses.replace(JOB, workers=17))
    assert found.answers == ()
    assert dict(found.refused)["iterative"] == "not measured: 17 workers, only 1 to 16"


def test_what_needs_more_memory_than_the_machine_has_is_refused() -> None:
    small = dataclasses.replace(laws(), memory=3 * 10**9)
    found = advise(small, dataclasses.replace(JOB, workers=16))
    assert dict(found.refused)["futures"].startswith("too large: 5.")
    # Smaller chunks need less: they are taken though they take longer.
    tight = dataclasses.replace(laws(), memory=int(16 * 3.6e8 + 2e8))
    slow = advise(tight, dataclasses.replace(JOB, workers=16)).answers[0]
    free = advise(laws(), dataclasses.replace(JOB, workers=16)).answers[0]
    assert slow.chunksize < free.chunksize
    assert slow.memory <= tight.memory if tight.memory else False


def test_a_processor_of_twice_the_time_takes_twice_the_time_of_events() -> None:
    law = next(law for law in laws().laws if law.engine == "futures")
    once, twice = (
        advice.predict(law, Question(10**7, 40, 8, ns=ns), 8, 80) for ns in (1200, 2400)
    )
    fixed = advice.predict(law, Question(1, 1, 8), 8, 80).run.value
    assert twice.run.value - fixed == pytest.approx(2 * (once.run.value - fixed), rel=1e-3)


@given(st.integers(1, 500), st.integers(1, 64), st.integers(10**4, 10**8))
def test_more_workers_are_slower_only_where_the_law_says_so(
    number: int, workers: int, events: int
) -> None:
    """Without crosstalk, a worker more never slows a run; with it, by no more than its term."""
    law = next(law for law in laws().laws if law.engine == "futures")
    question = Question(events, 1, workers)

    def run(one: advice.Law, count: int) -> float:
        return advice.predict(one, question, count, number).run.value

    amdahl = dataclasses.replace(law, costs=dataclasses.replace(law.costs, crosstalk=0.0))
    assert run(amdahl, workers + 1) <= run(amdahl, workers) * (1 + 1e-12)
    assert run(law, workers + 1) <= run(law, workers) * (1 + 1e-12) + law.costs.crosstalk * events


@given(st.integers(1, 300), st.integers(1, 2_000_000), st.integers(20_000, 10**6))
def test_chunks_are_those_that_coffea_makes(files: int, events: int, chunksize: int) -> None:
    one = inspection.File("d", "f.root", "Events", events, b"", ttree=True)
    number = len(inspection.chunks([one], chunksize))
    assert advice.chunks(Question(files * events, files, 1), chunksize) == files * number


def test_batches_are_those_of_the_executors() -> None:
    for number, workers in itertools.product((1, 7, 64, 1000), (*WORKERS, 3)):
        assert advice.batches(number, workers) == len(guided([1] * number, workers))


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 2, 1), (10, 1, 0)])
def test_a_question_without_sense_is_an_error(bad: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="at least one event a file"):
        Question(*bad)
    for more in ({"ns": 0.0}, {"accumulator": -1}):
        with pytest.raises(InputError, match="0 bytes or more"):
            Question(10, 1, 1, **more)


def test_ties_are_told_and_no_chunk_is_larger_than_a_file() -> None:
    """Futures and Dask have one law here; files have 250,000 events, chunks up to 500,000."""
    (one,) = advice_fit.fitted(records(["iterative", "futures", "dask"], noise=0.02))
    found = advice.advise(one.laws, advice.Question(50_000_000, 200, 8))
    assert {found.answers[0].engine, *found.as_fast} == {"futures", "dask"}
    assert all(answer.chunksize <= 250_000 for answer in found.answers)
    assert one.laws.laws[0].chunksizes[-1] > 250_000
    refused = dict(advice.advise(one.laws, advice.Question(10**9, 2000, 32)).refused)
    assert refused["futures"].startswith(
        "not measured: 32 workers, only 1 to 16; 2,000 files, only"
    )
    assert "1,000,000,000 events, only" in refused["futures"]
