"""The report and its slides: numbers are those of records, and sentences say what these judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2
import pytest

from perf.claims.executors import QUANTITIES
from perf.claims.verdict import Verdict
from perf.measure.estimate import Estimate
from perf.publish.causes import causes
from perf.publish.page import Material
from perf.publish.pages import report, written
from perf.publish.pages.report import PAGE
from perf.records import store
from perf.records.void import voids
from tests.support import limit_records
from tests.support.cli import perf
from tests.support.factories import record
from tests.support.scaled import machine, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perf.publish.page import Page
    from perf.records.record_file import Record
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

ROOT: Final = Path(__file__).parents[4]
NAMES: Final = (written.REPORT, written.SLIDES)
MOST_WORDS: Final = 5_000
"""Of ten pages."""

INTEGERS: Final = {0, 1, 2, 3, 4, 5, 100}
"""In expressions of templates: places in lists, and per cent."""
FLOATS: Final = {1.0, 1e-9}
"""A chunk of one second, for which the capacity of a scheduler is told; nanoseconds."""
TEXTS: Final = re.compile(r"x2|2 processes apart|\{:,\}|--workers 1,2,4,8,16|v0")
"""Names of what was measured and options of commands, in strings of expressions."""
APART: Final = re.compile(r"`[^`]*`|<!--.*?-->|^1\. ", re.MULTILINE)
"""Commands, notes to editors, and the beginnings of numbered lists."""
STYLE: Final = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
"""Head of the slides: sizes of letters are no measurements."""


@pytest.fixture(scope="module")
def kept() -> Material:
    """What is kept in this project."""
    records = store.collect(ROOT, kept_only=True)
    reports = store.comparisons(ROOT, kept_only=True)
    return Material.of(records, voids(ROOT), reports, causes=causes(ROOT))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_follows_from_what_is_kept(kept: Material, name: str) -> None:
    """If not: `make written`, and commit it."""
    assert (ROOT / "reports" / name).read_text() == written.render(kept)[name]


def test_the_report_has_ten_pages_and_there_are_ten_slides() -> None:
    """With one message each."""
    assert len((ROOT / "reports" / written.REPORT).read_text().split()) < MOST_WORDS
    head, *slides = re.split(
        r"^---$", (ROOT / "reports" / written.SLIDES).read_text(), flags=re.MULTILINE
    )
    # Two lines of its head are dashes, too.
    assert not head.strip()
    assert len(slides) == 11
    for slide in slides[1:]:
        assert len(re.findall(r"^# ", slide, flags=re.MULTILINE)) == 1, slide
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", "".join(slides)):
        assert (ROOT / "reports" / picture).is_file()


# --- no number is typed


def typed(source: str) -> Iterator[str]:
    """Numbers that a template states by itself."""
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    for _, kind, text in environment.lex(STYLE.sub("", source)):
        match kind:
            case "data":
                yield from re.findall(r"\S*\d\S*", APART.sub("", text))
            case "string":
                left = TEXTS.sub("", text)
                yield from re.findall(r"\S*\d\S*", re.sub(r"`[^`]*`", "", left))
            case "integer" if int(text) not in INTEGERS:
                yield text
            case "float" if float(text) not in FLOATS:
                yield text


@pytest.mark.parametrize("name", NAMES)
def test_templates_state_no_number(name: str) -> None:
    assert list(typed((written.TEMPLATES / name).read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "Dask takes 2.8 times the CPU time.",
        "| dask | 16 ms |",
        '{% do open.append("2.8 times") %}',
        "{{ 2.8 }}",
        "{{ number({'value': 28}) }}",
    ],
)
def test_a_typed_measurement_is_found(source: str) -> None:
    assert list(typed(source))


# --- what is missing


@pytest.fixture(scope="module")
def nothing() -> dict[str, str]:
    return written.render(Material.of([]))


@pytest.mark.parametrize(
    "command",
    [
        "make executors",
        "make claims",
        "make limits",
        "make report",
        "make advise",
        "coffea-perf ablation dask",
        "coffea-perf ablation spark",
        "coffea-perf scale",
        "coffea-perf scheduler-load",
        "make next-coffea",
        "coffea-perf hosts",
        "coffea-perf peers",
        "coffea-perf history run",
        "coffea-perf claims --only fit",
        "coffea-perf claims --only 'start-*'",
        "pytest perf/bench_whole.py --benchmark-only --benchmark-scale full",
    ],
)
def test_what_is_not_measured_names_its_command(nothing: dict[str, str], command: str) -> None:
    assert f"*Not measured: `{command}" in nothing[written.REPORT]


def test_without_records_nothing_is_stated(nothing: dict[str, str]) -> None:
    for text in nothing.values():
        assert "Measured on" not in text
        for sentence in ("**Dask itself costs nothing", "As cheap as", "cost.**", "is ahead"):
            assert sentence not in text
    assert nothing[written.SLIDES].count("*Not measured:") >= 7


# --- sentences follow the numbers


def claim(text: str, low: float, high: float, kind: str = "processor", **bound: Any) -> Record:
    """A record with a verdict on a ratio, or on milliseconds of a task."""
    value = (low + high) / 2
    unit = "milliseconds" if "task" in text else "ratio"
    verdict = Verdict(
        text,
        bound.get("sense", "at most"),
        bound.get("bound"),
        Estimate(value, low, high),
        unit,  # type: ignore[arg-type]
        (),
    )
    made = record(name=f"claim-executor-{text}", implementation=None, claims=(verdict.claimed,))
    # Of a kind that records need not have yet.
    return made.model_copy(update={"what": made.what.model_copy(update={"kind": kind})})


def said(*records: Record) -> dict[str, str]:
    return written.render(Material.of(list(records)))


POOL: Final = "futures x2 / iterative: CPU time an event"
DASK: Final = "dask x2 / iterative: CPU time an event"
PLAIN: Final = "dask x2 plain / iterative: CPU time an event"


@pytest.mark.parametrize(
    ("dask", "sentence", "title"),
    [
        ((1.5, 1.6), "**Dask costs more than a pool.**", "# Dask costs more than a pool"),
        ((0.5, 0.6), "**Dask costs less than a pool.**", "# Dask costs less than a pool"),
        (
            (0.9, 1.1),
            "**Dask itself costs nothing that can be told",
            "# Dask itself costs nothing",
        ),
    ],
)
def test_dask_beside_the_pool(dask: tuple[float, float], sentence: str, title: str) -> None:
    texts = said(claim(POOL, 0.99, 1.01), claim(DASK, *dask))
    assert sentence in texts[written.REPORT]
    assert title in texts[written.SLIDES]
    assert ("As cheap as a pool" in texts[written.REPORT]) == (dask[0] < 1)


@pytest.mark.parametrize(
    ("plain", "sentence", "title"),
    [
        ((2.0, 2.2), "**Its default settings cost.**", "# Its default settings do cost"),
        ((0.5, 0.6), "**Its default settings cost less", "# Its default settings cost less"),
        ((0.9, 1.1), "cannot be told", "# Whether its default settings cost cannot be told"),
    ],
)
def test_default_settings(plain: tuple[float, float], sentence: str, title: str) -> None:
    texts = said(claim(DASK, 0.99, 1.01), claim(PLAIN, *plain))
    assert sentence in texts[written.REPORT]
    assert title in texts[written.SLIDES]
    # Only what costs is recommended against.
    assert ("let a worker keep its memory" in texts[written.REPORT]) == (plain[0] > 1.5)


@pytest.mark.parametrize(
    ("bound", "sentence"),
    [(1.5, "**It uses both cores"), (1.9, "**It does not use"), (1.75, "undecided")],
)
def test_the_rate_of_two_workers_is_judged_by_its_claim(bound: float, sentence: str) -> None:
    rate = "dask x2 / iterative: events a second"
    made = claim(rate, 1.7, 1.8, sense="at least", bound=bound)
    assert sentence in said(made, claim(DASK, 1, 1.1))[written.REPORT]


@pytest.mark.parametrize(
    ("whole", "sentence"),
    [
        ((0.7, 0.8), "**Numba speeds up kernels more than analyses.**"),
        ((1.1, 1.2), "**Numba does not pay here.**"),
        ((0.9, 1.1), "**Whether numba speeds up the whole analysis** cannot be told"),
    ],
)
def test_numba_in_the_whole(whole: tuple[float, float], sentence: str) -> None:
    loop = claim("trijet_pt, 100,000 events: columnar / compiled", 6, 7, kind="kernel")
    assert (
        sentence
        in said(loop, claim("ttbar nominal: compiled / columnar", *whole))["dask-report.md"]
    )


def test_settings_are_over_the_executor_with_all_of_them() -> None:
    tuned, one = "dask x2 as it comes", "dask x2 a task a chunk"
    made = [
        claim(f"{on} / iterative: CPU time an event", low, high)
        for on, low, high in ((tuned, 0.99, 1.01), (one, 1.98, 2.02))
    ]
    text = said(*made)[written.REPORT]
    assert "| a task a chunk | 2.00 (1.96 to 2.04) | costs | - |" in text
    assert "*Not measured: `coffea-perf ablation dask`" not in text
    cheaper = said(made[0], claim(f"{one} / iterative: CPU time an event", 0.4, 0.5))
    assert re.search(r"\| a task a chunk \| [^|]+ \| saves \|", cheaper[written.REPORT])


@pytest.mark.parametrize(("name", "unit"), [("spark", "partition"), ("parsl", "task")])
def test_settings_of_other_executors_are_told_too(name: str, unit: str) -> None:
    made = [
        claim(f"{name} x2 {without} / iterative: CPU time an event", low, high)
        for without, low, high in (("as it comes", 0.99, 1.01), (f"a {unit} a chunk", 1.98, 2.02))
    ]
    made.append(claim(f"{name} x2 without huge pages / iterative: CPU time an event", 0.9, 1.1))
    text = said(*made)[written.REPORT]
    untold = f"Cannot be told: *without huge pages* (`coffea-perf ablation {name}`)"
    assert f"*a {unit} a chunk* 2.00 (1.96 to 2.04). {untold}" in text
    assert f"*Not measured: `coffea-perf ablation {name}`" not in text


def test_many_cores_are_told_with_how_often_they_were_measured() -> None:
    where = machine("large", 16, 10**11)
    made = []
    for engine, noise in (("futures", 1.0), ("dask", 2.0)):
        for turn in (1.0, 1.01):
            one = scaled(16, 1_000_000, 250_000, 16, executor=engine, noise=noise * turn)
            made.append(one.model_copy(update={"machine": where}))
            few = scaled(16, 1_000_000, 250_000, 2, executor=engine, noise=noise * turn)
            made.append(few.model_copy(update={"machine": where}))
    texts = said(*made)
    assert "**On 16 cores it stays behind a pool:**" in texts[written.REPORT]
    assert "# 16 cores: Dask stays behind the pool" in texts[written.SLIDES]
    assert "measured more often than 2 times" in texts[written.REPORT]


def test_starts_of_many_workers_are_told_with_their_first_runs() -> None:
    text = said(
        claim("dask x16: CPU time of its start", 3.0, 3.2, kind="executor"),
        claim("dask x16 / x1: CPU time of its start", 1.8, 1.9, kind="executor"),
        claim("dask x2: first run / warm run, wall time", 1.4, 1.6, bound=1.3),
        claim("dask x2: first run / warm run, user CPU time", 1.0, 1.1, bound=1.3),
    )[written.REPORT]
    (row,) = re.findall(r"^\| dask \| (.*) \|$", text, flags=re.MULTILINE)
    cells = [cell.partition(" ")[0] for cell in row.split(" | ")]
    assert cells == ["3.10", "1.85", "1.05", "1.50"]
    assert "*Not measured: `coffea-perf claims --only 'start-*'" not in text


def test_the_limit_is_told_with_the_multiples_of_processors() -> None:
    claimed = [
        claim("compiled / the limit", 1.3, 1.34, kind="limit", bound=1.4),
        claim("fused / the limit", 1.3, 1.34, kind="limit", bound=1.1),
    ]
    text = said(*limit_records.a_run(times=3), *claimed)[written.REPORT]
    assert "| columnar | 250,000 | 12.0 µs | 3.00 (2.00 to 4.00) |" in text
    assert "**The nearest implementation takes 2.00 times what the" in text
    assert "1 hold, 1 fail and 0 are undecided" in text
    assert "| fused / the limit | 1.32 (1.30 to 1.34) | at most 1.10 |" in text
    assert "| compiled / the limit |" not in text


def test_other_tools_that_are_faster_are_named() -> None:
    made = [
        claim("query 1: Polars / this suite", 0.5, 0.6, kind="peer"),
        claim("query 1: ROOT / this suite", 2, 3, kind="peer"),
        claim("query 2: ROOT / this suite", 0.9, 1.1, kind="peer"),
    ]
    text = said(*made)[written.REPORT]
    assert "| Polars | 0.550* | - |" in text
    assert "We lose 1 of 3, marked by a star: Polars in query 1." in text
    assert "No tool is faster in any of 2" in said(*made[1:])[written.REPORT]


def test_findings_have_the_effect_that_was_measured(tmp_path: Path) -> None:
    table = (
        "| finding | project | proposal | known upstream | effect |\n|---|---|---|---|---|\n"
        "| [files are slow](memory_map/README.md) | uproot 5.7.7 | map them | not found | {effect} |\n"
        "| [names are slow](names/README.md) | coffea 2026.9.0 | one line | not found | to be measured |\n"
        "| [sleeps](sleeps/README.md) | distributed 1.0 | look | found: in two | 2.0 to 0.0 sleeps |\n"
    )
    (tmp_path / "README.md").write_text(table.format(effect="-"))
    assert [one.effect for one in written.findings(tmp_path)] == [None] * 3
    effect = "10.0 to 7.0 ms of CPU: 0.700 (0.600 to 0.800)"
    (tmp_path / "README.md").write_text(table.format(effect=effect))
    first, *others = written.findings(tmp_path)
    assert first.effect == written.Number(0.7, 0.6, 0.8)
    assert (first.project, first.version, first.proposal) == ("uproot", "5.7.7", "map them")
    assert [one.effect for one in others] == [None, None]
    assert written.findings(tmp_path / "missing") == []


@pytest.mark.parametrize(
    ("one", "text", "sure"),
    [
        (written.Number(2.0, 1.5, 2.5), "2.00 (1.50 to 2.50)", (True, False)),
        (written.Number(0.5, 0.4, 0.6), "0.500 (0.400 to 0.600)", (False, True)),
        (written.Number(1.0, 0.9, 1.1), "1.00 (0.900 to 1.10)", (False, False)),
        (written.Number(2.0), "2.00", (False, False)),
        (written.Number(1.5, unit="milliseconds"), "1.50 ms", (False, False)),
        (
            written.Number(1.5, 0.9, 2, "milliseconds"),
            "1.50 ms (0.900 to 2.00 ms)",
            (False, False),
        ),
        (written.Number(1_619_513, unit="count"), "1,619,513", (False, False)),
    ],
)
def test_numbers_have_their_intervals(
    one: written.Number, text: str, sure: tuple[bool, bool]
) -> None:
    assert str(one) == text
    assert (one.above, one.below) == sure


# --- the page, and the command


def test_the_page_is_the_report(shown: Shown) -> None:
    made = [claim(POOL, 0.99, 1.01), claim(DASK, 1.5, 1.6)]
    page = shown(PAGE, Material.of(made))
    assert "Dask costs more than a pool." in page.text
    table = next(one for one in page.tables if "events a second / iterative" in one.headings)
    assert ["Dask", "1.55 (1.50 to 1.60)"] in [row[:2] for row in table.rows]
    assert "edit perf/publish" not in page.text
    # With a heading of rows; page faults and idle clusters are told in words.
    assert len(table.headings) == len(QUANTITIES) - 1


def test_links_of_the_page_lead_somewhere() -> None:
    text = "# Title\n\n## A section: one\n\n[here](#a-section-one) [there](upstream/x/README.md) [out](https://x.y)\n"
    html = report.html(text)
    assert '<h2 id="a-section-one">' in html
    assert "Title" not in html
    targets = re.findall(r'href="(.+?)"', html)
    assert targets == ["#a-section-one", f"{report.REPOSITORY}upstream/x/README.md", "https://x.y"]
    assert "<script>" not in report.html("<script>alert()</script>")


def test_the_command_writes_what_is_kept_alone(tmp_path: Path) -> None:
    """And not what was measured meanwhile."""
    (tmp_path / "perf").mkdir()
    (tmp_path / ".perf").mkdir()
    line = claim(DASK, 1.5, 1.6).model_dump_json()
    (tmp_path / ".perf/records.jsonl").write_text(line + "\n")
    done = perf("report", "--root", tmp_path)
    assert done.exit_code == 0, done.error
    assert {path.name for path in (tmp_path / "reports").iterdir()} == set(NAMES)
    assert "1.55" not in (tmp_path / "reports" / written.REPORT).read_text()
    assert "`coffea-perf report` writes it again" in perf("keep", "--root", tmp_path).output
    perf("report", "--root", tmp_path)
    assert "1.55" in (tmp_path / "reports" / written.REPORT).read_text()
