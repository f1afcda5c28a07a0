"""Truth: what the site shows is what the records say and what `watch` judges, and no more."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import statistics
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from perf.environments import releases
from perf.publish import change_points, site
from perf.publish.numbers import interval, percent
from perf.publish.page import Material
from perf.publish.pages import history, overview
from perf.publish.series import quantities, series
from perf.records import record_file
from tests.support.cli import perf
from tests.support.factories import record
from tests.support.page_tables import read

if TYPE_CHECKING:
    from pathlib import Path

    from perf.records.record_file import Record
    from tests.perf.publish.conftest import Kept

CHANGED = "2025.7.3"


def files(html: Path) -> dict[str, dict[str, Any]]:
    """Data of the pages by benchmark."""
    found = {
        path.name.removesuffix(".json"): json.loads(path.read_text())
        for path in (html / "data").glob("*.json")
    }
    return {name: content for name, content in found.items() if "curves" in content}


def rows(path: Path, caption: str) -> list[list[str]]:
    """Rows of the table of a page whose caption begins so; none without such a table."""
    tables = read(path.read_text()).tables
    return [row for table in tables if table.caption.startswith(caption) for row in table.rows]


def test_every_number_is_that_of_its_records(kept: Kept) -> None:
    """Of all that was measured: no benchmark, case, release or process is missing or another."""
    runs: dict[tuple[Any, ...], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    inputs = defaultdict(set)
    for one in kept.records:
        inputs[one.machine.name, one.what.name].add(one.input.digest)
    for one in kept.records:
        more = one.what.parameters
        # Of several inputs a name says which.
        many = len(inputs[one.machine.name, one.what.name]) > 1
        name = one.what.name + (f" on {one.input.digest[:8]}" if many else "")
        group = re.sub(r"\W+", "_", one.what.group).strip("_")
        key = group, name, one.versions["coffea"], more.get("stack", ""), one.machine.name
        runs[key][str(more.get("campaign", one.run))].append(one)
    want = set()
    for (group, name, version, stack, machine), campaigns in runs.items():
        newest = list(campaigns.values())[-1]  # Records are oldest first.
        for quantity in quantities(newest[0]):
            each = [quantities(one)[quantity] for one in newest]
            samples = each[0] if len(each) == 1 else [statistics.median(one) for one in each]
            want.add((quantity.name, group, name, stack, machine, version, tuple(sorted(samples))))
    shown = {
        (
            curve["benchmark"].rpartition(".")[2],
            curve["benchmark"].split(".")[1],
            curve["what"],
            curve["stack"],
            curve["machine"],
            point["at"].removeprefix("v"),
            tuple(sorted(point["samples"])),
        )
        for content in files(kept.html).values()
        for curve in content["curves"]
        for point in curve["points"]
    }
    assert shown == want
    for content in files(kept.html).values():
        for curve in content["curves"]:
            assert all(p["median"] == statistics.median(p["samples"]) for p in curve["points"])


def test_csv_and_scripts_have_the_numbers_of_json(kept: Kept) -> None:
    for name, content in files(kept.html).items():
        rows = list(csv.DictReader(io.StringIO((kept.html / f"data/{name}.csv").read_text())))
        values = [v for curve in content["curves"] for p in curve["points"] for v in p["samples"]]
        assert [float(row["value"]) for row in rows] == values
        script = (kept.html / f"data/{name}.js").read_text()
        assert (
            json.loads(script.removeprefix(f'site.data("{name}",').removesuffix(");\n")) == content
        )


def test_every_verdict_is_that_of_watch(kept: Kept) -> None:
    output = kept.root / "changes.json"
    assert perf("watch", "--root", kept.root, "--json", output).exit_code in {0, 1}
    watched = json.loads(output.read_text())
    assert watched
    shown = [
        {name: value for name, value in change.items() if name != "effect"}
        for content in files(kept.html).values()
        for curve in content["curves"]
        for change in curve["changes"]
    ]
    # Cases are named once for all dependencies; here they are the same in each.
    assert sorted(shown, key=json.dumps) == sorted(watched, key=json.dumps)
    every = rows(kept.html / "history.html", "Changes that watch judged")
    assert [row[5] for row in every] == [interval(*one["interval"]) for one in watched]
    assert [row[0].split(" ")[0] for row in every] == [one["after"] for one in watched]
    told = {(one["after"], one["case"] or "-", interval(*one["interval"])) for one in watched}
    newest = rows(kept.html / "index.html", "Judged changes at")
    before = rows(kept.html / "index.html", "Changes for the worse")
    assert newest + before
    at = max(releases(), key=lambda version: releases()[version])
    assert all((f"v{at}", row[1], row[3]) in told for row in newest)
    assert all((row[0], row[2], row[4]) in told for row in before)


# --- made-up histories


def of_release(version: str, cpu: float, **changes: Any) -> Record:
    """Three processes of a release in one record: so many CPU seconds for its 1000 events."""
    return record(
        **{
            "name": "history-ht-columnar",
            "group": "history, ht",
            "versions": {"python": "3.11.7", "coffea": version},
            "cpu_seconds": (cpu, cpu * 1.002, cpu * 0.998),
            "wall_seconds": (0.002,),
        }
        | changes
    )


def noisy(factor: float = 1.0, **changes: Any) -> list[Record]:
    """All releases, alike within 1 %, from one of them on slower by a factor."""
    noise, slow = random.Random(4), releases()[CHANGED]
    return [
        of_release(
            version, 1e-3 * noise.gauss(1, 0.005) * (factor if day >= slow else 1), **changes
        )
        for version, day in releases().items()
    ]


def test_an_injected_tenth_makes_exactly_one_change(tmp_path: Path) -> None:
    material = Material.of(noisy(1.1))
    (change,) = material.changes
    assert change.after.name == f"v{CHANGED}"
    assert change.low < 1.1 < change.high
    site.publish(noisy(1.1), tmp_path / "site", raw=False)
    (row,) = rows(tmp_path / "site/history.html", "Changes that watch judged")
    assert f"slower: {percent(change.ratio)}" in row
    (row,) = rows(tmp_path / "site/index.html", "Changes for the worse")
    assert row[0] == f"v{CHANGED}"
    assert Material.of(noisy()).changes == []


def test_a_mode_that_begins_midway_is_no_change() -> None:
    """A mean over modes of which the old releases had one would be a change of 450 %."""
    slow = releases()[CHANGED]
    late = [
        one
        for one in noisy(parameters={"detail": "eager"}, name="history-open-eager")
        if releases()[one.versions["coffea"]] >= slow
    ]
    late = [one.model_copy(update={"cpu_seconds": (1e-2, 1.01e-2)}) for one in late]
    context = overview.PAGE.context(Material.of([*noisy(), *late]))
    assert context["changes"] == context["open"] == []
    assert context["counts"][-1][1:3] == [0, 0]


def test_a_run_on_another_machine_changes_nothing() -> None:
    before = Material.of(noisy(1.1))
    other = before.records[0].machine.model_copy(update={"name": "another", "cpu": "faster"})
    run = [
        of_release("2026.9.0", 5e-4, machine=other, run="2"),
        *(
            of_release("2026.9.0", 5e-4, machine=other, name=f"x-{n}", group=f"{n}")
            for n in range(99)
        ),
    ]
    after = Material.of([*before.records, *run])
    assert (before.machine, after.machine) == ("made-up", "made-up")
    assert [one.as_json() for one in after.changes] == [one.as_json() for one in before.changes]
    shown = [dict(overview.PAGE.context(one)) for one in (before, after)]
    assert shown[1]["about"].pop("others") == ["another"]
    assert shown[0]["about"].pop("others") == []
    assert shown[0] == shown[1]
    (name,) = [name for name in before.joined if "cpu" in name]
    assert dict(history.PAGE.files(after))[name].content["machine"] == "made-up"


def test_what_stays_with_equal_dependencies_is_said() -> None:
    """Beside a change: judged there too, or as measured and not judged, or not measured."""
    with_pins = noisy(1.2, parameters={"stack": "2026.9.0"}, run="pinned")
    for pinned, want in (
        (with_pins, "stays: +"),
        (with_pins[-2:], "not measured"),
        ([], "not measured"),
    ):
        (row,) = overview.PAGE.context(Material.of([*noisy(1.1), *pinned]))["open"]
        assert row[5]["text"].startswith(want)
    equal = noisy(parameters={"stack": "2026.9.0"}, run="pinned")
    (row,) = overview.PAGE.context(Material.of([*noisy(1.1), *equal]))["open"]
    assert row[5]["text"].endswith("not to be told from the noise of 11 releases")


def test_a_change_that_was_taken_back_is_not_open() -> None:
    slow = [
        one.model_copy(update={"cpu_seconds": tuple(2 * v for v in one.cpu_seconds)})
        if one.versions["coffea"] in list(releases())[4:8]
        else one
        for one in noisy()
    ]
    context = overview.PAGE.context(Material.of(slow))
    assert len(Material.of(slow).changes) == 2
    assert context["open"] == []


@pytest.mark.parametrize("points", [4, 8, 20])
def test_a_change_of_the_size_that_is_promised_is_judged(points: int) -> None:
    """And without earlier steps, none that is a tenth smaller."""
    noise, found, quiet = random.Random(points), Counter[float](), 0
    for _ in range(20):
        values = [noise.lognormvariate(0, 0.02) for _ in range(points)]
        least = change_points.smallest(values)
        assert least is not None
        begin = max((step[0] for step in change_points.steps(values)), default=0)
        last = statistics.geometric_mean(values[begin:])
        quiet += not begin
        for size in (0.9, 1.1):
            steps = change_points.steps([*values, last * (1 + (least - 1) * size)])
            judged = any(at == points and low > 1 for at, _, low, _ in steps)
            found[size] += judged and (size > 1 or not begin)
    assert quiet > 10
    assert found[0.9] <= 1
    assert found[1.1] >= 19
    assert change_points.smallest([1.0] * 3) is None


# --- stores with little or bad content


def test_an_empty_store_is_a_site_that_says_so(tmp_path: Path) -> None:
    done = perf("publish", "--root", tmp_path)
    assert done.exit_code == 0
    pages = {path.name: path.read_text() for path in (tmp_path / site.HTML).glob("*.html")}
    assert len(pages) == len(site.PAGES)
    assert "history run" in pages["index.html"]
    assert "history run" in pages["history.html"]


def test_a_corrupt_line_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    path = tmp_path / ".perf/history.jsonl"
    for one in noisy(1.1):
        record_file.append(path, one)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], "{\n", *lines[3:]]))
    done = perf("publish", "--root", tmp_path, "--no-asv")
    assert done.exit_code == 0
    assert not (tmp_path / site.HTML / site.RAW).exists()
    (cpu,) = [c for name, c in files(tmp_path / site.HTML).items() if "cpu" in name]
    assert len(cpu["curves"][0]["points"]) == len(releases())


def test_one_run_is_a_value_that_nobody_judged(tmp_path: Path) -> None:
    site.publish([of_release("2026.9.0", 1e-3)], tmp_path / "site", raw=False)
    (cpu,) = [c for name, c in files(tmp_path / "site").items() if "cpu" in name]
    (curve,) = cpu["curves"]
    assert [point["median"] for point in curve["points"]] == [1e-6]
    assert curve["verdict"].startswith("not judged")
    assert "1.00 \N{MICRO SIGN}s" in (tmp_path / "site/history.html").read_text()


def test_every_kept_benchmark_has_a_title_of_its_own(kept: Kept) -> None:
    joined = Material.of(kept.records).joined
    told = {name: str(one.title) for name, one in joined.items()}
    assert len(set(told.values())) == len(told)
    assert not [title for title in told.values() if re.search(r"_(?!.*\))|history|cpu", title)]
    assert len(series(kept.records)) >= len(joined) > 0


def test_years_are_those_of_the_points() -> None:
    """A benchmark with one point has no axis from 1970 to 2084."""
    (cpu,) = [d for n, d in history.PAGE.files(Material.of(noisy())) if "cpu" in n]
    days = [point["date"] for curve in cpu.content["curves"] for point in curve["points"]]
    assert sorted({day[:4] for day in days}) == sorted({str(d.year) for d in releases().values()})
    assert datetime.now(UTC).date() >= max(releases().values())
