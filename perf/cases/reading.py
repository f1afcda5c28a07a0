"""Cases of how events are read: from this machine, from servers, or as ServiceX delivered them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from perf.cases.case import BASE
from perf.cases.data import Store
from perf.cases.processor import Named, ProcessorCase
from perf.servers import file_servers
from perf.servers.latency_proxy import delayed

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perf.cases.case import Inputs
    from perf.cases.scales import Scale
    from perf.records.record_file import Input

Format = Literal["rntuple", "parquet"]
Route = Literal["local", "servicex", "xrootd", "http"]
Handler = Literal["default", "fsspec", "uproot"]
"""The one that `Inspected.run` chooses; uproot's default; uproot's client of the protocol."""

SERVERS: Final[dict[Route, Any]] = {"xrootd": file_servers.xrootd, "http": file_servers.nginx}


@contextmanager
def served(
    fileset: Mapping[str, Any], route: Route, delay: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Serve the files of a file set, which must lie in one folder; yield it as it is read.

    ServiceX delivers before: reading is measured here, delivery in `perf.cases.delivery`. Servers
    are reached through a proxy that adds `delay` seconds each way, also where that is zero.
    """
    if route == "local":
        yield dict(fileset)
        return
    if route == "servicex":
        from analysis.delivery.fileset import deliver_fileset
        from analysis.files.output import write_json

        with tempfile.TemporaryDirectory(prefix="coffea-delivered-") as temporary:
            folder = Path(temporary)
            write_json(folder / "fileset.json", fileset)
            yield deliver_fileset(folder / "fileset.json", folder / "slim", progress=False)
        return
    folder = Path(next(iter(next(iter(fileset.values()))["files"]))).parent
    with SERVERS[route](folder) as server, delayed(server.port, delay) as proxy:
        yield {
            name: {
                **dataset,
                "files": {
                    server.url(str(Path(path).relative_to(folder)), proxy): tree
                    for path, tree in dataset["files"].items()
                },
            }
            for name, dataset in fileset.items()
        }


def source(handler: Handler, route: Route) -> type | None:
    """Uproot's source class; None for the one that `Inspected.run` chooses."""
    from uproot.source.fsspec import FSSpecSource
    from uproot.source.http import HTTPSource
    from uproot.source.xrootd import XRootDSource

    if handler == "default":
        return None
    if handler == "fsspec":
        return cast("type", FSSpecSource)
    return cast("type", {"xrootd": XRootDSource, "http": HTTPSource}[route])


@dataclass(frozen=True, kw_only=True)
class ReadingCase(ProcessorCase):
    """The processor over the same events, read from this machine or from a distant server."""

    route: Route
    milliseconds: int
    """Latency, each way."""
    handler: Handler

    def _named(self) -> Named:
        parts = ["read", self.route]
        if self.route in SERVERS:
            parts.append(f"{self.milliseconds}ms")
        if self.handler != "default":
            parts.append(self.handler)
        return (
            "_".join(parts),
            f"reading, {self.milliseconds} ms each way",
            {"route": self.route, "milliseconds": self.milliseconds, "handler": self.handler},
        )

    @contextmanager
    def _served(self, fileset: dict[str, Any]) -> Iterator[tuple[dict[str, Any], type | None]]:
        with served(fileset, self.route, self.milliseconds / 1000) as reached:
            yield reached, source(self.handler, self.route)


@dataclass(frozen=True, kw_only=True)
class FormatCase(ProcessorCase):
    """The processor over the same events in files of another format."""

    format: Format

    def _named(self) -> Named:
        return f"read_{self.format}", "reading, formats", {"format": self.format}

    def _fileset(self, inputs: Inputs) -> tuple[dict[str, Any], Input]:
        usual = inputs.store
        store = Store(usual.directory, usual.file_events, format=self.format)
        return store.fileset(self.size), usual.fileset_identity(self.size)


def formats(scale: Scale) -> list[FormatCase]:
    """Each format beside TTrees, in compiled kernels and the largest chunks."""
    return [
        FormatCase(
            BASE,
            implementation="compiled",
            chunksize=scale.chunksizes[-1],
            size=scale.processor_events,
            format=format_,
        )
        for format_ in get_args(Format)
    ]


def readings(scale: Scale) -> list[ReadingCase]:
    """Every route and latency by chunk size; other handlers with the largest chunks alone.

    In one process, so that no chunk is read while another is processed.
    """
    here: tuple[Route, ...] = ("local", "servicex")
    ways: list[tuple[Route, int, Handler, int]] = [
        (route, 0, "default", chunksize) for route in here for chunksize in scale.chunksizes
    ]
    handlers: tuple[Handler, ...] = get_args(Handler) if scale.details else ("default",)
    ways += [
        (route, milliseconds, handler, chunksize)
        for milliseconds in scale.delays
        for route in SERVERS
        for handler in handlers
        for chunksize in scale.chunksizes
        if handler == "default" or chunksize == scale.chunksizes[-1]
    ]
    return [
        ReadingCase(
            BASE,
            chunksize=chunksize,
            size=scale.processor_events,
            route=route,
            milliseconds=milliseconds,
            handler=handler,
        )
        for route, milliseconds, handler, chunksize in ways
    ]
