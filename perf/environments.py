"""One exact environment for each version of coffea.

An environment holds what its version asks for and nothing else: packages left over from another
version hide a missing dependency and make a comparison depend on its order. An environment is
never changed: uv makes it whole (hard links: seconds and few megabytes), or it does not exist.

Releases are installed with the pins of their time (`perf/history/pins`). A commit and a local
checkout are built, and get the newest dependencies of a week after the commit, or of now. *Pins*
that are named fix all dependencies, so that nothing but coffea varies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs
from packaging.utils import canonicalize_name

from analysis.errors import InputError
from perf import programs
from perf.exact_environment import (
    FOLDER_VARIABLE,
    Environment,
    Recipe,
    installed_in,
    locked,
    make,
    this_python,
)
from perf.programs import git

if TYPE_CHECKING:
    from collections.abc import Mapping

CLONE_VARIABLE: Final = "COFFEA_REPO"
"""Environment variable that names a clone of coffea, in which commits are looked up."""

PUBLIC_CLONE: Final = "https://github.com/scikit-hep/coffea.git"

HERE: Final = "."
"""The version that is installed in this interpreter's environment."""

PINS: Final = Path(__file__).parent / "history" / "pins"
DATES: Final = PINS / "dates.json"
"""When each release came out, by PyPI."""

PROJECT: Final = "coffea"
EXTRAS: Final = "dask"
"""Extra of coffea that is installed unless pins say what to install; a version without it has
the same packages among its dependencies."""

PERIOD: Final = timedelta(days=7)
PINS_PERIOD: Final = timedelta(days=30)
"""How much younger dependencies may be than a commit (what it was developed against is often
released with it), and than the release whose pins are used, which were taken later."""

UNBUILT: Final = ("tests", "docs", "binder")
"""Folders of a repository that a wheel is not made of. They are not checked out: of coffea they
are two thirds, and a partial clone may lack them."""

IMPORTED: Final = "import coffea.nanoevents, coffea.processor"
"""What must work in an environment of coffea."""

_RELEASE: Final = re.compile(r"\d+(\.\d+)+((a|b|rc|\.post|\.dev)\d+)*")
_PYTHON: Final = re.compile(r"^# python (\d+\.\d+)$", re.MULTILINE)


def environment(
    version: str, *, folder: Path | None = None, pins: str | None = None
) -> Environment:
    """An environment with this version, made unless it exists.

    A version is a release of coffea that has pins (``2026.9.0``); a commit, tag or branch of the
    clone that `CLONE_VARIABLE` names (``v2026.9.0``) or of another (``master@../coffea``); a
    checkout (a folder with a pyproject.toml, as it is now); or ``.`` for what is installed here.
    `folder` keeps the environments (default: `FOLDER_VARIABLE`, or the user's cache). `pins`, a
    release or a file, fix everything but coffea. InputError says why a version cannot be had.
    """
    if version == HERE:
        if pins is not None:
            msg = "--pins cannot be combined with '.', whose dependencies are installed already"
            raise InputError(msg)
        return Environment(Path(sys.executable), HERE, installed_in(Path(sys.executable)))
    folder = folder_of(folder)
    fixed = _named_pins(pins) if pins is not None else None
    if is_checkout(path := Path(version)):
        # A folder changes: what it holds now is what is meant.
        return make(_of_tree(path.resolve(), _content(path), None, fixed), folder)
    if _RELEASE.fullmatch(version):
        return make(_of_release(version, fixed), folder)
    ref, clone = where(version)
    return _of_commit(ref, clone or clone_in(folder), fixed, folder)


def folder_of(named: Path | None = None) -> Path:
    """The folder that keeps environments, by default the user's."""
    of_user = (
        os.environ.get(FOLDER_VARIABLE) or platformdirs.user_cache_path("coffea-scaling") / "env"
    )
    return (named or Path(of_user)).absolute()


@cache
def releases() -> dict[str, date]:
    """Releases that have pins, oldest first, and the day on which each came out."""
    dates: dict[str, str] = json.loads(DATES.read_text())
    days = {path.stem: date.fromisoformat(dates[path.stem]) for path in PINS.glob("*.txt")}
    return dict(sorted(days.items(), key=lambda item: item[1]))


def differences(
    a: Mapping[str, str], b: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, with both versions; None where it is not installed."""
    both = {name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


# --- what an environment is made of


@dataclass(frozen=True)
class _Pins:
    """Pins that fix the dependencies of another version."""

    name: str
    python: str
    requirements: dict[str, str]
    """By package."""
    before: datetime | None


def _read_pins(path: Path) -> tuple[str, dict[str, str]]:
    """Version of Python, and requirements by package, of a file of pins."""
    text = path.read_text()
    python = _PYTHON.search(text)
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    pins = {str(canonicalize_name(line.partition("==")[0])): line for line in lines if line}
    unpinned = [line for line in pins.values() if "==" not in line]
    if unpinned:
        msg = f"{path}: {unpinned[0]!r} pins nothing: write NAME==VERSION"
        raise InputError(msg)
    return python.group(1) if python else this_python(), pins


def _pins_of(release: str) -> Path:
    path = PINS / f"{release}.txt"
    if not path.is_file():
        msg = (
            f"there are no pins of coffea {release}: use one of {', '.join(releases())}, "
            f"its tag v{release}, or name a release with --pins"
        )
        raise InputError(msg)
    return path


def _named_pins(name: str) -> _Pins:
    path = Path(name)
    if path.suffix == ".txt" and path.is_file():
        # Packages that the file does not name are the newest.
        return _Pins(path.stem, *_read_pins(path), None)
    path = _pins_of(name)
    return _Pins(name, *_read_pins(path), _bound(releases()[name]))


def _bound(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + PINS_PERIOD


def _of_release(release: str, pins: _Pins | None) -> Recipe:
    if pins is not None:
        return _pinned(pins, release, PROJECT, (f"{PROJECT}=={release}",), None)
    python, own = _read_pins(_pins_of(release))
    return Recipe(
        name=f"{PROJECT}-{release}",
        python=python,
        project=PROJECT,
        requirements=tuple(sorted(own.values())),
        exact=True,
        imported=IMPORTED,
    )


def _of_tree(tree: Path, content: str, committed: datetime | None, pins: _Pins | None) -> Recipe:
    """What is built of a tree of files, whose identity is `content`."""
    project = _project(tree)
    source, version = (tree, content), content[:10]
    if pins is not None:
        return _pinned(pins, version, project, (), source)
    bound = committed + PERIOD if committed else None
    return Recipe(
        name=f"{project}-{version}",
        python=this_python(),
        project=project,
        before=bound.isoformat() if bound and bound < datetime.now(UTC) else None,
        source=source,
        extras=EXTRAS if project == PROJECT else "",
        imported=IMPORTED if project == PROJECT else "",
    )


def _pinned(
    pins: _Pins,
    version: str,
    project: str,
    requirement: tuple[str, ...],
    source: tuple[Path, str] | None,
) -> Recipe:
    """A version with the dependencies that pins fix."""
    others = tuple(sorted(pin for name, pin in pins.requirements.items() if name != project))
    before = pins.before
    if before is not None and project == PROJECT and version in (known := releases()):
        # A release may be newer than the pins.
        before = max(before, _bound(known[version]))
    return Recipe(
        name=f"{project}-{version}-on-{pins.name}",
        python=pins.python,
        project=project,
        requirements=(*requirement, *others),
        overrides=others,
        before=before.isoformat() if before else None,
        source=source,
        # Extras are among the pins.
        extras=EXTRAS if project == PROJECT and not others else "",
        imported=IMPORTED if project == PROJECT else "",
    )


def _project(tree: Path) -> str:
    name = None
    with contextlib.suppress(OSError):
        name = re.search(
            r"^name\s*=\s*[\"']([^\"']+)", (tree / "pyproject.toml").read_text(), re.MULTILINE
        )
    # Before it had a pyproject.toml with its name, it was coffea.
    return str(canonicalize_name(name.group(1))) if name else PROJECT


def is_checkout(path: Path) -> bool:
    """Whether a folder is one of a project's source."""
    return path.is_dir() and any(
        (path / name).is_file() for name in ("pyproject.toml", "setup.py")
    )


def _content(tree: Path) -> str:
    """Identity of the files that a checkout is built from."""
    try:
        listed = git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = sorted(name for name in listed.split("\0") if name)
    except InputError:
        names = sorted(
            str(path.relative_to(tree))
            for path in tree.rglob("*")
            if not {"__pycache__", "build", "dist"} & set(path.parts)
        )
    total = hashlib.sha256()
    for name in names:
        path = tree / name
        # Names that begin with a dot are settings of tools, and environments.
        if name.split("/")[0] not in UNBUILT and not name.startswith(".") and path.is_file():
            total.update(f"{name}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


# --- commits


def clone_in(folder: Path) -> Path:
    """The clone of coffea in which commits are looked up."""
    if named := os.environ.get(CLONE_VARIABLE):
        return Path(named)
    folder.mkdir(parents=True, exist_ok=True)
    clone = folder / "coffea.git"
    with locked(folder / "coffea.git.lock"):
        if not clone.is_dir():
            part = Path(tempfile.mkdtemp(dir=folder, prefix="clone-"))
            try:
                git(None, "clone", "--quiet", "--bare", PUBLIC_CLONE, part)
                part.rename(clone)
            except InputError as error:
                msg = (
                    f"{error}; name a clone of coffea: COMMIT@PATH, "
                    f"or the environment variable {CLONE_VARIABLE}"
                )
                raise InputError(msg) from None
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return clone


def where(version: str) -> tuple[str, Path | None]:
    """A commit and its clone, None where none is named: both may contain an @."""
    ref, at, clone = version.partition("@")
    while "@" in clone and not Path(clone).is_dir():
        more, _, clone = clone.partition("@")
        ref += f"@{more}"
    return ref, Path(clone) if at else None


def _of_commit(ref: str, clone: Path, pins: _Pins | None, folder: Path) -> Environment:
    commit = programs.commit(clone, ref)
    committed = datetime.fromtimestamp(
        int(git(clone, "show", "--no-patch", "--format=%ct", commit)), UTC
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="source-") as scratch:
        tree = Path(scratch) / "tree"
        # A clone has tags, which some projects derive their version from.
        git(None, "clone", "--quiet", "--shared", "--no-checkout", clone.resolve(), tree)
        git(tree, "config", "core.sparseCheckout", "true")
        sparse = tree / ".git" / "info" / "sparse-checkout"
        sparse.parent.mkdir(exist_ok=True)
        sparse.write_text("/*\n" + "".join(f"!/{name}/\n" for name in UNBUILT))
        git(tree, "checkout", "--quiet", "--detach", commit)
        return make(_of_tree(tree, commit, committed, pins), folder)
