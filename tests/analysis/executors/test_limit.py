"""A time limit leaves a process as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import cProfile, faulthandler, threading, time
from pathlib import Path
from analysis.errors import InputError
from analysis.executors.limit import Limit

def work(item):
    until = time.monotonic() + {seconds}
    while time.monotonic() < until:
        pass
    return item

def limited():
    try:
        said.append(Limit(0.2, Path("/nowhere")).call(work, "chunk", inside=True))
    except InputError as error:
        said.append(str(error))

said = []
for _ in range(3):
    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
faulthandler.dump_traceback_later(20, exit=True)
cProfile.Profile().runcall(work, 1)
print(said)
"""


@pytest.mark.parametrize(("seconds", "words"), [(0.01, "chunk', 'chunk"), (0.5, "took longer")])
def test_a_profiler_runs_after_a_limit_in_a_thread(seconds: float, words: str) -> None:
    """Of an exception that is taken back Python would look for ever, and a profiler hang."""
    command = [sys.executable, "-c", CODE.format(seconds=seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert words in ended.stdout
