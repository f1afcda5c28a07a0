"""The whole analysis by one command: every stage, kept or done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis import workflow
from analysis.files import histogram_io
from analysis.pipeline import STATE, advance
from analysis.workflow import Whole
from tests.support.cli import analysis

if TYPE_CHECKING:
    from tests.support.cli import Outcome

STAGES = ["events", "delivery", "histograms", "fit", "limit", "pictures"]
EVENTS = 2000


def command(folder: Path) -> Outcome:
    return analysis("all", "--events", str(EVENTS), "--output", str(folder), "--workers", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole analysis, done once."""
    folder = tmp_path_factory.mktemp("whole")
    outcome = command(folder)
    assert outcome.exit_code == 0, outcome.error
    for stage in STAGES:
        assert stage in outcome.output
    assert "kept" not in outcome.output
    return folder


def test_all_of_it_is_there(folder: Path) -> None:
    fitted = json.loads((folder / "fit.json").read_text())
    limit = json.loads((folder / "limit.json").read_text())["limit"]
    assert fitted["parameters"]["ttbar_norm"]["uncertainty"] > 0
    assert limit["poi"] == "single_top_tW_norm"
    assert limit["observed"] > 0
    names = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert {"before_4j1b", "prefit_4j2b", "postfit_4j1b"} <= names


def test_a_second_run_keeps_all_and_a_lost_file_is_made_again(folder: Path) -> None:
    assert (folder / STATE).is_file()
    assert command(folder).output.count("kept") == len(STAGES)
    (folder / "limit.json").unlink()
    redone = list(advance(Whole(folder, events=EVENTS).stages(), folder))
    assert [one.name for one in redone if not one.kept] == ["limit", "pictures"]


def test_stages_know_what_they_are_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of a library, other code, or another server: nothing is kept."""
    config = tmp_path / "servicex.yaml"
    config.write_text("one")

    def about() -> list[Any]:
        return [stage.about for stage in Whole(tmp_path, config=config).stages()]

    before = about()
    assert about() == before
    config.write_text("another")
    assert about()[1] != before[1]
    config.write_text("one")
    with monkeypatch.context() as other:
        other.setattr(workflow, "version", lambda name: f"another {name}")
        assert about()[0] != before[0]
    with monkeypatch.context() as other:
        other.setattr(Path, "read_bytes", lambda _: b"other code")
        assert about()[0] != before[0]
    assert about() == before


def test_own_files_without_delivery_make_the_same_histograms(folder: Path, tmp_path: Path) -> None:
    own = Whole(tmp_path, folder / "data" / "fileset.json", delivery=False, workers=1)
    first = [stage for stage in own.stages() if stage.name in {"events", "histograms"}]
    assert len(list(advance(first, tmp_path))) == 2
    got, want = (histogram_io.read(at / "histograms.json").content for at in (tmp_path, folder))
    assert got["cutflow"] == want["cutflow"]
    assert got["histograms"].keys() == want["histograms"].keys()
    for name, one in want["histograms"].items():
        np.testing.assert_allclose(got["histograms"][name]["values"], one["values"], rtol=1e-9)
