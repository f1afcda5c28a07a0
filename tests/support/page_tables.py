"""The text and tables of a page, as somebody without JavaScript reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

UNSEEN = {"script", "style", "head"}


@dataclass
class Table:
    """Headings and rows, and the values that cells are sorted by."""

    caption: str = ""
    headings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    sort: list[list[str | None]] = field(default_factory=list)

    def column(self, heading: str) -> list[str]:
        """Cells of a column, from top to bottom."""
        place = self.headings.index(heading)
        return [row[place] for row in self.rows]


class Reader(HTMLParser):
    """Collects text and tables of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tables: list[Table] = []
        self._open: list[str] = []
        self._begin = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in UNSEEN:
            self._open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        if tag == "tr":
            self.tables[-1].rows.append([])
            self.tables[-1].sort.append([])
        if tag == "td":
            self.tables[-1].sort[-1].append(dict(attrs).get("data-sort"))
        if tag in {"th", "td", "caption"}:
            self._begin = len(self.words)

    def handle_endtag(self, tag: str) -> None:
        if tag in UNSEEN:
            self._open.remove(tag)
        text = " ".join(" ".join(self.words[self._begin :]).split())
        if tag == "caption":
            self.tables[-1].caption = text
        if tag == "th":
            self.tables[-1].headings.append(text)
        if tag == "td":
            self.tables[-1].rows[-1].append(text)
        if tag == "thead":
            self.tables[-1].rows.clear()
            self.tables[-1].sort.clear()

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that is read, with single blanks."""
        return " ".join(" ".join(self.words).split())

    def table(self, caption: str) -> Table:
        """The table whose caption begins so."""
        (found,) = [table for table in self.tables if table.caption.startswith(caption)]
        return found


def read(html: str) -> Reader:
    """Read a page."""
    reader = Reader()
    reader.feed(html)
    return reader


def is_json(value: Any) -> bool:
    """Whether JSON gives it back: what templates get must be data, not objects."""
    match value:
        case dict():
            return all(isinstance(key, str) and is_json(each) for key, each in value.items())
        case list() | tuple():
            return all(map(is_json, value))
    return value is None or type(value) in {str, int, float, bool}
