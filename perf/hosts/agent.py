"""Blocks of Parsl on other hosts: what a batch system does, with nothing but TCP.

On each host of workers runs ``python -m perf.hosts.agent``: it starts the command of each
connection, and ends it when the connection ends, or tells by its end that the command ended. Parsl
asks for blocks by `HostsProvider`, which takes a host without a block.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parsl.jobs.states import JobState, JobStatus
from parsl.providers.base import ExecutionProvider
from parsl.providers.errors import ScaleOutFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT: Final = 7070
CONNECT_SECONDS: Final = 3.0
"""For a host that does not answer."""


class HostsProvider(ExecutionProvider):
    """Blocks on hosts with an agent, one on each.

    Parameters
    ----------
    addresses
        Of the hosts.
    worker_init
        Shell commands before the block's.
    """

    label = "hosts"
    nodes_per_block = 1
    min_blocks = 0
    parallelism = 1.0
    script_dir = None
    cores_per_node = None
    mem_per_node = None
    status_polling_interval = 1

    def __init__(self, addresses: Sequence[str], worker_init: str = "") -> None:
        self.addresses = list(addresses)
        self.worker_init = worker_init
        self.init_blocks = self.max_blocks = len(self.addresses)
        self.resources: dict[str, Any] = {}
        self._jobs: dict[str, tuple[str, socket.socket]] = {}
        self._started = 0

    def submit(self, command: str, tasks_per_node: int, job_name: str = "block") -> str:  # noqa: ARG002
        """Start a block on a host that has none; gives its name."""
        taken = {address for address, _ in self._jobs.values()}
        reason = "every host has a block"
        for address in self.addresses:
            if address in taken:
                continue
            try:
                connection = socket.create_connection((address, PORT), CONNECT_SECONDS)
            except OSError as error:
                reason = f"{address}: {error}"
                continue
            connection.settimeout(None)
            connection.sendall(json.dumps(f"{self.worker_init}\n{command}").encode() + b"\n")
            self._started += 1
            name = f"{job_name}-{self._started}"
            self._jobs[name] = address, connection
            return name
        raise ScaleOutFailed(self.label, reason)

    def status(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Whether blocks run."""
        return [JobStatus(self._state(name)) for name in job_ids]

    def _state(self, name: str) -> JobState:
        if name not in self._jobs:
            return JobState.COMPLETED
        _, connection = self._jobs[name]
        try:
            connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return JobState.RUNNING
        except OSError:
            pass
        self.cancel([name])
        return JobState.COMPLETED

    def cancel(self, job_ids: Sequence[str]) -> list[bool]:
        """End blocks."""
        for name in job_ids:
            if name in self._jobs:
                self._jobs.pop(name)[1].close()
        return [True for _ in job_ids]


def serve() -> None:
    """Start commands until this process is killed."""
    with socket.create_server(("", PORT)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_run, args=(connection,), daemon=True).start()


def _run(connection: socket.socket) -> None:
    """The command of a connection."""
    log = Path(tempfile.gettempdir(), "block.log")
    with connection, connection.makefile("rb") as lines, log.open("ab") as file:
        command = json.loads(lines.readline())
        process = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        threading.Thread(target=_tell, args=(process, connection), daemon=True).start()
        with suppress(OSError):
            lines.read()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tell(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """End the connection when the command ends."""
    process.wait()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    serve()
