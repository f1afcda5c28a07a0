"""Columns that were read in bulk are taken as they are, and only by the events that they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import awkward as ak
import pytest

from analysis.executors import open_executor
from analysis.files import columns
from analysis.files.bulk import Reader
from analysis.files.columns import Columns, ahead
from analysis.files.fileset import FileSet
from analysis.runner.job import Job
from tests.support.nanoevents import nano_events

if TYPE_CHECKING:
    from collections.abc import Mapping

PT = ak.Array([[30.0, 20.0], [], [50.0]])
READ = ak.Array([[1.0, 2.0], [], [3.0]])
"""Another one, to be told from it."""


def events() -> Any:
    return nano_events({"Jet_pt": PT})


def test_columns_that_were_read_are_taken_as_they_are() -> None:
    of = events()
    with ahead(of, {"Jet_pt": READ}):
        assert Columns(of)["Jet_pt"] is READ
        assert Columns(of, {"MET_pt": "Jet_pt"})["MET_pt"] is READ
    assert Columns(of)["Jet_pt"].to_list() == PT.to_list()


def test_columns_of_changed_and_of_selected_events_are_theirs() -> None:
    of = events()
    with ahead(of, {"Jet_pt": READ}):
        assert Columns(of[[2, 0]])["Jet_pt"].to_list() == [[50.0], [30.0, 20.0]]
        assert Columns(events())["Jet_pt"].to_list() == PT.to_list()
        of["Jet_pt"] = 2 * PT
        assert Columns(of)["Jet_pt"].to_list() == (2 * PT).to_list()


def _ahead(of: Any) -> dict[str, Any]:
    """What a processor has ahead, of which Columns give the same as NanoEvents."""
    own, read = Columns(of), columns._AHEAD.columns
    assert own["Jet_pt"].to_list() == of.Jet.pt.to_list()
    return {"chunks": 1, "ahead": len(read)}


@pytest.mark.parametrize("reader", get_args(Reader))
def test_a_run_has_them_for_each_chunk(
    synthetic_fileset: Mapping[str, Any], reader: Reader
) -> None:
    job = Job(
        FileSet.of(synthetic_fileset), _ahead, ("Jet_pt", "MET_pt"), chunksize=500, reader=reader
    )
    with open_executor("iterative") as executor:
        result = job.inspect().run(executor).accumulated
    names = ("Jet_pt", "MET_pt", "nJet")
    assert result["ahead"] == (result["chunks"] * len(names) if reader == "bulk" else 0)
    assert result["chunks"] > 1
    assert not columns._AHEAD.columns
