"""The site of what is kept, and a browser that looks at pages."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from perf.publish import site
from perf.publish.causes import causes
from perf.records import store
from perf.records.void import SHIPPED, voids
from tests.support.chromium import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perf.records.record_file import Record


class Kept(NamedTuple):
    """A project that has measured nothing, with the records that came with the suite."""

    root: Path
    records: list[Record]
    html: Path


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The site of the kept records."""
    root = tmp_path_factory.mktemp("kept")
    (root / "perf").symlink_to(SHIPPED)
    records, html = store.collect(root), root / "site"
    site.publish(
        records, html, voids(root), store.comparisons(root), causes=causes(root), raw=False
    )
    return Kept(root, records, html)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real headless Chromium."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        found = program()
        if found is None and not Path(play.chromium.executable_path).exists():
            pytest.skip("there is no Chromium: `make browser` installs one")
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(kept: Kept) -> Iterator[str]:
    """Address of the kept site."""
    with site.served(kept.html) as (server, address):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield address
        server.shutdown()
