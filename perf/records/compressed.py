"""Compressed files of records, of which what precedes a cut can still be read."""

from __future__ import annotations

import fcntl
import gzip
import zlib
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

GZIP: Final = 31
"""What zlib calls the format of gzip."""


def compress(content: bytes) -> bytes:
    """Compressed content; the same content gives the same bytes."""
    return gzip.compress(content, mtime=0)


def decompressed(path: Path) -> tuple[bytes, bool]:
    """Content of a file, decompressed if its name ends in ``.gz``; False if its end is missing."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            content = file.read()
        if path.suffix != ".gz":
            return content, True
        # What precedes the cut is as it was: the check at the end of a file finds other damage.
        whole, ends = b"", False
        while content:
            part = zlib.decompressobj(wbits=GZIP)
            whole += part.decompress(content)
            content, ends = part.unused_data, part.eof
    except FileNotFoundError:
        msg = f"there are no records at {path}: make some with `pytest --benchmark-only`"
        raise InputError(msg) from None
    except (OSError, zlib.error) as error:
        msg = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(msg) from error
    return whole, ends
