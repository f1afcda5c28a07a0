"""Overview: what this is, and what the newest release changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perf.publish.page import Material, Page

if TYPE_CHECKING:
    from collections.abc import Mapping


def _context(material: Material) -> Mapping[str, Any]:
    return {"machine": material.machine, "benchmarks": len(material.benchmarks)}


PAGE: Final = Page("overview", "Overview", _context)
