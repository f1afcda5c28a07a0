"""`coffea.compute` of a commit or a checkout, put into the coffea that is installed here.

No release has it. The coffea around it, in its branch, is of February 2026, and the analysis needs
a newer one; but coffea.compute needs no other part of coffea.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from perf import environments
from perf.programs import commit, git

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

FOLDER: Final = "COFFEA_SCALING_COMPUTE"
"""Environment variable by which `analysis.executors.compute` finds it."""

PLACE: Final = "src/coffea/compute"
"""In a clone of coffea."""


def put_in(version: str, folder: Path | None = None) -> None:
    """Have processes that start from now on find coffea.compute of a version.

    A version is a commit, tag or branch of the clone that `CLONE_VARIABLE` names (``compute``) or
    of another (``compute@../coffea``), or a checkout as it is now. An InputError if it has none.
    """
    os.environ[FOLDER] = str(exported(version, folder))


def identity() -> str | None:
    """Commit, or digest of a checkout's files, of what was put in; None if nothing was."""
    named = os.environ.get(FOLDER)
    return Path(named).name if named else None


def exported(version: str, folder: Path | None = None) -> Path:
    """Folder that has coffea.compute of a version as `compute`, and nothing else."""
    folder = environments.folder_of(folder)
    if environments.is_checkout(path := Path(version)):
        source = path / PLACE
        if not source.is_dir():
            _refuse(version)
        return _made(folder, _digest(source), lambda to: shutil.copytree(source, to / "compute"))
    ref, clone = environments.where(version)
    clone = clone or environments.clone_in(folder)
    sha = commit(clone, ref)
    try:
        git(clone, "cat-file", "-e", f"{sha}:{PLACE}")
    except InputError:
        _refuse(version)

    def export(to: Path) -> None:
        archive = to / "compute.tar"
        git(clone, "archive", f"--output={archive}", f"{sha}:{PLACE}")
        with tarfile.open(archive) as tar:
            tar.extractall(to / "compute", filter="data")
        archive.unlink()

    return _made(folder, sha[:10], export)


def _refuse(version: str) -> NoReturn:
    msg = f"{version} has no coffea.compute ({PLACE}): name coffea's branch compute, or a later commit"
    raise InputError(msg)


def _digest(source: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        total.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes())
    return total.hexdigest()[:10]


def _made(folder: Path, name: str, make: Callable[[Path], Any]) -> Path:
    """A folder, made whole unless it exists."""
    place = folder / "compute" / name
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix="part-") as scratch:
            part = Path(scratch) / name
            part.mkdir()
            make(part)
            try:
                part.rename(place)
            except OSError:
                # Another process was faster.
                if not place.is_dir():
                    raise
    return place
