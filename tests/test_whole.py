"""The whole analysis by one command: every stage, kept or done again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from analysis.pipeline import STATE, advance
from analysis.whole import Whole
from tests.cli import analysis

if TYPE_CHECKING:
    from pathlib import Path

STAGES = ["events", "delivery", "histograms", "fit", "limit", "pictures"]


@pytest.fixture(scope="module")
def folder(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole analysis of some synthetic events, done once."""
    folder = tmp_path_factory.mktemp("whole")
    done = list(advance(whole(folder, synthetic).stages(), folder))
    assert [one.name for one in done] == STAGES
    assert not any(one.kept for one in done)
    return folder


def whole(folder: Path, synthetic: Path) -> Whole:
    return Whole(folder, synthetic / "fileset.json", executor="iterative", workers=1)


def test_all_of_it_is_there(folder: Path) -> None:
    fitted = json.loads((folder / "fit.json").read_text())
    limit = json.loads((folder / "limit.json").read_text())["limit"]
    best = fitted["parameters"]["ttbar_norm"]
    assert best["uncertainty"] > 0
    assert limit["observed"] > best["value"]
    names = {path.stem for path in (folder / "pictures").glob("*.png")}
    assert {"before_4j1b", "prefit_4j2b", "postfit_4j1b"} <= names


def test_a_second_run_keeps_all_and_a_lost_fit_is_made_again(
    folder: Path, synthetic: Path
) -> None:
    again = list(advance(whole(folder, synthetic).stages(), folder))
    assert all(one.kept for one in again)
    (folder / "fit.json").unlink()
    redone = list(advance(whole(folder, synthetic).stages(), folder))
    assert [one.name for one in redone if not one.kept] == ["fit", "limit", "pictures"]


def test_the_command_makes_its_events_and_says_what_took_how_long(tmp_path: Path) -> None:
    arguments = ("all", "--events", "2000", "--output", str(tmp_path / "whole"), "--workers", "2")
    outcome = analysis(*arguments)
    assert outcome.exit_code == 0, outcome.error
    for stage in STAGES:
        assert stage in outcome.output
    assert (tmp_path / "whole" / STATE).is_file()
    again = analysis(*arguments)
    assert again.output.count("kept") == len(STAGES)
