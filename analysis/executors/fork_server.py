"""Workers as forks of one process that has imported the analysis: a start method of multiprocessing.

Each worker that starts by itself imports all that it needs, and sets numba up, at a cost of seconds
of CPU time. Here one process of one thread does this once and forks the workers, which then share its
memory and its compiled code. It is the fork server of Python, but one for each executor that is
open: the allocator and Python read variables when a process starts, and when an executor is closed
nothing of it is left.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.process import BaseProcess, current_process
from typing import TYPE_CHECKING, Any, Final

from analysis.executors.folders import plain_folder
from analysis.interruption import postponed
from analysis.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

PRELOADED: Final = "analysis.executors.preloaded"
"""Module that the server imports before it forks."""

RESTORED: Final = "COFFEA_SCALING_RESTORED"
"""Environment variable of the server: values for its forks of the variables by which it imports
what this process would, and not what lies in the working folder."""


class _Server(forkserver.ForkServer):
    """A fork server with an environment and a folder of its own."""

    def __init__(
        self, variables: Mapping[str, str | None], modules: Sequence[str], folder: Path
    ) -> None:
        super().__init__()
        own = {
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path))),
            "PYTHONSAFEPATH": "1",
        }
        restored = {name: {**os.environ, **variables}.get(name) for name in own}
        self.variables = {**variables, **own, RESTORED: json.dumps(restored)}
        self.folder = folder
        self.set_forkserver_preload([*modules, PRELOADED])

    def ensure_running(self) -> None:
        """Start it, also again if it has died."""
        if self._lives():
            # Called for each fork; a process that another thread starts meanwhile would be given
            # the variables that are set below.
            return
        # Where Python puts the server's socket, whose path may not be long.
        here = current_process()._config  # type: ignore[attr-defined]
        before = here.get("tempdir")
        with environment(self.variables), postponed():
            here["tempdir"] = str(self.folder)
            try:
                super().ensure_running()
            finally:
                here["tempdir"] = before

    def _lives(self) -> bool:
        """Whether it was started and has not ended; that it ended is left to be seen."""
        pid: int | None = self._forkserver_pid  # type: ignore[attr-defined]
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return pid is not None and os.waitid(os.P_PID, pid, look) is None

    def end(self) -> None:
        """Kill it and wait for its end; it holds nothing that is to be written."""
        server: Any = self
        if server._forkserver_pid is not None:
            os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()


class _Popen(popen_forkserver.Popen):
    """As that of Python, but by one server of several."""

    def __init__(self, server: _Server, process: BaseProcess) -> None:
        self.server = server
        super().__init__(process)

    def _launch(self, process: BaseProcess) -> None:
        preparation = spawn.get_preparation_data(process.name)
        for main in ("init_main_from_name", "init_main_from_path"):
            # A script need not be protected by `if __name__ == "__main__"`.
            preparation.pop(main, None)
        data = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, data)
            reduction.dump(process, data)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, pipe = self.server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # The worker takes the end of this for that of its parent.
        held = os.dup(pipe)
        self.finalizer = util.Finalize(self, util.close_fds, (held, self.sentinel))  # type: ignore[attr-defined]
        with os.fdopen(pipe, "wb") as stream:
            stream.write(data.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(BaseProcess):
    """A worker."""

    _start_method = "forkserver"

    def __init__(self, server: _Server, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.server = server

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to the client."""
        return {**self.__dict__, "server": None}

    def _Popen(self, process: BaseProcess) -> _Popen:
        return _Popen(self.server, process)


class ForkContext(context.BaseContext):
    """What multiprocessing calls a context: it makes processes, queues and locks."""

    _name = "forkserver"

    def __init__(self, server: _Server) -> None:
        self.server = server

    def Process(self, **arguments: Any) -> _Process:
        """A process that is forked when it is started."""
        return _Process(self.server, **arguments)


@contextmanager
def named(forks: ForkContext) -> Iterator[str]:
    """A name by which `multiprocessing.get_context` finds it, as it finds that of loky."""
    contexts = context._concrete_contexts  # type: ignore[attr-defined]
    name = f"coffea-forks-{id(forks)}"
    contexts[name] = forks
    try:
        yield name
    finally:
        del contexts[name]


@contextmanager
def forking(
    variables: Mapping[str, str | None], modules: Sequence[str] = ()
) -> Iterator[ForkContext]:
    """Start a server with these environment variables that imports these modules too, and end it.

    Its forks are to be ended before.
    """
    with plain_folder("coffea-forks-") as folder, ThreadPoolExecutor(1) as thread:
        server = _Server(variables, modules, folder)
        # It ends with the thread that started it, at the latest: see `preloaded`.
        thread.submit(server.ensure_running).result()
        try:
            yield ForkContext(server)
        finally:
            server.end()
