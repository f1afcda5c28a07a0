"""pytest-benchmark's own options, on a suite of its own: each does what its documentation says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest

from perf.records import provenance, record_file

if TYPE_CHECKING:
    from pathlib import Path

MADE = """
    from __future__ import annotations

    import time
    import warnings
    from contextlib import contextmanager
    from dataclasses import dataclass

    from perf.cases.case import Case, Ready
    from perf.plugin import parameters
    from perf.records.record_file import Input, What

    def run():
        if WARNS:
            warnings.warn("a library is old", DeprecationWarning)
        time.sleep(SLEEP)
        return 42

    @dataclass(frozen=True)
    class Made(Case):
        name: str

        @property
        def what(self):
            return What(
                name=self.name, group="made", kind="kernel", subject="made",
                implementation="compiled", size=10,
            )

        def rounds(self, scale):
            return 3

        @contextmanager
        def open(self, inputs):
            yield Ready(
                run=run, expected=lambda: 42, result_key=(self.name,),
                compare=lambda result, expected: result == expected,
                identity=Input(digest="made", events=10, source="made"),
            )

    def pytest_generate_tests(metafunc):
        metafunc.parametrize("case", parameters([Made("one"), Made("two")]))

    def test_made(case, timed):
        timed(case)
"""

TABLE = "Name (time in *Min*Max*Mean*StdDev*Median*"
"""pytest-benchmark's own."""


@pytest.fixture(scope="module", autouse=True)
def numba_is_whole() -> None:
    """As in `test_plugin`."""
    assert numba.njit(lambda values: values.sum())(np.ones(3)) == 3


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite whose settings make warnings errors, as those of this project do."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    make(pytester)


def make(pytester: pytest.Pytester, sleep: float = 0.002, *, warns: bool = False) -> None:
    """Write the suite; the time that its cases take."""
    text = MADE.replace("SLEEP", str(sleep)).replace("WARNS", str(warns))
    pytester.makepyfile(test_made=text)


def run(pytester: pytest.Pytester, *options: str, status: int = 0) -> pytest.RunResult:
    outcome = pytester.runpytest_inprocess(
        *("-p", "perf.plugin", "-p", "no:cacheprovider", "--benchmark-scale=small"),
        *("--benchmark-only", *options),
    )
    assert outcome.ret == status
    assert "INTERNALERROR" not in outcome.stdout.str() + outcome.stderr.str()
    return outcome


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose load and clock are others at each look, and whose own name is new."""
    looks = iter(range(1, 10_000))
    monkeypatch.setattr(provenance, "load_average", lambda: float(next(looks)))
    monkeypatch.setattr(
        "pytest_benchmark.plugin.get_cpu_info",
        lambda: {"brand_raw": "the same", "hz_actual_friendly": f"{next(looks)} GHz"},
    )
    monkeypatch.setattr("platform.node", lambda: f"node-{next(looks)}")
    monkeypatch.setenv(provenance.MACHINE_VARIABLE, "mine")


@pytest.mark.usefixtures("busy")
def test_a_run_is_compared_with_the_one_that_was_saved(pytester: pytest.Pytester) -> None:
    saved = run(pytester, "--benchmark-save=before")
    saved.stderr.fnmatch_lines(["*Saved benchmark data in: *0001_before.json"])
    saved.stdout.no_fnmatch_line(TABLE)  # Ours is the one that is printed.
    saved.stdout.fnmatch_lines(["*measurements*", "*made*10*compiled*"])

    make(pytester, 0.02)
    compared = run(pytester, "--benchmark-compare")
    compared.stderr.fnmatch_lines(["*Comparing against benchmarks from: *0001_before.json"])
    assert "machine_info is different" not in compared.stderr.str()
    compared.stdout.fnmatch_lines(
        [
            TABLE,
            "test_made* (0001_before)*(1.0)*",
            "test_made* (NOW)*",
            "*what changed*",
            "Name*0001_before Median*NOW Median*Median*",
            "Changed beside: neither machine nor versions.",
            "*python -m perf compare*",
        ]
    )
    (line,) = [
        one for one in compared.stdout.lines if one.startswith("test_made[one] ") and "%" in one
    ]
    changes = [float(one) for one in re.findall(r"([+-][\d.]+)%", line)]
    before, _, now, _ = record_file.read(pytester.path / record_file.DEFAULT_PATH)
    assert before.what == now.what
    assert changes == [
        pytest.approx(100 * (new / old - 1), abs=0.06)
        for new, old in (
            (now.wall_minimum, before.wall_minimum),
            (now.wall_median, before.wall_median),
        )
    ]


@pytest.mark.usefixtures("busy")
def test_two_runs_on_a_busy_machine_are_of_one_machine(pytester: pytest.Pytester) -> None:
    for name in ("one", "two"):
        run(pytester, f"--benchmark-json={name}.json")
    one, two = (
        json.loads((pytester.path / f"{name}.json").read_text()) for name in ("one", "two")
    )
    assert one["machine_info"] == two["machine_info"]
    assert one["machine_info"]["node"] == "mine"
    assert one["load_average"] != two["load_average"]
    assert one["versions"] == two["versions"]


@pytest.mark.usefixtures("busy")
def test_what_changed_beside_is_said(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside of the working folder, where pytest-benchmark cannot name it.
    storage = f"--benchmark-storage={tmp_path / 'elsewhere'}"
    run(pytester, storage, "--benchmark-autosave")
    monkeypatch.setenv(provenance.MACHINE_VARIABLE, "another")
    versions = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: versions | {"coffea": "1.2.3"})
    compared = run(pytester, storage, "--benchmark-compare=0001")
    compared.stdout.fnmatch_lines(
        [
            (
                "Changed beside: node mine to another, name mine to another, "
                f"coffea {versions['coffea']} to 1.2.3."
            )
        ]
    )


@pytest.mark.parametrize("statistic", ["mean", "median", "min"])
def test_a_regression_fails_and_is_no_crash(pytester: pytest.Pytester, statistic: str) -> None:
    run(pytester, "--benchmark-save=before")
    (path,) = (pytester.path / ".benchmarks").rglob("0001_before.json")
    options = ("--benchmark-compare", f"--benchmark-compare-fail={statistic}:5%")

    def saved(seconds: float) -> None:
        content = json.loads(path.read_text())
        for one in content["benchmarks"]:
            one["stats"][statistic] = seconds
        path.write_text(json.dumps(content))

    saved(1e-6)
    failed = run(pytester, *options, status=1)
    failed.stderr.fnmatch_lines(["Performance has regressed:", "*one*"])
    failed.stdout.fnmatch_lines(["*what changed*", "*Performance has regressed*", "*2 passed*"])
    assert "Traceback" not in failed.stdout.str() + failed.stderr.str()
    saved(1e6)
    run(pytester, *options).stdout.fnmatch_lines(["*what changed*"])


def test_nothing_to_compare_with_is_said_and_measured_all_the_same(
    pytester: pytest.Pytester,
) -> None:
    with pytest.warns(UserWarning, match="Can't compare"):
        # What pytest-benchmark warns of so early, pytest shows on stderr: here it is caught.
        outcome = run(pytester, "--benchmark-compare")
    outcome.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--benchmark-json=nowhere/out.json", "there is no folder"),
        ("--benchmark-compare-fail=mean:5%", "save one with --benchmark-save"),
        ("--benchmark-group-by=nonsense", "--benchmark-group-by has no nonsense: use some of"),
        ("--benchmark-warmup=on", "--benchmark-warmup is not used here: --benchmark-scale"),
        ("--benchmark-timer=time.time", "--benchmark-timer is not used here"),
        ("--benchmark-storage=file://test_made.py --benchmark-save=a", "is not a folder"),
        ("--benchmark-records=test_made.py/records.jsonl", "is not a folder"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(
    pytester: pytest.Pytester, option: str, said: str
) -> None:
    outcome = run(pytester, *option.split(), status=pytest.ExitCode.USAGE_ERROR)
    (line,) = [one for one in outcome.stderr.lines if one.startswith("ERROR: ")]
    assert said in line
    assert not (pytester.path / record_file.DEFAULT_PATH).exists()


def test_a_histogram_is_drawn_of_each_group(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pygal", reason="pip install 'pytest-benchmark[histogram]'")
    run(pytester, "--benchmark-histogram=pictures/one")
    text = (pytester.path / "pictures" / "one-made.svg").read_text()
    assert "test_made[one]" in text


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (("--benchmark-columns=max,rounds",), ["Name (time in *Max*Rounds*"]),
        (("--benchmark-group-by=name",), ["*benchmark 'test_made?one?': 1 tests*", TABLE]),
        (("--benchmark-group-by=param:case",), ["*case=Made(name='one')*: 1 tests*"]),
        (("--benchmark-sort=name",), [TABLE, "test_made?one?*", "test_made?two?*"]),
        (("--benchmark-name=short",), [TABLE, "made?one?*"]),
        (("--benchmark-name", "long"), [TABLE, "test_made.py::test_made?one?*"]),
        (("--benchmark-time-unit=ns",), ["Name (time in ns)*"]),
        (("--benchmark-verbose",), [TABLE]),
        (("--benchmark-cprofile=cumtime",), [TABLE, "*cProfile*", "*run*"]),
    ],
)
def test_what_asks_for_the_other_table_gets_it(
    pytester: pytest.Pytester, options: tuple[str, ...], lines: list[str]
) -> None:
    run(pytester, *options).stdout.fnmatch_lines(["*measurements*", *lines])


def test_many_cases_end_in_a_summary_and_the_table_is_in_a_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perf.plugin.SHORT_TABLE", 1)
    run(pytester)
    outcome = run(pytester)
    outcome.stdout.no_fnmatch_line("*measurements*")
    outcome.stdout.fnmatch_lines(
        [
            "Measured  2 cases in * each result compared;*",
            "Compared  with the last run (*, 2 cases), ratios of times:*",
            "Table     .perf/benchmarks.txt*",
        ]
    )
    table = (pytester.path / ".perf" / "benchmarks.txt").read_text()
    assert "made" in table
    assert "coffea" in table
    run(pytester, "--benchmark-verbose").stdout.fnmatch_lines(
        ["*measurements*", "*made*compiled*", "Measured  2 cases*"]
    )
    run(pytester, "--benchmark-quiet").stdout.no_fnmatch_line("Measured*")


def test_quiet_is_quiet(pytester: pytest.Pytester) -> None:
    outcome = run(pytester, "--benchmark-quiet")
    outcome.stdout.no_fnmatch_line("*measurements*")
    outcome.stdout.no_fnmatch_line(TABLE)


def test_a_profile_is_no_sample(pytester: pytest.Pytester) -> None:
    run(pytester, "--benchmark-cprofile=cumtime", "--benchmark-json=out.json")
    for one in json.loads((pytester.path / "out.json").read_text())["benchmarks"]:
        assert len(one["extra_info"]["cpu_seconds"]) == one["stats"]["rounds"] == 3


def test_a_warning_of_a_library_ends_no_measurement(pytester: pytest.Pytester) -> None:
    make(pytester, warns=True)
    outcome = run(pytester)
    outcome.assert_outcomes(passed=2, warnings=2)
    run(pytester, "-W", "error", status=1).assert_outcomes(failed=2)  # Who asks for it has it.


def test_a_warning_ends_a_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_plain="import warnings\n\ndef test_plain():\n    warnings.warn('old')\n"
    )
    outcome = pytester.runpytest_inprocess("-p", "perf.plugin", "-p", "no:cacheprovider")
    outcome.assert_outcomes(failed=1, deselected=2)


def test_memory_of_a_process_that_others_used_is_not_told(pytester: pytest.Pytester) -> None:
    run(pytester)
    found: list[Any] = record_file.read(pytester.path / record_file.DEFAULT_PATH)
    assert [one.peak_memory for one in found] == [None, None]


def test_time_and_rounds_are_those_that_were_asked_for(pytester: pytest.Pytester) -> None:
    make(pytester, 0.001)
    path = pytester.path / "test_made.py"
    path.write_text(path.read_text().replace("return 3", "return None"))
    run(pytester, "--benchmark-min-rounds=7", "--benchmark-max-time=0")
    for one in record_file.read(pytester.path / record_file.DEFAULT_PATH):
        assert len(one.wall_seconds) == 7
