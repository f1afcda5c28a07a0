"""Folders of a process: a home, one for what can be made again, and one that is locked."""

from __future__ import annotations

import atexit
import errno
import fcntl
import getpass
import locale
import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def settle() -> None:
    """Set a home and a user's name where there are none, before libraries look for them.

    Libraries would fail, or make a folder named ``~``. Files and their names are in UTF-8 whatever
    the locale, as in Python 3.15; in processes that are started, too.
    """
    if not sys.flags.utf8_mode and locale.getencoding().lower() not in {"utf-8", "utf8"}:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the second since Python 3.13
        os.environ["LOGNAME"] = f"user{os.getuid()}"
    home = Path("~")
    with suppress(RuntimeError):  # of a user whom no list of users has
        home = home.expanduser()
    with suppress(OSError):
        if not (home.is_absolute() and home.is_dir()):
            os.environ["HOME"] = str(own_folder())
        elif not os.access(home, os.W_OK):
            # It makes a folder in each process otherwise, and says so.
            os.environ.setdefault("MPLCONFIGDIR", str(own_folder()))


def resolved(path: Path) -> Path:
    """Follow links. Raises OSError, of a link that leads to itself too.

    Of such a link Python raises RuntimeError until 3.12, and later nothing: it stays a link.
    """
    with suppress(RuntimeError):
        end = path.resolve()
        if not end.is_symlink():
            return end
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


@cache
def own_folder() -> Path:
    """A temporary folder for what can be made again, which no other user can write to.

    It is the same in every process of the user, unless another user took its name. OSError says
    that it cannot be made.
    """
    path = Path(tempfile.gettempdir(), f"coffea-scaling-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return path
    path = Path(tempfile.mkdtemp(prefix=f"{path.name}-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; InputError says that another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = (
                f"another process is at work in {folder}: wait until it has ended, or name "
                "another folder"
            )
            raise InputError(msg) from None
        except OSError:
            pass  # A file system without locks, as some network file systems.
        yield
    finally:
        os.close(descriptor)
