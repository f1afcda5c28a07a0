"""`deliver`: files by ServiceX's official client, checked.

The client (3.3.1) returns a short list of files, or an empty one, if some could not be
transformed: its error is lost in a callback. It waits for ever for a transform that never ends,
needs the endpoint even for files in its cache, and polls every 5 s. `deliver` counts the files,
compares each with the size and digest that the endpoint reports (the digest is kept in the cache),
names in its error the file and the reason, has a time limit, needs no endpoint for what is in the
cache, and polls an endpoint on this machine five times a second.
"""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

import rich

from analysis.delivery.delivered import Delivered, Request
from analysis.delivery.session import Session
from analysis.errors import InputError, NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["FORMATS", "TIMEOUT", "Delivered", "Request", "deliver"]

FORMATS: Final = ("parquet", "root-ttree", "root-rntuple")
TIMEOUT: Final = 3600.0


def deliver(
    requests: Sequence[Request],
    *,
    data_format: str = "parquet",
    config: Path | None = None,
    backend: str | None = None,
    local: Callable[[], AbstractContextManager[Path]] | None = None,
    cache: Path | None = None,
    timeout: float = TIMEOUT,
    ignore_cache: bool = False,
    progress: bool | None = None,
) -> dict[str, Delivered]:
    """Have ServiceX transform files, and fetch the result.

    Parameters
    ----------
    requests
        What to deliver; names must differ.
    data_format
        ``parquet``, ``root-ttree`` or ``root-rntuple``.
    config
        A servicex.yaml; by default the client looks for one in this folder, those above it and
        the home folder.
    backend
        Name of the deployment in it; by default the one that it names.
    local
        Starts an endpoint and yields its servicex.yaml; called only if something is not in the
        cache. Replaces `config`, and needs `cache`.
    cache
        Folder of delivered files; by default as the configuration says.
    timeout
        Seconds for the whole delivery.
    ignore_cache
        Whether to transform files again that were delivered before.
    progress
        Whether to show progress; by default if there is a terminal.

    Returns
    -------
    dict[str, Delivered]
        By name of the request.

    Raises
    ------
    InputError
        If a file is not delivered whole; it names the file and the reason.
    """
    if data_format not in FORMATS:
        msg = f"there is no format {data_format}: use one of {', '.join(FORMATS)}"
        raise InputError(msg)
    if len({request.name for request in requests}) < len(requests):
        msg = "two data sets have the same name: give each a name of its own"
        raise InputError(msg)
    _check_installed()
    if progress is None:
        progress = sys.stderr.isatty()
    with ExitStack() as stack, _quiet():
        done: dict[str, Delivered] = {}
        if cache is not None and not ignore_cache:
            with closing(Session.offline(cache)) as offline:
                done = offline.cached(requests, data_format)
        todo = [request for request in requests if request.name not in done]
        if todo:
            if local is not None:
                config = stack.enter_context(local())
            session = stack.enter_context(closing(Session(config, backend, cache)))
            if cache is None and not ignore_cache:
                done = session.cached(requests, data_format)
                todo = [request for request in requests if request.name not in done]
            if todo:
                done |= session.deliver(
                    todo, data_format, timeout, ignore_cache=ignore_cache, progress=progress
                )
    return {request.name: done[request.name] for request in requests}


def _check_installed() -> None:
    try:
        import servicex  # noqa: F401, PLC0415
    except ImportError:
        msg = "ServiceX's client is not installed: install the extra `servicex`"
        raise NotInstalledError(msg) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client from printing logs and tracebacks: what matters is raised."""
    logger, console = logging.getLogger("servicex"), rich.get_console()
    level, quiet = logger.level, console.quiet
    logger.setLevel(logging.CRITICAL + 1)
    console.quiet = True
    try:
        yield
    finally:
        logger.setLevel(level)
        console.quiet = quiet
