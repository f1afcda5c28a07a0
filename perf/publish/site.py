"""The site: pages that say what changed, how sure that is and why, and work from the disk.

Verdicts and tables are rendered here; scripts draw charts of the same numbers. Data are classic
scripts, which a browser reads from a file as well as from a server, with the same as JSON and CSV to
take away.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import io
import json
import shutil
import socketserver
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jinja2

from analysis.errors import InputError
from perf.publish import asv_pages, numbers
from perf.publish.page import Data, Material, Page
from perf.publish.pages import (
    compare,
    executors,
    history,
    inference,
    kernels,
    overview,
    peers,
    report,
    reproduce,
)
from perf.publish.series import when

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perf.publish.causes import Cause
    from perf.publish.commands import Command
    from perf.records.record_file import Record
    from perf.records.void import Void

HTML: Final = "reports/site"
"""Folder of the site, relative to the root of the project."""

HERE: Final = Path(__file__).parent
PAGES: Final[tuple[Page, ...]] = (
    overview.PAGE,
    history.PAGE,
    executors.PAGE,
    kernels.PAGE,
    peers.PAGE,
    compare.PAGE,
    inference.PAGE,
    report.PAGE,
    reproduce.PAGE,
)
"""In the order of the navigation; the first is the index."""

RAW: Final = "asv"
"""Folder of asv's own pages, in the site's."""


@dataclass(frozen=True)
class Published:
    """Numbers of benchmarks, of releases and commits, and of records without a known date."""

    benchmarks: int
    points: int
    left_out: int


def publish(
    records: Sequence[Record],
    html: Path,
    voids: Sequence[Void] = (),
    comparisons: Sequence[Mapping[str, Any]] = (),
    commands: Sequence[Command] = (),
    causes: Sequence[Cause] = (),
    *,
    raw: bool = True,
) -> Published:
    """Publish records, oldest first, as a site; replaces the folder `html`.

    Parameters
    ----------
    comparisons
        Reports of ``compare --json``.
    commands
        Those of ``python -m perf``.
    causes
        Reasons of changes that somebody found.
    raw
        Whether asv's own pages are made as well, which takes longer than all others.
    """
    material = Material.of(records, voids, comparisons, commands, causes)
    with tempfile.TemporaryDirectory(prefix="coffea-site-") as name:
        folder = Path(name) / "site"
        shutil.copytree(HERE / "static", folder / "static")
        curves = asv_pages.drawn(material.benchmarks) if raw else {}
        if curves:
            asv_pages.write(curves, records, folder / RAW)
        _render(material, folder, raw=bool(curves))
        shutil.rmtree(html, ignore_errors=True)
        html.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, html)
    entries = {entry for each in material.benchmarks.values() for entry, _, _ in each.records}
    left_out = sum(when(record) is None for record in records)
    return Published(len(material.benchmarks), len(entries), left_out)


def _render(material: Material, folder: Path, *, raw: bool) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= numbers.FILTERS
    # NaN is not JSON: a browser would refuse all of the data.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "sort_keys": False}
    newest = material.records[-1] if material.records else None
    environment.globals |= {
        "pages": [(address(page), page.title) for page in PAGES],
        "raw": RAW if raw else None,
        "measured_until": newest and newest.timestamp.date().isoformat(),
    }
    (folder / "data").mkdir()
    for page in PAGES:
        for name, data in page.files(material):
            _write(folder / "data" / name, name, data)
        template = environment.get_template(f"{page.name}.html")
        content = template.render(page=page, address=address(page), **page.context(material))
        (folder / address(page)).write_text(content)


def address(page: Page) -> str:
    """Name of the file of a page."""
    return "index.html" if page is PAGES[0] else f"{page.name}.html"


def _write(path: Path, name: str, data: Data) -> None:
    """A file of data as a script, as JSON and, if it has rows, as CSV."""
    content = json.dumps(data.content, allow_nan=False, separators=(",", ":"))
    # Not `with_suffix`: names of benchmarks have dots.
    Path(f"{path}.js").write_text(f"site.data({json.dumps(name)},{content});\n")
    Path(f"{path}.json").write_text(content + "\n")
    if data.rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(data.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(data.rows)
        Path(f"{path}.csv").write_text(text.getvalue())


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def served(html: Path, port: int = 0) -> Iterator[tuple[socketserver.BaseServer, str]]:
    """A server of the site for this machine, and its address; by default at any free port.

    All but asv's own pages also work from the disk.
    """
    handler = functools.partial(_Silent, directory=str(html))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        msg = f"port {port} cannot be used: {error.strerror}; name another with --port"
        raise InputError(msg) from error
    with server:
        yield server, f"http://127.0.0.1:{server.server_address[1]}/"
