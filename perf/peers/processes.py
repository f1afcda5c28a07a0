"""The peers, and their processes: each in the environment that has its packages.

Every process has one thread that computes, and the settings of the allocator that our workers have.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError, NotInstalledError
from perf.measure.fresh_process import Process, ProcessError, python_call
from perf.peers.query import TTBAR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perf.peers.query import Edges, Query

PROJECT: Final = Path(__file__).parents[2]

Format = Literal["ttree", "parquet"]
Home = Literal["here", "peers", "dask-awkward"]

PYTHONS: Final[dict[Home, tuple[str, str]]] = {
    "peers": ("COFFEA_SCALING_PEERS_PYTHON", ".venv-peers"),
    "dask-awkward": ("COFFEA_SCALING_DASK_AWKWARD_PYTHON", ".venv-dask-awkward"),
}
"""Environments beside this one: the variable that names their Python, and the folder where
``make NAME`` has it."""

TIMEOUT: Final = 900.0
"""Seconds for one answer, far above what any takes; the first may compile for a minute."""

ONE_THREAD: Final = dict.fromkeys(
    ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


@dataclass(frozen=True)
class Peer:
    """A tool that answers the queries.

    Attributes
    ----------
    name
        Of its module in this package.
    title
        For people.
    format
        Of the file that it reads.
    home
        The environment that it runs in.
    edges
        Whose rounding its histograms have.
    needs
        A program that must be installed.
    only
        The queries that it answers; by default all.
    """

    name: str
    title: str
    format: Format = "ttree"
    home: Home = "here"
    edges: Edges = "boost-histogram"
    needs: str | None = None
    only: tuple[str, ...] | None = None

    def answers(self, query: str) -> bool:
        """Whether it is asked a query of this name."""
        return self.only is None or query in self.only


OURS: Final = Peer("ours", "this suite, compiled")
CHECK: Final = Peer("uproot_awkward", "uproot + awkward")
"""What ours is checked against; all others are checked against ours."""

PEERS: Final[dict[str, Peer]] = {
    peer.name: peer
    for peer in (
        OURS,
        Peer("ours_fused", "this suite, fused", only=(TTBAR,)),
        Peer(
            "rdataframe_native",
            "RDataFrame, g++ -O3",
            home="peers",
            edges="ROOT",
            needs="g++",
        ),
        Peer("rdataframe", "RDataFrame, Python, cling -O3", home="peers", edges="ROOT"),
        Peer("duckdb", "DuckDB", "parquet", "peers"),
        Peer("polars", "Polars", "parquet", "peers"),
        CHECK,
        Peer("coffea_idiomatic", "coffea, idiomatic"),
        Peer("dask_awkward", "coffea, idiomatic, by dask-awkward", home="dask-awkward"),
    )
}
"""Every peer by name, ours first."""


class Answer(NamedTuple):
    """What a query gave, and what it cost."""

    counts: tuple[float, ...]
    """Of all bins with underflow and overflow, one histogram after the other."""
    cpu: float
    """CPU seconds of all threads, from the opening of the file on."""
    wall: float
    versions: dict[str, str]


_used = 0.0


def seconds_used() -> float:
    """CPU seconds that all answers so far took: the difference of two readings is that of a call."""
    return _used


class Running:
    """The process of a peer."""

    def __init__(self, peer: Peer, process: Process) -> None:
        self.peer = peer
        self._process = process

    def ask(self, path: str | Path, query: Query) -> Answer:
        """Have the peer answer a query of the events of a file.

        NotInstalledError if its packages are missing, InputError if it fails.
        """
        self._process.ask(json.dumps([str(path), query]))
        try:
            answer: dict[str, Any] = json.loads(self._process.answer(TIMEOUT))
        except (ValueError, ProcessError) as error:
            msg = f"{self.peer.title}, query {query.name}: {error}"
            raise InputError(msg) from error
        if "missing" in answer:
            raise NotInstalledError(_missing(self.peer, answer["missing"]))
        if "error" in answer:
            msg = f"{self.peer.title}, query {query.name}: {answer['error']}"
            raise InputError(msg)
        global _used  # noqa: PLW0603  (a clock)
        _used += answer["cpu"]
        return Answer(tuple(answer["counts"]), answer["cpu"], answer["wall"], answer["versions"])


def python(peer: Peer) -> str:
    """The Python that has the packages of a peer; NotInstalledError if there is none."""
    if peer.needs and shutil.which(peer.needs) is None:
        msg = f"{peer.title} is not measured: {peer.needs} is not installed"
        raise NotInstalledError(msg)
    if peer.home == "here":
        return sys.executable
    variable, folder = PYTHONS[peer.home]
    found = Path(os.environ.get(variable) or PROJECT / folder / "bin" / "python")
    if not found.exists():
        raise NotInstalledError(_missing(peer, f"there is no {found}"))
    return str(found)


def _missing(peer: Peer, reason: str) -> str:
    make = f"`make {peer.home}` installs it" if peer.home != "here" else "`make install` has it"
    return f"{peer.title} is not installed ({reason}): {make}"


@contextmanager
def opened(peer: Peer) -> Iterator[Running]:
    """Start the process of a peer, and end it."""
    command = python_call("perf.peers.worker.main", peer.name, python=python(peer))
    environment = {"PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "0", **ALLOCATOR, **ONE_THREAD}
    with Process(command, environment, grace=10.0) as process:
        yield Running(peer, process)
