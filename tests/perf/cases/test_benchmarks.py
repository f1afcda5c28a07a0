"""asv's benchmarks: generated from the catalogue, checked before they are timed, timed rightly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from asv_runner.benchmarks.time import TimeBenchmark

from analysis.kernels import KERNELS
from perf.benchmarks import _suite, imports, kernels, nanoevents, processor, queries
from perf.cases import nanoevents as case_nanoevents
from perf.cases.case import VECTORISED, DisagreementError, Inputs, run_checked
from perf.cases.data import Store
from perf.cases.kernels import KernelCase
from perf.cases.kernels import kernels as kernel_cases

if TYPE_CHECKING:
    from types import ModuleType

    from perf.cases.case import Case

SIZE = 1_000
MODULES = (imports, kernels, nanoevents, processor, queries)
KINDS = ("time_", "timeraw_", "mem_", "peakmem_", "track_")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(Store(tmp_path_factory.mktemp("nano"), 2 * SIZE), None)


def benchmarks(module: ModuleType) -> dict[str, Any]:
    return {name: one for name, one in vars(module).items() if name.startswith(KINDS)}


def test_every_kernel_has_a_benchmark_on_columns_and_on_nanoevents() -> None:
    found = benchmarks(kernels)
    assert set(found) == {f"time_{name}_cpu_seconds_per_event" for name in KERNELS}
    for one in found.values():
        assert one.params == [["columnar", "compiled"], ["columns", "NanoEvents"]]


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.__name__.rpartition(".")[2])
def test_names_say_what_is_measured_and_nothing_is_a_rate(module: ModuleType) -> None:
    for name, one in benchmarks(module).items():
        if name.startswith("time_"):
            assert "_cpu_seconds" in name or "_wall_seconds" in name
            # From asv_runner 0.3.0 on, a setup makes it time every call by itself.
            assert not hasattr(one, "setup")
            assert isinstance(one.timer, _suite.Stopwatch)
            assert one.number == 1
            clock = _suite.CPU if "_cpu_" in name else _suite.WALL
            assert one.timer is clock
        assert not any(word in name for word in ("rate", "per_second", "throughput", "speed"))
        assert one.__name__ == name
        assert one.__doc__
    assert not hasattr(module, "setup")


def test_another_source_is_another_benchmark() -> None:
    made = [
        _suite.benchmark("time_x_cpu_seconds", lambda: None, watch=_suite.CPU, source=source)
        for source in ("a", "b", "a")
    ]
    versions = [one.version for one in made]  # type: ignore[attr-defined]
    assert versions[0] == versions[2] != versions[1]


@pytest.mark.parametrize("quick", [False, True])
def test_asv_counts_nothing_but_what_the_stopwatch_runs_for(*, quick: bool) -> None:
    readings = iter(range(10_000))
    watch = _suite.Stopwatch(lambda: 100.0 * next(readings))
    calls: list[int] = []

    def body() -> None:
        if not calls:
            # What prepares: asv's own clock would count it, and its calibration be misled.
            list(range(1_000_000))
        calls.append(1)
        with watch.running(50):
            pass

    one = _suite.benchmark("time_x_cpu_seconds_per_event", body, watch=watch, repeat=(3, 3, 1.0))
    if quick:
        # As `asv run --quick` does.
        vars(one).update(repeat=1, warmup_time=0)
    measured = TimeBenchmark("x", one, [one])
    assert measured.run() == {"samples": [2.0] * (1 if quick else 3), "number": 1}


def test_a_wrong_result_is_not_timed(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_suite, "inputs", lambda: inputs)
    monkeypatch.setattr(KERNELS["ht"].module, "compiled", lambda *_: np.zeros(3))
    with pytest.raises(DisagreementError):
        _suite.prepared(KernelCase("ht", "compiled", SIZE))


def test_a_sample_is_many_calls_of_a_short_kernel(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_suite, "inputs", lambda: inputs)
    monkeypatch.setattr(_suite, "SAMPLE_SECONDS", 10.0)
    ready = _suite.prepared(KernelCase("electrons", "compiled", SIZE))
    assert ready.calls > 10
    assert ready.events == SIZE


CASES = [
    case_nanoevents.OpenCase(SIZE),
    *(case_nanoevents.ReadCase(SIZE, mode=mode) for mode in case_nanoevents.MODES),
    *(case_nanoevents.FillCase(SIZE, weighted=weighted) for weighted in (True, False)),
    *(
        case_nanoevents.NanoKernelCase(name, implementation, SIZE)
        for name in ("electrons", "trijet_pt")
        for implementation in VECTORISED
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_cases_of_nanoevents_agree_with_what_does_without_coffea(
    case: Case, inputs: Inputs
) -> None:
    with case.open(inputs) as ready:
        run_checked(case, ready, inputs)
        assert ready.identity.events == SIZE


def test_names_of_cases_are_unique() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
    assert not set(names) & {one.id for one in kernel_cases(_suite.SCALE)}


def test_pytest_measures_what_asv_does() -> None:
    cases = case_nanoevents.nano_cases(_suite.SCALE)
    assert {type(case) for case in cases} == {
        case_nanoevents.OpenCase,
        case_nanoevents.ReadCase,
        case_nanoevents.FillCase,
    }
    assert {case.size for case in cases if case.source == "synthetic"} == {_suite.EVENTS}


def test_columns_that_differ_are_told() -> None:
    import awkward as ak

    columns = {"Jet_pt": ak.Array([[1.0, 2.0], []])}
    assert case_nanoevents.same_columns(columns, {"Jet_pt": ak.Array([[1.0, 2.0], []])})
    assert not case_nanoevents.same_columns(columns, {"Jet_pt": ak.Array([[1.0], [2.0]])})
    assert not case_nanoevents.same_columns(columns, {})


def test_more_variations_are_a_larger_accumulator(
    inputs: Inputs, capsys: pytest.CaptureFixture[str]
) -> None:
    from perf.cases.transfer_size import weigh

    fileset = inputs.store.fileset(SIZE)
    nominal, every = weigh(fileset, "nominal"), weigh(fileset, "all")
    assert every.accumulator > 2 * nominal.accumulator
    assert 100 < nominal.task < 100_000
    assert not capsys.readouterr().out
