"""Every command of ``python -m perf`` explains itself; ``coffea-perf`` runs anywhere and completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The console script, as an installation writes it."""
    path = tmp_path / "bin" / "coffea-perf"
    path.parent.mkdir()
    path.write_text("from perf.__main__ import script\n\nscript()\n")
    return path


def test_help_waits_for_no_slow_import() -> None:
    program = "import sys, perf.cli._app; print(*{'numpy', 'coffea', 'asv'} & sys.modules.keys())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_shells_complete_commands(script: Path) -> None:
    environment = {
        **os.environ,
        "_COFFEA_PERF_COMPLETE": "complete_bash",
        "COMP_WORDS": "coffea-perf compare",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["compare", "compare-trials"]


@pytest.mark.slow
def test_script_beside_folders_of_the_same_names(
    script: Path, synthetic: Path, tmp_path: Path
) -> None:
    """Processes that measure have our modules, and the processor of the working folder."""
    for name in ("analysis", "perf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a module of the user')")
    (tmp_path / "mine.py").write_text("def count(events):\n    return {'events': len(events)}\n")
    files = json.loads((synthetic / "fileset.json").read_text())["ttbar__nominal"]["files"]
    fileset = {"one": [str(synthetic / path) for path in files]}
    (tmp_path / "fileset.json").write_text(json.dumps(fileset))
    command = [sys.executable, str(script), "scale", "fileset.json", "--processor", "mine:count"]
    command += ["--executors", "iterative", "--workers", "1", "--repeat", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "iterative" in done.stdout
