"""The suite run on small suites of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from analysis.kernels import ht
from perf.cases.data import SHARED_VARIABLE
from perf.records import record_file

MADE = """
    from __future__ import annotations

    from contextlib import contextmanager
    from dataclasses import dataclass

    from perf.cases.case import Case, Ready
    from perf.plugin import parameters
    from perf.records.record_file import Input, What

    @dataclass(frozen=True)
    class Made(Case):
        name: str
        answer: int
        source: str = "synthetic"

        @property
        def what(self):
            return What(
                name=self.name, group="made", kind="kernel", subject="made",
                implementation="compiled", size=10,
            )

        @contextmanager
        def open(self, inputs):
            yield Ready(
                run=lambda: self.answer,
                expected=lambda: 42,
                result_key=(self.name,),
                compare=lambda result, expected: result == expected,
                identity=Input(digest="made", events=10, source="made"),
            )

    CASES = [Made("right", 42), Made("wrong", 43), Made("absent", 42, "real")]

    def pytest_generate_tests(metafunc):
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", parameters(CASES))

    def test_made(case, timed, benchmark):
        record = timed(case)
        if record is not None:
            assert benchmark.stats.stats.data == list(record.wall_seconds)
            assert len(record.cpu_seconds) == len(record.wall_seconds)

    def test_of_something():
        pass
"""

KERNEL = """
    from __future__ import annotations

    from perf.cases.kernels import KernelCase
    from perf.plugin import parameters

    def pytest_generate_tests(metafunc):
        cases = [KernelCase("ht", name, 1_000) for name in ("columnar", "compiled")]
        metafunc.parametrize("case", parameters(cases))

    def test_kernel(case, timed):
        timed(case)
"""


@pytest.fixture(scope="module", autouse=True)
def numba_is_whole() -> None:
    """Have all of numba imported before pytester runs.

    pytester forgets what a run in this process imports, and parts of numba cannot be imported
    twice. Compiling anything imports them.
    """
    assert numba.njit(lambda values: values.sum())(np.ones(3)) == 3


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    # In this process: that of the suite has coffea imported already.
    return pytester.runpytest_inprocess(
        "-p", "perf.plugin", "-p", "no:cacheprovider", "--benchmark-scale=small", *options
    )


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED_VARIABLE, "nowhere")


@pytest.mark.usefixtures("no_data")
def test_a_wrong_implementation_is_refused_a_speed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MADE)
    outcome = run(pytester, "--benchmark-only", "-ra")
    outcome.assert_outcomes(passed=1, failed=1, skipped=1, deselected=1)
    outcome.stdout.fnmatch_lines(
        [
            "*wrong: its result differs from reference*no speed is reported",
            "*measurements*",
            "*made*10*compiled*",
            f"*SKIPPED*{SHARED_VARIABLE}*",
        ]
    )
    (record,) = record_file.read(pytester.path / record_file.DEFAULT_PATH)
    assert record.what.name == "right"
    assert record.input.digest == "made"
    assert record.iterations > 1
    assert record.versions["coffea"]


def test_a_kernel_that_became_wrong_is_refused_a_speed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ht.compiled

    def off_by_one(pt: Any) -> Any:
        wrong = right(pt).copy()
        wrong[-1] = np.nextafter(wrong[-1], np.inf)
        return wrong

    monkeypatch.setattr(ht, "compiled", off_by_one)
    pytester.makepyfile(KERNEL)
    outcome = run(pytester, "--benchmark-only", "--benchmark-records=here.jsonl")
    outcome.assert_outcomes(passed=1, failed=1)
    (record,) = record_file.read(pytester.path / "here.jsonl")
    assert record.what.name == "ht-1e3-columnar"
    assert record.input.events == 1_000


@pytest.mark.usefixtures("no_data")
def test_tests_alone_leave_benchmarks_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MADE)
    outcome = run(pytester)
    outcome.assert_outcomes(passed=1, deselected=3)
    outcome.stdout.fnmatch_lines(["3 benchmarks left out: pytest --benchmark-only measures them"])
    assert not (pytester.path / record_file.DEFAULT_PATH).exists()


@pytest.mark.usefixtures("no_data")
def test_checks_can_be_run_without_measuring(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MADE)
    outcome = run(pytester, "--benchmark-disable")
    outcome.assert_outcomes(passed=2, failed=1, skipped=1)
    assert not (pytester.path / record_file.DEFAULT_PATH).exists()
    outcome.stdout.no_fnmatch_line("*measurements*")


@pytest.mark.usefixtures("no_data")
def test_files_of_pytest_benchmark_hold_identity_and_versions(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MADE)
    run(pytester, "--benchmark-only", "--benchmark-json=out.json", "--benchmark-machine=mine")
    content = json.loads(Path(pytester.path / "out.json").read_text())
    assert content["machine_info"]["name"] == "mine"
    assert {"coffea", "awkward", "uproot", "numba", "numpy", "hist"} <= set(content["versions"])
    assert "load_average" in content
    (benchmark,) = content["benchmarks"]
    extra = benchmark["extra_info"]
    assert benchmark["group"] == "made"
    assert extra["input"]["digest"] == "made"
    assert extra["versions"] == content["versions"]
    assert len(extra["cpu_seconds"]) == benchmark["stats"]["rounds"]
    assert extra["check"]


@pytest.mark.parametrize(
    ("marker", "wanted"),
    [
        ("", {"reference", "columnar", "compiled"}),
        ("@pytest.mark.only_columnar", {"columnar"}),
        ("@pytest.mark.skip_reference('too slow')", {"columnar", "compiled"}),
    ],
)
def test_markers_choose_implementations(
    pytester: pytest.Pytester,
    pytestconfig: pytest.Config,
    marker: str,
    wanted: set[str],
) -> None:
    conftest = (pytestconfig.rootpath / "conftest.py").read_text()
    pytester.makeconftest(conftest.replace('pytest_plugins = ("perf.plugin", "pytester")', ""))
    pytester.makepyfile(f"import pytest\n\n{marker}\ndef test_one(implementation): pass\n")
    outcome = run(pytester, "-rsA", "--strict-markers")
    outcome.assert_outcomes(passed=len(wanted), skipped=3 - len(wanted))
    for name in wanted:
        outcome.stdout.fnmatch_lines([f"PASSED *[[]{name}]"])
    if "slow" in marker:
        outcome.stdout.fnmatch_lines(["SKIPPED*not for reference: too slow"])
