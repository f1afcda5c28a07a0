"""The pool of this machine: its workers' environment, and what happens when they die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors.futures import ENVIRONMENT
from tests.analysis.executors.conftest import GIVEN
from tests.support.faults import KillsOnce, Plain, Raises
from tests.support.process_helpers import (
    NAME,
    children,
    kills_at_the_second_file,
    plain,
    process,
    wait_for,
)

if TYPE_CHECKING:
    from pathlib import Path


ENGINE = "futures"


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


def _what_a_worker_has(item: int) -> dict[str, Any]:  # noqa: ARG001
    time.sleep(0.05)
    names = (*GIVEN, *ENVIRONMENT, *ALLOCATOR)
    return {
        "environment": {" ".join(f"{name}={os.environ.get(name)}" for name in names)},
        "warm": {"analysis.ttbar" in sys.modules},
        "workers": {os.getpid()},
        "parents": {os.getppid()},
    }


def what_workers_have(executor: Any) -> dict[str, Any]:
    total, _ = executor.copy(compression=None, batch=1)(list(range(20)), _what_a_worker_has, None)
    return dict(total)


def check_workers(executor: Any) -> set[int]:
    """Two warm workers with the environment."""
    found = what_workers_have(executor)
    values = {**GIVEN, **ENVIRONMENT, **ALLOCATOR}
    assert found["environment"] == {" ".join(f"{key}={values[key]}" for key in values)}
    assert found["warm"] == {True}
    assert len(found["workers"]) == 2
    # Both are forks of one process.
    assert len(found["parents"] - {os.getpid()}) == 1
    workers: set[int] = found["workers"]
    return workers


def test_the_same_two_warm_workers_serve_every_run(fileset: dict[str, Any], two: Any) -> None:
    before = check_workers(two)
    runs = [process(fileset, Plain(), two) for _ in range(3)]
    assert [one.repeated for one in runs] == [0, 0, 0]
    assert all(one.accumulated == plain(fileset) for one in runs)
    assert check_workers(two) == before


def test_a_worker_that_dies_costs_nothing_but_time(
    fileset: dict[str, Any], two: Any, tmp_path: Path
) -> None:
    before = check_workers(two)
    assert process(fileset, KillsOnce(tmp_path), two).accumulated == plain(fileset)
    assert two.statistics.lost >= 1
    # A broken pool is another afterwards, with the same environment.
    assert not check_workers(two) & before
    assert process(fileset, Plain(), two).repeated == 0


def test_a_chunk_that_kills_is_named_and_the_pool_is_usable(
    fileset: dict[str, Any], two: Any
) -> None:
    with pytest.raises(InputError) as caught:
        process(fileset, kills_at_the_second_file(), two.copy(retries=2))
    sentence = str(caught.value)
    assert sentence.startswith(f"{list(fileset[NAME]['files'])[1]}: events 0 to 500")
    assert "workers died 3 times" in sentence
    assert "\n" not in sentence
    check_workers(two)
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


def test_a_chunk_that_raises_leaves_nothing_to_the_next_run(
    fileset: dict[str, Any], two: Any
) -> None:
    with pytest.raises(InputError, match=r"events 1000 to 1500 .*jets out of order"):
        process(fileset, Raises(), two.copy(retries=0))
    assert process(fileset, Plain(), two).repeated == 0


def test_workers_print_no_warnings(
    fileset: dict[str, Any], two: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of coffea, which has one for each attempt."""
    with pytest.raises(InputError, match="jets out of order"):
        process(fileset, Raises(), two)
    assert "attempt" not in capfd.readouterr().err


def test_nothing_is_left_when_a_pool_was_broken(fileset: dict[str, Any]) -> None:
    before = children()

    def fail() -> None:
        with open_executor("futures", workers=2) as executor:
            process(fileset, kills_at_the_second_file(), executor.copy(retries=0))

    with pytest.raises(InputError, match="workers died 1 times"):
        fail()
    wait_for("the end of the workers", lambda: children() <= before)


def test_what_is_left_of_an_ended_client_is_not_warned_of() -> None:
    code = (
        "import multiprocessing, os\n"
        "from analysis.interruption import postponed\n"
        "with postponed():\n"
        "    lock = multiprocessing.get_context('spawn').Lock()\n"
        "os._exit(3)"
    )
    command = [sys.executable, "-c", code]
    # To the end of all that has standard error, the keeper of semaphores too.
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (3, "")
