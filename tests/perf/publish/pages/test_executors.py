"""Executors: the form answers as the command does, and the page shows what claims and laws say."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from analysis.errors import InputError
from analysis.executors import EXECUTORS
from perf.cases.case import BASE
from perf.claims.ablation import SETTINGS
from perf.claims.executors import IDLE, QUANTITIES, TASK, _Measured
from perf.claims.verdict import Verdict
from perf.hosts import records as hosts_records
from perf.hosts.campaign import SCENARIOS, Measured
from perf.measure.estimate import Estimate
from perf.publish import executor_facts, site
from perf.publish.numbers import figures, measured
from perf.publish.page import Material
from perf.publish.pages.executors import CLAIM, CLAIMS_COMMAND, PAGE
from perf.records import record_file
from perf.scaling import advice, advice_fit, laws, scheduler_cost, scheduler_records
from perf.scaling.scheduler_load import Load
from tests.support.factories import record
from tests.support.scaled import WORKERS, machine, merging, records, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from perf.publish.page import Page
    from perf.records.record_file import Record
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

ROOT = Path(__file__).parents[4]
MANY_CORES = ROOT.parent / "shared/many-cores"


def measured_enough() -> list[Record]:
    """Two machines with laws, one of them with merging."""
    return [
        *records(["iterative", "futures", "dask"], noise=0.05, cells=20),
        *records(["futures"], cells=10, workers=(1, 2), machine=machine("small", 2, 10**9)),
        merging("futures", 1.0, 0, tasks=1_000),
        merging("futures", 0.2, 16_000_000),
    ]


def claim(text: str, value: float, bound: float | None = None, **changes: Any) -> Record:
    """A record with what a claim about an executor said."""
    verdict = Verdict(
        text, "at most", bound, Estimate(value, value * 0.9, value * 1.1), "ratio", ()
    )
    return record(
        name="claim-executor-made-processor",
        kind="executor",
        subject="made",
        implementation=None,
        claims=(verdict.claimed,),
        **changes,
    )


# --- the form


def test_the_form_answers_as_the_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a real browser, over a grid of questions of which many are outside of what was measured."""
    api = pytest.importorskip("playwright.sync_api")
    monkeypatch.setattr(site, "PAGES", (PAGE,))
    material = measured_enough()
    machines = [one.laws for one in advice_fit.fitted(material)]
    questions = [
        advice.Question(*asked)
        for asked in itertools.product(
            (1_000_000, 1_500_000, 8_000_000, 50_000_000, 60_000_000),
            (1, 3, 16, 200, 201),
            (1, 2, 7, 16, 17),
            (None, 100, 10**6, 10**9),
            (None, 700.0, 1e7),
        )
    ]
    site.publish(material, tmp_path / "site", raw=False)
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        page, said = browser.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "site/index.html").as_uri())
        found = page.evaluate(
            """questions => {
                const machines = JSON.parse(document.getElementById("laws").textContent);
                return questions.map((one) => machines.map((laws) => advise.advise(laws, one)));
            }""",
            [dataclasses.asdict(question) for question in questions],
        )
        for key, value in {"events": 50_000_000, "files": 200, "workers": 8}.items():
            page.fill(f"[name={key}]", str(value))
        answer, link = page.inner_text("#advice p"), page.evaluate("location.href")
        again = browser.new_page()
        again.goto(link)
        restored = again.inner_text("#advice p")
        page.fill("[name=workers]", "17")
        refused = page.inner_text("#advice p")
        browser.close()
    assert not said
    answered = 0
    for question, of_machines in zip(questions, found, strict=True):
        for one, theirs in zip(machines, of_machines, strict=True):
            ours = json.loads(json.dumps(advice.as_json(one, advice.advise(one, question))))
            answered += len(ours["answers"])
            assert [a.pop("why") for a in ours["answers"]] == [
                a.pop("why") for a in theirs["answers"]
            ]
            for a, b in zip(ours.pop("answers"), theirs.pop("answers"), strict=True):
                assert flat(a) == pytest.approx(flat(b), rel=1e-12)
            assert ours == theirs
    assert 200 < answered < 2 * len(questions)
    best = advice.first_that_answers(machines, advice.Question(50_000_000, 200, 8))[1].answers[0]
    assert answer == restored
    assert answer.startswith(f"{best.engine}, chunks of {best.chunksize:,} events: ")
    with pytest.raises(InputError) as error:
        advice.first_that_answers(machines, advice.Question(50_000_000, 200, 17))
    assert refused == str(error.value)


def flat(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer with its estimates' parts beside the rest; texts are compared as they are."""
    return {
        f"{name}.{part}" if part else name: number
        for name, value in answer.items()
        for part, number in (value.items() if isinstance(value, dict) else [("", value)])
        if not isinstance(number, str)
    } | {answer["engine"]: 1}


def browser_path() -> str:
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("there is no Chromium: `make browser` installs one")
    return found


def test_without_javascript_there_are_typical_answers(shown: Shown) -> None:
    material = measured_enough()
    machines = [one.laws for one in advice_fit.fitted(material)]
    table = shown(PAGE, Material.of(material)).table("Predicted for inputs that were measured")
    assert len(table.rows) >= 5
    for row in table.rows:
        events, files, cores = (int(text.replace(",", "")) for text in row[:3])
        _, found = advice.first_that_answers(machines, advice.Question(events, files, cores))
        best = found.answers[0]
        assert row[3] == best.engine
        assert row[4] == f"{best.chunksize:,}"
        assert row[5] == measured(best.whole.value, "seconds")
        assert row[7] == best.why


def test_the_page_says_how_often_held_out_cells_were_predicted(shown: Shown) -> None:
    material = measured_enough()
    page = shown(PAGE, Material.of(material))
    for one in advice_fit.fitted(material):
        assert advice_fit.sentence(one).capitalize() in page.text
    assert "python -m perf advise --validate" in page.text
    assert "Load average 0.6" in page.text
    ((name, data),) = PAGE.files(Material.of(material))
    assert name == "advise"
    cells = [held for one in advice_fit.fitted(material) for held in one.held_out]
    assert [row["run_predicted"] for row in data.rows] == [held.run for held in cells]
    assert json.dumps(data.content, allow_nan=False)
    assert list(PAGE.files(Material.of([]))) == []


def test_what_is_not_in_the_records_says_how_to_measure_it(shown: Shown) -> None:
    page = shown(PAGE, Material.of([]))
    assert page.text.count("Not measured: run") == 6
    assert page.text.count("python -m perf scale") >= 1
    dask = page.table("Each with the claim")
    without = [row for row in dask.rows if not row[2].startswith("test_")]
    assert without
    assert all(row[2] == f"not measured: run {CLAIMS_COMMAND}" for row in without)
    assert "No claim is measured" in page.text


@pytest.mark.parametrize(
    "odd",
    [
        {"wall_seconds": (0.0,)},
        {"executor": "nosuch"},
        {"parameters": {}},
        {"metrics": {}},
        {"metrics": {"first_wall": 1.0, "files": 0, "chunks": 0, "events": 0}},
        {"workers": None},
    ],
    ids=str,
)
def test_odd_records_change_nothing(shown: Shown, odd: dict[str, Any]) -> None:
    good = records(["futures"], cells=10)
    strange = scaled(1, 1_000_000, 250_000, 2).model_copy(deep=True)
    what = {name: value for name, value in odd.items() if name in type(strange.what).model_fields}
    rest = {name: value for name, value in odd.items() if name not in what}
    strange = strange.model_copy(update={"what": strange.what.model_copy(update=what), **rest})
    expected, found = (shown(PAGE, Material.of(of)) for of in (good, [*good, strange]))
    assert found.text == expected.text


# --- the matrix, scaling, facts


def test_the_matrix_has_what_claims_measured(shown: Shown) -> None:
    said = [
        claim("dask x2 / iterative: CPU time an event", 1.5, bound=1.1),
        claim("dask x2, 10,000 tasks: an empty task", 0.03),
        claim("dask x2 plain: page faults a run", 1_600_000),
        claim("dask x2, idle: CPU seconds a second", 0.02),
        claim("dask x2 / iterative: CPU time an event", 1.2, bound=1.1),
    ]
    page = shown(PAGE, Material.of(said))
    table = page.table("Measured by claims")
    assert table.headings == ["executor", *QUANTITIES, "machine"]
    rows = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert rows.keys() == {"dask x2", "dask x2 plain"}
    # The newer of two, with its interval.
    assert rows["dask x2"]["CPU time an event"] == "1.20 (1.08 to 1.32)"
    assert rows["dask x2"]["an empty task"].startswith("0.0300 (")
    assert rows["dask x2 plain"]["page faults a run"].startswith("1,600,000 (")
    assert rows["dask x2 plain"]["CPU time an event"] == "not measured"
    dask = page.table("Each with the claim")
    (cheap,) = (row for row in dask.rows if row[1].startswith("As cheap"))
    assert "1.20 (1.08 to 1.32) (at most 1.1: undecided)" in cheap[2]


def test_scaling_is_what_was_measured_with_the_law_of_it(shown: Shown) -> None:
    made = [
        scaled(16, 1_000_000, 250_000, workers, noise=1 + 0.01 * turn).model_copy(deep=True)
        for workers in WORKERS
        for turn in range(3)
    ]
    threes = [made[begin : begin + 3] for begin in range(0, len(made), 3)]
    for number, one in enumerate(made):
        one.what.parameters["round"] = number % 3
    page = shown(PAGE, Material.of(made))
    table = page.table("Events a second over workers, 16,000,000 events in chunks of 250,000")
    assert table.column("workers") == [str(count) for count in WORKERS]
    for row, of in zip(table.rows, threes, strict=True):
        rate = 16_000_000 / sorted(one.wall_median for one in of)[1]
        assert row[2] == f"{rate:,.0f}"
    assert "serial share" in page.text
    context = cast("Any", PAGE.context(Material.of(made)))
    (one,) = context["scaling"]
    choice = laws.choose(
        WORKERS,
        [[16_000_000 / each.wall_median for each in of] for of in threes],
        np.random.default_rng(1),
    )
    assert one["laws"][0]["serial"]["value"] == pytest.approx(choice.fit.serial.value)
    (fit,) = one["chart"]["fits"]
    assert fit["points"][0][1] == pytest.approx(choice.fit.single.value)


def test_machines_of_one_name_with_other_cores_stand_beside_each_other(shown: Shown) -> None:
    """A second one never displaces the first, and two runs of one round are both shown."""
    few, many = machine("vm", 2, 10**9), machine("vm", 16, 10**10)
    made = [
        scaled(16, 1_000_000, 250_000, workers, noise=noise).model_copy(update={"machine": where})
        for where, counts in ((few, (1, 2)), (many, (1, 2, 16)))
        for workers in counts
        for noise in (1.0, 1.2)
    ]
    page = shown(PAGE, Material.of(made))
    for cores, counts in ((2, ["1", "2"]), (16, ["1", "2", "16"])):
        (table,) = (
            one for one in page.tables if one.caption.endswith(f"on vm with {cores} cores")
        )
        assert table.column("workers") == counts
        assert set(table.column("rounds")) == {"2"}
        assert all(one.endswith(" (range)") for one in table.column("interval"))


def test_the_load_on_the_scheduler_is_shown_with_what_follows(shown: Shown) -> None:
    loads = [
        Load(workers, 1_000, 1_102, workers / 2_000, 1.0, cpu, 0.1, 0.1, 0.0, 0.02, 10**8)
        for workers in (10, 100)
        for cpu in (0.8, 0.82)
    ]
    made = [scheduler_records.record(load, "run", 0.1, "made-up") for load in loads]
    assert scheduler_records.of_last_run([record(), *made])[0] == loads
    page = shown(PAGE, Material.of(made))
    table = page.table("Load on Dask's scheduler")
    assert table.column("workers") == ["10", "10", "100", "100"]
    assert table.column("CPU time a task")[0] == measured(loads[0].cpu_per_task, "seconds")
    found = scheduler_cost.fit_load(loads, np.random.default_rng(1))
    expected = scheduler_cost.capacity(found, 1.0).workers.value
    rows = page.table("Workers that one scheduler").rows
    assert figures(expected) in [row[2] for row in rows if row[:2] == ["1.0", "1"]]
    # One load alone gives no line.
    assert "Workers that one" not in shown(PAGE, Material.of(made[:1])).text


def test_what_was_measured_on_hosts_is_shown(shown: Shown) -> None:
    measured_on = Measured("dask", SCENARIOS[0], 800, 8, [0.5], [8_000], [16_000], [4])
    made = hosts_records.record(measured_on, record().input, "run", 0.1, "made-up")
    table = shown(PAGE, Material.of([made])).table("800 events on five hosts")
    assert table.rows == [
        ["dask", "near", "1", "1,600"]
        + [measured(size, "bytes").strip() for size in (1000, 2000, 4000)]
    ]


@pytest.mark.skipif(not MANY_CORES.is_dir(), reason="the records of 16 cores are not here")
def test_records_of_sixteen_cores_are_shown_and_give_no_law(shown: Shown) -> None:
    found = [one for path in sorted(MANY_CORES.glob("*.jsonl")) for one in record_file.read(path)]
    page = shown(PAGE, Material.of(found))
    table = page.table("Events a second over workers, 16,000,000 events in chunks of 250,000")
    measured_rates = {
        (one.what.executor, one.what.workers): 16_000_000 / one.wall_median
        for one in found
        if one.what.parameters["tuned"]
    }
    shown_rates = {(row[0], int(row[1])): row[2] for row in table.rows}
    rate = measured_rates["futures", 16]
    assert shown_rates["futures", 16] == f"{rate:,.0f}"
    assert "No law: it takes three numbers of workers" in page.text
    assert "make advise" in page.text


def test_claims_about_settings_are_told_apart() -> None:
    found = set()
    for setting in SETTINGS:
        on = str(_Measured(setting.executor, setting.without))
        for text, quantity in (
            (f"{on} / {BASE}: {QUANTITIES[0]}", QUANTITIES[0]),
            (f"{on}, 10,000 tasks: {TASK}", TASK),
            (f"{on}, idle: {IDLE}", IDLE),
        ):
            parts = CLAIM.fullmatch(text)
            assert parts
            assert (parts["on"], parts["quantity"]) == (on, quantity)
        found.add(on)
    assert len(found) == len(SETTINGS)


def test_every_fact_has_a_test_that_is_there_or_a_claim_that_is_made() -> None:
    named = [test for shown in executor_facts.FAULTS.values() for test in shown.values()]
    named += [one.test for one in executor_facts.DASK if one.test]
    for test in named:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / executor_facts.TESTS / path).read_text(), test
    for one in executor_facts.DASK:
        assert bool(one.claims) != bool(one.test)
        assert all(quantity in QUANTITIES for _, quantity in one.claims)
    assert {name for shown in executor_facts.FAULTS.values() for name in shown} <= set(EXECUTORS)
