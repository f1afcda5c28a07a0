"""Every command of ``python -m perf`` explains itself, and shells complete it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from perf.cli import _app, history

HISTORY = [
    f"history {command.callback.__name__}"
    for command in history.app.registered_commands
    if command.callback
]


@pytest.mark.parametrize("command", ["", *_app.COMMANDS, "history", *HISTORY])
def test_help_says_what_a_command_does_before_its_options(command: str) -> None:
    outcome = CliRunner().invoke(_app.app, [*command.split(), "--help"], prog_name="coffea-perf")
    assert outcome.exit_code == 0, outcome.output
    head, _, options = outcome.output.partition(" Options ")
    assert "--help" in options
    usage, what = (line.strip() for line in head.splitlines()[1:4:2])
    assert usage.startswith(f"Usage: coffea-perf {command}".strip())
    assert what.endswith(".")


def test_shells_complete_commands() -> None:
    environment = {
        **os.environ,
        "_COFFEA_PERF_COMPLETE": "complete_bash",
        "COMP_WORDS": "coffea-perf compare",
        "COMP_CWORD": "1",
    }
    program = "import sys; sys.argv = ['coffea-perf']; from perf.__main__ import main; main()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["compare", "compare-trials"]
