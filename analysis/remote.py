"""Files on servers, by XRootD (root://) and HTTP(S): how they are read, and what can go wrong."""

from __future__ import annotations

import os
import re
import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from uproot.source.chunk import Source
from uproot.source.fsspec import FSSpecSource
from uproot.source.http import HTTPSource
from uproot.source.xrootd import XRootDSource

from analysis.errors import InputError, NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUT: Final = 60
"""Seconds that a server may take to answer, by default: as coffea's Runner has it."""

PORTS: Final = {"root": 1094, "roots": 1094, "xroot": 1094, "http": 80, "https": 443}
"""Protocols, and the ports that they have where none is named."""

XROOTD: Final = ("root", "roots", "xroot")

SETTINGS: Final = {
    # Times out to the second, where the default looks every 15 s.
    "XRD_TIMEOUTRESOLUTION": "1",
}
"""Environment of XRootD's client, where the user has not set it. It is read at its import."""

_MISSING: Final = r"FileNotFoundError|file not found|No such file|returned 404|\b404\b|\[3011\]"
_TLS: Final = r"SSL|CERTIFICATE|TLS"
_REFUSED: Final = r"\b40[13]\b|Permission denied|not authorized|Auth failed|\[3010\]|Unauthorized"
_LATE: Final = r"timed out|TimeoutError|Operation expired|Socket timeout"
_LOST: Final = (
    r"Connection ?(refused|reset|aborted|error|closed)|RemoteDisconnected|IncompleteRead|"
    r"Broken ?pipe|Stream|Socket|closed connection|end of file"
)

OF_SERVERS: Final = (
    r"^(OSError|FileNotFoundError|TimeoutError|Connection\w*Error|BrokenPipeError|gaierror|"
    r"SSL\w*Error|HTTPException|RemoteDisconnected|IncompleteRead)\("
)
"""How the text of an error begins that is raised where a server fails, and by no processor."""


class RemoteSource(Source):
    """Opens a file with the source of uproot that reads it best, by its protocol.

    To be given to uproot as its ``handler``; it never has instances of its own.
    """

    def __new__(cls, file_path: str, **options: Any) -> Any:
        """The source of this file."""
        protocol = protocol_of(file_path)
        if protocol in XROOTD:
            for name, value in SETTINGS.items():
                os.environ.setdefault(name, value)
            return XRootDSource(file_path, **options)
        if protocol in PORTS:
            return HTTPSource(file_path, **options)
        return FSSpecSource(file_path, **options)


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
        if protocol in XROOTD and find_spec("XRootD") is None:
            found[path] = NotInstalledError(
                f"{path}: XRootD's client is not installed: install it with "
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
    elif not late and not re.search(_LOST, cause, re.IGNORECASE):
        said = "it cannot be read, fetch it again or leave it out"
    elif why := _silent(_server(path), timeout=5):
        return _no_server(path, why)
    elif late:
        said = f"{host} did not answer in time, allow it more with --timeout"
    else:
        said = f"{host} ended the connection, run it again"
    return f"{path}: {said}: {_brief(cause)}"


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
