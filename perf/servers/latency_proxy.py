"""A TCP proxy on loopback that adds latency, as a distance to the server would.

Bytes are passed on `delay` seconds after they arrived, in each direction and in order. The first
bytes of a client wait two delays more, for the TCP handshake, which the client did not wait for. So
a connection costs one round trip of two delays, and each answer that is waited for another.
Nothing else of a network is imitated: bandwidth is that of loopback, no packet is lost, and there
is no slow start.

It runs in a process of its own: ``python -m perf.servers.latency_proxy PORT DELAY`` prints the port
that it listens on, answers each line of its standard input with its counts, and ends with that input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from perf.measure.fresh_process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST: Final = "127.0.0.1"
PIECE: Final = 1 << 18
"""Bytes read at once, at most."""
MAX_PIECES: Final = 1 << 12
"""Pieces under way in one direction of one connection: with these sizes, 1 GB."""


@dataclass
class Counts:
    """What a proxy has seen."""

    connections: int = 0
    turns: int = 0
    """How often a client sent after the server had, or first: so often it waited for a round trip.
    Requests that are sent together are one."""
    sent: int = 0
    received: int = 0
    """Bytes to and from the server."""
    least_held: float | None = None
    least_first: float | None = None
    """Shortest time in seconds, by the proxy's clock, that any bytes were held, and from the
    opening of a connection until its first bytes were passed on."""


@dataclass
class Proxy:
    """The proxy itself: port of the server, delay in seconds each way, and counts so far."""

    port: int
    delay: float
    counts: Counts = field(default_factory=Counts)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self) -> asyncio.Server:
        """Listen on a free port."""
        return await asyncio.start_server(self._serve, HOST, 0, limit=PIECE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = asyncio.get_running_loop().time()
        self.counts.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A client finds out as it would without the proxy: its connection ends.
        with suppress(OSError):
            try:
                theirs, ours = await asyncio.open_connection(HOST, self.port, limit=PIECE)
                try:
                    conversation = _Conversation(self, opened)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(conversation.carry(reader, ours, up=True))
                        group.create_task(conversation.carry(theirs, writer, up=False))
                except* OSError:
                    pass
                finally:
                    ours.transport.abort()
            finally:
                writer.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Conversation:
    """Both directions of one connection."""

    def __init__(self, proxy: Proxy, opened: float) -> None:
        self.proxy = proxy
        self.opened = opened
        self.client_spoke = False

    async def carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        """Pass on what arrives until it ends."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_PIECES)
        delay, counts = self.proxy.delay, self.proxy.counts

        async def release() -> None:
            first = up
            while True:
                arrived, data = await under_way.get()
                due = arrived + delay
                if up:
                    due = max(due, self.opened + 3 * delay)
                # A timer may fire early by as much as its clock can tell.
                while (now := loop.time()) < due:
                    await asyncio.sleep(due - now)
                held = now - arrived
                counts.least_held = min(held, counts.least_held or held)
                if first and data:
                    waited = now - self.opened
                    counts.least_first = min(waited, counts.least_first or waited)
                    first = False
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(release())
            data = b"-"
            while data:
                data = await reader.read(PIECE)
                if data and up:
                    counts.sent += len(data)
                    counts.turns += not self.client_spoke
                else:
                    counts.received += len(data)
                if data:
                    self.client_spoke = up
                await under_way.put((loop.time(), data))


@dataclass(frozen=True)
class Running:
    """A proxy that runs, and the port that it listens on."""

    port: int
    process: Process

    def counts(self) -> Counts:
        """What it has seen so far."""
        self.process.ask("")
        return Counts(**json.loads(self.process.answer()))


@contextmanager
def delayed(port: int, delay: float) -> Iterator[Running]:
    """A proxy before the server on this port of loopback, which holds bytes `delay` s each way."""
    # It is a process, so that its work is no work of the one that is measured.
    arguments = ("-m", "perf.servers.latency_proxy", str(port), repr(delay))
    with Process([sys.executable, *arguments]) as process:
        yield Running(int(process.answer()), process)


async def _main(port: int, delay: float) -> None:
    proxy = Proxy(port, delay)
    server = await proxy.listen()
    lines: asyncio.StreamReader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    _say(server.sockets[0].getsockname()[1])
    while await lines.readline():
        _say(asdict(proxy.counts))
    server.close()
    await proxy.close()


def _say(what: Any) -> None:
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2])))
