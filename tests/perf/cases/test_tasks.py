"""What executors cost is not reported of executors that lose, repeat or remember results."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, ClassVar

import numba
import numpy as np
import psutil
import pytest
from coffea.processor import IterativeExecutor

from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from perf.cases import processor, tasks
from perf.cases.case import Case, DisagreementError, Inputs, Ready, run_checked
from perf.cases.data import Store
from perf.cases.executors import MergeCase, TasksCase
from perf.cases.processor import FilesCase, RecoveryCase
from perf.measure.fresh_process import ProcessError
from perf.records import difference, record_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Wrong(IterativeExecutor):
    """Does wrong with all but the task by which a case waits for workers."""

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        if isinstance(function, tasks.Meeting):
            return super().__call__(items, function, accumulator)
        return self.wrong(list(items), partial(super().__call__, function=function))

    def wrong(self, items: list[Any], right: Callable[..., Any]) -> Any:
        raise NotImplementedError


class Losing(Wrong):
    """Loses the last item."""

    def wrong(self, items: list[Any], right: Callable[..., Any]) -> Any:
        return right(items[:-1], accumulator=None)


class Repeating(Wrong):
    """Merges the last item twice."""

    def wrong(self, items: list[Any], right: Callable[..., Any]) -> Any:
        return right([*items, items[-1]], accumulator=None)


class Swapping(Wrong):
    """Merges the last item twice and the first not at all, so that the number is right."""

    def wrong(self, items: list[Any], right: Callable[..., Any]) -> Any:
        return right([*items[1:], items[-1]], accumulator=None)


class Remembering(Wrong):
    """Gives what its first call gave."""

    memory: ClassVar[list[Any]] = []

    def wrong(self, items: list[Any], right: Callable[..., Any]) -> Any:
        if not self.memory:
            self.memory.append(right(items, accumulator=None))
        return copy.deepcopy(self.memory[0])


class Wasting(IterativeExecutor):
    """Does the first item once more, for nothing."""

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        function(next(iter(items)))
        return super().__call__(items, function, accumulator)


WRONG = (Losing, Repeating, Swapping, Remembering)


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> None:
    Remembering.memory.clear()


@pytest.fixture
def inputs(tmp_path: Path) -> Iterator[Inputs]:
    made = Inputs(Store(tmp_path, 1_000), None)
    yield made
    made.close()


def measured(case: Case, inputs: Inputs) -> Any:
    """What a case gives, if that is right."""
    with case.open(inputs) as ready:
        return run_checked(case, ready, inputs)


CASES: dict[str, TasksCase] = {
    "empty": TasksCase("iterative", tasks=7),
    "random": MergeCase("iterative", tasks=7, histogram_bytes=1_024, contents="random"),
    "sparse": MergeCase("iterative", tasks=7, histogram_bytes=100_000, contents="sparse"),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("executor", WRONG, ids=lambda one: one.__name__)
def test_wrong_tasks_are_refused_a_speed(
    kind: str, executor: type[IterativeExecutor], inputs: Inputs
) -> None:
    inputs.put("executor", ("iterative", 1, ""), executor(status=False))
    if executor is Remembering:
        measured(CASES[kind], inputs)
    with pytest.raises(DisagreementError, match="no speed is reported"):
        measured(CASES[kind], inputs)


@pytest.mark.parametrize("kind", CASES)
def test_right_tasks_are_not_refused(kind: str, inputs: Inputs) -> None:
    assert measured(CASES[kind], inputs)["tasks"] == 7


def test_what_is_left_from_an_earlier_call_is_told_by_its_nonce() -> None:
    act = tasks.calls(Remembering(status=False), 5, tasks.Empty)
    want = tasks.Empty().expected(5)
    assert tasks.same(act(), want)
    assert not tasks.same(act(), want)


def test_a_wrong_bin_is_seen() -> None:
    make = partial(tasks.Returning, size=1_024)
    act = tasks.calls(IterativeExecutor(status=False), 3, make)
    got, want = act(), make().expected(3)
    assert tasks.same(got, want)
    view = got[tasks.HISTOGRAM].view(flow=True)
    view["variance"][5] = np.nextafter(view["variance"][5], np.inf)
    assert not tasks.same(got, want)


@pytest.mark.parametrize("size", [1_024, 100_000])
def test_histograms_have_the_size_and_contents_they_are_called_by(size: int) -> None:
    view = tasks.prepared(size, "random").view(flow=True)
    assert view.nbytes == size
    assert np.count_nonzero(view["value"]) == len(view)
    sparse = tasks.prepared(size, "sparse").view(flow=True)
    assert sparse.nbytes == size
    assert 1 <= np.count_nonzero(sparse["value"]) <= len(sparse) // tasks.FILLED + 1


@pytest.mark.parametrize("executor", [*WRONG, Wasting], ids=lambda one: one.__name__)
def test_a_processor_that_is_not_run_once_a_chunk_is_refused_a_speed(
    executor: type[IterativeExecutor], synthetic_fileset: dict[str, Any]
) -> None:
    name = "ttbar__nominal"
    act = processing(executor(status=False), {name: synthetic_fileset[name]})
    if executor is Remembering:
        act()
    with pytest.raises(InputError, match="run it again"):
        act()


def test_a_processor_that_is_run_once_a_chunk_is_not_refused(
    synthetic_fileset: dict[str, Any],
) -> None:
    name = "ttbar__nominal"
    fileset = {name: synthetic_fileset[name]}
    act = processing(IterativeExecutor(status=False), fileset)
    assert difference.agree(act(), act())


def processing(executor: IterativeExecutor, fileset: dict[str, Any]) -> Callable[[], Any]:
    return processor.process(
        fileset, executor, implementation="columnar", variations="nominal", chunksize=1_000
    )


def test_the_loss_of_a_worker_changes_no_result(inputs: Inputs) -> None:
    before = set(psutil.Process().children(recursive=True))
    for killed in (False, True):
        case = RecoveryCase("futures", 2, chunksize=500, size=2_000, killed=killed)
        measured(case, inputs)
    inputs.close()
    assert gone(before)


def test_the_same_events_in_more_files_give_the_same(inputs: Inputs) -> None:
    for files in (1, 4):
        case = FilesCase("iterative", chunksize=500, size=2_000, files=files)
        with case.open(inputs) as ready:
            # Both are compared with one run of the other implementation, on whichever came first.
            run_checked(case, ready, inputs)
            assert ready.identity.events == 2_000
    assert len(list((inputs.store.directory / "files of 500").glob("*.root"))) == 4


def test_every_worker_gets_a_task_when_they_meet() -> None:
    with open_executor("futures", workers=2, pool="threads") as executor:
        assert tasks.meet(executor, 2) == (2, {os.getpid()})


def test_workers_that_do_not_come_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TIMEOUT", 0.1)
    with pytest.raises(InputError, match="1 of 2 workers are there"):
        tasks.wait_for_workers(IterativeExecutor(status=False), 2)


def test_a_fresh_start_is_a_process_that_ends() -> None:
    before = set(psutil.Process().children(recursive=True))
    one = tasks.FreshStart("iterative", 1)
    assert one.start() == 1
    assert set(psutil.Process().children(recursive=True)) > before
    one.close()
    assert gone(before)


def test_a_fresh_start_that_fails_says_why() -> None:
    with pytest.raises(ProcessError, match="no executor 'dusk'"):
        tasks.FreshStart("dusk", 1).start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to who asks")
def test_the_cpu_time_of_orphans_is_seen() -> None:
    with tasks.orphans_adopted():
        # As Parsl does: a shell that ends starts what lasts.
        command = ["sh", "-c", "sleep 60 > /dev/null & echo $!"]
        orphan = psutil.Process(int(subprocess.check_output(command)))
        assert orphan in psutil.Process().children(recursive=True)
        orphan.kill()
        orphan.wait()


def gone(before: set[psutil.Process]) -> bool:
    """Whether all processes end that were not there before."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        alive = {
            child
            for child in psutil.Process().children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE
            and "resource_tracker" not in " ".join(child.cmdline())
        }
        if alive <= before:
            return True
        time.sleep(0.05)
    return False


# --- the suite, run on small suites of its own


@dataclass(frozen=True)
class Late(TasksCase):
    """Tasks on an executor that loses one when it is timed, not when it is checked."""

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        with super().open(inputs) as ready:
            right, wrong = (
                tasks.calls(executor(status=False), self.tasks, tasks.Empty)
                for executor in (IterativeExecutor, Losing)
            )
            calls = chain([right], repeat(wrong))

            def run() -> Any:
                return next(calls)()

            yield replace(ready, run=run)


@dataclass(frozen=True)
class Missing(TasksCase):
    """Tasks on an executor that needs what is not there."""

    def open(self, inputs: Inputs) -> Any:  # noqa: ARG002
        msg = "dusk is not installed: install it"
        raise NotInstalledError(msg)


@pytest.fixture(scope="module", autouse=True)
def numba_is_whole() -> None:
    """Have all of numba imported before pytester runs, as in `test_plugin`."""
    assert numba.njit(lambda values: values.sum())(np.ones(3)) == 3


def run(pytester: pytest.Pytester, cases: str) -> pytest.RunResult:
    pytester.makepyfile(
        f"""
        from __future__ import annotations

        from perf.cases.executors import StartCase, TasksCase
        from perf.plugin import parameters
        from tests.perf.cases.test_tasks import Late, Missing

        def pytest_generate_tests(metafunc):
            metafunc.parametrize("case", parameters([{cases}]))

        def test_executor(case, timed):
            timed(case)
        """
    )
    return pytester.runpytest_inprocess(
        *("-p", "perf.plugin", "-p", "no:cacheprovider"),
        *("--benchmark-only", "--benchmark-scale=small", "-ra"),
    )


def test_an_executor_that_is_wrong_when_timed_is_refused_a_speed(
    pytester: pytest.Pytester,
) -> None:
    outcome = run(pytester, 'Late("iterative", tasks=5), TasksCase("iterative", tasks=6)')
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*empty-5-iterative1: its result differs*no speed is reported"])
    (record,) = record_file.read(pytester.path / record_file.DEFAULT_PATH)
    assert record.what.name == "empty-6-iterative1"


def test_an_executor_that_is_not_installed_is_skipped(pytester: pytest.Pytester) -> None:
    outcome = run(pytester, 'Missing("iterative", tasks=5)')
    outcome.assert_outcomes(skipped=1)
    outcome.stdout.fnmatch_lines(["SKIPPED*dusk is not installed: install it"])


def test_start_and_end_are_two_records_and_all_is_closed_after_a_session(
    pytester: pytest.Pytester,
) -> None:
    before = set(psutil.Process().children(recursive=True))
    outcome = run(pytester, 'StartCase("futures", 1), TasksCase("futures", tasks=5)')
    outcome.assert_outcomes(passed=2)
    names = [one.what.name for one in record_file.read(pytester.path / record_file.DEFAULT_PATH)]
    assert names == ["start-warm-futures1", "end-warm-futures1", "empty-5-futures1"]
    assert gone(before)
