"""The ADL queries on real events against two published sets of histograms, bin by bin."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uproot

from analysis.adl import BINS, BTAGS, INPUTS, QUERIES
from tests.support.cli import analysis

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from analysis.kernels import Implementation

EVENTS = "Run2012B_SingleMu_1000.root"

# (under, in, over) of each histogram, from a third implementation that agreed with both sets.
COUNTS = {
    "1": (0, 1000, 0),
    "2": (0, 1491, 208),
    "3": (0, 555, 125),
    "4": (0, 116, 0),
    "5": (0, 57, 0),
    "6a": (39, 127, 108),
    "6b": (23, 251, 0),
    "7": (656, 328, 16),
    "8": (30, 43, 0),
}


@pytest.fixture(scope="session")
def real_columns(shared_data: Path) -> dict[str, Any]:
    """Columns of 1000 real CMS events."""
    with uproot.open(f"{shared_data / 'real' / EVENTS}:Events") as tree:
        return {name: tree[name].array() for name in (*INPUTS, BTAGS[0])}


def rdataframe(shared_data: Path, name: str) -> NDArray[np.float64]:
    """Published contents of the bins, by RDataFrame: no flow bins."""
    folder = shared_data / "real" / "adl_reference" / "adl_1000_rdataframe_csv"
    with (folder / f"benchmark{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    query = QUERIES[name]
    lows = [float(row["lower_edge"]) for row in rows]
    np.testing.assert_allclose(lows, query.edges[:-1], atol=1e-5 * (query.high - query.low))
    return np.array([float(row["content"]) for row in rows])


def rumble(shared_data: Path, name: str) -> NDArray[np.float64]:
    """Published contents, by Rumble: underflow, bins, overflow.

    Sparse bin centres; what lies outside the axis stands half a bin outside it.
    """
    folder = shared_data / "real" / "adl_reference" / "adl_1000_rumble_csv"
    file_name = {"6a": "6-1", "6b": "6-2"}.get(name, name)
    query = QUERIES[name]
    width = (query.high - query.low) / BINS
    counts = np.zeros(BINS + 2)
    with (folder / f"query-{file_name}.csv").open() as file:
        for row in csv.DictReader(file):
            position = int(np.floor((float(row["x"]) - query.low) / width + 1e-6))
            counts[np.clip(position, -1, BINS) + 1] += float(row["y"])
    return counts


@pytest.mark.parametrize("name", QUERIES)
def test_query_equals_both_references(
    name: str, implementation: Implementation, real_columns: dict[str, Any], shared_data: Path
) -> None:
    counts = QUERIES[name].run(real_columns, implementation)
    assert (counts[0], counts[1:-1].sum(), counts[-1]) == COUNTS[name]
    np.testing.assert_array_equal(counts[1:-1], rdataframe(shared_data, name))
    expected = rumble(shared_data, name)
    if name == "7":
        # Rumble drops the events that have no such jet; by the definition their sum is 0.
        expected[0] += COUNTS["7"][0]
    np.testing.assert_array_equal(counts, expected)


def test_command_line(tmp_path: Path, implementation: Implementation, shared_data: Path) -> None:
    output = tmp_path / "adl.json"
    source = shared_data / "real" / EVENTS
    result = analysis("adl", source, "--implementation", implementation, "--output", output)
    assert result.exit_code == 0, result.output
    assert "trijet" in result.output
    written = json.loads(output.read_text())
    assert list(written) == ["1", "2", "3", "4", "5", "6a", "6b", "7", "8"]
    for name, histogram in written.items():
        values = histogram["values"]
        assert len(histogram["edges"]) == BINS + 1
        assert (values[0], sum(values[1:-1]), values[-1]) == COUNTS[name]


def test_several_files_and_small_chunks_add_up(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "real" / EVENTS
    copy = tmp_path / "copy.root"
    copy.write_bytes(source.read_bytes())
    output = tmp_path / "adl.json"
    result = analysis("adl", source, copy, "--chunksize", 300, "-o", output)
    assert result.exit_code == 0, result.output
    written = json.loads(output.read_text())
    for name, counts in COUNTS.items():
        values = written[name]["values"]
        assert (values[0], sum(values[1:-1]), values[-1]) == tuple(2 * n for n in counts)


@pytest.mark.parametrize("name", QUERIES)
def test_no_events_fill_nothing(
    name: str, implementation: Implementation, real_columns: dict[str, Any]
) -> None:
    empty = {column: values[:0] for column, values in real_columns.items()}
    assert QUERIES[name].run(empty, implementation).tolist() == [0] * (BINS + 2)
