"""asv's own pages of the series, raw: what they show, nobody has judged.

Every quantity of a group of records is a benchmark of asv, with its real parameters
(`perf.publish.series`); every release or commit of coffea is a point at its real date
(`perf.publish.timeline`). asv's own `Results` does the statistics. asv's page loads its libraries
from the network; it is replaced by that of asv-tachyon, which has everything in its folder. asv
judges; asv-tachyon only shows.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asv.commands.publish import Publish
from asv.config import Config
from asv_tachyon import cli as tachyon

from analysis.errors import InputError
from perf.publish import timeline
from perf.publish.asv_files import convert
from perf.publish.series import Series, default_machine, suite_code, when
from perf.publish.timeline import Timeline
from perf.records import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perf.publish.timeline import Entry
    from perf.records.record_file import Record

PROJECT_URL: Final = "https://github.com/scikit-hep/coffea"
COMMIT_URL: Final = f"{PROJECT_URL}/commit/"
HASH_LENGTH: Final = 10
"""Characters of a commit or release that are shown: enough for v2026.9.0."""

UNWANTED: Final = (
    "*.js",
    "*.css",
    "vendor",
    "error.html",
    "swallow.ico",
    "swallow.png",
    "regressions.xml",
)
"""Files of asv's own page that the other does not need, that ask for the network, or that judge."""

SHOWN_PACKAGES: Final = ("awkward", "uproot", "numba", "numpy", "dask", "hist", "python")
"""Packages whose versions are shown with a point."""

DATES: Final = """<script>
      // asv numbers commits; here a number is an hour since 1970, and any hour has a date to show.
      const plain = Response.prototype.json;
      Response.prototype.json = async function () {
        const content = await plain.call(this);
        if (content?.revision_to_hash) {
          const date = (hour) => new Date(hour * 3.6e6).toISOString().slice(0, 7);
          content.revision_to_hash = new Proxy(content.revision_to_hash, {
            get: (known, key) => known[key] ?? (/^\\d+$/.test(key) ? date(key) : undefined),
          });
        }
        return content;
      };
    </script>"""
"""Makes the time axis of asv-tachyon show dates."""


RAW: Final = """<style>
      .foot > span:nth-child(2) { display: none } /* The newest point over the oldest. */
      .raw { position: relative; z-index: 1; margin: 0; padding: 0.5rem 1rem; background: #fff3c4; color: #222 }
    </style>
    <script>
      const judging = /^(Regressions|only-regressed)/;
      new MutationObserver(() => {
        for (const button of document.querySelectorAll("button"))
          if (judging.test(button.textContent)) button.style.display = "none";
      }).observe(document, { childList: true, subtree: true });
    </script>"""
"""Takes away what asv-tachyon says of a curve: a mean over all parameters and modes of it, by nobody judged."""

BANNER: Final = """<p class="raw">Raw, not judged: asv's own pages of the same numbers.
    <a href="../index.html">What was judged</a></p>"""


def drawn(benchmarks: Mapping[str, Series]) -> dict[str, Series]:
    """Those of which asv draws a curve: of a single point it draws a century."""
    kept = {}
    for name, series in benchmarks.items():
        entries: dict[str, set[Entry]] = defaultdict(set)
        for entry, machine, _ in series.records:
            entries[machine].add(entry)
        records = {key: run for key, run in series.records.items() if len(entries[key[1]]) > 1}
        if records:
            kept[name] = replace(series, records=records)
    return kept


def write(benchmarks: Mapping[str, Series], records: Sequence[Record], pages: Path) -> None:
    """Write asv's pages of benchmarks, which are some, to a new folder; they need no network."""
    with tempfile.TemporaryDirectory(prefix="coffea-publish-") as name:
        folder = Path(name)
        entries = convert(benchmarks, folder / "results")
        timeline.write(folder / "timeline.json", entries)
        conf = Config.from_json(
            {
                "project": "coffea",
                "project_url": PROJECT_URL,
                "show_commit_url": COMMIT_URL,
                "repo": str(folder / "timeline.json"),
                "dvcs": timeline.KIND,
                "branches": list(timeline.branches(entries)),
                "hash_length": HASH_LENGTH,
                "results_dir": str(folder / "results"),
                "html_dir": str(pages),
            }
        )
        with _quiet() as printed:
            try:
                Publish.run(conf, pull=False)
                tachyon.cmd_install(pages, backup=False)
            except Exception as error:
                msg = f"asv cannot publish: {error}; it printed: {printed.getvalue()[-500:]}"
                raise InputError(msg) from error
        _complete(pages, entries, records)
        _put_first(pages / "index.json", default_machine(benchmarks.values()))


def _put_first(index: Path, machine: str | None) -> None:
    """Have the page show this machine unless another is chosen."""
    content = json.loads(index.read_text())
    content["params"]["machine"].sort(key=lambda name: name != machine)
    content["graph_param_list"].sort(key=lambda chosen: chosen["machine"] != machine)
    index.write_text(json.dumps(content, separators=(",", ":")))


def _complete(pages: Path, entries: Sequence[Entry], records: Sequence[Record]) -> None:
    """Remove files that ask for the network; add dates and versions where the page shows them."""
    for pattern in UNWANTED:
        for path in pages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    index = pages / "index.html"
    text = index.read_text().replace("<head>", f"<head>\n    {DATES}\n    {RAW}", 1)
    index.write_text(text.replace("<body>", f"<body>\n    {BANNER}", 1))
    newest = {entry: record for record in records if (entry := when(record))}
    revisions = Timeline.revisions(entries)
    shown = {revisions[entry.name]: _versions(entry, newest[entry]) for entry in entries}
    # The page loads the other two as well, and logs an error if they are missing.
    for name, content in {
        "commits.json": {"by_revision": shown},
        "profiles.json": {},
        "regressions.json": {"regressions": []},
        "regressions-ignore.json": [],
    }.items():
        (pages / name).write_text(json.dumps(content))


def _versions(entry: Entry, record: Record) -> str:
    others = [
        f"{name} {record.versions[name]}" for name in SHOWN_PACKAGES if name in record.versions
    ]
    others += [f"{provenance.SUITE} {known}"] if (known := suite_code(record)) else []
    return f"{entry.date:%Y-%m-%d}: {', '.join(others)}"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Capture the output of asv."""
    printed = io.StringIO()
    logger = logging.getLogger("asv")
    before = logger.level
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield printed
    finally:
        logger.setLevel(before)
