"""Files for results: checked before the work, and written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import stat
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.folders import resolved

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PACKAGES: Final = ("awkward", "coffea", "hist", "numba", "numpy", "uproot")


def check(path: Path, *, inputs: Collection[Path] = ()) -> None:
    """Raise InputError unless a result can be written to a file, device or pipe.

    It must not replace any of `inputs`, the files that are read for it. Links are followed.
    """
    if path.is_dir():
        msg = f"{path} is a folder: name a file in it"
        raise InputError(msg)
    if any(path.exists() and file.exists() and path.samefile(file) for file in inputs):
        msg = f"{path} is read for the result and would be replaced by it: give it another name"
        raise InputError(msg)
    if is_stream(path):
        if not os.access(path, os.W_OK):
            msg = f"{path} cannot be written to: name another file"
            raise InputError(msg)
        return
    folder = _target(path).parent
    if not folder.is_dir():
        msg = f"there is no folder {folder} to write {path.name} to: make it first"
        raise InputError(msg)
    # The result is made beside what it replaces.
    check_folder(folder)


def check_folder(path: Path) -> None:
    """Raise InputError unless `path` is a folder to write to, or one can be made there."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        msg = f"{place} is not a folder: name another one"
        raise InputError(msg)
    if not os.access(place, os.W_OK | os.X_OK):
        msg = f"the folder {place} cannot be written to: name another one"
        raise InputError(msg)


def check_with_folder(path: Path) -> None:
    """As `check`, of a file whose folder is made if it is not there."""
    check_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder {path.parent} cannot be made: {error.strerror}; name another one"
        raise InputError(msg) from error
    check(path)


def is_stream(path: Path) -> bool:
    """Whether `path` is written to and never replaced: a device, a pipe or an open file."""
    if _descriptor(path) is not None:
        return True
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _descriptor(path: Path) -> int | None:
    """Number of an open file that a path such as /dev/stdout stands for."""
    if path == Path("/dev/stdout"):
        return 1
    if path == Path("/dev/stderr"):
        return 2
    if path.parent in {Path("/dev/fd"), Path("/proc/self/fd")} and path.name.isdecimal():
        return int(path.name)
    return None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary file, which becomes `path` at the end, and only if all went well."""
    stream = is_stream(path)
    target = _target(path)
    beside = None if stream else target.parent
    try:
        # Its name is the same, as writers take the format from it.
        with tempfile.TemporaryDirectory(dir=beside, prefix=f".{target.name}.") as folder:
            part = Path(folder) / target.name
            yield part
            if stream:
                # What is open already, be it a regular file, is written to where it stands.
                open_file = _descriptor(path)
                to = path if open_file is None else os.dup(open_file)
                with part.open("rb") as made, open(to, "ab") as file:  # noqa: PTH123
                    shutil.copyfileobj(made, file)
            else:
                part.replace(target)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error


def _target(path: Path) -> Path:
    """The file that `path` leads to, if it is a link."""
    try:
        return resolved(path)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        if error.errno == errno.ELOOP:
            msg = f"{path} is a link that leads to itself: remove it"
        raise InputError(msg) from error


def provenance(**more: Any) -> dict[str, Any]:
    """What made a result: versions, machine, and `more`."""
    return {
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine()},
        **more,
    }


def write_json(path: Path, content: Any) -> None:
    """Write JSON, so that the file is there whole or not at all."""
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def save_coffea(path: Path, accumulated: Any) -> None:
    """Write as ``coffea.util.save`` does, so that the file is there whole or not at all."""
    import coffea.util  # noqa: PLC0415  (takes seconds)

    with whole(path) as part:
        coffea.util.save(accumulated, str(part))
