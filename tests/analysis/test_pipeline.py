"""Stages: what is done is kept, what rests on something else is done again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from analysis.pipeline import STATE, Stage, advance

if TYPE_CHECKING:
    from pathlib import Path


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

        def act() -> list[Path]:
            self.acts.append(name)
            if name == self.fails:
                raise KeyboardInterrupt
            path.write_text("x" * (number + 1))
            return [path]

        return Stage(name, act, {"number": number})

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
