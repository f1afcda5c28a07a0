"""coffea.compute is taken out of a commit or a checkout, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf import coffea_compute
from tests.support.toy_repository import commit, git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a coffea that has coffea.compute since its second commit."""
    folder = tmp_path / "coffea"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "pyproject.toml").write_text("[project]\nname = 'coffea'\n")
    package = folder / "src" / "coffea"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    commit(folder, "without")
    (package / "compute" / "backends").mkdir(parents=True)
    (package / "compute" / "__init__.py").write_text("ANSWER = 42\n")
    (package / "compute" / "backends" / "__init__.py").write_text("")
    commit(folder, "with")
    return folder


def names(folder: Path) -> set[str]:
    """Files below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_of_a_commit_and_of_a_checkout(clone: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    wanted = {"compute/__init__.py", "compute/backends/__init__.py"}
    of_commit = coffea_compute.exported(f"with@{clone}", kept)
    assert names(of_commit) == wanted
    (clone / "src/coffea/compute/__init__.py").write_text("ANSWER = 43\n")
    of_checkout = coffea_compute.exported(str(clone), kept)
    assert names(of_checkout) == wanted
    assert "43" in (of_checkout / "compute/__init__.py").read_text()
    assert "42" in (of_commit / "compute/__init__.py").read_text()
    # What is there is taken again.
    assert coffea_compute.exported(f"with@{clone}", kept) == of_commit
    assert coffea_compute.exported(str(clone), kept) == of_checkout


def test_a_version_without_it_is_refused(clone: Path, tmp_path: Path) -> None:
    git(clone, "checkout", "--quiet", "without")
    for version in (f"without@{clone}", str(clone)):
        with pytest.raises(InputError, match=r"has no coffea\.compute .*branch compute"):
            coffea_compute.exported(version, tmp_path / "kept")


def test_processes_find_what_was_put_in(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(coffea_compute.FOLDER, raising=False)
    assert coffea_compute.identity() is None
    monkeypatch.setenv(coffea_compute.FOLDER, "")  # It is restored afterwards.
    coffea_compute.put_in(f"with@{clone}", tmp_path / "kept")
    assert coffea_compute.identity() == git(clone, "rev-parse", "with").strip()[:10]
