"""Settings of glibc's allocator, for processes that work through large arrays.

This module imports nothing that takes long: `settle` is for the first lines of a command, after
`interruption.listen`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from analysis.interruption import SIGNALS

ALLOCATOR: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment variables that set glibc's allocator, which reads them when a process starts.

By default it maps each large array afresh from the kernel and gives it back when it is free, and
every page of it is faulted in again (the more so in threads other than the first, in which Dask
and others compute). With these a worker keeps its memory for the next chunk: no page faults. It
also asks for pages of 2 MB where the kernel gives them on request (glibc 2.35 and newer; older
ones do not know the tunable), whose addresses are faster to look up, above all in a virtual
machine. What each is worth: `python -m perf ablation`.
"""

SETTLED: Final = "COFFEA_SCALING_ALLOCATOR"
"""Environment variable; 0 leaves the allocator of a command as it comes."""

_AGAIN: Final = "again"
"""How its value begins in a command that was started again; the signals that wait follow."""


def settle() -> None:
    """Start this command again with ALLOCATOR, unless the user has set any of it.

    What it starts has the user's environment, as workers have their own settings.
    """
    settled = os.environ.get(SETTLED)
    if settled is None:
        if sys.platform == "linux" and os.environ.keys().isdisjoint(ALLOCATOR):
            _again()
    elif settled.startswith(_AGAIN):
        for name in (SETTLED, *ALLOCATOR):
            os.environ.pop(name, None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, map(int, settled.split()[1:]))


def _again() -> None:
    """Start this process again. Signals wait for who handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    waiting = [str(int(number)) for number in SIGNALS if number not in before]
    try:
        os.execve(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {**os.environ, **ALLOCATOR, SETTLED: " ".join([_AGAIN, *waiting])},
        )
    except OSError:  # It works without.
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def in_force() -> bool:
    """Whether this process was started with ALLOCATOR, whatever its environment is now."""
    try:
        began = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return all(f"{name}={value}".encode() in began for name, value in ALLOCATOR.items())
