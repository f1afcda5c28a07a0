"""Report: what reports/dask-report.md says, of all that the site shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from markdown_it import MarkdownIt

from perf.publish.page import Material, Page
from perf.publish.pages import written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markdown_it.token import Token

REPOSITORY: Final = "https://github.com/coffea-scaling/coffea-scaling/blob/main/reports/"
"""Where links of the report lead that are relative to its folder: the site has no other files."""

_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)


def _context(material: Material) -> Mapping[str, Any]:
    return {"html": html(written.render(material)[written.REPORT]), "source": written.REPORT}


def html(text: str) -> str:
    """The report as HTML without its title, which is above the page already."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(_COMMENT.sub("", text))
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    section = "Table"
    for place, token in enumerate(tokens):
        match token.type:
            case "heading_open":
                section = tokens[place + 1].content
                token.attrSet("id", slug(section))
            case "table_open":
                token.meta["section"] = section
            case "inline":
                _lead_outside(token.children or ())
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def slug(heading: str) -> str:
    """The address of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _lead_outside(tokens: Sequence[Token]) -> None:
    for token in tokens:
        target = token.attrGet("href")
        if isinstance(target, str) and not target.startswith(("#", "http")):
            token.attrSet("href", REPOSITORY + target)


def _table_open(_self: Any, tokens: Sequence[Token], place: int, *_: Any) -> str:
    """A table that scrolls by itself where it is too wide, as all of the site."""
    label = re.sub(r"[^\w ,]", "", str(tokens[place].meta["section"]))
    return f'<div class="wide" tabindex="0" role="region" aria-label="{label}, table">\n<table>\n'


def _table_close(*_: Any) -> str:
    return "</table>\n</div>\n"


PAGE: Final = Page("report", "Report", _context)
