"""Folders and users as engines take them."""

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
"""A path that all programs take: shells and Java divide at blanks, Java and zmq do not know umlauts
in every locale, and Unix allows sockets 107 bytes, names that Python gives them included."""


@contextmanager
def plain_folder(prefix: str) -> Iterator[Path]:
    """A folder that only this user can enter, with a plain path, whatever TMPDIR is."""
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
    """A name for the user if no list of users has one, as in a container; else None."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
    return None
