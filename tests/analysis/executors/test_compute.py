"""The executor of coffea.compute, which is taken out of coffea's branch.

The branch has not followed the Runner, and coffea.compute needs no other part of coffea: so it is
put into the coffea that is installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest

from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from perf import coffea_compute
from perf.environments import CLONE_VARIABLE

ROOT: Final = Path(__file__).parents[3]
BRANCH: Final = "c8840381ffc3814e925216b5b66d7d01b198e71a"


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
def answer(
    synthetic_fileset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the driver says, with coffea.compute of the branch in the coffea that is installed."""
    if not os.environ.get(CLONE_VARIABLE):
        pytest.skip(f"coffea.compute is in no release: {CLONE_VARIABLE} names no clone of coffea")
    folder = tmp_path_factory.mktemp("compute")
    try:
        place = coffea_compute.exported(BRANCH, folder)
    except InputError as error:
        pytest.skip(f"the clone of {CLONE_VARIABLE} lacks coffea's branch compute: {error}")
    path = folder / "fileset.json"
    path.write_text(json.dumps({"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.compute_driver", path],
        env={**os.environ, "PYTHONPATH": str(ROOT), coffea_compute.FOLDER: str(place)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_the_analysis_runs_on_coffea_compute(answer: dict[str, Any]) -> None:
    assert answer["chunks"] == [4] * 5
    assert answer["events"] == [4000] * 5
    assert answer["repeated"] == [0] * 4
    assert answer["equal"] == [True] * 4
    for said in (answer["said"], answer["ended"]):
        assert "no second chunk" in said
        assert "\n" not in said
    assert answer["partial"] == {"events": 2000}


@pytest.mark.slow
def test_the_only_thread_of_a_pool_processes_nothing(answer: dict[str, Any]) -> None:
    """Which coffea's authors can mend: `threads` takes one more than there are workers."""
    assert answer["of one thread"] == {"processed": False, "at work": True}
    assert answer["of two threads"]["processed"]
