"""Cases of the same queries in other tools, from the file to the histogram, warm, on one thread."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from perf.cases.case import Case, Ready
from perf.cases.data import Store
from perf.peers.processes import CHECK, OURS, PEERS, python, seconds_used
from perf.peers.query import TTBAR, Query
from perf.records.format import label
from perf.records.record_file import What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perf.cases.case import Inputs
    from perf.cases.scales import Scale
    from perf.measure import clocks
    from perf.peers.processes import Format, Peer
    from perf.records.record_file import Input

COMPRESSION: Final = "zstd"
"""Of TTrees and of Parquet."""

MOST_EVENTS: Final = {"6a": 100_000, "6b": 100_000}
"""Of queries that take some tools ten times as long as the others do."""


def queries() -> dict[str, Query]:
    """Every query that peers are asked, by name."""
    from analysis.adl import BINS, QUERIES
    from analysis.kernels import histogram

    adl = [Query(one.name, BINS, one.low, one.high) for one in QUERIES.values()]
    ttbar = Query(TTBAR, histogram.BINS, histogram.LOW, histogram.HIGH)
    return {query.name: query for query in (*adl, ttbar)}


def title(query: str) -> str:
    """What a query is called."""
    return query if query == TTBAR else f"ADL query {query}"


def what(peer: Peer, query: str, events: int, prefix: str = "") -> What:
    """How records describe a query in a tool."""
    return What(
        name=f"{prefix}peer_{query}-{label(events)}-{peer.name}",
        group=f"peers, {title(query)}",
        kind="peer",
        subject=query,
        size=events,
        parameters={"peer": peer.name, "format": f"{peer.format}, {COMPRESSION}"},
    )


@cache
def written(directory: Path, events: int, format: Format) -> tuple[Path, Input]:
    """One file with these synthetic events, written unless it is there, and its identity.

    Files of both formats have the same events. To identify them is to read them, once.
    """
    (sample,) = Store(directory, events, COMPRESSION, format=format).fileset(events).values()
    (path,) = sample["files"]
    return path, Store(directory, events).fileset_identity(events)


@dataclass(frozen=True)
class PeerCase(Case):
    """A query in a tool, in a process of its own that other queries ran in before."""

    peer: str
    query: str
    size: int

    @property
    def what(self) -> What:
        """Named by query, size and tool."""
        return what(PEERS[self.peer], self.query, self.size)

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """CPU time as the process of the tool measures it."""
        return seconds_used

    def rounds(self, scale: Scale) -> int | None:
        """As the processor: a call may take seconds."""
        return scale.processor_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Write the file, start the process, and have it answer once.

        NotInstalledError also where only the other tools are missing: what is compared with nothing
        is measured elsewhere.
        """
        python(PEERS["duckdb"])
        peer, query = PEERS[self.peer], queries()[self.query]
        path, identity = written(inputs.store.directory, self.size, peer.format)
        other = CHECK if peer == OURS else OURS
        same, _ = written(inputs.store.directory, self.size, other.format)
        running = inputs.peer(peer)
        first = running.ask(path, query)
        asked = query._replace(edges=peer.edges)

        def expected() -> Any:
            return inputs.peer(other).ask(same, asked).counts

        yield Ready(
            run=lambda: running.ask(path, query).counts,
            # Of an own name, because cases of other queries lie between two of the same.
            expected=lambda: inputs.cached(f"{other.name}, {asked} {self.size}", None, expected),
            result_key=(asked, self.size),
            compare=lambda result, expected: bool(result == expected),
            identity=identity,
            versions=first.versions,
        )


def peer_cases(scale: Scale) -> list[PeerCase]:
    """Every query in every tool; those of a tool follow each other, and share its process."""
    return [
        PeerCase(name, query, min(scale.file_events, MOST_EVENTS.get(query, scale.file_events)))
        for name, peer in PEERS.items()
        for query in queries()
        if peer.answers(query)
    ]
