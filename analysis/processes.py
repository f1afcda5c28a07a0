"""Processes that end with the one that started them, and ones that adopt orphans (Linux)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
"""Of <sys/prctl.h>."""


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send a signal to this process when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)


def adopt_orphans(adopt: bool = True) -> None:  # noqa: FBT001, FBT002  (as prctl has it)
    """Be the parent of descendants that lose theirs, or no longer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopt))


def main() -> None:
    """Become another program, which ends with the parent: ``python -m ... PROGRAM ARGUMENTS``."""
    die_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
