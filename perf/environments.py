"""One exact environment for each version of coffea.

An environment holds what its version asks for and nothing else: what is left over from another
version hides a missing dependency, and makes a comparison depend on its order. So none is ever
changed: it is made whole, by uv (hard links: seconds and few megabytes), or it is not there.

Releases are installed with the pins of their time (`perf/history/pins`). A commit and a local
checkout are built, and get the newest dependencies of a week after the commit, or of now. A
*stack* fixes all dependencies, so that nothing but coffea varies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import platformdirs
from packaging.utils import canonicalize_name

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FOLDER_VARIABLE: Final = "COFFEA_SCALING_ENVIRONMENTS"
"""Environment variable that names the folder of environments."""

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
"""Of coffea, wherever no pins say what to install; a version that has no such extra has what it
stands for among its dependencies."""

PERIOD: Final = timedelta(days=7)
STACK_PERIOD: Final = timedelta(days=30)
"""Dependencies may be younger than a commit by so much: what it was developed against is often
released with it. And younger than the release whose pins a stack is, which were taken later."""

UNBUILT: Final = ("tests", "docs", "binder")
"""Folders of a repository that a wheel is not made of. They are not checked out: of coffea they
are two thirds, and a partial clone may lack them."""

IMPORTED: Final = "import coffea.nanoevents, coffea.processor"
"""What must work in an environment of coffea."""

MARK: Final = "environment.json"
"""Written last: an environment without it was interrupted."""

FORMAT: Final = 2
"""Raised whenever environments must be made anew."""

LONGEST_REASON: Final = 600
"""Characters of an installer's message that are repeated."""

_RELEASE: Final = re.compile(r"\d+(\.\d+)+((a|b|rc|\.post|\.dev)\d+)*")
_PYTHON: Final = re.compile(r"^# python (\d+\.\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Environment:
    """An environment that has one version of coffea, or of another project.

    Attributes
    ----------
    python
        Its interpreter.
    name
        Of the version: coffea-2026.9.0, coffea-060992a4d1, coffea-2025.7.3-on-2026.9.0.
    installed
        Version of each package in it, by normalised name. All of them.
    """

    python: Path
    name: str
    installed: dict[str, str]


@dataclass(frozen=True)
class _Recipe:
    """What an environment is made of: equal recipes make equal environments.

    Attributes
    ----------
    name
        As `Environment.name`.
    python
        Version of the interpreter: 3.11.
    project
        What must be importable if it is coffea.
    requirements
        Of pins: all that is installed. Otherwise what is asked for beside `source`.
    overrides
        Versions that replace whatever a package asks for.
    exact
        Whether `requirements` are all.
    before
        Dependencies are older than this; None for no bound.
    source
        Tree that the project is built from, and what identifies its content.
    """

    name: str
    python: str
    project: str
    requirements: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    exact: bool = False
    before: datetime | None = None
    source: tuple[Path, str] | None = None

    @property
    def key(self) -> str:
        parts = [FORMAT, self.name, self.python, self.project, self.requirements, self.overrides]
        parts += [self.exact, str(self.before), self.source and self.source[1]]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:10]


def environment(
    version: str, *, folder: Path | None = None, stack: str | None = None
) -> Environment:
    """An environment with this version, made unless it is there.

    Parameters
    ----------
    version
        A release of coffea that has pins (``2026.9.0``); a commit, tag or branch of the clone
        that `CLONE_VARIABLE` names (``v2026.9.0``) or of another (``master@../coffea``); a
        checkout (a folder with a pyproject.toml, as it is now); ``.`` for what is installed here.
    folder
        Where environments are kept; by default what `FOLDER_VARIABLE` names, or the user's cache.
    stack
        Fixes everything but coffea: a release that has pins, or a file of pins.

    Returns
    -------
    Environment
        It holds what the version asks for and nothing else.

    Raises
    ------
    InputError
        If there is no such version, or it cannot be installed; the message says why.
    """
    if version == HERE:
        if stack is not None:
            msg = "what is installed here has the dependencies that it has: leave out the stack"
            raise InputError(msg)
        return Environment(Path(sys.executable), HERE, _installed(Path(sys.executable)))
    kept = (folder or default_folder()).absolute()
    fixed = _stack(stack) if stack is not None else None
    if _is_checkout(path := Path(version)):
        # A folder changes: what it holds now is what is meant.
        return _make(_of_tree(path.resolve(), _content(path), None, fixed), kept)
    if _RELEASE.fullmatch(version):
        return _make(_of_release(version, fixed), kept)
    ref, clone = _where(version)
    return _of_commit(ref, clone or _clone(kept), fixed, kept)


def default_folder() -> Path:
    """Where environments are kept."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else platformdirs.user_cache_path("coffea-scaling") / "env"


@cache
def releases() -> dict[str, date]:
    """Releases that have pins, oldest first, and the day on which each came out."""
    dates: dict[str, str] = json.loads(DATES.read_text())
    found = {path.stem: date.fromisoformat(dates[path.stem]) for path in PINS.glob("*.txt")}
    return dict(sorted(found.items(), key=lambda one: one[1]))


def differences(one: Environment, other: Environment) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, with both versions; None where it is not installed."""
    names = sorted(one.installed.keys() | other.installed.keys())
    both = {name: (one.installed.get(name), other.installed.get(name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


# --- what an environment is made of


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
    return python.group(1) if python else _this_python(), pins


def _pins_of(release: str) -> Path:
    path = PINS / f"{release}.txt"
    if not path.is_file():
        msg = (
            f"there are no pins of coffea {release}: use one of {', '.join(releases())}, "
            f"its tag v{release}, or name a stack"
        )
        raise InputError(msg)
    return path


@dataclass(frozen=True)
class _Stack:
    name: str
    python: str
    pins: dict[str, str]
    before: datetime | None


def _stack(name: str) -> _Stack:
    path = Path(name)
    if path.suffix == ".txt" and path.is_file():
        # Of what the file does not name the newest is taken.
        return _Stack(path.stem, *_read_pins(path), None)
    path = _pins_of(name)
    return _Stack(name, *_read_pins(path), _bound(releases()[name]))


def _bound(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + STACK_PERIOD


def _of_release(release: str, stack: _Stack | None) -> _Recipe:
    if stack is not None:
        return _on(stack, release, PROJECT, f"{PROJECT}=={release}", None)
    python, pins = _read_pins(_pins_of(release))
    return _Recipe(
        name=f"{PROJECT}-{release}",
        python=python,
        project=PROJECT,
        requirements=tuple(sorted(pins.values())),
        exact=True,
    )


def _on(
    stack: _Stack,
    version: str,
    project: str,
    requirement: str | None,
    source: tuple[Path, str] | None,
) -> _Recipe:
    others = tuple(sorted(pin for name, pin in stack.pins.items() if name != project))
    before = stack.before
    if before is not None and project == PROJECT and version in (known := releases()):
        # A release is on the stack of an older one, too.
        before = max(before, _bound(known[version]))
    return _Recipe(
        name=f"{project}-{version}-on-{stack.name}",
        python=stack.python,
        project=project,
        requirements=(*((requirement,) if requirement else ()), *others),
        overrides=others,
        before=before,
        source=source,
    )


def _of_tree(
    tree: Path, content: str, committed: datetime | None, stack: _Stack | None
) -> _Recipe:
    """What is built of a tree of files."""
    project = _project(tree)
    source, version = (tree, content), content[:10]
    if stack is not None:
        return _on(stack, version, project, None, source)
    bound = committed + PERIOD if committed else None
    return _Recipe(
        name=f"{project}-{version}",
        python=_this_python(),
        project=project,
        before=bound if bound and bound < datetime.now(UTC) else None,
        source=source,
    )


def _this_python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _project(tree: Path) -> str:
    found = None
    with contextlib.suppress(OSError):
        found = re.search(
            r"^name\s*=\s*[\"']([^\"']+)", (tree / "pyproject.toml").read_text(), re.MULTILINE
        )
    # Before it had a pyproject.toml with its name, it was coffea.
    return str(canonicalize_name(found.group(1))) if found else PROJECT


def _is_checkout(path: Path) -> bool:
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
        # What begins with a dot are settings of tools, and environments.
        if name.split("/")[0] not in UNBUILT and not name.startswith(".") and path.is_file():
            total.update(f"{name}\0{path.stat().st_size}\0".encode())
            total.update(path.read_bytes())
    return total.hexdigest()


# --- commits


def _clone(kept: Path) -> Path:
    """The clone of coffea in which commits are looked up."""
    if named := os.environ.get(CLONE_VARIABLE):
        return Path(named)
    kept.mkdir(parents=True, exist_ok=True)
    clone = kept / "coffea.git"
    with _locked(kept / "coffea.git.lock"):
        if not clone.is_dir():
            part = Path(tempfile.mkdtemp(dir=kept, prefix="clone-"))
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


def resolve(version: str, *, folder: Path | None = None) -> tuple[str, Path]:
    """Commit (hexadecimal) and clone that a commit, tag or branch stands for.

    Raises
    ------
    InputError
        If the clone has no such commit.
    """
    ref, clone = _where(version)
    path = clone or _clone((folder or default_folder()).absolute())
    return _commit(ref, path), path.resolve()


def _where(version: str) -> tuple[str, Path | None]:
    """A commit and its clone, None where none is named: both may have an @ in them."""
    ref, at, clone = version.partition("@")
    while "@" in clone and not Path(clone).is_dir():
        more, _, clone = clone.partition("@")
        ref += f"@{more}"
    return ref, Path(clone) if at else None


def _commit(ref: str, clone: Path) -> str:
    if not clone.is_dir():
        msg = f"there is no clone at {clone}: name the folder of one"
        raise InputError(msg)
    reason: InputError | None = None
    for name in (ref, f"origin/{ref}"):
        try:
            return git(clone, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
        except InputError as error:
            reason = reason or error
    msg = f"{clone} has no commit {ref!r} ({reason}): fetch it, or name a release that has pins"
    raise InputError(msg)


def _of_commit(ref: str, clone: Path, stack: _Stack | None, kept: Path) -> Environment:
    commit = _commit(ref, clone)
    committed = datetime.fromtimestamp(
        int(git(clone, "show", "--no-patch", "--format=%ct", commit)), UTC
    )
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix="source-") as folder:
        tree = Path(folder) / "tree"
        # A clone with its tags, of which tools that derive a version from them make one.
        git(None, "clone", "--quiet", "--shared", "--no-checkout", clone.resolve(), tree)
        git(tree, "config", "core.sparseCheckout", "true")
        sparse = tree / ".git" / "info" / "sparse-checkout"
        sparse.parent.mkdir(exist_ok=True)
        sparse.write_text("/*\n" + "".join(f"!/{name}/\n" for name in UNBUILT))
        git(tree, "checkout", "--quiet", "--detach", commit)
        return _make(_of_tree(tree, commit, committed, stack), kept)


def git(where: Path | None, *arguments: str | Path) -> str:
    """What git says.

    Parameters
    ----------
    where
        Clone, of whatever user: whoever names it has its code run.
    *arguments
        Of git.

    Raises
    ------
    InputError
        With git's own words, if it fails.
    """
    at = ["-C", str(where)] if where else []
    return _run(["git", "-c", "safe.directory=*", *at, *map(str, arguments)], "git").strip()


# --- making one


def _make(recipe: _Recipe, kept: Path) -> Environment:
    """The environment of a recipe: that which is there if it is whole, else a new one."""
    place = kept / f"{recipe.name}-{recipe.key}"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with _locked(kept / f"{place.name}.lock"):
            made = _found(place, recipe)
            if made is None:
                shutil.rmtree(place, ignore_errors=True)
                try:
                    made = _install(place, recipe)
                except BaseException:
                    shutil.rmtree(place, ignore_errors=True)
                    raise
            return made
    except OSError as error:
        msg = f"environments cannot be kept in {kept}: {error.strerror}; set {FOLDER_VARIABLE}"
        raise InputError(msg) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Have other processes that make the same environment wait, and find it made."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _found(place: Path, recipe: _Recipe) -> Environment | None:
    try:
        installed: dict[str, str] = json.loads((place / MARK).read_text())
    except (OSError, ValueError):
        return None
    python = _interpreter(place)
    try:
        # Whoever installed into it by hand made it another one.
        unchanged = _installed(python) == installed
    except InputError:
        return None
    return Environment(python, recipe.name, installed) if unchanged else None


def _install(place: Path, recipe: _Recipe) -> Environment:
    python, what = _interpreter(place), f"{recipe.name} cannot be installed"
    same = recipe.python == _this_python()
    _uv(
        "venv", "--quiet", "--no-project", "--python",
        sys.executable if same else recipe.python, str(place),
        what=what,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=place) as folder:
        arguments = ["pip", "sync" if recipe.exact else "install", "--python", str(python)]
        arguments += _option(recipe.requirements, Path(folder) / "requirements.txt", "-r")
        arguments += _option(recipe.overrides, Path(folder) / "overrides.txt", "--overrides")
        if recipe.before:
            arguments += ["--exclude-newer", recipe.before.isoformat()]
        if recipe.source:
            wheel = _build(recipe.source[0], Path(folder), what)
            extras = f"[{EXTRAS}]" if recipe.project == PROJECT and not recipe.overrides else ""
            arguments.append(f"{recipe.project}{extras} @ {wheel.as_uri()}")
        if recipe.exact:
            arguments.remove("-r")
        # Imports are measured: uv leaves bytecode to whoever imports first, if he may write it.
        _uv(*arguments, "--compile-bytecode", "--quiet", what=what)
    installed = _installed(python)
    if recipe.exact:
        _check_exact(recipe, installed)
    if recipe.project == PROJECT:
        why = f"{recipe.name} was installed, but cannot be imported"
        _run([str(python), "-W", "ignore", "-c", IMPORTED], why)
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


def _build(tree: Path, folder: Path, what: str) -> Path:
    _uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(tree), what=what)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _check_exact(recipe: _Recipe, installed: dict[str, str]) -> None:
    wanted = {
        str(canonicalize_name(pin.partition("==")[0])): pin.partition("==")[2]
        for pin in recipe.requirements
    }
    if installed != wanted:
        odd = sorted(name for name, _ in installed.items() ^ wanted.items())
        msg = f"{recipe.name} is not what its pins say, see {', '.join(odd)}: take its pins anew"
        raise InputError(msg)


def _installed(python: Path) -> dict[str, str]:
    listed = _uv(
        "pip", "list", "--quiet", "--format", "json", "--python", str(python), what="uv failed"
    )
    packages: list[dict[str, Any]] = json.loads(listed)
    return {str(canonicalize_name(one["name"])): str(one["version"]) for one in packages}


def _uv(*arguments: str, what: str) -> str:
    return _run([_uv_program(), *arguments], what)


def _uv_program() -> str:
    # Of this environment, which need not be on the PATH.
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        msg = "uv is not installed, which makes environments: `pip install uv`"
        raise InputError(msg)
    return found


def _run(command: Sequence[str], what: str) -> str:
    """Output of a program; InputError with its own words if it fails."""
    # What this process was started with must not leak into another environment.
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "UV_CONSTRAINT", "UV_OVERRIDE")
    settings = {name: value for name, value in os.environ.items() if name not in hidden}
    settings["UV_NO_PROGRESS"] = "1"
    # A commit that is not there is to be an error, and no question to an absent user.
    settings["GIT_TERMINAL_PROMPT"] = "0"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    except FileNotFoundError:
        msg = f"{what}: {command[0]} is not installed"
        raise InputError(msg) from None
    if done.returncode:
        msg = f"{what}: {_reason(done.stderr or done.stdout)}"
        raise InputError(msg)
    return done.stdout


def _reason(said: str) -> str:
    """What a program said when it failed, in one line."""
    lines = [re.sub(r"^\W+", "", line).strip() for line in said.splitlines()]
    lines = [line for line in lines if line and not line.startswith("warning:")]
    if "Traceback (most recent call last):" in lines:
        lines = lines[-1:]
    text = " ".join(lines) or "it did not say why"
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
