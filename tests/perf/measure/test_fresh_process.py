"""A fresh process answers, says why it failed, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from perf.measure.fresh_process import Process, ProcessError, answering, answers, python_call

HERE = __name__


def echo() -> None:
    """Answer each request with itself, the arguments and a variable; say it aloud, too."""
    with answers() as stream:
        for line in sys.stdin:
            print("not an answer")  # noqa: T201  (what is tested)
            stream.write(json.dumps([json.loads(line), *sys.argv[1:], os.environ["X"]]) + "\n")
            stream.flush()


def fail() -> None:
    """End with an error."""
    sys.exit("first\nlast words")


def linger() -> None:
    """Start a process that outlives its parent, tell which, and wait for ever."""
    with answering() as stream:
        code = "import subprocess as s; print(s.Popen(['sleep', '1000'], stdout=-3).pid)"
        orphan = subprocess.check_output([sys.executable, "-c", code], text=True)
        stream.write(orphan)
        stream.flush()
        sys.stdin.read()
        while sys.argv[1:] == ["for ever"]:
            time.sleep(1)


def gone(pid: int) -> bool:
    """Whether a process has ended, within seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_it_answers() -> None:
    """What it prints is no answer; it is given arguments and variables."""
    with Process(python_call(f"{HERE}.echo", 7), {"X": "y"}, grace=10) as process:
        for number in range(2):
            process.ask(json.dumps(number))
            assert json.loads(process.answer()) == [number, "7", "y"]
        assert json.loads(process.finish("3")) == [3, "7", "y"]


def test_it_says_why_it_failed() -> None:
    """Status and last words, whichever way it is asked."""
    match = "the process ended with status 1: last words"
    with (
        pytest.raises(ProcessError, match=match),
        Process(python_call(f"{HERE}.fail")) as process,
    ):
        process.finish()
    with (
        pytest.raises(ProcessError, match=match),
        Process(python_call(f"{HERE}.fail")) as process,
    ):
        process.answer()


@pytest.mark.parametrize("interrupt", [0.0, 10.0])
def test_what_does_not_end_is_killed(interrupt: float) -> None:
    """With its descendants, and with those that lost their parent."""
    orphan = 0
    with suppress(ProcessError):
        command = python_call(f"{HERE}.linger", "for ever")
        with Process(command, interrupt=interrupt) as process:
            orphan = int(process.answer())
            with pytest.raises(ProcessError, match=r"did not end within 0\.1 s") as caught:
                process.finish(timeout=0.1)
            raise caught.value
    assert gone(process.pid)
    assert gone(orphan)


def test_what_it_started_ends_with_it() -> None:
    """Where it ends well, too."""
    with Process(python_call(f"{HERE}.linger"), grace=10) as process:
        orphan = int(process.answer())
        process.finish()
    assert gone(orphan)
