"""A repository with slowdowns that are known, to see whether they are found."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perf.compare.session import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

BASE: Final = "base"
NONE: Final = "none"
FIVE: Final = "five"
DOUBLE: Final = "double"
"""Tags: what the others are compared with; another commit that changes no code; +5 %; 2x."""

PERCENT: Final = {FIVE: 5, DOUBLE: 100}
"""More work than BASE, by tag."""

SLOWED: Final = "trijet_pt-compiled"
"""Where: its loop takes all of its time but for some 3 %, so that as many events more are as
much time more."""

_INJECTED: Final = '''

_as_it_was = _largest


def _largest(offsets, *others):
    """As it was, and {percent} % of the events once more."""
    _as_it_was(offsets[: 1 + (len(offsets) - 1) * {percent} // 100], *others)
    return _as_it_was(offsets, *others)
'''

_PROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "coffea-scaling-made-up"
version = "{version}"

[tool.hatch.build.targets.wheel]
packages = ["analysis"]
"""


def repository(folder: Path) -> Path:
    """Make the repository of our `analysis`, with tags BASE, NONE, FIVE and DOUBLE.

    Parameters
    ----------
    folder
        To make it in, unless it is there.

    Returns
    -------
    Path
        The repository.
    """
    made = folder / f"made-up-{state()}"
    if (made / ".git").is_dir():
        return made
    shutil.copytree(
        ROOT / "analysis", made / "analysis", ignore=shutil.ignore_patterns("__pycache__")
    )
    (made / "pyproject.toml").write_text(_PROJECT.format(version="0"))
    git(made, "init", "--quiet", "--initial-branch=main")
    commit(made, BASE)
    (made / "README.md").write_text("Nothing that is run.\n")
    commit(made, NONE)
    module = made / "analysis" / "kernels" / f"{SLOWED.partition('-')[0]}.py"
    clean = module.read_text()
    for tag, percent in PERCENT.items():
        module.write_text(clean + _INJECTED.format(percent=percent))
        commit(made, tag)
    return made


def state() -> str:
    """Identity of our `analysis`, which the repository is made of."""
    total = hashlib.sha256(_INJECTED.encode())
    for path in sorted((ROOT / "analysis").rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()[:10]


def commit(repository: Path, tag: str) -> None:
    """Commit all that is there, under a tag."""
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", f"--message={tag}")
    git(repository, "tag", tag)


def git(repository: Path, *arguments: str) -> str:
    """Run git, as nobody in particular and without the user's settings."""
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (
            ("NAME", "Made up"),
            ("EMAIL", "made-up@example.org"),
            ("DATE", "2026-01-01T00:00:00+00:00"),
        )
    }
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command: Sequence[str] = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **who, **settings}
    )
    return done.stdout
