"""Data and folders that several tests share."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.synthetic import write_fileset

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 4000
"""Events of each synthetic sample: ttbar fills its regions with some 40 and 80 of them."""

WORKER_VARIABLE = "PYTEST_XDIST_WORKER"
"""By this variable pytest-xdist tells each of its workers its name."""


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of this run of the tests, the same for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if WORKER_VARIABLE in os.environ else folder


@pytest.fixture(scope="session")
def synthetic(common_folder: Path) -> Iterator[Path]:
    """Folder with synthetic NanoAOD of all samples, two files each, and fileset.json.

    All workers of pytest-xdist read it at once: no test writes there.
    """
    folder = common_folder / "synthetic"
    with (common_folder / "synthetic.lock").open("w") as lock:
        # The first worker writes the files, and another waits for them.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "fileset.json").exists():
            folder.mkdir()
            write_fileset(folder, events=EVENTS, seed=7, events_per_file=EVENTS // 2, cluster=1000)
    yield folder
    fileset = json.loads((folder / "fileset.json").read_text())
    files = {Path(file).name for one in fileset.values() for file in one["files"]}
    known = {"fileset.json", "provenance.json"} | files
    assert {path.name for path in folder.iterdir()} == known, "a test wrote into the shared folder"


@pytest.fixture(scope="session")
def synthetic_fileset(synthetic: Path) -> dict[str, Any]:
    """The file set of `synthetic`; copy it before changing it."""
    fileset: dict[str, Any] = json.loads((synthetic / "fileset.json").read_text())
    return fileset


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder() -> Iterator[None]:
    """Have a folder for temporary files of one's own: tests look at what is left in it."""
    # Not in pytest's folder, which is only for its user: some tests work as another user.
    with (
        tempfile.TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o755)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Pytester whose runs are no part of this one: they may measure under pytest-xdist too."""
    monkeypatch.delenv(WORKER_VARIABLE, raising=False)
    return pytester
