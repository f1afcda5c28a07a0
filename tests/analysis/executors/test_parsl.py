"""The Parsl executor: real processes, and what happens when each kind of them dies."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hist
import numpy as np
import psutil
import pytest
from coffea.processor import ParslExecutor
from parsl.providers.local import local as local_provider

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors.code import dumps
from analysis.executors.order import Order
from tests.analysis.executors.conftest import GIVEN, MARK
from tests.support.faults import KillsOnce, Plain, Raises, Slow
from tests.support.process_helpers import (
    NAME,
    PATIENCE,
    kills_at_the_second_file,
    one_sentence,
    plain,
    process,
    wait_for,
)

parsl = pytest.importorskip("parsl")

INTERCHANGE = re.compile(r"interchange\.py|HTEX interchange")
"""In a command line; setproctitle, where it is installed, replaces the first by the second."""

MANAGER = re.compile(r"process_worker_pool|parsl_manager")
"""Parsl's own, and the one whose workers are forks."""

ENGINE = "parsl"


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


def parsl_processes() -> dict[int, str]:
    """All processes of Parsl that live, of this process, and their command lines."""
    found = {}
    for one in psutil.process_iter():
        try:
            line, environment = " ".join(one.cmdline()), one.environ()
            # setproctitle overwrites the environment of the interchange, which is a child.
            mine = environment.get(MARK) == str(os.getpid()) or one.ppid() == os.getpid()
            if (mine and one.status() != psutil.STATUS_ZOMBIE) and (
                "parsl." in environment.get("JOBNAME", "")
                or INTERCHANGE.search(line)
                or MANAGER.search(line)
            ):
                found[one.pid] = line
        except psutil.Error:
            continue
    return found


def ports() -> set[int]:
    """Ports that this process listens on."""
    return {
        one.laddr.port
        for one in psutil.Process().net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }


# --- results


def _what_a_worker_has(item: int) -> dict[str, Any]:  # noqa: ARG001
    import sys

    time.sleep(0.05)
    names = (*GIVEN, *ALLOCATOR)
    return {
        "environment": {" ".join(f"{name}={os.environ.get(name)}" for name in names)},
        "warm": {"analysis.ttbar" in sys.modules},
        "workers": {os.getpid()},
        "parents": {os.getppid()},
    }


def test_workers_have_the_environment_and_are_warm(two: Any) -> None:
    total, _ = two.copy(compression=None, batch=1)(list(range(20)), _what_a_worker_has, None)
    values = {**GIVEN, **ALLOCATOR}
    assert total["environment"] == {" ".join(f"{key}={values[key]}" for key in values)}
    assert total["warm"] == {True}
    assert len(total["workers"]) == 2
    assert os.getpid() not in total["workers"]
    # Forks of one process, which is the manager's.
    (server,) = total["parents"]
    assert psutil.Process(server).ppid() == manager_of(two)
    assert "COFFEA_TEST" not in os.environ


class Weights:
    """Fills a large histogram by large weights, neither of which compresses."""

    def __init__(self, bins: int) -> None:
        self.weights = np.random.default_rng(1).normal(size=bins)

    def __call__(self, item: int) -> dict[str, Any]:
        filled = hist.Hist.new.Reg(len(self.weights), 0, 1).Weight()
        filled.view(flow=False)["value"] = item * self.weights
        return {"filled": filled}


def test_large_code_and_results_go_by_files_that_are_gone_afterwards(two: Any) -> None:
    function = Weights(bins=400_000)
    before = set(two.engine.folder.rglob("*"))
    (total, _), (small, _) = (
        two.copy(compression=None)(range(8), one, None) for one in (function, Weights(bins=10))
    )
    for one, bins in ((total, 400_000), (small, 10)):
        want = sum(item * Weights(bins).weights for item in range(8))
        np.testing.assert_allclose(one["filled"].values(), want)
    left = set(two.engine.folder.rglob("*")) - before
    assert not [one for one in left if one.is_file() and one.stat().st_size > 1000]


def test_batches_of_a_run_that_has_failed_do_not_begin(two: Any, tmp_path: Path) -> None:
    def touch(item: int) -> dict[str, int]:
        (tmp_path / str(item)).touch()
        time.sleep(0.1)
        return {"items": 1}

    results = two.results(dumps(touch), Order(range(60), 2, largest=1))
    next(results)
    results.close()
    two.copy(compression=None)([1], _what_a_worker_has, None)  # It comes after all that.
    assert len(list(tmp_path.iterdir())) < 10


def test_a_chunk_that_raises_is_named_and_the_executor_stays(
    fileset: dict[str, Any], two: Any
) -> None:
    with pytest.raises(InputError, match=r"events 1000 to 1500 .*jets out of order") as caught:
        process(fileset, Raises(), two.copy(retries=0))
    one_sentence(caught.value)
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


# --- deaths


def test_a_worker_that_dies_costs_nothing_but_time(
    fileset: dict[str, Any], two: Any, tmp_path: Path
) -> None:
    result = process(fileset, KillsOnce(tmp_path), two)
    assert result.accumulated == plain(fileset)
    assert two.statistics.lost >= 1
    assert process(fileset, Plain(), two).repeated == 0


def test_a_chunk_that_kills_is_named(fileset: dict[str, Any], two: Any) -> None:
    with pytest.raises(InputError) as caught:
        process(fileset, kills_at_the_second_file(), two.copy(retries=1))
    sentence = one_sentence(caught.value)
    assert sentence.startswith(f"{list(fileset[NAME]['files'])[1]}: events 0 to 500")
    assert "workers died 2 times" in sentence
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


@pytest.mark.parametrize("reported", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_workers_that_die_while_they_wait_are_replaced(
    fileset: dict[str, Any], two: Any, reported: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsl by itself waits for ever: one of them holds the lock of the queue of tasks.

    What was reported just before is the death of others, and there is no `ps`.
    """
    run_command = local_provider.execute_wait

    def without_ps(command: str, seconds: int | None = None) -> tuple[int, str, str]:
        return (1, "", "") if "$(ps " in command else run_command(command, seconds)

    monkeypatch.setattr(local_provider, "execute_wait", without_ps)
    two.engine._reported += [time.monotonic()] * reported
    total, _ = two.copy(compression=None, batch=1)(list(range(20)), _what_a_worker_has, None)
    time.sleep(0.5)
    for worker in total["workers"]:
        os.kill(worker, signal.SIGKILL)
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


def manager_of(executor: Any) -> int:
    folder = str(executor.engine.folder)
    (found,) = (
        pid
        for pid, line in parsl_processes().items()
        if MANAGER.search(line) and folder in line and "bash" not in line
    )
    return found


def test_a_manager_that_dies_is_replaced(
    fileset: dict[str, Any], two: Any, tmp_path: Path
) -> None:
    manager = manager_of(two)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(process, fileset, Slow(tmp_path), two)
        wait_for("work", lambda: any(tmp_path.iterdir()))
        os.kill(manager, signal.SIGKILL)
        assert running.result(timeout=PATIENCE).accumulated == plain(fileset)
    assert manager_of(two) != manager


@pytest.mark.usefixtures("alone")
def test_a_server_of_forks_that_dies_is_replaced(fileset: dict[str, Any]) -> None:
    """And with it its workers, which must not outlive it."""
    with open_executor("parsl", workers=2, status=False) as executor:
        own = executor.copy(compression=None, batch=1)
        total, _ = own(list(range(20)), _what_a_worker_has, None)
        (server,) = total["parents"]
        os.kill(server, signal.SIGKILL)
        assert process(fileset, Plain(), executor).accumulated == plain(fileset)
        wait_for("their end", lambda: not any(map(psutil.pid_exists, total["workers"])))


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, with a name too long for sockets."""
    folder = tmp_path_factory.mktemp("long" * 20)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("alone")
def test_an_interchange_that_dies_ends_the_run_and_leaves_nothing(
    fileset: dict[str, Any], tmp_path: Path, scratch: Path
) -> None:
    before = parsl_processes(), ports()

    def interrupted() -> None:
        with open_executor("parsl", workers=1) as executor:
            (interchange,) = (
                pid
                for pid, line in (parsl_processes().items() - before[0].items())
                if INTERCHANGE.search(line)
            )

            def kill() -> None:
                wait_for("work", lambda: any(tmp_path.iterdir()))
                os.kill(interchange, signal.SIGKILL)

            threading.Thread(target=kill).start()
            process(fileset, Slow(tmp_path), executor)

    with pytest.raises(InputError, match="interchange has died") as caught:
        interrupted()
    one_sentence(caught.value)
    wait_for("the end of the ports", lambda: (parsl_processes(), ports()) == before)
    assert list(scratch.iterdir()) == []


# --- starting and ending


@pytest.mark.usefixtures("alone")
def test_nothing_is_left_and_no_path_is_needed(
    fileset: dict[str, Any], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run with coffea's executor, in whose body something fails."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    before = parsl_processes(), ports(), dict(os.environ)

    def fail() -> None:
        with open_executor("parsl", workers=1, tuned=False) as executor:
            assert type(executor) is ParslExecutor
            assert process(fileset, Plain(), executor).accumulated == plain(fileset)
            assert parsl_processes().keys() > before[0].keys()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (parsl_processes(), ports(), dict(os.environ)) == before
    assert list(scratch.iterdir()) == []
    with pytest.raises(parsl.errors.NoDataFlowKernelError):
        parsl.dfk()


def test_threads_do_not_begin_more_after_an_exception(
    fileset: dict[str, Any], tmp_path: Path
) -> None:
    def touch(item: int) -> dict[str, int]:
        (tmp_path / str(item)).touch()
        time.sleep(0.2)
        return {"items": 1}

    def fail() -> None:
        with open_executor("parsl", workers=2, pool="threads") as executor:
            assert executor.compression == "plain"
            result = process(fileset, Plain(), executor)
            assert (result.accumulated, result.repeated) == (plain(fileset), 0)
            next(executor.results(dumps(touch), Order(range(100), 2, largest=1)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(list(tmp_path.iterdir())) < 10


def local(folder: Path, **provider: Any) -> Any:
    """A user's config."""
    return parsl.Config(
        executors=[
            parsl.HighThroughputExecutor(
                label="mine",
                address="127.0.0.1",
                max_workers_per_node=1,
                provider=parsl.providers.LocalProvider(**provider),
            )
        ],
        run_dir=str(folder),
        strategy_period=1,
        # Parsl does not close its log.
        initialize_logging=False,
    )


@pytest.mark.usefixtures("alone")
def test_config_of_the_user(fileset: dict[str, Any], tmp_path: Path) -> None:
    before = parsl_processes(), ports()
    config = local(tmp_path, worker_init="export COFFEA_TEST=mine")
    with open_executor("parsl", config=config) as executor:
        result = process(fileset, Plain(), executor)
        total, _ = executor.copy(compression=None)([1], _what_a_worker_has, None)
    assert (result.accumulated, result.repeated) == (plain(fileset), 0)
    assert "COFFEA_TEST=mine" in next(iter(total["environment"]))
    assert (parsl_processes(), ports()) == before


def test_kernel_that_is_loaded_is_used_and_left(fileset: dict[str, Any], tmp_path: Path) -> None:
    threads = parsl.ThreadPoolExecutor(max_threads=2)
    config = parsl.Config(executors=[threads], run_dir=str(tmp_path), initialize_logging=False)
    with parsl.load(config) as kernel:
        for tuned in (True, False):
            with open_executor("parsl", workers=2, tuned=tuned) as executor:
                assert process(fileset, Plain(), executor).accumulated == plain(fileset)
            assert parsl.dfk() is kernel
            assert not kernel.cleanup_called
        with (
            pytest.raises(InputError, match="loaded already"),
            open_executor("parsl", config=config, tuned=False),
        ):
            pass


@pytest.mark.usefixtures("alone")
def test_configs_that_do_not_start(tmp_path: Path) -> None:
    before = parsl_processes(), ports()
    silent = local(tmp_path)
    silent.executors[0].interchange_launch_cmd = ["false"]
    absent = local(tmp_path)
    absent.executors[0].interchange_launch_cmd = ["no-such-interchange"]
    for options, sentence in (
        ({"config": absent}, "did not start: .*no-such-interchange"),
        ({"config": local(tmp_path, worker_init="exit 3")}, "did not start workers: .* 3"),
        ({"patience": 0.5}, "started 0 of 1 workers in 0 seconds"),
        ({"memory": 1e6}, "do not fit in the .* free"),
    ):
        with (
            pytest.raises(InputError, match=sentence) as caught,
            open_executor("parsl", **options),
        ):
            pass
        one_sentence(caught.value)
        one_sentence(caught.value)
        wait_for("the end of the ports", lambda: (parsl_processes(), ports()) == before)
    # Parsl itself keeps a port for this one, in which it waits for an answer for two minutes.
    begun = time.monotonic()
    with (
        pytest.raises(InputError, match=r"interchange did not start|Parsl did not start"),
        open_executor("parsl", config=silent),
    ):
        pass
    assert time.monotonic() - begun < PATIENCE / 4
    assert parsl_processes() == before[0]
