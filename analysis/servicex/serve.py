"""``python -m analysis servicex serve``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from analysis.errors import InputError, NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def serve(
    folder: Path,
    *,
    allow: Sequence[str],
    port: int | None,
    workers: int,
    seconds: int,
    megabytes: int,
    keep_days: float,
    keep_gigabytes: int,
    follow: bool,
) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    folder
        For the state of the endpoint.
    allow
        Folders and beginnings of URLs whose files it may read.
    port
        To listen on.
    workers
        Files that are transformed at a time.
    seconds, megabytes
        What one file may take.
    keep_days, keep_gigabytes
        For how long results are kept, and how many.
    follow
        Whether servers may lead it on to any other.

    Raises
    ------
    InputError
        If it does not start, or ends for an error.
    """
    try:
        from analysis.servicex.endpoint import Kept  # noqa: PLC0415
        from analysis.servicex.server import serving  # noqa: PLC0415
        from analysis.servicex.worker_pool import Limits  # noqa: PLC0415
    except ImportError as error:
        msg = f"the local ServiceX needs the extra `servicex`: {error}"
        raise NotInstalledError(msg) from None
    if not allow:
        msg = "the endpoint may read nothing: name folders with --allow"
        raise InputError(msg)
    limits = Limits(seconds=seconds, memory=megabytes << 20)
    kept = Kept(seconds=keep_days * 24 * 3600, size=keep_gigabytes << 30)
    with serving(
        folder,
        allow=allow,
        workers=workers,
        limits=limits,
        kept=kept,
        port=port,
        follow=follow,
    ) as endpoint:
        console = Console()
        console.print(
            f"ServiceX is at {endpoint.url}, with code generators "
            f"{', '.join(endpoint.codegens)}; your configuration: {endpoint.config}",
            soft_wrap=True,
            highlight=False,
        )
        if "uproot" not in endpoint.codegens:
            console.print("FuncADL needs an environment of its own: `make dask-awkward` makes it")
        endpoint.wait()
