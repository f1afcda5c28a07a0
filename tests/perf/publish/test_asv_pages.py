"""Publishing: what asv makes of records, and what a browser without network draws of it."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from analysis.errors import InputError
from perf.environments import releases
from perf.publish import asv_files, asv_pages, timeline
from perf.publish.asv_files import convert
from perf.publish.series import series
from perf.publish.site import served
from perf.records import from_asv, from_compare, record_file, store
from perf.records.table import made_with
from perf.records.void import SHIPPED, VOID, Void, voids
from tests.support.factories import compare_report, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perf.records.record_file import Record

CPU = "kernel.ht.cpu_seconds_per_event"
SLOWER_FROM = "2025.7.3"

DRAWN = """
window.drawn = [];
const plain = Path2D.prototype.lineTo;
Path2D.prototype.lineTo = function (x, y) {
  window.drawn.push([x, y]);
  return plain.call(this, x, y);
};
"""
"""What the page draws its curves with."""


def of_release(version: str, cpu: float, **changes: Any) -> Record:
    """A record of a release: so many CPU seconds for its 1000 events."""
    return record(
        versions={"python": "3.11.7", "coffea": version, "awkward": "2.14.0"},
        cpu_seconds=(cpu, cpu * 1.01, cpu * 0.99),
        **changes,
    )


def history() -> list[Record]:
    """All releases, twice as slow from one of them on."""
    slow = releases()[SLOWER_FROM]
    return [
        of_release(version, 2e-3 if day >= slow else 1e-3) for version, day in releases().items()
    ]


def publish(records: list[Record], pages: Path, voids: Sequence[Void] = ()) -> None:
    """Asv's pages of records."""
    asv_pages.write(series(records, voids), records, pages)


def index(html: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((html / "index.json").read_text())
    return found


def graph(html: Path, name: str = CPU, branch: str = "master") -> dict[str, Any]:
    """Points of a curve by release."""
    (path,) = html.glob(f"graphs/branch-{branch}/machine-made-up/python-3.11/**/{name}.json")
    names = index(html)["revision_to_hash"]
    return {names[str(revision)]: value for revision, value in json.loads(path.read_text())}


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages of `history`."""
    folder = tmp_path_factory.mktemp("published") / "asv"
    publish(history(), folder)
    return folder


def test_each_release_is_a_point_with_its_name_and_date(html: Path) -> None:
    page = index(html)
    # asv drops results of tags that its repository does not know, with no more than a warning.
    assert set(page["tags"]) == {f"v{version}" for version in releases()}
    days = {
        page["revision_to_hash"][number]: datetime.fromtimestamp(stamp / 1000, UTC).date()
        for number, stamp in page["revision_to_date"].items()
    }
    assert days == {f"v{version}": day for version, day in releases().items()}
    hours = {name: int(number) for number, name in page["revision_to_hash"].items()}
    # The axis is time: as far apart as the dates are.
    apart = (releases()["2026.9.0"] - releases()["2023.12.0"]) / timedelta(hours=1)
    assert hours["v2026.9.0"] - hours["v2023.12.0"] == apart


def test_seconds_an_event_are_drawn(html: Path) -> None:
    points = graph(html)
    assert points["v2025.3.0"] == pytest.approx(1e-6)
    assert points["v2026.9.0"] == pytest.approx(2e-6)


def test_an_old_line_has_a_branch_of_its_own(html: Path) -> None:
    assert "v0.7.31" not in graph(html)
    assert set(graph(html, branch="0.7")) == {"v0.7.22", "v0.7.31"}


def test_asv_judges_nothing(html: Path) -> None:
    """It lists steps that nobody can tell from the noise as regressions: `watch` judges history."""
    assert json.loads((html / "regressions.json").read_text()) == {"regressions": []}
    assert not (html / "regressions.xml").exists()


def test_rates_are_not_published(html: Path) -> None:
    # asv takes the larger number for the slower.
    names = index(html)["benchmarks"]
    assert names
    assert not [name for name in names if "per_second" in name or "rate" in name]


def test_a_new_kernel_or_more_memory_starts_no_curve(tmp_path: Path) -> None:
    old, new = history()[2:4]
    machine = new.machine.model_copy(update={"kernel": "Linux 9", "memory": 2**36, "cores": 64})
    publish([old, new.model_copy(update={"machine": machine})], tmp_path / "asv")
    assert len(graph(tmp_path / "asv")) == 2
    assert index(tmp_path / "asv")["params"]["machine"] == ["made-up"]


def test_results_carry_versions_and_load(tmp_path: Path) -> None:
    convert(series(history()), tmp_path / "results")
    (path,) = (tmp_path / "results" / "made-up").glob("*-v2026.9.0-*.json")
    about = json.loads(path.read_text())["requirements"]
    assert about["awkward"] == "2.14.0"
    assert float(about["load_average"]) == 0.6


def test_what_is_void_is_not_drawn_and_says_why(tmp_path: Path) -> None:
    mended = datetime(2026, 6, 1, tzinfo=UTC)
    before = [
        one.model_copy(update={"timestamp": mended - timedelta(days=1)}) for one in history()
    ]
    after = of_release("2026.9.0", 5e-3, timestamp=mended)
    void = Void(benchmark="kernel.ht.cpu*", since=mended.date(), reason="other events")
    publish([*before, after], tmp_path / "asv", [void])
    assert graph(tmp_path / "asv") == {"v2026.9.0": pytest.approx(5e-6)}
    assert len(graph(tmp_path / "asv", "kernel.ht.wall_seconds_per_event")) > 2
    assert "other events" in index(tmp_path / "asv")["benchmarks"][CPU]["code"]


def test_the_newest_of_two_measurements_counts(tmp_path: Path) -> None:
    old, new = (of_release("2026.9.0", time, run=run) for run, time in (("1", 5e-3), ("2", 1e-3)))
    publish([old, new], tmp_path / "asv")
    assert graph(tmp_path / "asv") == {"v2026.9.0": pytest.approx(1e-6)}


def test_processes_of_one_campaign_are_one_point(tmp_path: Path) -> None:
    times = {"old": (9e-3, 9e-3), "new": (1e-3, 3e-3, 2e-3)}
    made = [
        of_release("2026.9.0", time, run=f"{campaign}{number}", parameters={"campaign": campaign})
        for campaign, each in times.items()
        for number, time in enumerate(each)
    ]
    publish(made, tmp_path / "asv")
    assert graph(tmp_path / "asv") == {"v2026.9.0": pytest.approx(2e-6)}
    (one,) = [one for name, one in series(made).items() if name == CPU]
    # Three processes are three samples, however many each has.
    assert [len(one.samples(records)) for records in one.records.values()] == [3]


def test_stacks_and_sizes_are_curves_of_their_own(tmp_path: Path) -> None:
    pinned = of_release(
        "2026.9.0",
        2e-3,
        parameters={"stack": "2026.9.0"},
        metrics={"task_bytes": 827, "opening": 0.1},
    )
    publish([of_release("2026.9.0", 1e-3), pinned], tmp_path / "asv")
    assert graph(tmp_path / "asv") == {"v2026.9.0": pytest.approx(1e-6)}
    on = "kernel.ht.on_2026.9.0"
    assert graph(tmp_path / "asv", f"{on}.cpu_seconds_per_event") == {
        "v2026.9.0": pytest.approx(2e-6)
    }
    assert graph(tmp_path / "asv", f"{on}.task_bytes") == {"v2026.9.0": 827}
    assert not [name for name in index(tmp_path / "asv")["benchmarks"] if "opening" in name]


def test_a_record_in_two_files_is_one(tmp_path: Path) -> None:
    """Where it was measured, and where it is kept under version control."""
    measured, kept = (
        tmp_path / ".perf/history.jsonl",
        tmp_path / "perf/kept/history-releases.jsonl.gz",
    )
    for one in history():
        record_file.append(measured, one)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(gzip.compress(measured.read_bytes()))
    assert len(store.collect(tmp_path)) == len(releases())
    for one in history():  # The same again, at another time.
        record_file.append(measured, one)
    assert len(store.collect(tmp_path)) == 2 * len(releases())


def test_parameters_are_those_that_differ(tmp_path: Path) -> None:
    made = [
        of_release("2026.9.0", 1e-3, name=f"ht-{size}-{one}", implementation=one, size=size)
        for size in (10_000, 1_000)
        for one in ("columnar", "compiled")
    ]
    publish(made[1:], tmp_path / "asv")
    benchmark = index(tmp_path / "asv")["benchmarks"][CPU]
    assert benchmark["param_names"] == ["implementation", "events"]
    assert benchmark["params"] == [["columnar", "compiled"], ["1000", "10000"]]
    (values,) = graph(tmp_path / "asv").values()
    assert values == [pytest.approx(1e-6), None, pytest.approx(1e-6), pytest.approx(1e-6)]


def test_counts_are_published_beside_times(tmp_path: Path) -> None:
    publish([of_release("2026.9.0", 1e-3, counts={"instructions": (52_191.0,)})], tmp_path / "asv")
    assert graph(tmp_path / "asv", "kernel.ht.instructions") == {"v2026.9.0": 52_191.0}


def test_commits_stand_between_releases(tmp_path: Path) -> None:
    made = of_release(
        "2026.5.1.dev22+ge9e03d855",
        1e-3,
        commit="e9e03d855cfb",
        committed=datetime(2026, 8, 17, tzinfo=UTC),
    )
    publish([*history(), made], tmp_path / "asv")
    assert list(graph(tmp_path / "asv"))[-3:] == ["v2026.5.0", "e9e03d855cfb", "v2026.9.0"]


@pytest.mark.parametrize(
    "text", ["[[void]\n", "[[void]]\nbenchmark = 'x'\n", "[[void]]\nsince = 'soon'\n"]
)
def test_a_bad_file_of_what_is_void_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "perf").mkdir()
    (tmp_path / "perf" / VOID).write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        voids(tmp_path)


def test_our_own_file_of_what_is_void_is_good() -> None:
    assert (SHIPPED / VOID).is_file()
    voids()


def test_void_ends_on_its_day() -> None:
    void = Void(benchmark="kernel.*", since=date(2026, 6, 1), reason="-")
    day = datetime(2026, 6, 1, tzinfo=UTC)
    assert void.covers(CPU, record(timestamp=day - timedelta(seconds=1)))
    assert not void.covers(CPU, record(timestamp=day))
    assert not void.covers("query.1", record(timestamp=day - timedelta(days=9)))


def test_two_of_one_hour_are_two_points() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    entries = [timeline.Entry(name, now, release=False) for name in "abc"]
    assert len(set(timeline.Timeline.revisions(entries).values())) == 3


def test_comparisons_and_their_instructions_are_part_of_the_history(tmp_path: Path) -> None:
    (tmp_path / ".perf" / "compare").mkdir(parents=True)
    path = tmp_path / ".perf" / "compare" / "one.json"
    path.write_text(json.dumps(compare_report("2026.9.0")))
    publish(store.collect(tmp_path), tmp_path / "asv")
    name = "kernel.compare_ht"
    assert graph(tmp_path / "asv", f"{name}.instructions") == {"v2025.12.0": 100, "v2026.9.0": 200}
    assert graph(tmp_path / "asv", f"{name}.cpu_seconds")["v2026.9.0"] == pytest.approx(2e-3)


def test_a_side_that_could_not_be_counted_has_its_times(tmp_path: Path) -> None:
    report = compare_report("2026.9.0")
    report["benchmarks"]["ht-columnar"]["instructions"]["B"] = "valgrind is not installed"
    path = tmp_path / "one.json"
    path.write_text(json.dumps(report))
    a, b = from_compare.records(from_compare.report(path))
    assert a.counts == {"instructions": (101.0, 100.0, 100.0)}
    assert not b.counts
    assert b.cpu_seconds


@pytest.mark.parametrize(
    ("name", "variables"), [("changed@./coffea", {}), ("2026.9.0", {"NUMBA_OPT": "0"})]
)
def test_what_is_no_release_as_it_is_is_not(
    tmp_path: Path, name: str, variables: dict[str, str]
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(compare_report(name, variables=variables)))
    made = from_compare.records(from_compare.report(path))
    assert {one.versions["coffea"] for one in made} == {"2025.12.0"}


BAD = ["{", "[]", '{"benchmarks": {}}', '{"benchmarks": []}', "[" * 200_000, "\0"]


@pytest.mark.parametrize("text", BAD)
def test_a_file_that_is_no_comparison_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(InputError, match="is not a report") as caught:
        from_compare.report(tmp_path / "one.json")
    assert len(str(caught.value)) < 500


def test_what_cannot_be_read_is_left_out_and_the_rest_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, measured = tmp_path / "perf/kept", tmp_path / ".perf"
    compared, asv = tmp_path / ".perf/compare", tmp_path / ".asv/results"
    for folder in (kept, measured, compared, asv / "vm"):
        folder.mkdir(parents=True)
    for one in history():
        record_file.append(measured / "history.jsonl", one)
    torn = {
        kept / "torn.jsonl.gz": gzip.compress(b"{}\n" * 100)[:20],
        kept / "plain.jsonl.gz": b"{}\n",
        compared / "torn.json": b'{"sides":',
        asv / "benchmarks.json": b'{"version": 2}',
        asv / "vm" / "machine.json": b'{"machine": "vm", "version": 1}',
        asv / "vm" / "torn.json": b"[" * 200_000,
    }
    for path, content in torn.items():
        path.write_bytes(content)
    assert len(store.collect(tmp_path)) == len(releases())
    said = {path for path in torn if any(str(path) in one for one in caplog.messages)}
    assert said == torn.keys() - {asv / "benchmarks.json", asv / "vm" / "machine.json"}
    assert all(one.startswith("left out: ") and "\n" not in one for one in caplog.messages)
    with pytest.raises(InputError, match="cannot be read"):
        store.collect(tmp_path, [kept / "plain.jsonl.gz"])  # Who names it wants it.
    with pytest.raises(InputError, match="no folder"):
        store.collect(tmp_path / "nowhere")


@pytest.mark.parametrize("which", ["benchmarks.json", "vm/machine.json"])
@pytest.mark.parametrize("text", BAD[:2])
def test_an_index_of_asv_that_cannot_be_read_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str, text: str
) -> None:
    folder = tmp_path / store.ASV_RESULTS
    (folder / "vm").mkdir(parents=True)
    (folder / "benchmarks.json").write_text("{}")
    (folder / which).write_text(text)
    assert store.collect(tmp_path) == []
    (sentence,) = caplog.messages
    assert str(folder / which) in sentence


def test_of_a_machine_asv_knows_what_it_knows() -> None:
    """No memory and no cores are none of which anybody knows, and not 0 GiB and one."""
    machine = from_asv._machine({"machine": "vm", "cpu": "AMD", "ram": "", "num_cpu": ""}, "3.11")
    assert (machine.memory, machine.cores) == (None, None)
    assert made_with({}, machine).splitlines()[-1] == "vm: AMD"
    about = asv_files._machine("vm", record(machine=machine))
    assert (about["ram"], about["num_cpu"]) == ("", "")
    known = from_asv._machine({"machine": "vm", "ram": "24 GB", "num_cpu": "2"}, "3.11")
    assert (known.memory, known.cores) == (24 * 2**30, 2)


def test_memory_of_a_process_that_others_used_is_not_published() -> None:
    names = [of_release("2026.9.0", 1e-3)]
    names += [of_release("2026.9.0", 1e-3, name="history-ht-columnar", group="history, ht")]
    names += [of_release("2026.9.0", 1e-3, name="history-import", kind="import", group="import")]
    found = series(names)
    assert [name for name in found if "memory" in name] == ["import.import.peak_memory_bytes"]


def test_two_machines_of_one_name_are_two_curves(tmp_path: Path) -> None:
    one, other = history()[2:4]
    faster = other.machine.model_copy(update={"cpu": "Another/1 (R) @ 5 GHz"})
    records = [one, other.model_copy(update={"machine": faster})]
    publish(records, tmp_path / "asv")
    machines = index(tmp_path / "asv")["params"]["machine"]
    assert machines == ["made-up", "made-up (none)"]
    assert all(len(one.records) == 2 for one in series(records).values())


def test_the_machine_with_the_history_comes_first(tmp_path: Path) -> None:
    """And one that measured a single release has no curve."""
    one = history()[0].machine.model_copy(update={"name": "a-new-one"})
    two = [each.model_copy(update={"machine": one}) for each in history()[-2:]]
    for others, want in ((two, ["made-up", "a-new-one"]), (two[:1], ["made-up"])):
        records = [*history(), *others]
        pages = tmp_path / str(len(others))
        asv_pages.write(asv_pages.drawn(series(records)), records, pages)
        assert index(pages)["params"]["machine"] == want
        assert index(pages)["graph_param_list"][0]["machine"] == "made-up"
    assert asv_pages.drawn(series(history()[:1])) == {}


def test_two_inputs_are_two_curves() -> None:
    other = record_file.Input(digest="e" * 64, events=1_000, source="others")
    made = [*history(), of_release("2026.9.0", 9e-3, input=other)]
    (one,) = [one for name, one in series(made).items() if name == CPU]
    counts = Counter(what for _, _, what in one.records)
    assert sorted(counts.values()) == [1, len(releases())]
    assert len({tuple(axis.values()) for axis in one.axes().values()}) == 2


def test_what_is_void_makes_no_second_curve() -> None:
    other = record_file.Input(digest="e" * 64, events=1_000, source="others")
    old = datetime(2020, 1, 1, tzinfo=UTC)
    made = [of_release("2025.3.0", 9e-3, input=other, timestamp=old), *history()]
    void = Void(benchmark="*", since=date(2021, 1, 1), reason="other events")
    (one,) = [one for name, one in series(made, [void]).items() if name == CPU]
    assert len({what for _, _, what in one.records}) == 1


# --- in a browser


@pytest.fixture(scope="module")
def page(html: Path, chromium: Any) -> Iterator[Any]:
    """A page of the browser, which may reach the pages' server and nothing else."""
    with served(html) as (server, address):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened = chromium.new_page()
        opened.address = address
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.add_init_script(DRAWN)
        yield opened
        opened.close()
        server.shutdown()


def test_a_browser_draws_the_graph_over_releases(page: Any) -> None:
    chosen = {"view": "explore", "bench": CPU, "branch": "master"}
    page.goto(f"{page.address}#{urlencode(chosen)}", wait_until="networkidle")
    page.wait_for_function("window.drawn.length > 0")
    drawn = page.evaluate("window.drawn")
    main = [day for version, day in releases().items() if version != "0.7.31"]
    curve = drawn[: len(main)]
    # As far from left to right as the dates, and higher from the slow release on: y goes down.
    span = curve[-1][0] - curve[0][0]
    for (x, _), day in zip(curve, main, strict=True):
        want = curve[0][0] + span * ((day - main[0]) / (main[-1] - main[0]))
        assert x == pytest.approx(want, abs=2)
    slow = releases()[SLOWER_FROM]
    heights = {
        late: {y for (_, y), day in zip(curve, main, strict=True) if (day >= slow) == late}
        for late in (False, True)
    }
    assert max(heights[True]) < min(heights[False]) - 20
    assert all(url.startswith(page.address) for url in page.asked)
    body = page.inner_text("body")
    assert "v2026.9.0" in body
    assert CPU in body


def test_no_page_of_asv_judges(page: Any) -> None:
    """asv-tachyon's cards are of means over modes, of which old releases had one: +578 %."""
    page.goto(page.address, wait_until="networkidle")
    page.wait_for_selector(".foot span")
    shown = page.inner_text("body")
    assert shown.startswith("Raw, not judged")
    assert "Regressions" not in shown
    assert "regressed" not in shown
    assert "%" not in shown


def test_the_overview_shows_every_benchmark(page: Any, html: Path) -> None:
    page.goto(page.address, wait_until="networkidle")
    # The page draws after it has loaded.
    page.wait_for_function(
        "names => names.every((name) => document.body.innerText.includes(name))",
        arg=list(index(html)["benchmarks"]),
    )
