"""The real scheduler under simulated workers, and what is calculated from made-up loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from distributed.scheduler import heartbeat_interval
from rich.console import Console

from analysis.errors import InputError
from perf.scaling import scheduler_load
from perf.scaling.scheduler_cost import capacity, capacity_table, fit_load, load_table
from perf.scaling.scheduler_load import Load, measure_load

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_TASK, PER_WORKER, IDLE, HEARTBEAT = 4e-4, 2e-7, 0.03, 3e-4


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails if a process of a load outlives it."""
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    yield
    assert {one.pid for one in psutil.Process().children(recursive=True)} <= before


# --- real loads


@pytest.mark.usefixtures("nothing_left")
def test_a_small_load_finishes_every_task_once() -> None:
    load = measure_load(3, 200, seed=1, idle_seconds=0.2)
    # 200, the processor, 13 sums of 16 at most, and the sum of these.
    assert (load.workers, load.tasks, load.submitted) == (3, 200, 200 + 1 + 13 + 1)
    assert 0 < load.scheduler_cpu_seconds < load.wall_seconds + 1
    assert 0 < load.cpu_per_task < 0.1
    assert load.client_cpu_seconds > 0
    assert load.idle_share > 0
    assert load.task_rate == 200 / load.wall_seconds
    if sys.platform == "linux":
        assert load.scheduler_peak_memory is not None
        assert load.scheduler_peak_memory > 10e6


@pytest.mark.usefixtures("nothing_left")
def test_tasks_take_their_time_one_after_the_other_on_each_worker() -> None:
    load = measure_load(4, 80, task_seconds=0.05, reduction=None, seed=1, idle_seconds=0)
    assert load.submitted == 81
    assert load.idle_share == 0
    # Durations are between half of the mean and one and a half.
    assert load.wall_seconds > 80 * 0.5 * 0.05 / 4


@pytest.mark.usefixtures("nothing_left")
def test_a_worker_that_never_answers_is_an_error_in_bounded_time() -> None:
    begin = time.monotonic()
    with pytest.raises(InputError, match=r"did not finish 20 tasks on 2 workers within 10 s: ask"):
        measure_load(2, 20, seed=1, timeout=10, silent=1)
    assert time.monotonic() - begin < 40


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", ["serve_scheduler", "simulated_workers"])
def test_a_process_that_dies_is_an_error_in_bounded_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = scheduler_load._submit

    def then_kill(*arguments: Any) -> tuple[list[Any], int]:
        work = submit(*arguments)
        if arguments[3] != scheduler_load.WARM_TASKS:
            children = psutil.Process().children()
            (victim,) = (one for one in children if name in " ".join(one.cmdline()))
            victim.kill()
        return work

    # A LocalCluster of an earlier test sets it, and Dask's processes then change their command lines.
    monkeypatch.delenv("__DASK_PARENT_PID", raising=False)
    monkeypatch.setattr(scheduler_load, "_submit", then_kill)
    begin = time.monotonic()
    with pytest.raises(InputError, match="measure again"):
        measure_load(2, 5000, task_seconds=0.1, seed=1, timeout=100)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_an_interrupted_parent(number: signal.Signals) -> None:
    code = "from perf.scaling.scheduler_load import measure_load; measure_load(2, 50, silent=2, seed=1)"
    # A session of its own: Ctrl-C reaches the parent alone, as it would from a program.
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        process = psutil.Process(parent.pid)
        children: list[psutil.Process] = []
        # The scheduler and the workers; then a moment until all are at work.
        while len(children) < 2:
            assert parent.poll() is None
            time.sleep(0.1)
            children = process.children(recursive=True)
        time.sleep(4)
        os.kill(parent.pid, number)
        parent.wait(30)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize(
    ("workers", "tasks", "options"),
    [
        (0, 10, {}),
        (1, 0, {}),
        (1, 10, {"task_seconds": -1.0}),
        (1, 10, {"task_seconds": float("nan")}),
        (1, 10, {"reduction": 1}),
        (1, 10, {"silent": 2}),
        (10**9, 10, {}),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_a_load_that_makes_no_sense_is_refused(
    workers: int, tasks: int, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"give|raise"):
        measure_load(workers, tasks, seed=1, **options)


# --- made-up loads


def made(workers: int, *, error: float = 1.0, share: float = 0.9) -> Load:
    """A load of the parameters above, with a relative error of the cost."""
    tasks = 10_000
    idle = IDLE + HEARTBEAT * workers / heartbeat_interval(workers)
    cpu = tasks * (PER_TASK + workers * PER_WORKER) * error
    wall = cpu / (share - idle)
    return Load(workers, tasks, tasks, 0.0, wall, cpu + idle * wall, 1.0, 1.0, 0.0, idle, 10**8)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cost_of_made_up_loads_is_recovered() -> None:
    cost = fit_load([made(one) for one in (10, 30, 100, 300, 1000)], rng())
    assert cost.per_task.value == pytest.approx(PER_TASK)
    assert cost.per_worker.value == pytest.approx(PER_WORKER)
    assert cost.idle.value == pytest.approx(IDLE)
    assert cost.heartbeat.value == pytest.approx(HEARTBEAT)
    assert cost.seconds(500).value == pytest.approx(PER_TASK + 500 * PER_WORKER)
    assert cost.left_out == ()


def test_the_interval_of_the_cost_holds_the_truth_in_about_its_share_of_loads() -> None:
    held = 0
    for seed in range(200):
        noise = rng(seed)
        loads = [made(one, error=noise.lognormal(0, 0.05)) for one in (10, 100, 300, 1000) * 2]
        cost = fit_load(loads, noise).seconds(300)
        held += cost.low <= PER_TASK + 300 * PER_WORKER <= cost.high
    # Of 200 of 95 %, 190 are expected with a deviation of 3.
    assert 180 <= held <= 199


def test_a_cost_that_seems_to_fall_with_workers_is_taken_as_constant() -> None:
    loads = [made(10, error=1.2), made(100), made(300, error=0.8), made(300, error=0.9)]
    cost = fit_load(loads, rng())
    assert cost.per_worker.value == cost.per_worker.low == 0
    assert cost.per_task.low <= cost.per_task.value <= cost.per_task.high


def test_loads_that_left_the_scheduler_idle_are_not_fitted() -> None:
    idle = made(1, error=3, share=0.3)
    cost = fit_load([idle, made(10), made(100), made(300)], rng())
    assert cost.left_out == (idle,)
    assert cost.per_task.value == pytest.approx(PER_TASK)
    with pytest.raises(InputError, match="only 2 of 3 loads"):
        fit_load([idle, made(10), made(100)], rng())
    # It had work, and other programs had the cores.
    waiting = replace(idle, scheduler_waited_seconds=0.5 * idle.wall_seconds)
    assert fit_load([waiting, made(10), made(100)], rng()).left_out == ()
    with pytest.raises(InputError, match="two numbers of workers"):
        fit_load([made(10)] * 3, rng())


def test_at_capacity_the_scheduler_uses_its_share() -> None:
    cost = fit_load([made(one) for one in (10, 30, 100, 300, 1000)], rng())
    for share in (1.0, 0.5):
        found = capacity(cost, 2.0, share=share)
        workers = found.workers.value
        used = (
            IDLE
            + HEARTBEAT * workers / heartbeat_interval(int(workers))
            + workers / 2.0 * (PER_TASK + workers * PER_WORKER)
        )
        assert used == pytest.approx(share, abs=0.002)
        assert found.tasks_per_second == workers / 2.0
        assert found.predicted is (workers > 1000)
        assert found.workers.low <= workers <= found.workers.high


def test_batches_of_chunks_carry_more_workers() -> None:
    noise = rng()
    loads = [made(one, error=noise.lognormal(0, 0.05)) for one in (10, 30, 100, 300) * 2]
    cost = fit_load(loads, noise)
    single, batched = capacity(cost, 0.1), capacity(cost, 0.1, chunks_per_task=10)
    assert 2 * single.workers.value < batched.workers.value
    assert batched.predicted
    assert not single.predicted
    assert batched == capacity(cost, 0.1, chunks_per_task=10)
    assert single.workers.low < single.workers.value < single.workers.high


@pytest.mark.parametrize(
    ("seconds", "options"),
    [
        (0.0, {}),
        (-1.0, {}),
        (float("nan"), {}),
        (1.0, {"chunks_per_task": 0}),
        (1.0, {"share": 0}),
        (1.0, {"share": 1.5}),
    ],
)
def test_work_that_makes_no_sense_has_no_capacity(seconds: float, options: dict[str, Any]) -> None:
    cost = fit_load([made(10), made(100), made(300)], rng())
    with pytest.raises(InputError, match="give positive numbers"):
        capacity(cost, seconds, **options)


def test_tables_show_loads_and_capacities() -> None:
    loads = [made(10), made(100), made(300)]
    cost = fit_load(loads, rng())
    console = Console(width=120)
    with console.capture() as capture:
        console.print(load_table(loads))
        console.print(load_table(loads, cost))
        console.print(capacity_table([capacity(cost, 1.0), capacity(cost, 0.1)]))
    # The line below the table is wrapped where the table ends.
    shown = " ".join(capture.get().split())
    assert "440 us" in shown or "460 us" in shown
    assert "3 of 3 loads kept it busy" in shown
    assert "predicted" in shown
    assert "within loads" in shown
