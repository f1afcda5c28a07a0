"""The one way in which loops are compiled."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

from analysis.folders import own_folder

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
    # it calls does: so the cache belongs to one state of all sources of the package and of ours.
    before = numba.config.CACHE_DIR
    folder = cache_folder(Path(function.__code__.co_filename).parent, before)
    numba.config.CACHE_DIR = str(folder or "")
    try:
        compiled: Callable[..., Any] = numba.njit(
            cache=folder is not None, nogil=True, error_model="numpy"
        )(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


@cache
def cache_folder(package: Path, given: str) -> Path | None:
    """Folder of the machine code of a package; None if nothing can be written anywhere.

    `given` is the folder that NUMBA_CACHE_DIR names, or empty.
    """
    paths = {*package.glob("*.py"), *Path(__file__).parent.glob("*.py")}
    sources = b"".join(path.read_bytes() for path in sorted(paths))
    name = f"numba-{hashlib.sha256(sources).hexdigest()[:16]}"
    candidates: tuple[Callable[[], Path], ...] = (
        lambda: Path(given or package / "__pycache__").absolute(),
        _of_user,
        own_folder,
    )
    for find in candidates:
        with suppress(ImportError, OSError, RuntimeError):  # the last of who has no home
            folder = find() / name
            if folder.is_absolute():
                folder.mkdir(parents=True, exist_ok=True)
                if os.access(folder, os.W_OK | os.X_OK):
                    return folder
    return None


def _of_user() -> Path:
    # Environments of other releases, in which `perf compare` runs the kernels, lack it.
    import platformdirs  # noqa: PLC0415

    return platformdirs.user_cache_path("coffea-scaling")
