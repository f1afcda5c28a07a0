"""The site of many benchmarks: ``python -m tests.campaigns.site_budget``, as ``make site-budget`` does.

The kept history is repeated under other names until it has so many benchmarks. Told are the seconds
that the site takes to build, and how long a new browser takes, from the disk and from a server, from
the request to the first chart of the pages with most of them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from perf.publish import site
from perf.publish.series import series
from perf.records import store
from perf.records.void import SHIPPED
from tests.campaigns._footer import footer
from tests.support.chromium import program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perf.records.record_file import Record

BENCHMARKS: Final = 1500
VISITS: Final = 5
PAGES: Final = ("history.html", "executors.html", "kernels.html")

FIRST_CHART: Final = """
new MutationObserver((_, observer) => {
  const chart = document.querySelector("figure .chart svg");
  if (!chart) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.firstChart = performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""
"""Milliseconds from the request of the page to the frame that has its first chart."""


def many(records: Sequence[Record], benchmarks: int) -> list[Record]:
    """Records of at least so many benchmarks: copies of the kept ones under other names."""
    each = len(series(records))
    copies = -(-benchmarks // each)
    return [
        record.model_copy(
            update={
                "what": record.what.model_copy(
                    update={"group": f"{record.what.group}{f' {copy}' if copy else ''}"}
                )
            }
        )
        for copy in range(copies)
        for record in records
    ]


def visits(folder: Path, pages: Sequence[str], number: int) -> Iterator[tuple[str, str, float]]:
    """Page, where it is, and milliseconds to its first chart, for each visit of a new browser."""
    with site.served(folder) as (server, address), sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        for where, root in (("disk", f"{folder.as_uri()}/"), ("server", address)):
            for page in pages:
                for _ in range(number):
                    # A new context has nothing in its cache.
                    context = browser.new_context()
                    view = context.new_page()
                    view.add_init_script(FIRST_CHART)
                    view.goto(root + page)
                    view.wait_for_function("window.firstChart")
                    yield page, where, view.evaluate("window.firstChart")
                    context.close()
        browser.close()
        server.shutdown()


def seconds_to_build(records: Sequence[Record], folder: Path, *, raw: bool) -> float:
    """Wall seconds of `site.publish`."""
    begin = time.perf_counter()
    site.publish(records, folder, raw=raw)
    return time.perf_counter() - begin


def main() -> None:
    """Build, visit, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmarks", type=int, default=BENCHMARKS)
    parser.add_argument("--visits", type=int, default=VISITS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="site-budget-") as name:
        root = Path(name)
        (root / "perf").symlink_to(SHIPPED)
        records = many(store.collect(root), asked.benchmarks)
        built = {
            kind: seconds_to_build(records, root / kind, raw=kind == "with")
            for kind in ("without", "with")
        }
        taken: dict[tuple[str, str], list[float]] = {}
        with_charts = [page for page in PAGES if _has_charts(root / "with" / page)]
        for page, where, milliseconds in visits(root / "with", with_charts, asked.visits):
            taken.setdefault((page, where), []).append(milliseconds)
        print(f"{len(series(records))} benchmarks of {len(records)} records")  # noqa: T201
    for kind, seconds in built.items():
        print(f"build {kind} asv's raw pages: {seconds:.1f} s")  # noqa: T201
    table = Table("page", "from", "first chart, ms, median", "longest")
    for (page, where), all_of_them in taken.items():
        median, longest = statistics.median(all_of_them), max(all_of_them)
        table.add_row(page, where, f"{median:.0f}", f"{longest:.0f}")
    Console(width=100).print(table)
    print(footer("site_budget"))  # noqa: T201


def _has_charts(page: Path) -> bool:
    return "data-kind" in page.read_text()


if __name__ == "__main__":
    main()
