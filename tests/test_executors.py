"""Executors start ready for work, and leave nothing behind however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from coffea.processor import ProcessorABC

from analysis.errors import InputError
from analysis.executors import EXECUTORS, open_executor
from analysis.inputs import inspect
from analysis.run import run

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 120.0
"""Seconds after which something that must happen is taken not to: far above what it takes."""


def children() -> set[int]:
    """Live child processes, but for the resource tracker that Python keeps for its lifetime."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "resource_tracker" not in " ".join(child.cmdline())
    }


def wait_for(what: str, condition: object) -> None:
    """Wait until `condition()` is true."""
    assert callable(condition)
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("name", EXECUTORS)
def test_it_is_ready_and_does_the_work(name: str) -> None:
    with open_executor(name) as executor:
        total, problem = executor.copy(compression=None)([1, 2, 3], _one, None)
    assert problem == 0
    assert total == {"sum": 6}


def _one(item: int) -> dict[str, int]:
    return {"sum": item}


def test_workers_are_there_before_the_first_chunk_and_gone_after_the_last() -> None:
    before = children()
    with open_executor("futures", workers=2):
        assert len(children() - before) >= 2
    wait_for("the end of the workers", lambda: children() <= before)


def test_no_worker_survives_an_exception() -> None:
    before = children()

    def fail_while_a_worker_is_busy() -> None:
        with open_executor("futures", workers=2) as executor:
            executor.pool.submit(time.sleep, 10 * PATIENCE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_a_worker_is_busy()
    wait_for("the end of the workers", lambda: children() <= before)


class Killer(ProcessorABC):
    """Ends the process that it runs in, as the kernel does when memory is short."""

    def process(self, events: object) -> None:  # noqa: ARG002
        os.kill(os.getpid(), signal.SIGKILL)

    def postprocess(self, accumulator: object) -> object:
        return accumulator


def test_dead_worker_ends_the_run_in_one_sentence(synthetic_fileset: dict[str, Any]) -> None:
    before = children()
    name = "ttbar__nominal"
    fileset = {name: synthetic_fileset[name]}
    files = inspect(fileset, ["Jet_pt"])

    def process() -> None:
        with open_executor("futures", workers=2) as executor:
            run(fileset, Killer(), executor, files=files, chunksize=500)

    with pytest.raises(InputError, match="the run failed: A worker process") as caught:
        process()
    assert "\n" not in str(caught.value)
    wait_for("the end of the workers", lambda: children() <= before)


def test_names_and_numbers() -> None:
    with pytest.raises(InputError, match="no executor 'dusk'"), open_executor("dusk"):
        pass
    with (
        pytest.raises(InputError, match="cannot have 0 workers"),
        open_executor("futures", workers=0),
    ):
        pass


def test_interrupt_leaves_no_process_and_no_file(synthetic: Path, tmp_path: Path) -> None:
    """Ctrl-C while workers process: the command, its workers and its output are gone."""
    output = tmp_path / "out.json"
    # Chunks of 20 events keep two workers busy for minutes.
    command = [
        *(sys.executable, "-m", "analysis", "run", str(synthetic / "fileset.json")),
        *("--executor", "futures", "--workers", "2", "--chunksize", "20"),
        *("--output", str(output)),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        started = psutil.Process(process.pid)

        def busy() -> bool:
            workers = [c for c in started.children(recursive=True) if "loky" in str(c.cmdline())]
            used = sum(sum(worker.cpu_times()[:2]) for worker in workers)
            assert process.poll() is None, process.communicate()
            return len(workers) >= 2 and used > 8  # importing takes some 3 s each

        wait_for("work", busy)
        family = [process.pid, *(child.pid for child in started.children(recursive=True))]
        # A terminal sends the signal to the whole foreground process group.
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Traceback" not in stdout
    assert "interrupted: nothing was written" in stderr
    assert list(tmp_path.iterdir()) == []
    wait_for("the end of all processes", lambda: not any(map(psutil.pid_exists, family)))
