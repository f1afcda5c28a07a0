"""The console script, as an installation makes it: beside a user's own `analysis`, and in a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coffea.util
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Script = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Runs ``coffea-analysis`` in a folder of its own, with what pip writes into ``bin``."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = entry["coffea-analysis"].partition(":")
    path = tmp_path / "bin" / "coffea-analysis"
    path.parent.mkdir()
    path.write_text(
        f"import sys\nfrom {module} import {function}\n"
        f"if __name__ == '__main__':\n    sys.exit({function}())\n"
    )
    folder = tmp_path / "work"
    folder.mkdir()

    def run(*arguments: Any, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, path, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "executor",
    ["iterative", *(pytest.param(one, marks=pytest.mark.slow) for one in ("futures", "dask"))],
)
def test_beside_a_folder_of_the_same_name(
    script: Script,
    executor: str,
    synthetic: Path,
    tmp_path: Path,
) -> None:
    """Workers, too, have ours, and the processor of the working folder is found."""
    folder = tmp_path / "work"
    (folder / "analysis").mkdir()
    (folder / "analysis" / "__init__.py").write_text("raise SystemExit('the user\\'s analysis')")
    (folder / "mine.py").write_text("def count(events):\n    return {'events': len(events)}\n")
    fileset = json.loads((synthetic / "fileset.json").read_text())
    (folder / "fileset.json").write_text(
        json.dumps({"one": [str(synthetic / path) for path in fileset["ttbar__nominal"]["files"]]})
    )
    done = script(
        *("run", "fileset.json", "--processor", "mine:count", "-o", "out.coffea"),
        *("--executor", executor, "--chunksize", "1000"),
    )
    assert done.returncode == 0, done.stderr
    assert coffea.util.load(folder / "out.coffea")["events"] > 1000


def test_perf_says_what_hides_our_package(tmp_path: Path) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "perf", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'analysis'} hides the package analysis")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "completed"),
    [("coffea-analysis ma", "make-data"), ("coffea-analysis fit --ra", "--ranking")],
)
def test_completion(script: Script, words: str, completed: str) -> None:
    """What bash asks of the script, and the lines that a user adds to ~/.bashrc."""
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = script(_COFFEA_ANALYSIS_COMPLETE="complete_bash", **asked)
    assert done.stdout.split() == [completed], done.stderr
    shown = script("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_COFFEA_ANALYSIS_COMPLETE=complete_bash" in shown.stdout
