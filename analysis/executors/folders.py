"""Folders and user names that every engine accepts."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN: Final = re.compile(r"[\w./+=@-]{,50}", re.ASCII)
"""A path that all programs accept: shells and Java split at blanks, Java and zmq fail at umlauts
in some locales, and Unix allows the name of a socket 107 bytes, of which Python takes some."""


@contextmanager
def plain_folder(prefix: str) -> Iterator[Path]:
    """A folder that only this user can enter, with a PLAIN path whatever TMPDIR is."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    plain = folder if PLAIN.fullmatch(str(folder)) else Path("/tmp", folder.name)
    try:
        if plain != folder:
            plain.symlink_to(folder)
        yield plain
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if plain != folder:
            plain.unlink(missing_ok=True)


def unlisted() -> str | None:
    """The user's number if the user has no name, as in some containers; else None."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
    return None
