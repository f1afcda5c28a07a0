"""Forks of a process that has imported and compiled all that a chunk needs."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import psutil
import pytest

from analysis.allocator import ALLOCATOR, in_force
from analysis.executors import fork_server
from analysis.executors.fork_server import RESTORED, ForkContext, forking
from analysis.executors.iterative import start as iterative
from analysis.executors.options import IterativeOptions
from analysis.runner.job import Job
from tests.support.process_helpers import PATIENCE, children, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GIVEN = {"COFFEA_TEST": "a b'c", "PYTHONHASHSEED": "6640", **ALLOCATOR}


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkContext]:
    before = children()
    with forking(GIVEN) as context:
        yield context
    assert children() <= before


def answer(forks: ForkContext, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fork."""
    receiver, sender = forks.Pipe(duplex=False)
    process = forks.Process(target=_answer, args=(sender, function, *arguments))
    process.start()
    try:
        assert receiver.poll(PATIENCE)
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def _answer(sender: Any, function: Callable[..., Any], *arguments: Any) -> None:
    sender.send(function(*arguments))


def _surroundings() -> dict[str, Any]:
    names = (*GIVEN, "PYTHONPATH", "PYTHONSAFEPATH", RESTORED)
    return {
        "environment": {name: os.environ.get(name) for name in names},
        "allocator": in_force(),
        "hash": hash("a"),
        "path": sys.path,
        "main": hasattr(sys.modules["__main__"], "__file__"),
        "warm": "analysis.ttbar" in sys.modules,
        "parent": os.getppid(),
    }


def test_a_fork_has_its_environment_from_the_start(forks: ForkContext) -> None:
    one, other = (answer(forks, _surroundings) for _ in range(2))
    assert one == other
    kept = {name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH", RESTORED)}
    assert one["environment"] == {**GIVEN, **kept}
    assert one["path"] == sys.path
    assert (one["allocator"], one["main"], one["warm"]) == (True, False, True)
    assert psutil.Process(one["parent"]).parent() == psutil.Process()


def test_a_new_fork_of_a_server_that_lives_sets_no_variables_here(
    forks: ForkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another thread starts meanwhile would be given them."""
    server = answer(forks, os.getppid)
    monkeypatch.setattr(fork_server, "environment", None)
    assert answer(forks, os.getppid) == server


def _loops() -> dict[str, int]:
    """How often each loop of ours is compiled, for other types each time."""
    return {
        f"{module}.{name}": len(value.signatures)
        for module, content in list(sys.modules.items())
        if module.startswith("analysis.")
        for name, value in vars(content).items()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    }


def _compiled_by(job: Job) -> tuple[bool, dict[str, int]]:
    before = _loops()
    with iterative(IterativeOptions(status=False), 1) as executor:
        job.inspect().run(executor)
    return any(before.values()), {
        name: number for name, number in _loops().items() if number != before.get(name)
    }


@pytest.mark.parametrize("implementation", ["columnar", "compiled", "fused"])
def test_a_fork_compiles_nothing_for_its_first_chunk(
    forks: ForkContext, synthetic: Path, implementation: Any
) -> None:
    job = Job.of_ttbar(synthetic / "fileset.json", implementation, "nominal")
    assert answer(forks, _compiled_by, job) == (True, {})


def _drawn() -> float:
    return float(np.random.random())  # noqa: NPY002


def test_forks_draw_different_random_numbers(forks: ForkContext) -> None:
    assert answer(forks, _drawn) != answer(forks, _drawn)


@pytest.mark.slow
def test_a_server_that_died_is_started_again(forks: ForkContext) -> None:
    server = answer(forks, os.getppid)
    psutil.Process(server).kill()
    # Of its last thread, too, with which its socket is closed.
    wait_for("its end", lambda: not forks.server._lives())
    assert answer(forks, os.getppid) != server
    assert answer(forks, _surroundings)["environment"]["COFFEA_TEST"] == GIVEN["COFFEA_TEST"]


@pytest.mark.slow
def test_the_folder_of_temporary_files_may_have_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("a" * 100) / "b c"
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with forking({}) as context:
        assert answer(context, os.getppid) != os.getpid()
    assert list(folder.iterdir()) == []
