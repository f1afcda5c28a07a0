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
    """Serve until interrupted; parameters as of `server.serving`.

    `seconds` and `megabytes` limit one file, `keep_days` and `keep_gigabytes` the results that are
    kept. InputError if the endpoint does not start, or ends after an error.
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
