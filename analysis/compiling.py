"""The one way in which loops are compiled."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    from collections.abc import Callable


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop over contents and offsets with numba.

    No ``fastmath``: additions and multiplications must round as in the other implementations.
    ``error_model="numpy"`` drops the test for division by zero. The interpreter lock is
    released, so that threads run side by side. The machine code is cached on disk, so that a
    worker process starts without compiling.
    """
    # numba notices when the file of a cached function changes, but not when that of a function
    # it calls does: so the cache belongs to one state of all sources of the package.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or str(_cache(Path(function.__code__.co_filename).parent))
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")(
            function
        )
    finally:
        numba.config.CACHE_DIR = before
    return compiled


@cache
def _cache(folder: Path) -> Path:
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return folder / "__pycache__" / f"numba-{hashlib.sha256(sources).hexdigest()[:16]}"
