"""Resident memory and page faults of processes, as Linux tells them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable


def reset_peak_memory() -> bool:
    """Forget this process's largest resident memory so far; False if the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_memory(pid: int | None = None) -> int | None:
    """Largest resident memory in bytes since the start or the last reset; of this process or another.

    It is ``VmHWM`` of Linux, which belongs to one program: ``ru_maxrss`` would begin with what the
    parent had when it started this one. None where there is none.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def peak_memory_of_children() -> int | None:
    """Largest resident memory of any running child in bytes; None if there is none."""
    peaks = [peak_memory(child.pid) for child in psutil.Process().children(recursive=True)]
    return max((peak for peak in peaks if peak is not None), default=None)


def page_faults(pids: Iterable[int]) -> int:
    """How often processes have had a page of memory mapped since each began; 0 for one that is gone."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            # After the name, which may hold anything: state, ppid, ..., minflt (proc(5)).
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[7])
    return total
