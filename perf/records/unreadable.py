"""Files that cannot be read: each is left out with one sentence, and the others count."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST: Final = 200
"""Characters of an error that are repeated."""


@cache
def leave_out(what: str) -> None:
    """Say once on stderr what is left out: file, place in it and reason."""
    # Python prints it, unless a program that uses this as a library handles it otherwise.
    logging.getLogger(__name__).warning("left out: %s", what)


@contextmanager
def left_out() -> Iterator[None]:
    """Leave out what cannot be read, and say so."""
    try:
        yield
    except InputError as error:
        leave_out(str(error))


@contextmanager
def understood(path: Path, what: str) -> Iterator[None]:
    """Turn any error into one sentence: the file is not what it should be."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  (JSON of any shape, read by asv too)
        msg = f"{path} is not a {what}: {' '.join(repr(error).split())[:LONGEST]}"
        raise InputError(msg) from None
