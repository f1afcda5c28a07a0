"""Every tool gives what the reference gives, bin by bin, also where tools differ by definition."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import awkward as ak
import numpy as np
import pytest

from analysis.adl import QUERIES
from analysis.errors import InputError, NotInstalledError
from analysis.kernels import bind
from analysis.ttbar import TtbarProcessor
from perf.cases.peers import queries
from perf.peers import ours
from perf.peers.processes import PEERS, PYTHONS, Peer, Running, opened, seconds_used
from perf.peers.query import TTBAR, Query
from tests.perf.peers import made_up
from tests.support.nanoevents import nano_events

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from analysis.synthetic.columns import Columns

COMPILED: Final = "rdataframe_native"

SLOW: Final = {COMPILED, "rdataframe", "coffea_idiomatic", "dask_awkward"}
"""They compile each query, or take seconds to start."""

SINGLE: Final = {"coffea_idiomatic", "dask_awkward"}
"""Their ttbar is the AGC's code, which compares with 2.1, 2.4 and 0.15 in single precision."""

NO_NAN: Final = {"3", "5", "6a", "6b", "8"}
"""Queries that make four-vectors, which tools take to be finite; in the third a jet without a pt is
central for all but ours."""


class Files(NamedTuple):
    """Made-up events, and the folder of their files."""

    folder: Path
    columns: dict[str, Columns]

    def path(self, events: str, format: str) -> Path:
        return self.folder / f"{events}.{'parquet' if format == 'parquet' else 'root'}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("peers"), made_up.everything())
    for events, columns in made.columns.items():
        for format in ("ttree", "parquet"):
            made_up.write(columns, made.path(events, format), format)
    return made


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in PEERS],
)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Each tool, where it is installed."""
    try:
        with opened(PEERS[request.param]) as process:
            yield process
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def known() -> dict[Any, Any]:
    """What the reference gave so far: it takes seconds."""
    return {}


def reference(columns: Columns, query: Query) -> tuple[float, ...]:
    """Counts by the kernels' plain loops."""
    if query.name == TTBAR:
        arrays = {name: ak.Array(column) for name, column in columns.items()}
        events = nano_events(arrays, process="ttbar", variation="nominal")
        result = TtbarProcessor("reference", "nominal").process(events)
        return tuple(ours.of_ttbar(result["histograms"]["ttbar__nominal"]))
    asked = QUERIES[query.name]
    if query.edges == "ROOT":
        return tuple(ours.by_root(asked.values(columns, bind("reference")), query))
    return tuple(asked.run(columns, "reference"))


@pytest.mark.parametrize(
    ("events", "query"),
    [
        pytest.param(events, query, id=f"{events}-{name}")
        for events in ("synthetic", "limits", "nan")
        for name, query in queries().items()
        if events != "nan" or name not in NO_NAN
    ],
)
def test_each_tool_gives_what_the_reference_gives(
    running: Running, query: Query, events: str, files: Files, known: dict[Any, Any]
) -> None:
    peer = running.peer
    if not peer.answers(query.name):
        pytest.skip("it is not asked this")
    if events == "limits" and query.name == TTBAR and peer.name in SINGLE:
        pytest.skip("it compares in single precision")
    asked = query._replace(edges=peer.edges)
    if (events, asked) not in known:
        known[events, asked] = reference(files.columns[events], asked)
    want = known[events, asked]
    before = seconds_used()
    try:
        answer = running.ask(files.path(events, peer.format), query)
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert answer.counts == want
    assert sum(answer.counts) > 0
    assert seconds_used() - before == pytest.approx(answer.cpu)
    assert answer.cpu > 0
    assert answer.wall > 0
    assert answer.versions


def test_events_of_the_tests_are_at_the_limits(files: Files) -> None:
    """Each trap changes a result: a tool that falls into it is seen."""
    for name, query in queries().items():
        if name != TTBAR:
            assert sum(reference(files.columns["limits"], query)) > 0, name
    met = queries()["1"]
    limits = files.columns["limits"]
    assert reference(limits, met) != reference(limits, met._replace(edges="ROOT"))
    hard = queries()["4"]
    nan = files.columns["nan"]
    as_others = {**nan, "Jet_pt": np.nan_to_num(nan["Jet_pt"], nan=math.inf)}
    assert reference(nan, hard) != reference(as_others, hard)
    ttbar, eta = queries()[TTBAR], limits["Electron_eta"]
    further = {**limits, "Electron_eta": eta * np.where(abs(eta) > 2, 1.001, 1.0)}
    assert reference(limits, ttbar) != reference(further, ttbar)


def test_edges_of_root() -> None:
    values = np.array([580.0, 0.0, -1.0, 1999.0, 2000.0, math.nan, math.inf])
    counts = ours.by_root(values, queries()["1"])
    assert counts.sum() == len(values)
    assert [*np.flatnonzero(counts)] == [0, 1, 30, 100, 101]
    assert counts[101] == 3


@pytest.mark.parametrize("home", PYTHONS)
def test_what_is_not_installed_is_said(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHONS[home][0], "/nowhere/python")  # type: ignore[index]
    peer = next(peer for peer in PEERS.values() if peer.home == home)
    with (
        pytest.raises(NotInstalledError, match=rf"no /nowhere/python\): `make {home}`"),
        opened(peer),
    ):
        pass


def test_a_compiler_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(NotInstalledError, match=r"g\+\+ is not installed"),
        opened(PEERS[COMPILED]),
    ):
        pass


def test_a_package_that_is_missing_and_a_query_that_fails_are_said(tmp_path: Path) -> None:
    # This environment has no DuckDB, nor does anything need it.
    missing = Peer("duckdb", "DuckDB")
    query = queries()["1"]
    with (
        opened(missing) as process,
        pytest.raises(NotInstalledError, match="DuckDB is not installed"),
    ):
        process.ask(tmp_path / "any", query)
    with (
        opened(PEERS["uproot_awkward"]) as process,
        pytest.raises(InputError, match=r"uproot \+ awkward, query 1: .*FileNotFoundError"),
    ):
        process.ask(tmp_path / "none.root", query)
