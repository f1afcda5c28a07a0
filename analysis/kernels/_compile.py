"""The one way in which compiled kernels are compiled."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

_HERE: Final = Path(__file__).parent
_SOURCES: Final = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))
).hexdigest()[:16]
_CACHE: Final = _HERE / "__pycache__" / f"numba-{_SOURCES}"


def loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop over contents and offsets with numba.

    No ``fastmath``: additions and multiplications must round as in the other implementations.
    ``error_model="numpy"`` drops the test for division by zero. The interpreter lock is
    released, so that threads run side by side. The machine code is cached on disk, so that a
    worker process starts without compiling.
    """
    # numba notices when the file of a cached function changes, but not when that of a function
    # it calls does: so the cache belongs to one state of all sources of this package.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = before or str(_CACHE)
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, error_model="numpy")(
            function
        )
    finally:
        numba.config.CACHE_DIR = before
    return compiled
