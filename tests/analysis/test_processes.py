"""Processes end with their descendants, also with those that are started meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from analysis.processes import end_children, kill_family
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
