"""What is compared: a version of coffea, or of this project, in its environment."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from analysis.errors import InputError
from perf.environments import environment
from perf.programs import commit, git

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
"""Folder that has our `analysis`."""

SETTINGS: Final[dict[str, str]] = {
    # With one thread CPU time is the time of the work, whatever else runs.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
"""Environment variables of both sides, unless a side sets them."""

DROPPED: Final = ("PYTHONPATH", "PYTHONHOME", "NUMBA_CACHE_DIR", "VIRTUAL_ENV")
"""Environment variables of the user that would mix the environments."""


@dataclass(frozen=True)
class Side:
    """One of the two versions that are compared."""

    name: str
    """Shown to people."""
    python: Path
    """Interpreter of its environment."""
    installed: Mapping[str, str]
    """Versions of the packages in its environment."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it sets."""
    source: Path = ROOT
    """Folder that its `analysis` and other modules are imported from."""

    def environ(self, seed: int) -> dict[str, str]:
        """Variables that its processes have beside the user's; `seed` is that of text's hashes."""
        return {
            **dict.fromkeys(DROPPED, ""),
            **SETTINGS,
            "PYTHONHASHSEED": str(seed),
            "PYTHONPATH": str(self.source),
            "NUMBA_CACHE_DIR": str(cache_folder() / "numba" / self._code),
            # A user's checkout is read, and nothing is left in it.
            "PYTHONDONTWRITEBYTECODE": "" if self.source == ROOT else "1",
            **self.variables,
        }

    @property
    def _code(self) -> str:
        """Identity of what numba compiles: its cache does not see all that it depends on."""
        parts = [str(self.python), json.dumps(dict(self.installed), sort_keys=True)]
        parts += [
            path.read_text(errors="replace")
            for path in sorted((self.source / "analysis").rglob("*.py"))
        ]
        return hashlib.sha256("\0".join([str(self.source), *parts]).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where machine code and exported sources are kept."""
    return platformdirs.user_cache_path("coffea-scaling") / "compare"


def side(spec: str, variables: Iterable[str] = (), *, pins: str | None = None) -> Side:
    """A side by name.

    `spec` is what `perf.environments.environment` takes, with `pins` for everything but coffea;
    or a commit or checkout of this project, whose `analysis` is then measured in the environment
    that is installed here. `variables` are environment variables as KEY=VALUE.
    """
    given: dict[str, str] = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not (name and equals):
            msg = f"an environment variable is given as KEY=VALUE, not {text!r}"
            raise InputError(msg)
        given[name] = value
    shown = " ".join([spec, *(f"{name}={value}" for name, value in given.items())])
    source = _of_this_project(spec)
    env = environment(".") if source else environment(spec, pins=pins)
    return Side(shown, env.python, env.installed, given, source or ROOT)


def _of_this_project(spec: str) -> Path | None:
    """Folder of a checkout or commit that has an `analysis` like ours; None if it has not."""
    kernels = "analysis/kernels/__init__.py"
    if spec != "." and (Path(spec) / kernels).is_file():
        return Path(spec).resolve()
    ref, at, clone = spec.rpartition("@")
    if not (at and Path(clone).is_dir()):
        return None
    try:
        sha = commit(Path(clone), ref)
        git(Path(clone), "cat-file", "-e", f"{sha}:{kernels}")
    except InputError:
        # It is a commit of coffea, or there is none, which `environment` says.
        return None
    return exported(Path(clone), sha)


def exported(clone: Path, commit: str) -> Path:
    """Folder with the files of a commit, made unless it exists."""
    folder = cache_folder() / "sources" / commit
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tar, files = Path(scratch) / "all.tar", Path(scratch) / "files"
            files.mkdir()
            git(clone, "archive", f"--output={tar}", commit)
            subprocess.run(["tar", "-xf", tar, "-C", files], check=True)
            try:
                files.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder
