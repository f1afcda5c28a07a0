"""Records that are valid and odd: none of them keeps the rest from being published."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from perf.environments import releases
from perf.publish import change_points, site
from perf.publish.series import series
from perf.records import record_file
from tests.support.factories import record

if TYPE_CHECKING:
    from pathlib import Path

    from perf.records.record_file import Record

ODD: dict[str, dict[str, Any]] = {
    "a version that is none": {"versions": {"coffea": "banana"}},
    "no coffea": {"versions": {}},
    "no time at all": {"wall_seconds": (0.0,), "cpu_seconds": (0.0,)},
    "a time from nothing to much": {"wall_seconds": (0.0, 1e300, 1e-300)},
    "the first day": {"timestamp": datetime(1, 1, 1, tzinfo=UTC)},
    "the last day": {"timestamp": datetime(9999, 12, 31, tzinfo=UTC)},
    "names": {"name": "x\ny </script>", "group": "", "subject": "../x", "implementation": "?"},
    "an executor": {"name": "scale-x", "executor": "nosuch", "parameters": {"campaign": "q"}},
    "no events": {"input": record_file.Input(digest="", events=0, source="")},
    "counts": {"counts": {"a / </script>": (1.0,)}, "metrics": {"x_bytes": -5}},
    **{
        f"a {kind} without parameters": {"name": f"an {kind}", "group": kind, "kind": kind}
        for kind in record_file.What.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    },
}


def history() -> list[Record]:
    return [
        record(
            name="history-ht",
            group="history, ht",
            versions={"coffea": version, "python": "3.11"},
            parameters={"stack": "", "coffea": version},
        )
        for version in releases()
    ]


def test_what_is_odd_keeps_nothing_else_from_being_published(tmp_path: Path) -> None:
    odd = [record(**changes) for changes in ODD.values()]
    every = sorted([*history(), *odd], key=lambda one: one.timestamp)
    done = site.publish(every, tmp_path / "site")
    assert done.left_out == 2
    content = (tmp_path / "site/data/kernel.history_ht.cpu_seconds_per_event.json").read_text()
    assert all(f'"v{version}"' in content for version in releases())
    # A name is no file of another folder, and no script.
    assert {path.name for path in tmp_path.iterdir()} == {"site"}
    pages = list((tmp_path / "site").glob("*.html"))
    assert pages
    assert not [page for page in pages if "y </script>" in page.read_text()]


def test_times_without_any_are_not_judged() -> None:
    times = [0.0, 1e-3, 2e-3, 1e-3, 9.0, 9.1, 9.2, 9.1]
    made = [
        record(versions={"coffea": version}, cpu_seconds=(0.0, time, time))
        for version, time in zip(list(releases())[2:], times, strict=False)
    ]
    assert change_points.changes(series(made[1:]).values()) == []


@pytest.mark.parametrize("stack", ["", "2026.9.0"])
def test_a_history_with_one_choice_of_dependencies_is_enough(tmp_path: Path, stack: str) -> None:
    made = [one.model_copy(deep=True) for one in history()]
    for one in made:
        one.what.parameters["stack"] = stack
    assert site.publish(made, tmp_path / "site").points == len(releases())
