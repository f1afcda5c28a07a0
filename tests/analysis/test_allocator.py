"""The command line of the analysis is started again with our allocator, once and unless told not to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.allocator import ALLOCATOR, SETTLED, in_force
from analysis.executors.worker import environment

SHOWN = """
import json, os, signal, sys
from pathlib import Path
from analysis import allocator, interruption
interruption.listen()
allocator.settle()
print(json.dumps({
    "pid": os.getpid(),
    "in force": allocator.in_force(),
    "arguments": sys.argv[1:],
    "variables": [name for name in os.environ if name in {*allocator.ALLOCATOR, allocator.SETTLED}],
    "blocked": [int(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "heeded": all(signal.getsignal(one) is interruption._heed for one in interruption.SIGNALS),
}))
"""


@pytest.mark.parametrize(
    ("given", "left", "again"),
    [
        ({}, [], True),
        ({SETTLED: "0"}, [SETTLED], False),
        ({"MALLOC_ARENA_MAX": "2"}, ["MALLOC_ARENA_MAX"], False),
        ({"MALLOC_ARENA_MAX": "2", SETTLED: "0"}, ["MALLOC_ARENA_MAX", SETTLED], False),
    ],
)
def test_a_command_is_started_again(
    given: dict[str, str], left: list[str], *, again: bool
) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in {*ALLOCATOR, SETTLED}}
    with subprocess.Popen(
        [sys.executable, "-c", SHOWN, "ä", ""], env={**clean, **given}, stdout=subprocess.PIPE
    ) as process:
        shown = json.loads(process.communicate()[0])
    assert shown == {
        "pid": process.pid,
        "in force": again,
        "arguments": ["ä", ""],
        "variables": left,
        "blocked": [],
        "heeded": True,
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", [("-m", "analysis"), ("coffea-analysis",)])
def test_a_result_says_which_allocator_it_had(
    synthetic: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Of workers and of the iterative executor; a process of the user's keeps its own."""
    assert not in_force()
    start = [sys.executable, *command]
    if command[0] != "-m":
        start = [str(Path(sys.executable).parent / command[0])]
    clean = {key: value for key, value in os.environ.items() if key not in {*ALLOCATOR, SETTLED}}
    output = tmp_path / "out.json"
    for variables, executor, expected in (
        ({}, "iterative", True),
        ({SETTLED: "0"}, "iterative", False),
        ({SETTLED: "0"}, "futures", True),
    ):
        subprocess.run(
            [*start, "run", synthetic / "fileset.json", "-o", output, "--executor", executor],
            env={**clean, **variables},
            check=True,
            capture_output=True,
        )
        about = json.loads(output.read_text())["provenance"]["executor"]
        assert about["allocator"] is expected, about


def test_workers_have_it() -> None:
    assert environment().items() >= ALLOCATOR.items()
