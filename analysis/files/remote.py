"""Files on servers, by XRootD (root://) and HTTP(S): how they are read, and what can go wrong."""

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

from analysis.errors import InputError, NotInstalledError

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterable

TIMEOUT: Final = 60
"""Seconds that a server may take to answer, by default: as coffea's Runner has it."""

BEGIN: Final = 1 << 15
"""Bytes of the begin of a file that are read at once. Files that uproot wrote, such as those of
ServiceX, have what describes their tree there: two round trips fewer for each chunk of events."""

XROOTD: Final = "root"
PORTS: Final = {XROOTD: 1094, "http": 80, "https": 443}
"""Protocols, and the ports that they have where none is named."""

NEEDED: Final = {
    XROOTD: ("XRootD", "fsspec_xrootd"),
    "http": ("aiohttp",),
    "https": ("aiohttp",),
}
"""Modules that read them."""

SETTINGS: Final = {
    # Looks each second whether a time limit is over, not every 15.
    "TimeoutResolution": 1,
    # A connection that is refused has failed, and is not tried again for ten minutes.
    "ConnectionWindow": 30,
    "ConnectionRetry": 1,
    # A server that ended may be asked at once whether it has begun again, not after 30 minutes.
    "StreamErrorWindow": 0,
}
"""Of XRootD's client, where the user has not set them in the environment (XRD_...)."""

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
    # uproot takes the errors that fsspec returns of parts of a file for their bytes.
    r"TypeError\(\"'\w+' object is not subscriptable)"
)
"""How the text of an error begins that is raised where a server fails, and by no processor."""


class RemoteSource(FSSpecSource):
    """Source of uproot (fsspec) with a time limit for each answer of a server.

    To be given to uproot as its ``handler``; files of all kinds can be read with it.

    Parameters
    ----------
    file_path
        Path or URL.
    timeout
        Seconds that a server may take to answer.
    options
        As of `uproot.open`.
    """

    def __init__(self, file_path: str, timeout: float = TIMEOUT, **options: Any) -> None:
        self._protocol = protocol_of(file_path)
        if self._protocol == XROOTD:
            _set_xrootd()
            options["timeout"] = max(1, round(timeout))
        elif self._protocol in PORTS:
            import aiohttp  # noqa: PLC0415  (need not be installed to read other files)

            # A number would limit the whole of a download.
            limit = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
            options["client_kwargs"] = {"timeout": limit}
        super().__init__(file_path, **options)

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes of the file; of its begin more than is asked for."""
        if start > 0 or stop > BEGIN or self._protocol not in PORTS:
            # XRootD's client takes none of the numpy integers that `iterate` gives.
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
        # It may have been open since before its server ended, and began again.
        return self._fs.cat_file(self._file_path, start=0, end=BEGIN)  # type: ignore[no-any-return]

    def chunks(
        self, ranges: list[tuple[int, int]], notifications: queue.Queue[Chunk]
    ) -> list[Chunk]:
        """Several parts of the file, in as few requests as its protocol allows."""
        plain = [(int(start), int(stop)) for start, stop in ranges]
        chunks: list[Chunk] = super().chunks(plain, notifications)
        return chunks

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if exception[0] is not None:
            self._forget()

    def _forget(self) -> None:
        """Close the file if it is kept open for the next who reads it: only XRootD's are."""
        if self._protocol == XROOTD:
            # Closing what the server has lost fails.
            with suppress(OSError, ValueError):
                self._fs.invalidate_cache(self._file_path)


@cache
def _set_xrootd() -> None:
    """Settings for this process, which may have imported the client, and for those it starts."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(f"XRD_{name.upper()}", str(value))
    from XRootD import client  # noqa: PLC0415  (need not be installed to read other files)

    for name in SETTINGS:
        # The client reads its environment at its import alone, and lets nobody change what it read.
        client.EnvPutInt(name, int(os.environ[f"XRD_{name.upper()}"]))


def protocol_of(path: str) -> str:
    """Protocol of a URL, in lower case; empty if it is a path."""
    found, separator, _ = path.partition("://")
    return found.lower() if separator else ""


def options(paths: Iterable[str], timeout: float, handler: type | None = None) -> dict[str, Any]:
    """Options of ``uproot.open`` for some files: none, if all are local.

    Parameters
    ----------
    paths
        Paths and URLs.
    timeout
        Seconds that a server may take to answer.
    handler
        Source of uproot to read files of servers with, in the place of RemoteSource.
    """
    if not any(protocol_of(path) in PORTS for path in paths):
        return {}
    return {"handler": handler or RemoteSource, "timeout": timeout}


def unreachable(paths: Iterable[str], timeout: float) -> dict[str, InputError]:
    """What is wrong with files whose server cannot be reached at all.

    Parameters
    ----------
    paths
        Paths and URLs.
    timeout
        Seconds that it may take to reach one.

    Returns
    -------
    dict[str, InputError]
        By URL; NotInstalledError where what reads it is not installed.
    """
    found: dict[str, InputError] = {}
    asked: dict[tuple[str, int], str] = {}
    for path in paths:
        protocol = protocol_of(path)
        if protocol not in PORTS:
            continue
        if any(find_spec(module) is None for module in NEEDED[protocol]):
            found[path] = NotInstalledError(
                f"{path}: what reads {protocol}:// is not installed: install it with "
                "`pip install 'coffea-scaling[remote]'`"
            )
            continue
        server = _server(path)
        if server not in asked:
            asked[server] = _silent(server, timeout)
        if why := asked[server]:
            found[path] = InputError(_no_server(path, why))
    return found


def explain(path: str, cause: str) -> str:
    """One sentence on a file of a server that could not be read.

    Parameters
    ----------
    path
        Its URL.
    cause
        What was raised, as text: errors of other processes come as such.
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
    return f"{path}: {said}: {_brief(cause)}"


def _sends_whole_files(path: str) -> bool:
    """Whether a server answers all of a file to who asks for its first byte."""
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


def _brief(cause: str) -> str:
    text = " ".join(cause.split())
    return text if len(text) < 160 else f"{text[:160]}..."
