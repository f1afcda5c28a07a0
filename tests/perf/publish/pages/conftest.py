"""A page rendered alone, and read as somebody without JavaScript reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perf.publish import site
from tests.support.page_tables import Reader, is_json, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perf.publish.page import Material, Page


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Page, Material], Reader]:
    """A function that renders a page of some material."""

    def show(page: Page, material: Material) -> Reader:
        assert is_json(page.context(material))
        monkeypatch.setattr(site, "PAGES", (page,))
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        site._render(material, folder, raw=False)
        return read((folder / "index.html").read_text())

    return show
