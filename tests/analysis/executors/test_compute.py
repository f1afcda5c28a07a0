"""The executor of coffea.compute, which is taken out of coffea's branch.

The branch has not followed the Runner, and coffea.compute needs no other part of coffea: so it is
put into the coffea that is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from perf.environments import CLONE_VARIABLE
from perf.programs import git
from tests.support import compute_driver

ROOT: Final = Path(__file__).parents[3]
BRANCH: Final = "c8840381ffc3814e925216b5b66d7d01b198e71a"
FOLDER: Final = "src/coffea/compute"


@pytest.mark.skipif(find_spec("coffea.compute") is not None, reason="this coffea has it")
def test_without_coffea_compute_one_sentence_says_which_coffea_has_it() -> None:
    with (
        pytest.raises(
            NotInstalledError, match=r"needs a coffea that has coffea\.compute"
        ) as caught,
        open_executor("compute", workers=2),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.fixture
def of_branch(tmp_path: Path) -> Path:
    """Folder `coffea` of the branch, with nothing in it but coffea.compute."""
    named = os.environ.get(CLONE_VARIABLE)
    if not named:
        pytest.skip(f"coffea.compute is in no release: {CLONE_VARIABLE} names no clone of coffea")
    archive = tmp_path / "compute.tar"
    try:
        git(Path(named), "archive", f"--output={archive}", BRANCH, FOLDER)
    except InputError as error:
        pytest.skip(f"the clone of {CLONE_VARIABLE} lacks coffea's branch compute: {error}")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    return (tmp_path / FOLDER).parent


@pytest.mark.slow
def test_the_analysis_runs_on_coffea_compute(
    of_branch: Path, synthetic_fileset: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps({"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", compute_driver.__name__, path, of_branch],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["chunks"] == [4] * 5
    assert answer["events"] == [4000] * 5
    assert answer["repeated"] == [0] * 4
    assert answer["equal"] == [True] * 4
    for said in (answer["said"], answer["ended"]):
        assert "no second chunk" in said
        assert "\n" not in said
    assert answer["partial"] == {"events": 2000}
