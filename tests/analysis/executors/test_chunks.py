"""A chunk has a processor of its own, a time limit, and may fork; what fails can be left out."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from coffea.processor import Runner

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.files.nanoevents import QuietSchema
from tests.analysis.executors.conftest import total
from tests.support.cli import analysis
from tests.support.faults import Plain
from tests.support.process_helpers import NAME, PATIENCE, one_sentence, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coffea.processor.executor import ExecutorBase

SHARED = True
"""What all executors share: see `conftest.QUICK`."""

TOO_LONG = 7
"""The item that takes too long."""


class Counts(Plain):
    """A processor that counts in itself, and so gives more the more chunks one instance serves."""

    calls = 0

    def process(self, events: Any) -> dict[str, Any]:
        del events
        self.calls += 1
        return {"n": self.calls}


@pytest.mark.parametrize("compression", [None, 1])
def test_an_instance_serves_one_chunk(
    executor: ExecutorBase, synthetic_fileset: dict[str, Any], compression: int | None
) -> None:
    runner = Runner(
        executor=executor,
        schema=QuietSchema,
        chunksize=100,
        processor_compression=compression,
    )
    fileset = {NAME: synthetic_fileset[NAME]}
    assert runner(fileset, processor_instance=Counts())["n"] == 40


# --- a time limit


def _sleeps(item: int) -> dict[str, int]:
    if item == TOO_LONG:
        time.sleep(10 * PATIENCE)
    return {"n": 1}


def _spins(item: int) -> dict[str, int]:
    while item == TOO_LONG:
        try:
            sum(range(100))
        except Exception:  # noqa: BLE001, S112
            continue
    return {"n": 1}


def _stays_in_c(item: int) -> dict[str, int]:
    """With Python's lock held, and signals unheard."""
    if item == TOO_LONG:
        sum(itertools.repeat(0))
    return {"n": 1}


def _is_in_threads(executor: Any) -> bool:
    return type(executor).__name__ != "Iterative" and bool(executor.inside)


@pytest.mark.parametrize("function", [_spins, _sleeps, _stays_in_c])
def test_what_takes_too_long_is_named(executor: Any, function: Callable[[int], Any]) -> None:
    if executor.inside and function is _stays_in_c:
        pytest.skip("cannot be ended in the client itself")
    if not _ends_sleep(executor) and function is _sleeps:
        pytest.skip("a thread that sleeps cannot be woken")
    limited = executor.copy(chunk_timeout=0.5)
    with pytest.raises(InputError, match=r"^7 took longer than 0.5 s: raise chunk_timeout") as e:
        total(limited, function)
    one_sentence(e.value)
    assert total(executor, _one) == {"n": 40}
    assert total(executor.copy(chunk_timeout=PATIENCE), _one) == {"n": 40}


def _ends_sleep(executor: Any) -> bool:
    return not _is_in_threads(executor)


def test_a_chunk_that_takes_too_long_has_file_and_events(
    executor: Any, synthetic_fileset: dict[str, Any]
) -> None:
    runner = Runner(executor=executor.copy(chunk_timeout=2.0), schema=QuietSchema, chunksize=1000)
    files = list(synthetic_fileset[NAME]["files"])
    with pytest.raises(InputError, match="events 1000 to 2000 took longer than 2 s") as caught:
        runner({NAME: synthetic_fileset[NAME]}, processor_instance=Spins())
    assert any(str(caught.value).startswith(f"{path}: ") for path in files)


class Spins(Plain):
    """Never gives the second chunk of a file."""

    def before(self, events: Any) -> None:
        while events.metadata["entrystart"] == 1000:
            pass


def test_the_command_has_a_time_limit(synthetic: Path, tmp_path: Path) -> None:
    outcome = analysis(
        *("run", synthetic / "fileset.json", "--processor", "tests.support.faults:Slow"),
        *("--option", "chunk_timeout=0.1", "--output", tmp_path / "out.coffea"),
    )
    assert outcome.exit_code == 2
    sentence = " ".join(outcome.error.split())
    assert "events 0 to 2000 took longer than 0.1 s: raise chunk_timeout, ask for" in sentence
    assert not (tmp_path / "out.coffea").exists()


def _one(item: int) -> dict[str, int]:  # noqa: ARG001
    return {"n": 1}


# --- what fails is left out


def _fails_for_some(item: int) -> dict[str, int]:
    if item in {3, 17}:
        msg = f"{item} is not liked"
        raise ValueError(msg)
    return {"n": 1}


def test_what_could_be_processed(executor: Any) -> None:
    for options in ({"batch": 1}, {"batch": None}, {"batch": 4, "fan_in": 2}):
        one = executor.copy(recoverable=True, status=False, **options)
        result, problem = one(list(range(40)), _fails_for_some, {"n": 100})
        assert result == {"n": 138}
        assert isinstance(problem, ValueError)
        assert "is not liked" in str(problem)
        with pytest.raises(ValueError, match="is not liked"):
            one([3, 17], _fails_for_some, None)


def test_partial_output(executor: Any, synthetic_fileset: dict[str, Any]) -> None:
    runner = Runner(
        executor=executor.copy(recoverable=True, retries=0), schema=QuietSchema, chunksize=500
    )
    with pytest.raises(Exception, match="jets out of order") as caught:
        runner({NAME: synthetic_fileset[NAME]}, processor_instance=RaisesAtThird())
    assert caught.value.partial_output["events"] == {NAME: 3000}  # type: ignore[attr-defined]


class RaisesAtThird(Plain):
    """The third chunk of each file raises."""

    def before(self, events: Any) -> None:
        if events.metadata["entrystart"] == 1000:
            msg = "jets out of order"
            raise ZeroDivisionError(msg)


# --- forks


def _waits_for(pid: int) -> dict[str, int]:
    os.waitpid(pid, 0)
    return {"n": 1}


def _child_ends(item: int) -> dict[str, int]:  # noqa: ARG001
    if (pid := os.fork()) == 0:
        os._exit(0)
    return _waits_for(pid)


def _child_returns(item: int) -> dict[str, int]:  # noqa: ARG001
    if (pid := os.fork()) == 0:
        return {"n": 1000}
    return _waits_for(pid)


def _child_exits(item: int) -> dict[str, int]:  # noqa: ARG001
    if (pid := os.fork()) == 0:
        sys.exit(0)
    return _waits_for(pid)


def _child_raises(item: int) -> dict[str, int]:  # noqa: ARG001
    if (pid := os.fork()) == 0:
        raise ZeroDivisionError
    return _waits_for(pid)


def _pool(item: int) -> dict[str, int]:
    fork = multiprocessing.get_context("fork")
    if multiprocessing.current_process().daemon:
        # Dask's workers may not have children by multiprocessing.
        return {"n": 1}
    with fork.Pool(2) as pool:
        return {"n": sum(pool.map(_is, [item, item])) // 2}


def _is(item: int) -> int:
    return int(item >= 0)


@pytest.mark.parametrize(
    "function", [_child_ends, _child_returns, _child_exits, _child_raises, _pool]
)
def test_a_processor_that_forks(executor: Any, function: Callable[[int], Any]) -> None:
    if _is_in_threads(executor) and function is _pool:
        pytest.skip("a pool of processes in a thread of pytest's")
    assert total(executor, function, 6) == {"n": 6}
    assert total(executor, _one) == {"n": 40}


def _leaves_a_child(item: int) -> dict[str, Any]:
    if item < 2:
        if pid := os.fork():
            return {"n": 1, "left": {pid}}
        time.sleep(10 * PATIENCE)
    return {"n": 1, "left": set()}


def _leaves_a_process(item: int) -> dict[str, Any]:
    if item < 2 and not multiprocessing.current_process().daemon:
        fork = multiprocessing.get_context("fork")
        # At its end Python waits for such.
        process = fork.Process(target=time.sleep, args=(10 * PATIENCE,))
        process.start()
        return {"n": 1, "left": {process.pid}}
    return {"n": 1, "left": set()}


@pytest.mark.parametrize(
    "name",
    [
        "futures",
        "dask",
        pytest.param("parsl", marks=pytest.mark.slow),
        pytest.param("spark", marks=pytest.mark.slow),
    ],
)
def test_what_a_processor_leaves_at_work_ends_with_the_executor(name: str) -> None:
    with open_executor(name, workers=2) as executor:
        outs = [total(executor, one) for one in (_leaves_a_child, _leaves_a_process)]
        left = outs[0]["left"] | outs[1]["left"]
        assert len(left) >= 2
        assert all(map(_lives, left))
    wait_for("the end of all", lambda: not any(map(_lives, left)))


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
