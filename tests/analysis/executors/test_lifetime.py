"""Whatever ends the client, no process of an engine outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.process_helpers import PATIENCE, wait_for

ENGINES = ("futures", "dask", "parsl", "spark")

SCRIPT = """
import sys, threading, time
from contextlib import ExitStack
from pathlib import Path
from analysis.errors import NotInstalledError
from analysis.executors import open_executor

def work(item):
    Path(*item).touch()
    time.sleep(600)
    return {"n": 1}

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    with ExitStack() as stack:
        for name in names:
            try:
                executor = stack.enter_context(open_executor(name, status=False))
            except NotInstalledError:
                Path(folder, name).touch()
                continue
            arguments = [(folder, name)], work, None
            threading.Thread(target=executor, args=arguments, daemon=True).start()
        time.sleep(600)
"""


def test_nothing_outlives_a_client_that_is_killed(tmp_path: Path) -> None:
    """While all of its engines are at work, in a call that does not end by itself."""
    script, marks = tmp_path / "script.py", tmp_path / "marks"
    script.write_text(SCRIPT)
    marks.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(marks), *ENGINES],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "TMPDIR": str(tmp_path),
        },
    )
    family: set[psutil.Process] = set()
    try:

        def busy() -> bool:
            assert process.poll() is None, process.communicate()[1]
            family.update(_in_session(process.pid))
            return len(list(marks.iterdir())) == len(ENGINES)

        wait_for("work", busy)
        assert len(family) >= 2 * len(ENGINES)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        wait_for("the end of all processes", lambda: not any(map(_lives, family)))
    finally:
        for one in family:
            if _lives(one):
                one.kill()
        process.kill()
        process.communicate()


def _in_session(leader: int) -> list[psutil.Process]:
    """Processes of a session; a parent may have ended, as that of Parsl's manager does."""
    found = []
    for one in psutil.process_iter():
        with suppress(OSError):
            if os.getsid(one.pid) == leader and one.pid != leader:
                found.append(one)
    return found


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
