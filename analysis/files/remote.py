"""Files on servers, by XRootD (root://) and HTTP(S): reading, and sentences about failures."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from uproot.source.chunk import Chunk
from uproot.source.fsspec import FSSpecSource
from uproot.source.futures import TrivialFuture

from analysis.errors import InputError, NotInstalledError, brief

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterable

TIMEOUT: Final = 60
"""Default of the seconds that a server may take to answer, as in coffea's Runner."""

BEGIN: Final = 1 << 15
"""Bytes that are read together at the beginning of a file. Files that uproot wrote, such as those
of ServiceX, describe their tree there: two round trips fewer for each chunk of events."""

XROOTD: Final = "root"
PORTS: Final = {XROOTD: 1094, "http": 80, "https": 443}
"""Default ports by protocol."""

NEEDED: Final = {
    XROOTD: ("XRootD", "fsspec_xrootd"),
    "http": ("aiohttp",),
    "https": ("aiohttp",),
}
"""Modules that read each protocol."""

SETTINGS: Final = {
    # Check time limits every second, not every 15.
    "TimeoutResolution": 1,
    # A refused connection has failed, and is not tried again for ten minutes.
    "ConnectionWindow": 30,
    "ConnectionRetry": 1,
    # A server that stopped may be asked at once whether it runs again, not after 30 minutes.
    "StreamErrorWindow": 0,
}
"""Settings of XRootD's client, unless the user set them in the environment (XRD_...)."""

_MISSING: Final = r"FileNotFoundError|No such file|\[3011\]"
_TLS: Final = r"SSL|Certificate|TLS"
_REFUSED: Final = (
    r"ClientResponseError\(40[13]|status=40[13]|\[3010\]|Auth failed|Permission denied"
)
_LATE: Final = r"timed out|TimeoutError|Operation expired|Socket timeout"
_LOST: Final = (
    r"Connect\w* ?(refused|reset|aborted|error|closed)|Disconnected|PayloadError|Broken ?pipe|"
    r"Stream|Socket|closed file"
)

OF_SERVERS: Final = (
    r"^(OSError|FileNotFoundError|\w*TimeoutError|Connection\w*Error|BrokenPipeError|gaierror|"
    r"SSL\w*Error|Client\w*Error|Server\w*Error|ValueError\('I/O operation on closed file|"
    # uproot takes errors, which fsspec returns for parts of a file, for their bytes.
    r"TypeError\(\"'\w+' object is not subscriptable)"
)
"""How the text of an error begins that only a failing server raises, not a processor."""


class RemoteSource(FSSpecSource):
    """uproot's fsspec source with a time limit, in seconds, for each answer of a server.

    It is uproot's ``handler`` for files of all protocols; local paths work, too.
    """

    def __init__(self, file_path: str, timeout: float = TIMEOUT, **options: Any) -> None:
        self._protocol = protocol_of(file_path)
        if self._protocol == XROOTD:
            _set_xrootd()
            options["timeout"] = max(1, round(timeout))
        elif self._protocol in PORTS:
            import aiohttp  # noqa: PLC0415  (need not be installed to read other files)

            # A plain number would limit the whole download.
            limit = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
            options["client_kwargs"] = {"timeout": limit}
        super().__init__(file_path, **options)

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes of the file; at its beginning more than is asked for."""
        if start > 0 or stop > BEGIN or self._protocol not in PORTS:
            # XRootD's client does not accept the numpy integers that `iterate` gives.
            return super().chunk(int(start), int(stop))
        data = self._begin()
        self._num_requests += 1
        self._num_requested_chunks += 1
        self._num_requested_bytes += len(data)
        # A file may be shorter.
        return Chunk(self, 0, len(data), TrivialFuture(data))

    def _begin(self) -> bytes:
        try:
            return self._fs.cat_file(self._file_path, start=0, end=BEGIN)  # type: ignore[no-any-return]
        except (OSError, ValueError) as error:
            self._forget()
            if self._protocol != XROOTD or re.search(_LATE, str(error)):
                raise
        # The server may have restarted since the file was opened.
        return self._fs.cat_file(self._file_path, start=0, end=BEGIN)  # type: ignore[no-any-return]

    def chunks(
        self, ranges: list[tuple[int, int]], notifications: queue.Queue[Chunk]
    ) -> list[Chunk]:
        """Several parts of the file, in as few requests as the protocol allows."""
        plain = [(int(start), int(stop)) for start, stop in ranges]
        chunks: list[Chunk] = super().chunks(plain, notifications)
        return chunks

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if exception[0] is not None:
            self._forget()

    def _forget(self) -> None:
        """Close the file if fsspec keeps it open for the next reader, as it does with XRootD."""
        if self._protocol == XROOTD:
            # Closing what the server has lost fails.
            with suppress(OSError, ValueError):
                self._fs.invalidate_cache(self._file_path)


@cache
def _set_xrootd() -> None:
    """Set SETTINGS in this process, which may have imported the client, and in its children."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(f"XRD_{name.upper()}", str(value))
    from XRootD import client  # noqa: PLC0415  (need not be installed to read other files)

    for name in SETTINGS:
        # The client reads its environment only at import, and nothing changes later what it read.
        client.EnvPutInt(name, int(os.environ[f"XRD_{name.upper()}"]))


def protocol_of(path: str) -> str:
    """Protocol of a URL, in lower case; empty if it is a path."""
    found, separator, _ = path.partition("://")
    return found.lower() if separator else ""


def options(paths: Iterable[str], timeout: float, handler: type | None = None) -> dict[str, Any]:
    """Options of ``uproot.open`` for these paths and URLs: none if all are local.

    `timeout` is in seconds, for each answer; `handler` replaces RemoteSource.
    """
    if not any(protocol_of(path) in PORTS for path in paths):
        return {}
    return {"handler": handler or RemoteSource, "timeout": timeout}


def unreachable(paths: Iterable[str], timeout: float) -> dict[str, InputError]:
    """Errors, by URL, of files whose server cannot be reached within `timeout` seconds.

    It is a NotInstalledError if the packages for the protocol are missing.
    """
    errors: dict[str, InputError] = {}
    asked: dict[tuple[str, int], str] = {}
    for path in paths:
        protocol = protocol_of(path)
        if protocol not in PORTS:
            continue
        if any(find_spec(module) is None for module in NEEDED[protocol]):
            errors[path] = NotInstalledError(
                f"{path}: what reads {protocol}:// is not installed: install it with "
                "`pip install 'coffea-scaling[remote]'`"
            )
            continue
        server = _server(path)
        if server not in asked:
            asked[server] = _silent(server, timeout)
        if why := asked[server]:
            errors[path] = InputError(_no_server(path, why))
    return errors


def explain(path: str, cause: str) -> str:
    """One sentence about a URL that could not be read, from the text of the error.

    It is text, as errors come from other processes.
    """
    host = "{}:{}".format(*_server(path))
    late = re.search(_LATE, cause)
    if re.search(_MISSING, cause):
        said = f"{host} has no such file, correct the path in the file set"
    elif re.search(_TLS, cause):
        said = f"{host} is not trusted, name its authority's certificate in SSL_CERT_FILE"
    elif re.search(_REFUSED, cause):
        said = f"{host} does not let you read it, renew your credentials"
    elif not late and _sends_whole_files(path):
        said = f"{host} sends whole files only (no HTTP ranges), fetch it first"
    elif not late and not re.search(_LOST, cause, re.IGNORECASE):
        said = "it cannot be read, fetch it again or leave it out"
    elif why := _silent(_server(path), timeout=5):
        return _no_server(path, why)
    elif late:
        said = f"{host} did not answer in time, allow it more with --timeout"
    else:
        said = f"{host} ended the connection, run it again"
    return f"{path}: {said}: {brief(cause)}"


def _sends_whole_files(path: str) -> bool:
    """Whether a server sends a whole file when asked for its first byte."""
    if protocol_of(path) not in {"http", "https"}:
        return False
    request = Request(path, headers={"Range": "bytes=0-0"})
    try:
        with urlopen(request, timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK and len(answer.read(2)) > 1)
    except (OSError, ValueError):
        return False


def _server(path: str) -> tuple[str, int]:
    split = urlsplit(path)
    return split.hostname or "", split.port or PORTS[protocol_of(path)]


def _silent(server: tuple[str, int], timeout: float) -> str:
    """Why a server cannot be reached; empty if it can."""
    try:
        socket.create_connection(server, timeout).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _no_server(path: str, why: str) -> str:
    host = "{}:{}".format(*_server(path))
    return f"{path}: no server answers at {host} ({why}), start it or correct the address"
