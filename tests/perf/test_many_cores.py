"""The script that measures scaling on a machine without network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "perf" / "many_cores"


@pytest.mark.slow
def test_events_are_made_once_and_weak_scaling_is_measured_and_shown(tmp_path: Path) -> None:
    script = tmp_path / "measure.sh"
    shutil.copy(FOLDER / "measure.sh", script)
    # Nothing is to be installed: this Python has it.
    (tmp_path / "site").mkdir()

    def measure(*arguments: str) -> str:
        return subprocess.run(
            ["bash", str(script), *arguments],
            env={
                **os.environ,
                "EVENTS": "400",
                "FILES": "2",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    scale = ("scale", "data/fileset.json", "--executors", "iterative,futures", "--workers", "1,2")
    once = ("--repeat", "1", "--output", "weak.jsonl")
    measured = measure(*scale, *once, "--weak", "3x200", "--chunksizes", "200")
    assert len(list(tmp_path.glob("data/*/*.root"))) == 2
    made = (tmp_path / "data" / "fileset.json").stat().st_mtime_ns
    # Columns begin with executor, chunk, workers, rounds and events; six files are two, three times.
    rows = [line.split() for line in _table(measured).splitlines()]
    assert ["iterative", "200", "1", "1", "600"] in [row[:5] for row in rows]
    assert ["2", "1", "1200"] in [row[:3] for row in rows]
    assert _table(measure("scale", "--show", "weak.jsonl")) == _table(measured)
    assert (tmp_path / "data" / "fileset.json").stat().st_mtime_ns == made


def _table(text: str) -> str:
    """The first table of those that the command prints."""
    return text[text.index("Throughput") : text.index("Where the time")]


def test_scripts_are_of_bash() -> None:
    for script in sorted(FOLDER.glob("*.sh")):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert os.access(script, os.X_OK)
