"""Processes: that they end with the one that started them, and with which environment they start.

`die_with_parent` and `adopt_orphans` ask Linux's kernel (prctl(2)). `end_with` watches from a
thread, for processes that the engines start in threads which come and go.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36

STOP_SECONDS: Final = 1.0
"""For a process to stop; one that waits for a device does not."""

ROUNDS: Final = 10
"""Times that a process that ends looks for children."""


def _prctl(option: int, value: int) -> None:
    """Set a property of this process; elsewhere than on Linux do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _prctl(PR_SET_PDEATHSIG, number)


def adopt_orphans(*, wanted: bool = True) -> None:
    """Become the parent of descendants that lose theirs, so that their CPU time is counted.

    Parsl, for one, starts its workers by a shell that ends at once.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, int(wanted))


def end_with(pid: int) -> None:
    """Kill this process and its descendants when another process ends, however that ends.

    The kernel's `die_with_parent` is about the thread that started a process, not about the
    process of that thread, and engines start theirs in threads that come and go.
    """

    def wait() -> None:
        try:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait()
            # This process cannot be stopped: what it starts meanwhile is killed the next time.
            for _ in range(ROUNDS):
                if not (found := halted(psutil.Process())):
                    break
                kill(found, STOP_SECONDS)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name=f"ends-with-{pid}", daemon=True).start()


def end_children(pids: Iterable[int], *, go_on: bool = True) -> None:
    """Kill the descendants of processes, for whose end these might otherwise wait at their own.

    The processes go on afterwards, or stay stopped, if they are to be killed next.
    """
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            kill(halted(process))
            if go_on:
                process.resume()


def kill_family(process: psutil.Process, wait: float = 0) -> None:
    """Kill a process and its descendants, and wait so many seconds for their end."""
    kill([*halted(process), process], wait)


def halted(process: psutil.Process) -> list[psutil.Process]:
    """Stop a process and its descendants, and return the latter.

    From the top down: what is found of a process that runs may have started another meanwhile,
    which nothing then ends. The calling process itself goes on.
    """
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        if process.pid != os.getpid():
            process.suspend()
            _await_stop(process)
        for child in process.children():
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found += [child, *halted(child)]
    return found


def _await_stop(process: psutil.Process) -> None:
    """Wait until a process is stopped: a signal takes effect at the end of a system call."""
    ends = time.monotonic() + STOP_SECONDS
    while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
        if time.monotonic() > ends:
            return
        time.sleep(0.001)


def kill(processes: Iterable[psutil.Process], wait: float = 0) -> None:
    """Kill processes, and wait so many seconds for their end."""
    processes = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if wait:
        psutil.wait_procs(processes, wait)


def ending_command(script: str) -> list[str]:
    """Command line of a Python script that ends with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), script]


def set_variables(variables: Mapping[str, str | None]) -> None:
    """Set environment variables of this process; None removes one."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_LAYERING: Final = threading.Lock()
_LAYERS: Final[list[dict[str, str | None]]] = []
"""Values from before of the variables that are set for a while; those set last are at the end."""


@contextmanager
def environment(
    variables: Mapping[str, str | None], *, prefixes: tuple[str, ...] = ()
) -> Iterator[None]:
    """Set environment variables for a while, for the processes that are started meanwhile.

    Afterwards they are as before, and so are all whose names begin with one of `prefixes`,
    which a library may set meanwhile. Threads may do this at once, and end in any order.
    """
    with _LAYERING:
        others = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
        layer = {name: os.environ.get(name) for name in variables}
        _LAYERS.append(layer)
    try:
        with _LAYERING:
            set_variables(variables)
        yield
    finally:
        with _LAYERING:
            also = {name for name in os.environ if name.startswith(prefixes)} | others.keys()
            restored = {name: others.get(name) for name in also}
            place = next(n for n, one in enumerate(_LAYERS) if one is layer)
            for name, before in layer.items():
                above = next((one for one in _LAYERS[place + 1 :] if name in one), None)
                if above is None:
                    restored[name] = before
                else:
                    above[name] = before
                    restored.pop(name, None)
            del _LAYERS[place]
            set_variables(restored)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
