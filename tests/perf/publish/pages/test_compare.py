"""Compare: verdicts are those of `compare`, and what it did not judge is called so."""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from perf.compare import report, session, verdict
from perf.compare.benchmarks import Benchmark
from perf.compare.sides import Side
from perf.environments import releases
from perf.publish import site
from perf.publish.numbers import interval, measured, percent
from perf.publish.page import Material
from perf.publish.pages.compare import PAGE
from perf.records.record_file import Record
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from perf.publish.page import Page
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

A, B = "2026.5.0", "2026.9.0"
QUERY = {"name": "query", "group": "query 1", "kind": "query", "subject": "1"}


def of(version: str, cpu: float, process: int = 0, **changes: Any) -> Record:
    """A process of a campaign on a release."""
    return record(
        run=f"{version} {process}",
        versions={"python": "3.11.7", "coffea": version},
        cpu_seconds=(cpu,),
        wall_seconds=(),
        parameters={"campaign": "one"},
        **changes,
    )


def campaign(version: str, *seconds: float, **changes: Any) -> list[Record]:
    return [of(version, cpu, number, **changes) for number, cpu in enumerate(seconds)]


def compared(a: str = A, b: str = B, **variables: str) -> dict[str, Any]:
    """A report as `compare --json` makes it: one slower, one equal, one that fails.

    Of "shared", which has two workers, wall time is judged too.
    """
    sides = (
        Side(a, Path(sys.executable), {"coffea": a}),
        Side(b, Path(sys.executable), {"coffea": b}, variables),
    )
    workers = {"slow": 1, "same": 1, "broken": 1, "shared": 2}
    made = session.Comparison(
        *sides,
        [Benchmark(name, {}, lambda *_: None, workers=many) for name, many in workers.items()],
    )
    rng = np.random.default_rng(1)
    steps = {"cpu": {"slow": 0.1, "same": 0.0, "shared": 0.0}, "wall": {"shared": 0.2}}
    for clock in session.CLOCKS:
        logs = {
            name: rng.normal(math.log(1e-3), 1e-3, (12, 3)) + np.array([0, 0, step])
            for name, step in steps[clock].items()
        }
        for name, judgement in verdict.judge(logs, rng, look=3, total=4).items():
            member = made.measured[name]
            setattr(member, clock, [*map(tuple, logs[name].tolist())])
            member.judgements[clock] = judgement
    made.measured["broken"].failure = "results of A and B differ"
    # As it is read from a file.
    content: dict[str, Any] = json.loads(json.dumps(report.as_json(made)))
    return content


def test_without_a_comparison_the_newest_two_are_not_judged(shown: Shown) -> None:
    history = [
        *campaign("2025.12.0", 9e-3),
        *campaign(A, 1.0e-3, 1.1e-3, 1.2e-3),
        *campaign(B, 2.0e-3, 2.2e-3, 2.6e-3),
    ]
    page = shown(PAGE, Material.of(history))
    (row,) = page.table("Not judged").rows
    values = [
        statistics.median(x) / 1_000 for x in ((1e-3, 1.1e-3, 1.2e-3), (2e-3, 2.2e-3, 2.6e-3))
    ]
    assert row[3:] == [
        *(measured(value, "seconds") for value in values),
        percent(2.2 / 1.1),
        interval(2.0 / 1.2, 2.6 / 1.0),
        "3",
    ]
    assert f"python -m perf compare {A} {B}" in page.text
    assert f"{A} and {B} : not judged" in page.text


def test_a_kept_comparison_gives_the_verdicts(shown: Shown) -> None:
    judged = compared()
    page = shown(PAGE, Material.of([*campaign(A, 1e-3), *campaign(B, 2e-3)], (), [judged]))
    table = page.table(f"coffea {A} (A) and {B} (B)")
    clocks = {told: clock for clock, told in session.CLOCKS.items()}
    for name, clock, *row in table.rows:
        member = judged["benchmarks"][name]
        if clock == "-":
            assert row[-1] == member["failure"]
            continue
        known = member[clocks[clock]]
        effect, control = known["effect"], known["control"]
        assert row[1:5] == [
            f"{effect['ratio']:.4f}",
            f"{effect['low']:.4f} to {effect['high']:.4f}",
            f"{control['ratio']:.4f}",
            f"{100 * known['smallest']:.1f} %",
        ]
        assert row[-1].startswith(known["outcome"])
    verdicts = {(name, clock): row[-1] for name, clock, *row in table.rows}
    assert len(verdicts) == len(table.rows)
    assert verdicts["slow", "CPU time"] == "slower"
    assert verdicts["same", "CPU time"] == judged["benchmarks"]["same"]["verdict"]
    assert verdicts["broken", "-"] == "results of A and B differ"
    # One verdict for each clock, where both are judged.
    assert verdicts["shared", "CPU time"].startswith("no change down to")
    assert verdicts["shared", "wall time"] == "slower"
    assert ("slow", "wall time") not in verdicts
    # Nothing stands beside a verdict that nobody judged.
    assert not page.table("Not judged").rows
    assert "wrong in 1.00 % of runs" in page.text


def test_comparisons_of_others_are_shown_as_such(shown: Shown) -> None:
    others = [compared("2025.3.0", "2025.12.0"), compared(A, B, NUMBA_OPT="0")]
    page = shown(PAGE, Material.of([*campaign(A, 1e-3), *campaign(B, 2e-3)], (), others))
    assert "Other comparisons that are kept 2025.3.0 and 2025.12.0: judged on" in page.text
    assert f"{A} and {B} NUMBA_OPT=0: judged on" in page.text
    # A variable makes another pair.
    assert len(page.table("Not judged").rows) == 1


def test_another_machine_is_not_compared_with_the_first(shown: Shown) -> None:
    second = record().machine.model_copy(update={"name": "second"})
    history = [*campaign(A, 1e-3), *campaign(B, 1e-3), *campaign(B, 9e-3, machine=second)]
    page = shown(PAGE, Material.of(history))
    assert page.table("Not judged").column("B over A") == ["+0.0 %"]


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "No release of coffea is measured"),
        (campaign(B, 1e-3), f"One release of coffea is measured in these records, {B}"),
        ([record(versions={"coffea": "1999.1.0"})], "No release of coffea is measured"),
    ],
)
def test_what_is_missing_is_said(shown: Shown, records: list[Record], says: str) -> None:
    assert says in shown(PAGE, Material.of(records)).text
    # A comparison that is kept is shown even so.
    page = shown(PAGE, Material.of(records, (), [compared()]))
    assert page.table(f"coffea {A} (A) and {B} (B)").rows


def test_the_data_have_every_release_and_the_samples_behind_them() -> None:
    history = [one for version in releases() for one in campaign(version, 1e-3, 2e-3, 3e-3)]
    ((name, data),) = PAGE.files(Material.of(history))
    assert name == "compare"
    assert set(data.content["releases"]) == set(releases())
    (case,) = data.content["cases"]
    assert case["values"] == {version: [2e-6, 1e-6, 3e-6, 3] for version in releases()}
    assert len(data.rows) == len(releases())
    # The newest of 0.7 is later than others: the last two are by calendar.
    assert data.content["releases"][:2] == ["0.7.22", "0.7.31"]


def test_a_browser_shows_another_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any
) -> None:
    monkeypatch.setattr(site, "PAGES", (PAGE,))
    old = "2025.12.0"
    history = [
        *campaign(old, 4e-3, 5e-3, 6e-3),
        *campaign(A, 1e-3),
        *campaign(B, 2e-3),
        *campaign(old, 7e-3, **QUERY),
        *campaign(B, 8e-3, **QUERY),
    ]
    site.publish(history, tmp_path / "site", comparisons=[compared()], raw=False)
    page, said = chromium.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "site/index.html").as_uri())
    assert page.locator("section.kept").is_visible()
    assert page.locator("#ratios").is_hidden()
    page.select_option("[name=a]", old)
    page.wait_for_function("document.querySelectorAll('#ratios tbody tr').length == 2")
    first = page.locator("#ratios tbody tr").first.inner_text().split("\t")
    assert first[3:] == [
        *("5.00 \N{MICRO SIGN}s", "2.00 \N{MICRO SIGN}s"),
        *(percent(2 / 5), interval(2 / 6, 2 / 4), "1"),
    ]
    assert f"python -m perf compare {old} {B}" in page.inner_text("#ratios")
    # The link restores the view.
    page.fill("[name=with]", "adl query 1")
    again = chromium.new_page()
    again.goto(page.evaluate("location.href"))
    again.wait_for_function("document.querySelectorAll('#ratios tr[hidden]').length == 1")
    assert again.inner_text("#ratios tbody tr:not([hidden])").startswith("ADL query 1")
    assert again.input_value("[name=a]") == old
    assert not said
