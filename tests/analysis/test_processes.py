"""Processes end with their descendants, also with those that are started meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from analysis.processes import end_children, environment, kill_family
from tests.support.process_helpers import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORKS = """
import os, sys, time
for _ in range(400):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    time.sleep(0.002)
time.sleep(600)
"""
"""Program that starts another process every few milliseconds."""

ENDS_WITH = f"""
import sys
from analysis.processes import end_with
end_with(int(sys.argv[1]))
{FORKS}
"""


MARK = f"mark-of-{os.getpid()}"
"""Last argument of the programs of this test, by which they and what they forked are found."""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program, and end it and all that it forked after the test, also if that fails."""
    with ExitStack() as programs:
        programs.callback(lambda: [process.kill() for process in _marked()])

        def started(text: str, *arguments: str) -> subprocess.Popen[bytes]:
            program = subprocess.Popen([sys.executable, "-c", text, *arguments])
            programs.callback(program.wait)
            programs.callback(program.kill)
            return program

        yield started


def _left(*pids: int) -> bool:
    """Whether these processes alone are left: one that was killed ends a moment later."""
    return [one.pid for one in _marked()] == list(pids)


def _marked() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [MARK] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("attempt", range(3))
def test_nothing_is_left_of_a_process_that_forks(start: Any, attempt: int) -> None:
    del attempt
    program = start(FORKS, MARK)
    wait_for("children", lambda: len(_marked()) > 5)
    kill_family(psutil.Process(program.pid))
    program.wait()
    wait_for("the end of all", _left)


def test_a_process_whose_children_are_ended_goes_on(start: Any) -> None:
    program = start(FORKS, MARK)
    wait_for("children", lambda: len(_marked()) > 5)
    end_children([program.pid])
    wait_for("other children", lambda: len(_marked()) > 5)
    end_children([program.pid], go_on=False)
    wait_for("the end of the children", lambda: _left(program.pid))


def test_a_process_ends_with_another_and_leaves_nothing(start: Any) -> None:
    other = start("import time; time.sleep(600)")
    program = start(ENDS_WITH, str(other.pid), MARK)
    wait_for("children", lambda: len(_marked()) > 5)
    other.kill()
    other.wait()
    program.wait()
    wait_for("the end of all", _left)


# --- environment variables


@pytest.mark.parametrize("first", [0, 1])
def test_variables_of_two_threads_are_taken_back_in_any_order(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when one starts a pool while Dask starts a worker in place of another."""
    monkeypatch.setenv("COFFEA_TEST_BOTH", "before")
    monkeypatch.delenv("COFFEA_TEST_ONE", raising=False)
    before = dict(os.environ)
    layers: list[dict[str, str | None]] = [
        {"COFFEA_TEST_BOTH": "one", "COFFEA_TEST_ONE": "1"},
        {"COFFEA_TEST_BOTH": None},
    ]
    contexts = [environment(layer) for layer in layers]
    for context in contexts:
        context.__enter__()
    assert "COFFEA_TEST_BOTH" not in os.environ
    assert os.environ["COFFEA_TEST_ONE"] == "1"
    contexts.pop(first).__exit__(None, None, None)
    found = {name: os.environ.get(name) for name in layers[0]}
    assert found == {"COFFEA_TEST_ONE": None, **layers[1 - first]}
    contexts.pop().__exit__(None, None, None)
    assert dict(os.environ) == before


def test_variables_that_cannot_be_set_leave_nothing() -> None:
    before = dict(os.environ)
    with pytest.raises(ValueError, match="null"), environment({"COFFEA_A": "1", "COFFEA_B": "\0"}):
        pass
    with environment({"COFFEA_A": "2"}):
        assert os.environ["COFFEA_A"] == "2"
    assert dict(os.environ) == before


def test_what_a_library_sets_meanwhile_is_taken_back_by_its_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COFFEA_TEST_KEPT", "before")
    before = dict(os.environ)
    with environment({"COFFEA_TEST_OWN": "1"}, prefixes=("COFFEA_TEST_",)):
        os.environ["COFFEA_TEST_NEW"] = os.environ.pop("COFFEA_TEST_KEPT")
    assert dict(os.environ) == before
