"""How the events of benchmarks are read.

From this machine, from servers at a distance, or as ServiceX delivered them.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from perf.servers import file_servers
from perf.servers.latency_proxy import delayed

# uproot takes a second to import, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perf.servers.latency_proxy import Running

Route = Literal["local", "servicex", "xrootd", "http"]
Handler = Literal["default", "fsspec", "uproot"]
"""What `analysis.runner.run` has; what uproot has by default; uproot's own client of the protocol."""

HANDLERS: Final[tuple[Handler, ...]] = get_args(Handler)

SERVERS: Final[dict[Route, Any]] = {"xrootd": file_servers.xrootd, "http": file_servers.nginx}


@dataclass(frozen=True)
class Delivered:
    """A file set as it can be read.

    Attributes
    ----------
    fileset
        Of coffea's form.
    proxy
        Counts what is read of servers; None for local files.
    """

    fileset: dict[str, Any]
    proxy: Running | None


@contextmanager
def delivered(fileset: Mapping[str, Any], route: Route, delay: float = 0.0) -> Iterator[Delivered]:
    """Serve the files of a file set, which must lie in one folder.

    Parameters
    ----------
    fileset
        Of coffea's form, with local files.
    route
        How they are read. What ServiceX delivers is there before: reading it is one thing, and
        delivery another that is measured as such. Servers are reached through a proxy, also where it adds no latency.
    delay
        Latency in seconds, each way.

    Raises
    ------
    NotInstalledError
        If the server is not installed.
    """
    if route == "local":
        yield Delivered(dict(fileset), None)
        return
    if route == "servicex":
        from analysis.delivery.fileset import deliver_fileset
        from analysis.files.output import write_json

        with tempfile.TemporaryDirectory(prefix="coffea-delivered-") as temporary:
            own = Path(temporary)
            write_json(own / "fileset.json", fileset)
            yield Delivered(
                deliver_fileset(own / "fileset.json", own / "slim", progress=False), None
            )
        return
    folder = Path(next(iter(next(iter(fileset.values()))["files"]))).parent
    with SERVERS[route](folder) as server, delayed(server.port, delay) as proxy:
        yield Delivered(
            {
                name: {
                    **dataset,
                    "files": {
                        server.url(str(Path(path).relative_to(folder)), proxy): tree
                        for path, tree in dataset["files"].items()
                    },
                }
                for name, dataset in fileset.items()
            },
            proxy,
        )


def source(handler: Handler, route: Route) -> type | None:
    """The source of uproot of this name; None for what `analysis.runner.run` has by default."""
    from uproot.source.fsspec import FSSpecSource
    from uproot.source.http import HTTPSource
    from uproot.source.xrootd import XRootDSource

    if handler == "default":
        return None
    if handler == "fsspec":
        return cast("type", FSSpecSource)
    return cast("type", {"xrootd": XRootDSource, "http": HTTPSource}[route])
