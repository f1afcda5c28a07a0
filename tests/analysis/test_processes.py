"""Processes end with their descendants, also with those that are started meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from analysis.processes import end_children, kill_family
from tests.support.process_helpers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture
def mark() -> Iterator[str]:
    """Last argument of the programs of this test, by which they are found; what is left is killed."""
    text = f"mark-of-{os.getpid()}"
    yield text
    for process in _marked(text):
        process.kill()


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [mark] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("attempt", range(3))
def test_nothing_is_left_of_a_process_that_forks(mark: str, attempt: int) -> None:
    del attempt
    program = subprocess.Popen([sys.executable, "-c", FORKS, mark])
    wait_for("children", lambda: len(_marked(mark)) > 5)
    kill_family(psutil.Process(program.pid))
    program.wait()
    assert _marked(mark) == []


def test_a_process_whose_children_are_ended_goes_on(mark: str) -> None:
    program = subprocess.Popen([sys.executable, "-c", FORKS, mark])
    wait_for("children", lambda: len(_marked(mark)) > 5)
    end_children([program.pid])
    wait_for("other children", lambda: len(_marked(mark)) > 5)
    end_children([program.pid], go_on=False)
    assert [one.pid for one in _marked(mark)] == [program.pid]
    program.kill()
    program.wait()


def test_a_process_ends_with_another_and_leaves_nothing(mark: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    program = subprocess.Popen([sys.executable, "-c", ENDS_WITH, str(other.pid), mark])
    wait_for("children", lambda: len(_marked(mark)) > 5)
    other.kill()
    other.wait()
    program.wait()
    wait_for("the end of all", lambda: _marked(mark) == [])
