"""Tools beside ours: results are compared before they are timed, and records have what was judged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.errors import InputError
from perf.claims.peers import Campaign, costs
from perf.peers.processes import OURS, PEERS
from perf.publish.page import Material
from perf.publish.pages.peers import PAGE
from perf.records import record_file
from tests.support.cli import perf

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 2_000


def campaign(folder: Path, *peers: str, rounds: int = 1) -> Campaign:
    return Campaign(folder, peers, ["1", "4"], EVENTS, rounds)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tool 'dusk': there are ours, "):
        campaign(tmp_path, "dusk")
    with pytest.raises(InputError, match="no query '9': there are 1, 2"):
        Campaign(tmp_path, [], ["9"], EVENTS, 1)


def test_a_result_that_differs_is_refused_a_speed(tmp_path: Path) -> None:
    made = campaign(tmp_path)
    query = made.asked["4"]
    made._checked[query, "boost-histogram"] = (1.0,) * query.size
    with pytest.raises(
        InputError, match=r"ADL query 4: its result differs .*no speed is reported"
    ):
        [*made._ask(PEERS["uproot_awkward"])]


def test_what_is_not_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COFFEA_SCALING_PEERS_PYTHON", "/nowhere/python")
    made = campaign(tmp_path, "duckdb", "uproot_awkward", rounds=2)
    told: list[str] = []
    verdicts = made.measure(np.random.default_rng(1), told.append)
    assert len(told) == 4
    assert [re.sub(":.*", "", reason) for reason in made.missing] == [
        "DuckDB is not installed (there is no /nowhere/python)"
    ]
    assert [verdict.claim for verdict in verdicts] == [
        f"ADL query {query}: uproot + awkward / {OURS.title}" for query in ("1", "4")
    ]
    found = costs(verdicts)
    assert found.keys() == {"ours", "uproot_awkward"}
    for verdict in verdicts:
        one, other = verdict.arms
        assert len(one.cpu) == len(other.cpu) == 2
        assert one.check == other.check
        assert one.input == other.input
        low, high = sorted(np.array(other.cpu) / np.array(one.cpu))
        assert low <= verdict.measured.value <= high


@pytest.mark.slow
def test_the_command_records_what_it_prints_and_the_page_shows(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    done = perf(
        *("peers", "--only", "coffea_idiomatic", "--queries", "1,ttbar", "--events", EVENTS),
        *("--rounds", 1, "--data", tmp_path / "data", "--records", path),
    )
    records = record_file.read(path)
    assert [record.what.name for record in records] == [
        f"claim-peer_{query}-2e3-{peer}"
        for query in ("1", "ttbar")
        for peer in ("ours", "coffea_idiomatic")
    ]
    assert [len(record.claims) for record in records] == [0, 1, 0, 1]
    cost = 1e9 * records[1].cpu_median / EVENTS  # type: ignore[operator]
    assert f"{cost:,.0f}" in done.output
    assert f"{records[1].claims[0].value:.2f}" in done.output
    queries = PAGE.context(Material.of(records))["queries"]
    assert [query["name"] for query in queries] == ["1", "ttbar"]
