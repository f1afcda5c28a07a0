"""`python -m perf advise` answers from records, or refuses in one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from analysis.executors import EXECUTORS
from perf.records import record_file
from perf.scaling import advice, advice_fit
from tests.support import cli
from tests.support.factories import record
from tests.support.scaled import machine, records

if TYPE_CHECKING:
    from pathlib import Path

JOB = ("--events", 50_000_000, "--files", 200, "--cores", 8)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with records of two machines."""
    folder = tmp_path_factory.mktemp("project")
    path = folder / ".perf" / "scale.jsonl"
    small = records(["futures"], cells=10, workers=(1, 2), machine=machine("small", 2))
    for one in (*records(noise=0.02), *small):
        record_file.append(path, one)
    return folder


def test_the_answer_is_that_of_the_function(project: Path) -> None:
    outcome = cli.perf("advise", "--root", project, *JOB, "--json")
    assert outcome.exit_code == 0, outcome.error
    fitted = advice_fit.fitted(record_file.read(project / ".perf/scale.jsonl"))
    expected = advice.first_that_answers(
        [one.laws for one in fitted], advice.Question(50_000_000, 200, 8)
    )
    assert json.loads(outcome.output) == json.loads(json.dumps(advice.as_json(*expected)))
    shown = cli.perf("advise", "--root", project, *JOB)
    assert shown.output.index("futures") < shown.output.index("iterative")
    assert "ttbar, columnar, nominal on many: none, 16 cores" in shown.output
    known = {"futures", "iterative"}
    missing = len(EXECUTORS) - len(known)
    assert shown.output.count("not measured: there are no records of it") == missing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            (*JOB[:-1], 32),
            (
                "32 workers, only 1 to 2; 200 files, only 1 to 50 (small); "
                "not measured: 32 workers, only 1 to 16 (many)"
            ),
        ),
        ((*JOB, "--machine", "small"), "not measured: 8 workers, only 1 to 2"),
        ((*JOB, "--machine", "nowhere"), "not measured: there are no records"),
        (JOB[:4], "say how many --events in how many --files on how many --cores"),
        ((*JOB, "--ns", 0), "an event takes more than 0 ns"),
    ],
)
def test_it_refuses_in_one_sentence(project: Path, arguments: tuple[object], said: str) -> None:
    outcome = cli.perf("advise", "--root", project, *arguments)
    assert outcome.exit_code == 2
    assert said in outcome.error
    assert outcome.output == ""
    assert outcome.error.count("\n") == 1


def test_validation_says_how_often_held_out_cells_were_predicted(project: Path) -> None:
    outcome = cli.perf("advise", "--root", project, "--validate")
    assert outcome.exit_code == 0, outcome.error
    fitted = advice_fit.fitted(record_file.read(project / ".perf/scale.jsonl"))
    for one in fitted:
        assert advice_fit.sentence(one) in outcome.output
    content = json.loads(cli.perf("advise", "--root", project, "--validate", "--json").output)
    assert [one["within"]["run"] for one in content] == [list(one.right("run")) for one in fitted]


def test_without_records_it_says_how_to_make_them(tmp_path: Path) -> None:
    record_file.append(tmp_path / ".perf" / "records.jsonl", record())
    for arguments in (JOB, ("--validate",)):
        outcome = cli.perf("advise", "--root", tmp_path, *arguments)
        assert outcome.exit_code == 2
        assert "`python -m perf scale` makes them" in outcome.error
