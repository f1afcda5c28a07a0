"""Clocks and memory."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest

from perf import measure
from tests.perf import made


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
    assert (measure.machine().cores or 0) >= 1


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
