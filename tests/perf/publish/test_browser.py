"""The site in a real headless Chromium: from a server and from the disk, wide and narrow, light and dark."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pytest

from perf.publish import site
from perf.publish.numbers import measured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.perf.publish.conftest import Kept

FUTURES = "processor.history_ttbar.cpu_seconds_per_event"
POINT = "history-ttbar-futures~~v2025.12.0"
CHOSEN = f"history.html#b={FUTURES}&p={POINT}"
WIDE, NARROW = 1400, 390
SERIOUS = {"serious", "critical"}

NAMES = [site.address(page) for page in site.PAGES]
VIEWS = [(WIDE, "light"), (NARROW, "dark"), (WIDE, "dark"), (NARROW, "light")]


class View:
    """A page that remembers what went wrong in it, and what it asked for."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.address = address
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.wrong.append(f"{one.type}: {one.text}"))
        self.page.on("pageerror", lambda one: self.wrong.append(str(one)))
        self.page.on("requestfailed", lambda one: self.wrong.append(one.url))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.on(
            "response",
            lambda one: self.wrong.append(one.url) if one.status >= 400 else None,
        )

    def open(self, name: str) -> Any:
        """Go to a page, and wait until its charts are drawn."""
        self.page.goto("about:blank")
        self.asked.clear()
        self.page.goto(self.address + name, wait_until="load")
        self.page.wait_for_function(
            "[...document.querySelectorAll('figure[data-kind]')].every(figure =>"
            " figure.closest('details:not([open])') || !figure.querySelector('.chart').clientWidth"
            " || 'drawn' in figure.dataset)"
        )
        return self.page

    def assert_clean(self) -> None:
        """No error, no missing file, no request elsewhere, no sideways scrolling."""
        assert self.wrong == []
        foreign = [url for url in self.asked if not url.startswith((self.address, "data:"))]
        assert foreign == []
        sizes = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        wanted, there = self.page.evaluate(sizes)
        assert wanted <= there


@pytest.fixture(scope="module", params=["http", "file"])
def address(request: pytest.FixtureRequest, kept: Kept) -> str:
    """Where the site is: on a server, or on the disk."""
    if request.param == "file":
        return f"{kept.html.as_uri()}/"
    found: str = request.getfixturevalue("served")
    return found


@pytest.fixture
def view(chromium: Any, address: str) -> Iterator[View]:
    """A wide, light page."""
    context = chromium.new_context(viewport={"width": WIDE, "height": 900})
    yield View(context, address)
    context.close()


def looked_at(
    chromium: Any, address: str, width: int, scheme: str, axe: str, judged: list[str]
) -> None:
    """Look at each page of the site with a window of a width in a scheme of colours.

    axe judges some of them: that takes most of the time.
    """
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    view = View(context, address)
    for name in [*NAMES, CHOSEN]:
        page = view.open(name)
        # What is closed is looked at too, as on paper.
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        page.wait_for_timeout(100)
        view.assert_clean()
        if name not in judged:
            continue
        page.evaluate(axe)
        found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")[
            "violations"
        ]
        bad = [
            (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
            for one in found
            if one["impact"] in SERIOUS
        ]
        assert bad == [], name
    context.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, which looks for what some people cannot use."""
    package = pytest.importorskip("axe_playwright_python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


@pytest.mark.parametrize(("width", "scheme"), VIEWS[1:2])
def test_every_page_is_in_order(
    chromium: Any, served: str, axe: str, width: int, scheme: str
) -> None:
    looked_at(chromium, served, width, scheme, axe, ["index.html", CHOSEN])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_every_page_is_in_order_in_each_view(
    chromium: Any, address: str, axe: str, width: int, scheme: str
) -> None:
    looked_at(chromium, address, width, scheme, axe, [*NAMES, CHOSEN])


def test_links_lead_to_what_there_is(kept: Kept) -> None:
    """Of all pages, to files and to places in them; asv's own pages are made elsewhere."""
    for page in kept.html.glob("*.html"):
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"#][^"]*)"', text):
            url = urlparse(target)
            if not url.scheme:
                assert (kept.html / unquote(url.path)).is_file(), (page.name, target)


def test_every_heading_that_sorts_has_a_name(kept: Kept) -> None:
    """Scripts make a button of it, which must have a name."""
    for page in kept.html.glob("*.html"):
        for table in re.findall(
            r'<table class="sortable".*?</table>', page.read_text(), re.DOTALL
        ):
            headings = re.findall(r"<th\b[^>]*>(.*?)</th>", table, re.DOTALL)
            assert all(headings), (page.name, headings)


def test_a_deep_link_restores_the_view(view: View) -> None:
    page = view.open(
        f"history.html#b={FUTURES}&p={POINT}&q=history_ttbar&clock=CPU&all=1&log=1&sort.benchmarks=0d"
    )
    assert page.locator("#history figcaption").inner_text() == "ttbar analysis: CPU time per event"
    page.wait_for_selector("#point:not([hidden])")
    about = page.locator("#point").inner_text()
    assert "executor=futures, workers=2, v2025.12.0" in about
    assert "coffea 2025.9.0 to 2025.12.0" in about
    assert "interval +" in about
    assert page.locator("#search").input_value() == "history_ttbar"
    assert page.locator("#log").is_checked()
    assert not page.locator("#judged").is_checked()
    shown = page.locator("#benchmarks tbody tr:visible")
    assert shown.count() == 1
    assert page.locator("#benchmarks th").first.get_attribute("aria-sort") == "descending"
    # Every case has a chart, and the marks are those of the data.
    assert page.locator(".case").count() == 4
    view.assert_clean()


def test_what_is_chosen_is_in_the_link(view: View) -> None:
    page = view.open("history.html")
    page.locator("#judged").uncheck()
    page.locator("#search").fill("importing coffea: CPU")
    page.locator("#benchmarks tbody tr:visible a").first.click()
    page.wait_for_function(
        "document.querySelector('figcaption').textContent.includes('Importing')"
    )
    assert "b=import.history_coffea.cpu_seconds" in page.url
    assert "all=1" in page.url
    other = View(page.context, view.address)
    again = other.open(page.url.removeprefix(view.address))
    assert "Importing coffea" in again.locator("#history figcaption").inner_text()
    view.assert_clean()


def test_points_are_reached_by_keyboard(view: View) -> None:
    page = view.open("history.html#b=query.history_8.cpu_seconds_per_event")
    first = page.locator(".medians circle[tabindex='0']").first
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#point:not([hidden])")
    assert "python -m perf bisect" in page.locator("#point code").inner_text()
    assert "adl-8" in page.locator("#point code").inner_text()
    page.goto("about:blank")
    page = view.open("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"


def test_tables_sort_by_their_headings(view: View) -> None:
    page = view.open("history.html")
    cells = "[...document.querySelectorAll('#judged-changes tbody tr')].map(row => row.cells[4].dataset.sort)"
    button = page.locator("#judged-changes th").nth(4).locator("button")
    for place, way in enumerate(("ascending", "descending")):
        button.focus()
        page.keyboard.press("Enter")
        assert page.locator("#judged-changes th").nth(4).get_attribute("aria-sort") == way
        values = [float(text) for text in page.evaluate(cells)]
        assert values == sorted(values, reverse=bool(place))
        assert len(set(values)) > 1


def test_charts_show_the_numbers_of_the_files(view: View, kept: Kept) -> None:
    """Medians, as marks tell them, and in the table below."""
    page = view.open("history.html#b=import.history_coffea.peak_memory_bytes")
    told = page.locator(".medians circle").evaluate_all("all => all.map(one => one.ariaLabel)")
    content = (kept.html / "data/import.history_coffea.peak_memory_bytes.json").read_text()
    curves = json.loads(content)["curves"]
    want = {
        f"{point['at']}: {measured(point['median'], 'bytes')}"
        for curve in curves
        for point in curve["points"]
    }
    assert {one.partition(", ")[0] for one in told} == want
    page.locator("#history summary").click()
    assert page.locator("#points tbody tr").count() == sum(len(c["points"]) for c in curves)


def test_without_javascript_verdicts_and_numbers_are_there(chromium: Any, served: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in NAMES:
        page.goto(served + name)
        assert page.locator("h1").count() == 1
    page.goto(served)
    assert "v2025.12.0" in page.locator("#open").inner_text()
    page.goto(f"{served}history.html")
    assert page.locator("#filters").is_hidden()
    assert page.locator("#benchmarks tbody tr").count() > 20
    context.close()


def test_the_theme_is_kept_and_pages_are_printed(view: View) -> None:
    page = view.open("index.html")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.get_by_role("button", name="Dark theme").click()
    dark = page.evaluate(colour)
    assert dark != light
    view.open("history.html")
    assert page.evaluate(colour) == dark
    page.emulate_media(media="print")
    assert page.evaluate(colour) == light
    assert page.locator("nav").is_hidden()
    assert len(page.pdf()) > 10_000
    view.assert_clean()


def test_the_first_chart_is_light(view: View, kept: Kept) -> None:
    """Ten requests, and 250 kB as a server compresses them: whatever the number of benchmarks."""
    view.open("history.html")
    root = urlparse(view.address).path
    sizes = {
        name: len(gzip.compress((kept.html / name).read_bytes()))
        for url in view.asked
        if url.startswith(view.address)
        if (name := unquote(urlparse(url).path).removeprefix(root))
    }
    assert len(sizes) <= 10
    assert sum(sizes.values()) < 250_000
