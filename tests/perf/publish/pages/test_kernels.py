"""Kernels: what the page shows is what was measured, judged and proven."""

from __future__ import annotations

import statistics
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from analysis.kernels import IMPLEMENTATIONS, KERNELS, _four_vectors
from perf.cases.kernels import KernelCase
from perf.cases.nanoevents import NanoKernelCase
from perf.cases.scales import EXAMPLES
from perf.claims.verdict import Verdict
from perf.measure.estimate import Estimate
from perf.publish import kernel_proofs, site
from perf.publish.numbers import figures, measured
from perf.publish.page import Material
from perf.publish.pages.kernels import COMMAND, PAGE, crossover
from perf.records.record_file import Input, Machine, Record
from perf.records.void import Void
from tests.campaigns import mutants
from tests.support.factories import record
from tests.support.limit_records import a_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perf.publish.page import Page
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

SIZES = (1_000, 100_000)
COSTS = {"reference": 9e-6, "columnar": 4e-7, "compiled": 5e-8}
PAIR = ("columnar", "compiled")


def of(kernel: str, implementation: str, size: int, cost: float, **changes: Any) -> Record:
    """A measurement of a kernel in seven samples around so many CPU seconds an event."""
    cpu = tuple(size * cost * (1 + 0.01 * step) for step in range(-3, 4))
    content: dict[str, Any] = {
        "cpu_seconds": cpu,
        "wall_seconds": cpu,
        "input": Input(digest="d" * 64, events=size, source="made up"),
        **changes,
    }
    what = KernelCase(kernel, implementation, size).what  # type: ignore[arg-type]
    return record().model_copy(update={"what": what, **content})


def bench(**changes: Any) -> Iterator[Record]:
    """A run of all kernels; with more events awkward gains on numba, in some kernels."""
    for number, kernel in enumerate(KERNELS):
        for size in SIZES:
            for implementation, cost in COSTS.items():
                slow = (1 + number) if (implementation, size) == ("compiled", SIZES[1]) else 1
                yield of(kernel, implementation, size, cost * slow, **changes)


def test_every_kernel_at_each_size_is_shown_as_it_was_measured(shown: Shown) -> None:
    records = list(bench())
    page = shown(PAGE, Material.of(records))
    cost = {
        (r.what.subject, r.what.size, r.what.implementation): statistics.median(r.cpu_seconds)
        / r.input.events
        for r in records
    }
    for size in SIZES:
        table = page.table(f"CPU time an event, {size:,} events")
        assert set(table.column("kernel")) == set(KERNELS)
        for row in table.rows:
            awkward, numba = (cost[row[0], size, name] for name in PAIR)
            assert row[1:4] == [
                measured(awkward, "seconds"),
                measured(numba, "seconds"),
                figures(awkward / numba),
            ]
            # Seven samples: the interval of a median leaves none of them out.
            low, high = awkward * 0.97 / numba / 1.03, awkward * 1.03 / numba / 0.97
            assert row[4] == f"{figures(low)} to {figures(high)}"
            assert row[5] == "not judged"


def test_the_chart_has_the_numbers_of_the_table() -> None:
    records = list(bench())
    context = PAGE.context(Material.of(records))
    for size in context["sizes"]:
        dots = {(dot["y"], dot["group"]): dot for dot in size["chart"]["rows"]}
        assert len(dots) == 2 * len(KERNELS)
        for each in records:
            if each.what.size == size["events"] and each.what.implementation in PAIR:
                name = {"columnar": "awkward", "compiled": "numba"}[str(each.what.implementation)]
                dot, samples = dots[each.what.subject, name], sorted(each.cpu_seconds)
                ends = (samples[0], statistics.median(samples), samples[-1])
                assert (dot["lo"], dot["x"], dot["hi"]) == pytest.approx(
                    [1e9 * value / each.input.events for value in ends]
                )


def test_few_samples_give_a_ratio_with_a_range(shown: Shown) -> None:
    pair = [of("ht", name, 1_000, 0, cpu_seconds=(1e-4, 2e-4, 3e-4)) for name in PAIR]
    (row,) = shown(PAGE, Material.of(pair)).table("CPU time an event, 1,000").rows
    assert row[3:5] == ["1.00", "0.333 to 3.00 (range)"]


def test_two_runs_or_inputs_make_no_ratio(shown: Shown) -> None:
    awkward, numba = (of("ht", name, 1_000, 1e-7) for name in PAIR)
    other = Input(digest="e" * 64, events=1_000, source="others")
    for changes in ({"run": "another"}, {"input": other}):
        page = shown(PAGE, Material.of([awkward, numba.model_copy(update=changes)]))
        (row,) = page.table("CPU time an event, 1,000").rows
        assert row[1:5] == ["100 ns", "100 ns", "-", "-"]


def test_what_is_no_kernel_on_columns_is_not_among_them(shown: Shown) -> None:
    nano = NanoKernelCase("ht", "compiled", 1_000).what
    others = [
        of("ht", "compiled", 1_000, 1e-6).model_copy(update={"what": what})
        for what in (nano, nano.model_copy(update={"name": "claim-ht-compiled"}))
    ]
    assert "No kernel is measured" in shown(PAGE, Material.of(others)).text


def test_void_measurements_are_not_shown(shown: Shown) -> None:
    old = datetime(2026, 1, 1, tzinfo=UTC)
    void = Void(benchmark="kernel.ht.*", since=date(2026, 2, 1), reason="other events")
    pair = [of("ht", name, 1_000, 1e-7, timestamp=old) for name in PAIR]
    assert "No kernel is measured" not in shown(PAGE, Material.of(pair)).text
    assert "No kernel is measured" in shown(PAGE, Material.of(pair, [void])).text


def test_a_second_machine_does_not_displace_the_first(shown: Shown) -> None:
    second = Machine(name="second", cpu="b", cores=9, memory=1, kernel="Linux", python="3")
    begin, end = (datetime(2026, 6, day, tzinfo=UTC) for day in (1, 2))
    one = [of("ht", name, 1_000, 2e-7, timestamp=begin) for name in PAIR]
    more = [
        of("ht", name, 1_000, 3e-7, timestamp=end, machine=second, run="second") for name in PAIR
    ]
    page = shown(PAGE, Material.of([*one, *more]))
    assert page.table("CPU time an event, 1,000").column("awkward") == ["200 ns"]
    assert "on made-up; second measured kernels too, and is not shown" in page.text


@pytest.mark.parametrize(
    ("ratios", "found"),
    [
        ([], None),
        ([(10, 2.0)], (10, 10, 10)),
        ([(10, 0.5)], (None, 10, 10)),
        ([(10, 0.5), (100, 3.0), (1000, 4.0)], (100, 10, 1000)),
        ([(10, 2.0), (100, 0.5), (1000, 4.0)], (1000, 10, 1000)),
        ([(10, 2.0), (100, 0.5)], (None, 10, 100)),
    ],
)
def test_crossover_is_where_numba_is_faster_from_then_on(
    ratios: list[tuple[int, float]], found: tuple[int | None, int, int] | None
) -> None:
    rows: list[dict[str, Any]] = [
        {"events": events, "ratio": {"value": ratio}} for events, ratio in ratios
    ]
    rows.append({"events": 10**9, "ratio": None})
    got = crossover(rows)
    assert (got and (got["faster_from"], got["least"], got["largest"])) == found


def test_verdicts_of_claims_are_shown_with_bound_and_interval(shown: Shown) -> None:
    verdict = Verdict("ht: columnar / compiled", "at least", 4.0, Estimate(6, 5.5, 7), "ratio", ())
    made = record(claims=(verdict.claimed,), name="claim-ht-compiled")
    pair = [of("ht", name, size, 1e-7) for name in PAIR for size in SIZES]
    page = shown(PAGE, Material.of([made, *pair]))
    # Of the size that the claim is on.
    assert [page.table(f"CPU time an event, {size:,}").rows[0][5] for size in SIZES] == [
        *("claims: 6.00, at least 4.00: holds", "not judged")
    ]
    table = page.table("Claims")
    assert table.rows[0][:6] == [
        *("ht: columnar / compiled", "at least 4.00", "6.00", "5.50 to 7.00", "holds", "made-up")
    ]
    assert "interval (99 %)" in table.headings


def test_the_distance_to_the_limit_is_shown_where_it_was_measured(shown: Shown) -> None:
    page = shown(PAGE, Material.of(a_run(2)))
    table = page.table("The limit: zstd, nominal: 1,000 events, allocator of workers, 6 processes")
    cells = {(row[0], row[1]): row[2:] for row in table.rows}
    assert cells["compiled", "250,000"] == [
        *(measured(1e-5, "seconds"), "2.00", "2.00 to 2.00", "1.67")
    ]
    assert cells["read the baskets", "-"] == [*(measured(1e-6, "seconds"), "-", "-", "-")]
    assert "The limit is not measured" not in page.text


def test_an_empty_store_names_the_commands(shown: Shown) -> None:
    page = shown(PAGE, Material.of([]))
    assert "No kernel is measured in these records" in page.text
    assert "No claim is measured in these records" in page.text
    assert "The limit is not measured in these records" in page.text
    for kernel in KERNELS:
        assert f"{COMMAND} -k {kernel}" in page.text


def test_the_proof_of_each_kernel_is_that_of_the_registry() -> None:
    context = PAGE.context(Material.of([]))
    assert context["examples"] == EXAMPLES
    for of_page, kernel in zip(context["kernels"], KERNELS.values(), strict=True):
        assert bool(of_page["tolerance"]) != kernel.exact
    # With what the kernel's own words refer to.
    of_pairs = kernel_proofs.tolerance(KERNELS["pair_mass"])
    assert "ROUNDING x energy^2" in of_pairs
    assert f"ROUNDING = {_four_vectors.ROUNDING:g}" in of_pairs


def test_examples_are_those_of_the_tests() -> None:
    from hypothesis import settings

    for profile, examples in EXAMPLES.items():
        assert settings.get_profile(profile).max_examples == examples


def test_scores_are_those_of_the_report_on_mutants(tmp_path: Path) -> None:
    found = {"count": {"count.a": "", "count.b": "a proof"}, "ht": {"ht.a": "a proof"}}
    path = tmp_path / "mutants.txt"
    path.write_text(mutants.report(found))
    scores = kernel_proofs.scores(path)
    assert scores["count"] == (2, 1)
    assert scores["ht"] == (1, 1)
    assert not kernel_proofs.scores(tmp_path / "none.txt")
    # That of this repository: kernels that are newer than it have no score yet.
    assert len(kernel_proofs.scores().keys() & KERNELS.keys()) > len(KERNELS) / 2


def test_sources_are_the_implementations_with_what_they_call() -> None:
    for kernel in KERNELS.values():
        sources = kernel_proofs.sources(kernel)
        assert list(sources) == list(IMPLEMENTATIONS)
        for name, source in sources.items():
            assert f"def {name}(" in source.partition("\n\n\n")[0]
            compile(source, kernel.name, "exec")
    assert "@loop\ndef _sum(" in kernel_proofs.sources(KERNELS["ht"])["compiled"]
    assert "_sum" not in kernel_proofs.sources(KERNELS["ht"])["columnar"]
    # A function that is compiled under another name.
    assert "def bin_of(" in kernel_proofs.sources(KERNELS["histogram"])["compiled"]


def test_sources_are_shown_as_they_are(shown: Shown) -> None:
    page = shown(PAGE, Material.of([]))
    sources = kernel_proofs.sources(KERNELS["cleaning"])
    # Signs that would begin an element.
    assert any("<" in source for source in sources.values())
    for source in sources.values():
        assert " ".join(source.split()) in page.text


def test_a_row_opens_its_kernel_and_the_link_restores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: Any
) -> None:
    monkeypatch.setattr(site, "PAGES", (PAGE,))
    pair = [of("ht", name, size, 1e-7) for name in PAIR for size in SIZES]
    site.publish(pair, tmp_path / "site", raw=False)
    page = chromium.new_page()
    page.goto((tmp_path / "site/index.html").as_uri())
    assert page.locator("#size-1000 svg").is_visible()
    # What is closed is not drawn.
    assert not page.locator("#over-size-ht svg").count()
    page.locator("#kernels-100000 a").first.press("Enter")
    page.wait_for_selector("#over-size-ht svg")
    again = chromium.new_page()
    again.goto(page.evaluate("location.href"))
    again.wait_for_selector("#over-size-ht svg")
    assert again.evaluate("document.activeElement.parentElement.id") == "kernel-ht"
