"""Processes of engines live no longer than the client."""

from __future__ import annotations

import os
import runpy
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable


def end_with(pid: int) -> None:
    """Have this process and all that it starts killed when another ends, however that does.

    By a thread that waits for it: what the kernel offers (PR_SET_PDEATHSIG) is about the thread
    that started a process, not about the process of that thread, and engines start theirs in
    threads that come and go.
    """

    def wait() -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
        this = psutil.Process()
        for one in (*this.children(recursive=True), this):
            with suppress(psutil.NoSuchProcess):
                one.kill()

    threading.Thread(target=wait, name=f"ends-with-{pid}", daemon=True).start()


def end_children(pids: Iterable[int]) -> None:
    """Kill what processes have started, and left at work: they might wait for it at their end."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found.extend(psutil.Process(pid).children(recursive=True))
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def command(script: str) -> list[str]:
    """Command line of a Python script that ends with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), script]


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
