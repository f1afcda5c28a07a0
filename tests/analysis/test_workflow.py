"""Stages of the analysis: what is done is kept, what rests on something else is done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis import workflow
from analysis.errors import InputError
from analysis.files import histogram_io
from analysis.workflow import STATE, Stage, Workflow, advance
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
    redone = list(advance(Workflow(folder, events=EVENTS).stages(), folder))
    assert [one.name for one in redone if not one.kept] == ["limit", "pictures"]


def test_stages_know_what_they_are_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of a library, other code, or another server: nothing is kept."""
    config = tmp_path / "servicex.yaml"
    config.write_text("one")

    def about() -> list[Any]:
        return [stage.about for stage in Workflow(tmp_path, config=config).stages()]

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
    own = Workflow(tmp_path, folder / "data" / "fileset.json", delivery=False, workers=1)
    first = [stage for stage in own.stages() if stage.name in {"events", "histograms"}]
    assert len(list(advance(first, tmp_path))) == 2
    got, want = (histogram_io.read(at / "histograms.json").content for at in (tmp_path, folder))
    assert got["cutflow"] == want["cutflow"]
    assert got["histograms"].keys() == want["histograms"].keys()
    for name, one in want["histograms"].items():
        np.testing.assert_allclose(got["histograms"][name]["values"], one["values"], rtol=1e-9)


class Kitchen:
    """Three stages that each write a file of what the one before wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acts: list[str] = []
        self.fails = ""

    def stages(self, **about: int) -> list[Stage]:
        return [self.stage(name, about.get(name, 0)) for name in ("one", "two", "three")]

    def stage(self, name: str, number: int) -> Stage:
        path = self.folder / name

        def make() -> list[Path]:
            self.acts.append(name)
            if name == self.fails:
                raise KeyboardInterrupt
            path.write_text("x" * (number + 1))
            return [path]

        return Stage(name, make, {"number": number})

    def run(self, **about: int) -> list[str]:
        """Names of the stages that were done, not kept."""
        self.acts.clear()
        done = list(advance(self.stages(**about), self.folder))
        assert [one.name for one in done] == ["one", "two", "three"]
        assert [one.name for one in done if not one.kept] == self.acts
        return list(self.acts)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_what_is_done_is_kept_with_the_time_that_it_took(kitchen: Kitchen) -> None:
    assert kitchen.run() == ["one", "two", "three"]
    first = list(advance(kitchen.stages(), kitchen.folder))
    assert kitchen.run() == []
    assert all(one.kept and one.wall_seconds > 0 for one in first)


@pytest.mark.parametrize(
    ("changed", "again"),
    [("one", ["one", "two", "three"]), ("two", ["two", "three"]), ("three", ["three"])],
)
def test_a_change_does_again_what_rests_on_it(
    kitchen: Kitchen, changed: str, again: list[str]
) -> None:
    kitchen.run()
    assert kitchen.run(**{changed: 5}) == again
    assert kitchen.run(**{changed: 5}) == []


@pytest.mark.parametrize("how", ["gone", "cut", "replaced"])
def test_a_file_that_is_gone_or_another_is_made_again(kitchen: Kitchen, how: str) -> None:
    kitchen.run()
    path = kitchen.folder / "two"
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_text("")
    else:
        path.write_text("y" * path.stat().st_size)
    assert kitchen.run() == ["two", "three"]


def test_an_interrupted_run_goes_on_where_it_stopped(kitchen: Kitchen) -> None:
    kitchen.fails = "two"
    with pytest.raises(KeyboardInterrupt):
        kitchen.run()
    kitchen.fails = ""
    assert kitchen.run() == ["two", "three"]


def test_a_stage_that_makes_nothing_is_an_error(kitchen: Kitchen) -> None:
    lazy = Stage("lazy", lambda: [kitchen.folder / "never"])
    with pytest.raises(InputError, match=r"the stage lazy did not make .*never"):
        list(advance([lazy], kitchen.folder))


def test_a_damaged_state_is_named(kitchen: Kitchen) -> None:
    (kitchen.folder / STATE).write_text("[{")
    with pytest.raises(InputError, match=r"stages\.json is damaged, remove it") as caught:
        kitchen.run()
    assert "\n" not in str(caught.value)
