"""Change points: found where they are, with their size, and where nothing changed none."""

from __future__ import annotations

import inspect
import json
import logging
import sys
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from perf.cli.compare import compare_trials
from perf.environments import releases
from perf.publish import change_points, site
from perf.publish.series import series
from perf.records import provenance, record_file, store
from perf.records.table import plain
from perf.records.void import Void
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perf.records.record_file import Record

SPREAD = 0.02
"""Of points without a change: what CPU time varies by between processes."""

MAIN = [version for version in releases() if not version.startswith("0.7.3")]


def noise(seed: int, points: int = 12, spread: float = SPREAD) -> Any:
    return np.exp(np.random.default_rng(seed).normal(0, spread, points))


def history(factors: Any, **versions: Sequence[str]) -> list[Record]:
    """A record for each release, of so many milliseconds; `versions` of packages, one a release."""
    return [
        record(
            versions={
                "python": "3.11",
                "coffea": release,
                **{name: each[number] for name, each in versions.items()},
            },
            cpu_seconds=tuple(1e-3 * factor * extra for extra in (0.99, 1.0, 1.01)),
            wall_seconds=(1.0,),
        )
        for number, (release, factor) in enumerate(zip(MAIN, factors, strict=True))
    ]


def changes(made: list[Record], **options: Any) -> list[change_points.Change]:
    return change_points.changes(series(made).values(), **options)


@pytest.mark.parametrize("factor", [1.2, 2.0, 0.5])
def test_a_step_is_found_with_its_size_and_sign(factor: float) -> None:
    values = noise(1) * np.where(np.arange(12) < 7, 1.0, factor)
    ((place, ratio, low, high),) = [one for one in change_points.steps(values) if one[0] < 11]
    assert place == 7
    assert ratio == pytest.approx(factor, rel=0.04)
    assert low < factor < high
    assert (low > 1) == (factor > 1)


def told(values: Any) -> list[tuple[int, float, float, float]]:
    """Steps that are large and sure enough."""
    return [
        one
        for one in change_points.steps(values)
        if max(one[1], 1 / one[1]) >= 1 + change_points.LEAST and not one[2] <= 1 <= one[3]
    ]


@pytest.mark.parametrize("points", [4, 6, 12, 40])
@pytest.mark.parametrize("spread", [SPREAD, 5 * SPREAD])
def test_no_step_is_told_where_nothing_changed(points: int, spread: float) -> None:
    histories = [told(noise(seed, points, spread)) for seed in range(300)]
    # Of 300 histories.
    assert sum(bool(one) for one in histories) <= 3


@pytest.mark.parametrize(
    ("values", "places"),
    [
        # Seconds of ttbar-futures in 0.7.22 and releases from 2025.7 on: loky since 2025.12.
        ([1.18, 1.0, 1.01, 4.13, 3.67, 3.9], {3: 3.7}),
        # Of importing coffea.
        (
            [0.44, 0.43, 0.78, 0.75, 1.96, 2.17, 2.03, 2.2, 1.05, 1.01, 0.98],
            {2: 1.76, 4: 2.73, 8: 0.49},
        ),
    ],
)
def test_steps_of_coffeas_history_are_found(values: list[float], places: dict[int, float]) -> None:
    assert {place: pytest.approx(ratio, rel=0.02) for place, ratio, *_ in told(values)} == places


def test_the_newest_point_alone_can_be_told() -> None:
    found = 0
    for seed in range(50):
        values = noise(seed)
        values[-1] *= 1.3
        found += any(place == 11 and low > 1 for place, _, low, _ in change_points.steps(values))
    assert found >= 48


def test_of_few_points_nothing_is_told() -> None:
    assert change_points.steps([1.0, 1.0, 9.0]) == []


def test_equal_counts_have_no_step() -> None:
    assert all(one[1] == 1 for one in change_points.steps([5.0] * 9))
    ((place, ratio, low, high),) = change_points.steps([5.0] * 4 + [6.0] * 3)
    assert (place, ratio, low, high) == (4, *[pytest.approx(1.2)] * 3)


def test_a_change_says_what_else_changed_there() -> None:
    at = MAIN.index("2025.7.3")
    factors = noise(2, len(MAIN)) * np.where(np.arange(len(MAIN)) < at, 1, 1.5)
    awkward = ["2.8.1"] * at + ["2.8.7"] * (len(MAIN) - at)
    (change,) = changes(history(factors, awkward=awkward, numpy=["2.1.3"] * len(MAIN)))
    assert change.benchmark == "kernel.ht.cpu_seconds_per_event"
    assert (change.before.name, change.after.name) == ("v2025.3.0", "v2025.7.3")
    assert change.after.date.date() == releases()["2025.7.3"]
    assert change.worse
    assert change.versions == {
        "awkward": ("2.8.1", "2.8.7"),
        "coffea": ("2025.3.0", "2025.7.3"),
    }


@pytest.mark.parametrize(("slowed", "found"), [(2, 0), (3, 1)])
def test_a_step_is_one_if_the_fastest_process_shows_it(slowed: int, found: int) -> None:
    """Of three processes of each release; other work may slow two of them."""
    at = MAIN.index("2025.12.0")
    rounds = [
        noise(10 + turn, len(MAIN)) * np.where(np.arange(len(MAIN)) >= at, factor, 1)
        for turn, factor in enumerate([1.5] * slowed + [1.0] * (3 - slowed))
    ]
    assert [place for place, *_ in told(np.median(rounds, axis=0))] == [at]
    assert len(changes([one for values in rounds for one in history(values)])) == found


def test_a_package_that_comes_or_goes_is_named() -> None:
    assert change_points.differences({"dask": "1"}, {"loky": "2"}) == {
        "dask": ("1", None),
        "loky": (None, "2"),
    }


def test_an_old_line_is_no_step_of_the_main_one() -> None:
    old = record(versions={"python": "3.11", "coffea": "0.7.31"}, cpu_seconds=(9.0,))
    assert changes([*history(noise(3, len(MAIN))), old]) == []


def test_changes_before_a_day_or_too_small_are_left_out() -> None:
    factors = np.where(np.arange(len(MAIN)) < 5, 1, 1.5)
    made = history(factors)
    assert len(changes(made)) == 1
    assert changes(made, since=date(2026, 1, 1)) == []
    assert changes(made, least=0.6) == []


def test_what_is_void_is_not_compared() -> None:
    made = history(np.where(np.arange(len(MAIN)) < 5, 1, 1.5))
    late = datetime(2026, 6, 1, tzinfo=UTC)
    made = [
        one.model_copy(update={"timestamp": late if number >= 5 else late.replace(year=2025)})
        for number, one in enumerate(made)
    ]
    void = Void(benchmark="*", since=late.date(), reason="other events")
    assert change_points.changes(series(made, [void]).values()) == []
    assert len(change_points.changes(series(made).values())) == 1


# --- the command


def written(folder: Path, made: list[Record]) -> Path:
    for one in made:
        record_file.append(folder / ".perf" / "records.jsonl", one)
    return folder


@pytest.mark.parametrize(("factor", "status"), [(1.5, 1), (1.0, 0), (0.5, 0)])
def test_the_exit_status_is_one_only_if_something_is_slower(
    factor: float, status: int, tmp_path: Path
) -> None:
    made = history(np.where(np.arange(len(MAIN)) < 5, 1, factor))
    root, output = written(tmp_path, made), tmp_path / "changes.json"
    assert cli.perf("watch", "--root", root, "--json", output).exit_code == status
    told = json.loads(output.read_text())
    assert [one["worse"] for one in told] == ([] if factor == 1 else [factor > 1])


def test_watch_says_what_to_do_where_there_is_nothing(
    tmp_path: Path,
) -> None:
    outcome = cli.perf("watch", "--root", tmp_path)
    assert outcome.exit_code == 2
    assert "measure a history" in outcome.error


def test_publish_writes_pages(tmp_path: Path) -> None:
    root = written(tmp_path, history(noise(4, len(MAIN))))
    assert cli.perf("publish", "--root", root).exit_code == 0
    assert (root / site.HTML / "index.html").is_file()


def test_trials_are_no_records() -> None:
    """Where they are kept nobody looks for what was measured."""
    kept = inspect.signature(compare_trials).parameters["output"].default
    assert not [place for place in store.PLACES if kept.match(place)]


def test_a_bad_line_is_left_out_of_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = written(tmp_path, history(noise(4, len(MAIN))))
    (path,) = root.glob(".perf/*.jsonl")
    path.write_text("{}\n" + path.read_text())
    # As in a process of its own, where nobody handles what is logged.
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger("perf.records.unreadable"), "handlers", [handler])
    assert cli.perf("publish", "--root", root).exit_code == 0
    assert f"left out: {path}: line 1 is not a record" in capsys.readouterr().err
    assert (root / site.HTML / "index.html").is_file()


def test_code_of_the_suite_that_changed_is_named() -> None:
    values = noise(1, len(MAIN)) * np.where(np.arange(len(MAIN)) < 7, 1.0, 1.5)
    code = {provenance.SUITE: ["old"] * 7 + ["new"] * len(MAIN)}
    (found,) = [one for one in changes(history(values, **code)) if "cpu" in one.benchmark]
    assert found.versions[provenance.SUITE] == ("old", "new")
    assert "coffea-scaling old to new" in plain(change_points.table([found]), 200)
