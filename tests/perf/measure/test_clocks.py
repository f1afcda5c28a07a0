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

from perf.measure import clocks, memory
from perf.records import provenance
from tests.support import factories


def test_clock_reads_both_times_at_once_and_forgets_warm_up() -> None:
    ticks = count(100)
    clock = clocks.Clock(cpu=lambda: float(next(ticks)))
    walls = [clock() for _ in range(6)]
    wall, cpu = clock.samples(rounds=2, iterations=2)
    assert cpu == [0.5, 0.5]
    assert wall == [(walls[3] - walls[2]) / 2, (walls[5] - walls[4]) / 2]


def test_clock_refuses_more_rounds_than_it_saw() -> None:
    clock = clocks.Clock()
    clock()
    with pytest.raises(ValueError, match="read 1 times, not 2"):
        clock.samples(rounds=1, iterations=1)


def test_cpu_time_is_that_of_work_not_of_waiting() -> None:
    import threading

    clock = clocks.Clock()
    clock()
    threading.Event().wait(0.05)
    clock()
    (wall,), (cpu,) = clock.samples(1, 1)
    assert cpu < wall


def test_plan_makes_samples_long_enough_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("perf.measure.clocks.time.perf_counter", lambda: now[0])

    def act(seconds: float) -> None:
        now[0] += seconds

    quick = clocks.plan(lambda: act(1e-6), seconds=0.1)
    assert quick.iterations * 1e-6 >= clocks.ROUND_SECONDS
    assert quick.iterations * 1e-6 * quick.rounds <= 0.11
    assert clocks.plan(lambda: act(0.2), seconds=0.1) == clocks.Plan(clocks.MIN_ROUNDS, 1)
    assert clocks.plan(lambda: act(2.0), seconds=0.1) == clocks.Plan(clocks.SLOW_ROUNDS, 1)
    assert clocks.plan(lambda: act(2.0), seconds=0.1, min_rounds=2).rounds == 2
    assert clocks.plan(lambda: act(0.01), seconds=100).rounds == clocks.MAX_ROUNDS


def test_peak_memory_shows_what_was_held() -> None:
    if not memory.reset_peak_memory():
        pytest.skip("this system cannot reset the peak (/proc/self/clear_refs)")
    before = memory.peak_memory()
    assert before is not None
    held = np.ones(10_000_000)
    after = memory.peak_memory()
    assert after is not None
    assert after - before > 0.9 * held.nbytes
    del held
    memory.reset_peak_memory()
    again = memory.peak_memory()
    assert again is not None
    assert again < after


def test_machine_has_the_name_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(provenance.MACHINE_VARIABLE, "by-variable")
    assert provenance.machine("by-option").name == "by-option"
    assert provenance.machine().name == "by-variable"
    monkeypatch.delenv(provenance.MACHINE_VARIABLE)
    assert provenance.machine().name
    assert (provenance.machine().cores or 0) >= 1


def test_versions_name_what_is_measured() -> None:
    assert {"python", "coffea", "awkward", "uproot", "numba", "numpy", "hist"} <= set(
        provenance.versions()
    )


# --- processes whose time nobody counts


def test_a_worker_that_is_waited_for_has_its_time_counted() -> None:
    before = clocks.cpu_of_tree()
    work = "sum(range(3_000_000))"
    subprocess.run([sys.executable, "-c", work], check=True)
    assert clocks.cpu_of_tree() - before > 0.02


def test_time_in_the_kernel_can_be_left_out() -> None:
    before = clocks.cpu_of_tree(), clocks.cpu_of_tree(kernel=False)
    zeros = "f = open('/dev/zero', 'rb', 0); b = bytearray(1 << 24)\nfor _ in range(400): f.readinto(b)"
    subprocess.run([sys.executable, "-c", zeros], check=True)
    user = clocks.cpu_of_tree(kernel=False) - before[1]
    assert 0 <= user < (clocks.cpu_of_tree() - before[0]) / 2


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
        before = clocks.cpu_of_tree()
        daemon.stdin.write("\n")
        daemon.stdin.flush()
        assert daemon.stdout.readline() == "gone\n"
        used = clocks.cpu_of_tree() - before
        daemon.communicate("\n")
    assert math.isnan(used)
    assert factories.record(cpu_seconds=(0.1, used)).cpu_median is None
