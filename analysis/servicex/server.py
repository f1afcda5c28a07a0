"""Start and stop a local ServiceX endpoint with its web server: `serving`."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from analysis.errors import InputError
from analysis.servicex.allowed_paths import NotAllowedError, Roots
from analysis.servicex.app import application
from analysis.servicex.endpoint import STOP_SECONDS, Endpoint, Kept

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from analysis.servicex.worker_pool import Limits

CONNECTIONS: Final = 256
"""At a time; more are closed. The official client makes up to 50."""
RECEIVE_SECONDS: Final = 10.0
"""For a request to arrive whole, counted from when it could begin to."""
ANSWER_SECONDS: Final = 600.0
"""For its answer to be sent whole."""


@contextmanager
def serving(
    folder: Path | None = None,
    *,
    allow: Sequence[str | Path] = (),
    workers: int = 2,
    limits: Limits | None = None,
    kept: Kept | None = None,
    port: int | None = None,
    follow: bool = False,
) -> Iterator[Endpoint]:
    """Start a local endpoint, and stop it at the end, whatever happens.

    Parameters
    ----------
    folder
        For its state: it continues what an earlier endpoint of that folder has begun. A temporary
        folder by default.
    allow
        Folders and beginnings of URLs whose files it may read.
    workers
        Files transformed at a time.
    limits
        Time and memory that one file may take.
    kept
        How long results are kept.
    port
        To listen on, of 127.0.0.1; by default that of the earlier endpoint of the folder, or any
        free one.
    follow
        Whether servers that it may read from may redirect it to any other.

    Yields
    ------
    Endpoint
        Ready; its ``config`` is a servicex.yaml for clients.

    Raises
    ------
    InputError
        If an allowed folder does not exist, or the endpoint does not start.
    """
    try:
        roots = Roots.of(tuple(allow), follow=follow)
    except NotAllowedError as error:
        raise InputError(str(error)) from None
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="servicex-")))
        endpoint = Endpoint(
            folder.resolve(), roots, workers=workers, limits=limits, kept=kept, port=port
        )
        stack.callback(endpoint.stop)
        endpoint.start()
        stack.enter_context(_web_server(endpoint))
        endpoint.write_config()
        yield endpoint


@contextmanager
def _web_server(endpoint: Endpoint) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(
            application(endpoint),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )

    def serve() -> None:
        try:
            server.run([endpoint.socket])
        finally:
            endpoint.ended.set()

    # A daemon thread cannot keep the process from ending.
    thread = threading.Thread(target=serve, name="servicex", daemon=True)
    thread.start()
    try:
        while not server.started:
            if endpoint.ended.wait(0.01):
                msg = f"the endpoint does not start at {endpoint.url}"
                raise InputError(msg)
        yield
    finally:
        # Submissions that are being checked end with it.
        endpoint.stopping.set()
        server.should_exit = True
        thread.join(STOP_SECONDS)


class Protocol(H11Protocol):
    """HTTP with limits of number and time; uvicorn limits idle connections only."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a client, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._after(RECEIVE_SECONDS, self._check_received)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, call)

    @property
    def _is_answering(self) -> bool:
        """Whether a request has arrived whole and is being answered."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _check_received(self) -> None:
        if self._is_answering:
            self._after(ANSWER_SECONDS, self.transport.abort)
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._after(RECEIVE_SECONDS, self._check_received)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of a client that is gone."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self) -> None:
        """Close the connection: at once, if nothing is being answered."""
        if self._is_answering:
            super().shutdown()
        else:
            self.transport.abort()
