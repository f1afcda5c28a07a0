"""The executor of coffea.compute, in an environment of coffea's branch.

The branch has not followed the Runner. So the environment is of the main branch of its time, with
the folder of `coffea.compute` from the branch, which depends on no other part of coffea.
"""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from perf.environments import CLONE_VARIABLE, environment
from perf.programs import git
from tests.support import compute_driver

ROOT: Final = Path(__file__).parents[3]
PINS: Final = ROOT / "tests" / "support" / "compute-pins.txt"
MAIN: Final = "060992a4b70bcb8a522d8fe8ea1605c57ed97ec6"
BRANCH: Final = "c8840381ffc3814e925216b5b66d7d01b198e71a"
FOLDER: Final = "src/coffea/compute"
AUTHOR: Final = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "test"),
        ("EMAIL", "test@localhost"),
        # So that the commit, and the environment, are the same in each run.
        ("DATE", "2026-08-19T18:08:47Z"),
    )
}


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


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of the environment."""
    named = os.environ.get(CLONE_VARIABLE)
    if not named:
        pytest.skip(f"coffea.compute is in no release: {CLONE_VARIABLE} names no clone of coffea")
    clone = tmp_path_factory.mktemp("clone") / "coffea.git"
    git(None, "clone", "--quiet", "--shared", "--bare", Path(named).resolve(), clone)
    tree = tmp_path_factory.mktemp("tree")
    variables = {**AUTHOR, "GIT_INDEX_FILE": str(tree / "index"), "GIT_WORK_TREE": str(tree)}

    def of_clone(*arguments: str) -> str:
        return git(clone, *arguments, variables=variables)

    try:
        of_clone("read-tree", MAIN)
        of_clone("read-tree", f"--prefix={FOLDER}/", f"{BRANCH}:{FOLDER}")
    except InputError as error:
        pytest.skip(f"the clone of {CLONE_VARIABLE} lacks coffea's branch compute: {error}")
    # A partial clone lacks large files, which no environment is made of.
    written = of_clone("write-tree", "--missing-ok")
    commit = of_clone("commit-tree", written, "-p", MAIN, "-m", "main and compute")
    return environment(f"{commit}@{clone}", pins=str(PINS)).python


@pytest.mark.slow
def test_the_analysis_runs_on_coffea_compute(
    python: Path, synthetic_fileset: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps({"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}))
    done = subprocess.run(
        [python, "-W", "ignore", "-m", compute_driver.__name__, path],
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
