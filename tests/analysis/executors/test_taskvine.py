"""The TaskVine executor, on TaskVine where that is installed, else on a stand-in for it."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from coffea.processor import TaskVineExecutor

from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from tests.analysis.executors.conftest import GIVEN
from tests.support.faults import KillsOnce, Plain, Raises, Slow
from tests.support.process_helpers import (
    NAME,
    children,
    kills_at_the_second_file,
    one_sentence,
    plain,
    process,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parents[2] / "support" / "standins"
INSTALLED = find_spec("ndcctools") is not None
MODULES = ("ndcctools", "ndcctools.taskvine", "analysis.executors.taskvine")


def test_without_taskvine_one_sentence_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ndcctools", None)  # Importing it fails.
    monkeypatch.setitem(sys.modules, "ndcctools.taskvine", None)
    monkeypatch.delitem(sys.modules, "analysis.executors.taskvine", raising=False)
    with (
        pytest.raises(NotInstalledError, match="conda install -c conda-forge ndcctools") as caught,
        open_executor("taskvine", workers=2),
    ):
        pass
    assert "\n" not in str(caught.value)


@contextmanager
def _taskvine() -> Iterator[None]:
    """TaskVine, or the stand-in for it."""
    if INSTALLED:
        yield
        return
    before = {name: sys.modules[name] for name in MODULES if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STAND_IN)
        patch.setenv("PATH", str(STAND_IN / "bin"), prepend=os.pathsep)
        yield
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(before)


@pytest.fixture(scope="module")
def vine() -> Iterator[Any]:
    """Two workers."""
    with _taskvine(), open_executor("taskvine", workers=2, environment=GIVEN) as executor:
        yield executor


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


def _what_a_worker_has(item: int) -> dict[str, Any]:  # noqa: ARG001
    time.sleep(0.05)
    return {
        "environment": {tuple(map(os.environ.get, GIVEN))},
        "warm": {"analysis.ttbar" in sys.modules},
        "workers": {os.getppid()},  # The library, of which each batch is a fork.
    }


def test_workers_have_the_environment_and_are_warm(vine: Any) -> None:
    total, _ = vine.copy(compression=None, batch=1)(list(range(20)), _what_a_worker_has, None)
    assert total["environment"] == {tuple(GIVEN.values())}
    assert total["warm"] == {True}
    assert len(total["workers"]) == 2


def test_a_chunk_that_raises_is_named_and_the_executor_stays(
    fileset: dict[str, Any], vine: Any
) -> None:
    with pytest.raises(InputError, match=r"events 1000 to 1500 .*jets out of order") as caught:
        process(fileset, Raises(), vine.copy(retries=0))
    one_sentence(caught.value)
    assert process(fileset, Plain(), vine).accumulated == plain(fileset)


def test_a_process_that_dies_costs_nothing_but_time(
    fileset: dict[str, Any], vine: Any, tmp_path: Path
) -> None:
    vine.statistics.clear()
    assert process(fileset, KillsOnce(tmp_path), vine).accumulated == plain(fileset)
    assert vine.statistics.lost >= 1
    assert process(fileset, Plain(), vine).repeated == 0


def test_a_chunk_that_kills_is_named(fileset: dict[str, Any], vine: Any) -> None:
    with pytest.raises(InputError) as caught:
        process(fileset, kills_at_the_second_file(), vine.copy(retries=1))
    sentence = one_sentence(caught.value)
    assert sentence.startswith(f"{list(fileset[NAME]['files'])[1]}: events 0 to 500")
    assert "workers died 2 times" in sentence
    assert process(fileset, Plain(), vine).accumulated == plain(fileset)


def vine_workers() -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process().children()
        if one.status() != psutil.STATUS_ZOMBIE and "vine_worker" in " ".join(one.cmdline())
    ]


def test_a_vine_worker_that_dies_leaves_its_work_to_the_others(
    fileset: dict[str, Any], vine: Any, tmp_path: Path
) -> None:
    victim = vine_workers()[0]
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(_kill_when_busy, victim, tmp_path)
        assert process(fileset, Slow(tmp_path), vine).accumulated == plain(fileset)
        killing.result()
    assert process(fileset, Plain(), vine).accumulated == plain(fileset)


def _kill_when_busy(victim: psutil.Process, marks: Path) -> None:
    wait_for("work", lambda: len(list(marks.iterdir())) >= 2)
    victim.send_signal(signal.SIGKILL)


def test_workers_that_do_not_start_are_told_of_and_ended(tmp_path: Path) -> None:
    if INSTALLED:
        pytest.skip("the program of TaskVine itself would be found")
    before = children()
    program = tmp_path / "vine_worker"
    for content, sentence in (
        (None, "TaskVine's vine_worker cannot be started"),
        ("exit 3", "started 0 of 2 workers in 60 seconds: vine_worker ended with 3"),
        ("exec sleep 60", "started 0 of 2 workers in 1 seconds: ask for fewer"),
    ):
        options: dict[str, Any] = {"patience": 1.0} if content and "sleep" in content else {}
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}" if content else str(tmp_path)
        with _taskvine(), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            if content is not None:
                program.write_text(f"#!/bin/sh\n{content}\n")
                program.chmod(0o755)
            with (
                pytest.raises(InputError, match=sentence) as caught,
                open_executor("taskvine", workers=2, **options),
            ):
                pass
        one_sentence(caught.value)
        wait_for("the end of the workers", lambda: children() <= before)


@pytest.mark.skipif(not INSTALLED, reason="coffea's executor uses more than the stand-in has")
def test_coffeas_own_can_be_used_again_and_nothing_is_left(
    fileset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, handler = children(), signal.getsignal(signal.SIGINT)
    temporary = set(Path(tempfile.gettempdir()).glob("coffea-vine-*"))

    def fail() -> None:
        with open_executor("taskvine", workers=2, tuned=False, status=False) as executor:
            assert isinstance(executor, TaskVineExecutor)
            for _ in range(2):
                result = process(fileset, Plain(), executor, chunksize=2000)
                assert (result.accumulated, result.repeated) == (plain(fileset), 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert signal.getsignal(signal.SIGINT) == handler
    wait_for("the end of the workers", lambda: children() <= before)
    assert set(Path(tempfile.gettempdir()).glob("coffea-vine-*")) == temporary
    assert list(tmp_path.iterdir()) == []
