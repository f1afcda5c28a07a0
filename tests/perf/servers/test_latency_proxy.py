"""The proxy adds the latency that it is said to, by its own clock, and changes nothing."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from perf.servers.latency_proxy import HOST, delayed

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it is sent, until the client has ended."""

    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data)


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """Port of a server."""
    with socketserver.ThreadingTCPServer((HOST, 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def read(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = connection.recv(1 << 16)
        assert data, f"the connection ended after {len(found)} of {size} bytes"
        found += data
    return bytes(found)


@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_bytes_are_held_as_long_as_said_and_not_changed(echo: int, delay: float) -> None:
    messages = [b"hello", np.random.default_rng(1).bytes(3_000_000), b"bye"]
    with delayed(echo, delay) as proxy:
        for _ in range(2):
            with socket.create_connection((HOST, proxy.port)) as connection:
                for message in messages:
                    sending = threading.Thread(target=connection.sendall, args=(message,))
                    sending.start()
                    assert read(connection, len(message)) == message
                    sending.join()
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(1) == b""
        counts = proxy.counts()
    assert counts.connections == 2
    assert counts.sent == counts.received == 2 * sum(map(len, messages))
    # Bytes that come back while others are still sent make turns of their own.
    assert counts.turns >= 2 * len(messages)
    assert counts.least_held is not None
    assert counts.least_first is not None
    assert counts.least_held >= delay
    assert counts.least_first >= 3 * delay


def test_turns_are_what_is_waited_for(echo: int) -> None:
    with delayed(echo, 0) as proxy, socket.create_connection((HOST, proxy.port)) as connection:
        for turn in range(1, 6):
            connection.sendall(b"question")
            read(connection, 8)
            assert proxy.counts().turns == turn


def test_a_connection_that_waits_for_its_delay_holds_up_no_other(echo: int) -> None:
    with delayed(echo, 0.05) as proxy:
        connections = [socket.create_connection((HOST, proxy.port)) for _ in range(20)]
        for connection in connections:
            connection.sendall(b"x")
        for connection in connections:
            assert read(connection, 1) == b"x"
            connection.close()
        assert proxy.counts().connections == 20


def test_no_server() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    with delayed(port, 0) as proxy, socket.create_connection((HOST, proxy.port)) as connection:
        connection.sendall(b"hello?")
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_it_ends_with_its_context(echo: int) -> None:
    with pytest.raises(KeyError), delayed(echo, 0) as proxy:
        raise KeyError
    assert not psutil.pid_exists(proxy.process.pid)


def test_it_ends_with_the_process_that_started_it(echo: int) -> None:
    command = [sys.executable, "-m", "perf.servers.latency_proxy", str(echo), "0"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        # As the end of this process closes it.
        process.stdin.close()
        assert process.wait(60) == 0
