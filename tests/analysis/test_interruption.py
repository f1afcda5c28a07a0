"""Signals: one sentence and 130 or 143, or the result, at any moment; nothing is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.interruption import SIGNALS
from tests.campaigns import signals

ROOT = Path(__file__).parents[2]
PATIENCE = 60
BOTH = pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)


def interrupted(code: str, number: signal.Signals, times: int = 1) -> tuple[int, str, str]:
    """Run code that prints a line when it is ready, and send it a signal then."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.05)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


# pytest may run with Ctrl-C ignored, as what a shell starts in the background does.
HEEDED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
IGNORED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

PROGRAM = """{first}
import sys, time, warnings, logging, threading
from analysis.interruption import call, interruptible, listen
listen()
def late():
    thread = threading.Thread(target=print, args=("late",), kwargs=dict(file=sys.stderr))
    thread.start(); thread.join()
def ready():
    print("ready", flush=True)
    time.sleep({seconds})
"""


@BOTH
def test_while_modules_are_imported(number: signal.Signals) -> None:
    """Whatever of them is half made, nobody sees it."""
    code = (
        PROGRAM.format(first=HEEDED, seconds=PATIENCE)
        + "try: ready()\nexcept BaseException: print('seen')"
    )
    ended = interrupted(code, number)
    assert ended == (128 + number, "", "interrupted: nothing was done\n")


@BOTH
@pytest.mark.parametrize(
    ("work", "says"),
    [
        ("ready()", "what was written is whole, run it again for the rest"),
        ("\n  with interruptible('nothing was written'): ready()", "nothing was written"),
        # What a library makes of it is no traceback either.
        (
            "\n  try: ready()\n  except BaseException: raise ValueError('half a module')",
            "what was",
        ),
        ("\n  try: ready()\n  finally: logging.error('late'); warnings.warn('late')", "what was"),
        ("\n  try: ready()\n  except BaseException: sys.exit(1)", "what was written"),
        ("\n  try: ready()\n  finally: late(); sys.stderr.write('')", "what was written"),
    ],
)
def test_while_it_works(number: signal.Signals, work: str, says: str) -> None:
    code = PROGRAM.format(first=HEEDED, seconds=PATIENCE) + f"def work(): {work}\ncall(work)"
    status, stdout, stderr = interrupted(code, number)
    assert (status, stdout) == (128 + number, "")
    assert stderr.startswith(f"interrupted: {says}")
    assert stderr.count("\n") == 1


@BOTH
def test_once_more_while_it_is_taken_down(number: signal.Signals) -> None:
    """What takes down is not disturbed by those who have no patience."""
    work = "\n  try: ready()\n  finally:\n    time.sleep(0.5); print('taken down')"
    code = PROGRAM.format(first=HEEDED, seconds=PATIENCE) + f"def work(): {work}\ncall(work)"
    status, stdout, stderr = interrupted(code, number, times=5)
    assert (status, stdout, stderr.count("\n")) == (128 + number, "taken down\n", 1)


@BOTH
def test_in_a_destructor(number: signal.Signals) -> None:
    """Python passes over what is raised there: it is raised again, later."""
    work = (
        "\n  class Held:\n    def __del__(self): ready()"
        f"\n  held = Held(); del held; time.sleep({PATIENCE})"
    )
    code = PROGRAM.format(first=HEEDED, seconds=PATIENCE) + f"def work(): {work}\ncall(work)"
    status, _, stderr = interrupted(code, number)
    assert (status, stderr.count("\n")) == (128 + number, 1), stderr


@BOTH
def test_after_the_work(number: signal.Signals) -> None:
    """The result is there, and nothing else is said."""
    code = (
        PROGRAM.format(first=HEEDED, seconds=0.5)
        + "import atexit; atexit.register(ready)\ncall(lambda: 0)"
    )
    assert interrupted(code, number) == (0, "", "")


def test_what_is_ignored_stays_ignored() -> None:
    """As nohup has it, or a shell for what it starts in the background."""
    code = PROGRAM.format(first=IGNORED, seconds=0.2) + "call(ready)"
    assert interrupted(code, signal.SIGINT) == (0, "", "")


def test_what_is_forked_is_not_the_command_line() -> None:
    """A pool of a processor's own ends its workers by SIGTERM."""
    code = PROGRAM.format(first=HEEDED, seconds=0) + (
        "import os, signal\n"
        "def work():\n"
        "  read, write = os.pipe()\n"
        "  child = os.fork()\n"
        "  if not child:\n"
        f"    os.write(write, b'1'); time.sleep({PATIENCE}); os._exit(0)\n"
        "  os.read(read, 1)\n"
        "  os.kill(child, signal.SIGTERM)\n"
        "  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "  ready()\n"
        "call(work)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.stdout == f"{-signal.SIGTERM}\nready\n"
    assert process.stderr == ""


@pytest.mark.parametrize("command", ["analysis", "perf"])
@pytest.mark.parametrize(
    "start",
    ["runpy.run_module({!r}, run_name='__main__')", "runpy.run_module('{}.__main__')['script']()"],
    ids=["python -m", "script"],
)
def test_command_lines_listen_before_they_import(command: str, start: str) -> None:
    """Of all that takes long: what is loaded when signals are heeded first."""
    code = (
        "import runpy, sys, analysis.interruption as one\n"
        "def listen(): print(*sys.modules); sys.exit()\n"
        "one.listen = listen\n"
        f"{start.format(command)}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    slow = {"typer", "rich", "numpy", "awkward", "numba", "coffea", "pydantic", "json"}
    assert slow & set(done.stdout.split()) == set()


@pytest.mark.slow
def test_signals_at_random_moments(tmp_path: Path) -> None:
    """A few of `make signals`, of commands that start no engine; engines have tests of theirs."""
    command = ["analysis", "make-data", "{folder}/data", "--events", "500", "--processes", "wjets"]
    trials = signals.campaign([signals.Act("make-data", command)], 4, 1, tmp_path, tmp_path)
    assert {one.ended for one in trials} <= {*signals.GOOD, signals.BEFORE}
    assert not any(one.left for one in trials)
