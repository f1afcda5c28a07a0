"""Clocks, memory, and the identity of results."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
import psutil
import pytest

from perf import measure
from tests.perf import made

JAGGED = ak.Array([[1.0, 2.0], [], [3.0]])


def filled(categories: list[str], *, growth: bool = True, weight: float = 1.0) -> hist.Hist:
    histogram = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="process")
        if growth
        else hist.axis.StrCategory(categories, name="process"),
        hist.axis.Regular(3, 0, 1, name="x"),
        storage=hist.storage.Weight(),
    )
    for category in categories:
        # Each category another content, so that a wrong order would show.
        histogram.fill(category, [0.1, 0.5, 2.0], weight=weight * (1 + len(category)))
    return histogram


@pytest.mark.parametrize("growth", [True, False])
def test_digest_ignores_the_order_in_which_categories_came(growth: bool) -> None:  # noqa: FBT001
    one, other = (filled(names, growth=growth) for names in (["a", "bb"], ["bb", "a"]))
    assert measure.digest(one) == measure.digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (JAGGED, JAGGED[[0, 1, 2]]),
        (JAGGED, ak.concatenate([JAGGED, JAGGED])[3:]),
        (JAGGED, ak.from_iter(ak.to_list(JAGGED))),
        (np.arange(6.0)[::2], np.array([0.0, 2.0, 4.0])),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        ({"a": 1, "b": JAGGED}, {"b": JAGGED, "a": 1}),
        ((1, 2), [1, 2]),
        (ak.Array([{"x": 1, "y": 2}]), ak.Array([{"y": 2, "x": 1}])),
    ],
)
def test_digest_is_of_the_content_alone(one: Any, other: Any) -> None:
    assert measure.digest(one) == measure.digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, np.nextafter(2.0, 3)])),
        (np.array([1.0]), np.array([1.0], np.float32)),
        (np.zeros(2), np.zeros((2, 1))),
        (np.array([0, 1]), np.array([1, 0])),
        (JAGGED, ak.Array([[1.0], [2.0], [3.0]])),
        (JAGGED, ak.Array([[1.0, 2.0], [], [4.0]])),
        (ak.Array([[1], None]), ak.Array([[1], []])),
        (ak.Array([]), ak.Array([[]])),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1.0}),
        ([1, [2]], [[1], 2]),
        (filled(["a", "bb"]), filled(["a", "bb"], weight=2)),
        (filled(["a", "bb"]), filled(["a", "bc"])),
        (True, 1),
        (None, "None"),
    ],
)
def test_digest_differs_where_the_content_does(one: Any, other: Any) -> None:
    assert measure.digest(one) != measure.digest(other)


def test_digest_of_what_has_none() -> None:
    with pytest.raises(TypeError, match="no identity of a object"):
        measure.digest([object()])


def test_clock_reads_both_times_at_once_and_forgets_warm_up() -> None:
    ticks = count(100)
    clock = measure.Clock(cpu=lambda: float(next(ticks)))
    walls = [clock() for _ in range(6)]
    wall, cpu = clock.samples(rounds=2, iterations=2)
    assert cpu == [0.5, 0.5]
    assert wall == [(walls[3] - walls[2]) / 2, (walls[5] - walls[4]) / 2]


def test_clock_refuses_more_rounds_than_it_saw() -> None:
    clock = measure.Clock()
    clock()
    with pytest.raises(ValueError, match="read 1 times, not 2"):
        clock.samples(rounds=1, iterations=1)


def test_cpu_time_is_that_of_work_not_of_waiting() -> None:
    import threading

    clock = measure.Clock()
    clock()
    threading.Event().wait(0.05)
    clock()
    (wall,), (cpu,) = clock.samples(1, 1)
    assert cpu < wall


def test_plan_makes_samples_long_enough_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("perf.measure.time.perf_counter", lambda: now[0])

    def act(seconds: float) -> None:
        now[0] += seconds

    quick = measure.plan(lambda: act(1e-6), seconds=0.1)
    assert quick.iterations * 1e-6 >= measure.ROUND_SECONDS
    assert quick.iterations * 1e-6 * quick.rounds <= 0.11
    assert measure.plan(lambda: act(0.2), seconds=0.1) == measure.Plan(measure.MIN_ROUNDS, 1)
    assert measure.plan(lambda: act(2.0), seconds=0.1) == measure.Plan(measure.SLOW_ROUNDS, 1)
    assert measure.plan(lambda: act(2.0), seconds=0.1, min_rounds=2).rounds == 2
    assert measure.plan(lambda: act(0.01), seconds=100).rounds == measure.MAX_ROUNDS


def test_peak_memory_shows_what_was_held() -> None:
    if not measure.reset_peak_memory():
        pytest.skip("this system cannot reset the peak (/proc/self/clear_refs)")
    before = measure.peak_memory()
    assert before is not None
    held = np.ones(10_000_000)
    after = measure.peak_memory()
    assert after is not None
    assert after - before > 0.9 * held.nbytes
    del held
    measure.reset_peak_memory()
    again = measure.peak_memory()
    assert again is not None
    assert again < after


def test_machine_has_the_name_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(measure.MACHINE_VARIABLE, "by-variable")
    assert measure.machine("by-option").name == "by-option"
    assert measure.machine().name == "by-variable"
    monkeypatch.delenv(measure.MACHINE_VARIABLE)
    assert measure.machine().name
    assert measure.machine().cores >= 1


def test_versions_name_what_is_measured() -> None:
    assert {"python", "coffea", "awkward", "uproot", "numba", "numpy", "hist"} <= set(
        measure.versions()
    )


# --- processes whose time nobody counts


def test_a_worker_that_is_waited_for_has_its_time_counted() -> None:
    before = measure.cpu_of_tree()
    work = "sum(range(3_000_000))"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert measure.cpu_of_tree() - before > 0.02


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux takes such children away")
def test_of_a_worker_that_takes_its_time_with_it_nothing_is_known() -> None:
    """As pyspark's daemon, which ignores SIGCHLD: the rest is not the whole, and none is not 0."""
    parent = """if True:
        import os, signal, sys
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if child := os.fork():
            print(child, flush=True)
            sys.stdin.readline()
            os.kill(child, signal.SIGKILL)
            while os.path.exists(f"/proc/{child}"):
                pass
            sum(range(10_000_000))
            print("gone", flush=True)
            sys.stdin.readline()
        else:
            while True:
                pass
    """
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdin
        assert daemon.stdout
        child = psutil.Process(int(daemon.stdout.readline()))
        while child.cpu_times().user < 0.2:
            time.sleep(0.02)
        before = measure.cpu_of_tree()
        daemon.stdin.write("\n")
        daemon.stdin.flush()
        assert daemon.stdout.readline() == "gone\n"
        used = measure.cpu_of_tree() - before
        daemon.communicate("\n")
    assert math.isnan(used)
    assert made.record(cpu_seconds=(0.1, used)).cpu_median is None
