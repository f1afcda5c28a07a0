"""What numba has compiled on the client, for workers on hosts that share no folder with it.

Each of them would compile the kernels anew, for half a minute and more. numba itself sees whether
machine code is of these sources and of this processor, and compiles where it is not.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import uuid
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import analysis

if TYPE_CHECKING:
    from collections.abc import Mapping

# Kernels take seconds to import, which a client with another processor need not wait for at start.
# ruff: noqa: PLC0415

LARGEST: Final = 16_000_000
"""Bytes that are sent, compressed: the analysis has half a megabyte."""


def _packages() -> Mapping[str, Path]:
    root = Path(str(analysis.__file__)).parent
    return {
        "analysis": root,
        "analysis.files": root / "files",
        "analysis.kernels": root / "kernels",
    }


def _folder(package: Path) -> Path | None:
    """Where numba puts the machine code of a package."""
    import numba

    from analysis.kernels._compile import cache_folder

    folder = cache_folder(package, numba.config.CACHE_DIR)
    if folder is None:
        return None
    return folder / f"{package.name}_{hashlib.sha1(str(package).encode()).hexdigest()}"


def is_there() -> bool | None:
    """Whether the kernels were compiled on this host before; None if it keeps nothing."""
    folder = _folder(_packages()["analysis.kernels"])
    return None if folder is None else any(folder.glob("*.nbi"))


def packed() -> bytes:
    """The files of the client; nothing if there are none, or too many."""
    files: dict[str, dict[str, bytes]] = {}
    for name, package in _packages().items():
        folder = _folder(package)
        with suppress(OSError):  # another process may replace one
            if folder is not None:
                files[name] = {path.name: path.read_bytes() for path in folder.glob("*.nb[ci]")}
    if not any(files.values()):
        return b""
    data = zlib.compress(pickle.dumps(files), 1)
    return data if len(data) <= LARGEST else b""


def unpack(data: bytes) -> None:
    """Write files on a worker, where it has none of that name."""
    if not data:
        return
    packages = _packages()
    for name, files in pickle.loads(zlib.decompress(data)).items():
        folder = _folder(packages[name])
        if folder is None:
            continue
        with suppress(OSError):  # it compiles, as it would otherwise
            folder.mkdir(parents=True, exist_ok=True)
            # The indices last: what they name is there then.
            for file in sorted(files, key=lambda each: each.endswith(".nbi")):
                if not (folder / file).exists():
                    part = folder / f".{uuid.uuid4().hex}"
                    part.write_bytes(files[file])
                    os.replace(part, folder / file)  # noqa: PTH105  (whole or not at all)
