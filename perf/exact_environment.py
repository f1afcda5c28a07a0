"""An environment made whole by uv from a recipe, or not at all; none is ever changed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.utils import canonicalize_name

from analysis.errors import InputError
from perf import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER_VARIABLE: Final = "COFFEA_SCALING_ENVIRONMENTS"
"""Environment variable that names the folder of environments."""

MARK: Final = "environment.json"
"""Written last: an environment without it was interrupted."""

FORMAT: Final = 2
"""Raised whenever environments must be made anew."""


@dataclass(frozen=True)
class Environment:
    """An environment with one version of a project: coffea-2026.9.0, coffea-2025.7.3-on-2026.9.0."""

    python: Path
    name: str
    installed: dict[str, str]
    """Versions of all its packages, by normalised name."""


@dataclass(frozen=True)
class Recipe:
    """What an environment is made of: equal recipes make equal environments."""

    name: str
    python: str
    """Version of the interpreter, as 3.11."""
    project: str
    requirements: tuple[str, ...] = ()
    """All that is installed if `exact`, otherwise what is installed beside `source`."""
    overrides: tuple[str, ...] = ()
    """Versions that replace whatever a package asks for."""
    exact: bool = False
    before: str | None = None
    """Dependencies are older than this day or moment."""
    source: tuple[Path, str] | None = None
    """Tree that the project is built from, and the identity of its content."""
    extras: str = ""
    """Of the project that is built."""
    imported: str = ""
    """Code that must run in the environment."""

    @property
    def folder(self) -> str:
        """Name of the environment's folder, which has the identity of the recipe in it."""
        parts = [FORMAT, self.name, self.python, self.project, self.requirements, self.overrides]
        parts += [self.exact, str(self.before), self.source and self.source[1]]
        return f"{self.name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]}"


def this_python() -> str:
    """Version of this interpreter, as 3.11."""
    return ".".join(platform.python_version_tuple()[:2])


def make(recipe: Recipe, folder: Path, uv: Callable[..., str] = programs.uv) -> Environment:
    """The environment of a recipe: the existing one if it is whole, else one that `uv` makes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f"{recipe.folder}.lock"):
            if made := existing(recipe, folder):
                return made
            place = folder / recipe.folder
            shutil.rmtree(place, ignore_errors=True)
            try:
                return _install(place, recipe, uv)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
    except OSError as error:
        msg = f"environments cannot be kept in {folder}: {error.strerror}; set {FOLDER_VARIABLE}"
        raise InputError(msg) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Other processes that make the same environment wait, and find it made."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def existing(recipe: Recipe, folder: Path) -> Environment | None:
    """The environment of a recipe if it is there, whole and unchanged."""
    python = _interpreter(folder / recipe.folder)
    try:
        installed: dict[str, str] = json.loads((folder / recipe.folder / MARK).read_text())
        # Packages that were installed by hand make it another environment.
        unchanged = installed_in(python) == installed
    except (OSError, ValueError, InputError):
        return None
    return Environment(python, recipe.name, installed) if unchanged else None


def _install(place: Path, recipe: Recipe, uv: Callable[..., str]) -> Environment:
    python, what = _interpreter(place), f"{recipe.name} cannot be installed"
    interpreter = sys.executable if recipe.python == this_python() else recipe.python
    uv("venv", "--quiet", "--no-project", "--python", interpreter, str(place), what=what)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder = Path(scratch)
        requirements = _option(recipe.requirements, folder / "requirements.txt", "-r")
        arguments = ["pip", "install", *requirements]
        if recipe.exact:
            arguments = ["pip", "sync", *requirements[1:]]
        arguments += _option(recipe.overrides, folder / "overrides.txt", "--overrides")
        if recipe.before:
            arguments += ["--exclude-newer", recipe.before]
        if recipe.source:
            # A new wheel each time: uv would take a folder for unchanged by its date.
            built = ("build", "--quiet", "--wheel", "--out-dir", scratch, str(recipe.source[0]))
            uv(*built, what=what)
            (wheel,) = folder.glob("*.whl")
            extras = f"[{recipe.extras}]" if recipe.extras else ""
            arguments.append(f"{recipe.project}{extras} @ {wheel.as_uri()}")
        # Imports are measured, and uv would leave bytecode to the first import that may write it.
        arguments += ["--python", str(python), "--compile-bytecode", "--quiet"]
        uv(*arguments, what=what)
    installed = installed_in(python)
    if recipe.exact:
        _check_exact(recipe, installed)
    if recipe.imported:
        why = f"{recipe.name} was installed, but cannot be imported"
        programs.run([str(python), "-W", "ignore", "-c", recipe.imported], why)
    part = place / f"{MARK}.part"
    part.write_text(json.dumps(installed, indent=1))
    part.replace(place / MARK)
    return Environment(python, recipe.name, installed)


def _interpreter(place: Path) -> Path:
    return place / "bin" / "python"


def _option(lines: Sequence[str], path: Path, option: str) -> list[str]:
    if not lines:
        return []
    path.write_text("\n".join(lines) + "\n")
    return [option, str(path)]


def _check_exact(recipe: Recipe, installed: dict[str, str]) -> None:
    wanted = {
        str(canonicalize_name(pin.partition("==")[0])): pin.partition("==")[2]
        for pin in recipe.requirements
    }
    if installed != wanted:
        odd = sorted(name for name, _ in installed.items() ^ wanted.items())
        msg = f"{recipe.name} is not what its pins say, see {', '.join(odd)}: take its pins anew"
        raise InputError(msg)


def installed_in(python: Path) -> dict[str, str]:
    """Versions of all packages of an interpreter's environment, by normalised name."""
    listed = programs.uv(
        *("pip", "list", "--quiet", "--format", "json", "--python", str(python)), what="uv failed"
    )
    packages: list[dict[str, Any]] = json.loads(listed)
    return {str(canonicalize_name(one["name"])): str(one["version"]) for one in packages}
