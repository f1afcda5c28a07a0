"""The code keeps its structure: layers, no circles of imports, short modules, tests by folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from importlinter.cli import lint_imports

from tests.support import structure
from tests.support.structure import LONG, PACKAGES, ROOT, Lines

if TYPE_CHECKING:
    from collections.abc import Mapping

REASON: Final = re.compile(r"\blines\b[^.]*\bbecause\b", re.IGNORECASE)
"""In the docstring of a module that is long: "More than 450 lines because ..."."""

TESTED_ELSEWHERE: Final = {"perf/benchmarks"}
"""Folders without a folder of tests: tests/perf/cases and tests/perf/publish have those."""


def sources() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def test_imports_keep_the_contracts_of_pyproject(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    failed = lint_imports(no_cache=True, no_logo=True)
    assert not failed, capsys.readouterr().out


def test_a_long_module_says_why() -> None:
    silent = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > LONG:
            docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
            if not REASON.search(docstring):
                silent.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
    assert not silent, f"divide these, or say in the docstring 'More than {LONG} lines because'"


def test_tests_mirror_the_folders() -> None:
    def folders(root: Path) -> set[str]:
        return {
            f"{package}/{path.parent.name}"
            for package in PACKAGES
            for path in (root / package).glob("*/__init__.py")
        }

    assert folders(ROOT / "tests") == folders(ROOT) - TESTED_ELSEWHERE


# --- the script that counts

SOURCE = '''"""A docstring

of three lines."""

import os  # a comment beside code


# a comment
def function():
    """Say."""
    return """a string

of code"""
'''


def test_lines_of_code() -> None:
    assert structure.count_lines(SOURCE) == Lines(total=13, code=5)


@pytest.mark.parametrize(
    ("edges", "circles", "floors"),
    [
        ({"a": set(), "b": {"a"}, "c": {"a", "b"}}, [], 3),
        ({"a": {"c"}, "b": {"a"}, "c": {"b"}, "d": {"a"}}, [["a", "b", "c"]], 2),
        ({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c", "a"}}, [["a", "b"], ["c", "d"]], 2),
        ({}, [], 0),
    ],
)
def test_circles_and_floors(
    edges: Mapping[str, set[str]], circles: list[list[str]], floors: int
) -> None:
    assert structure.circles(dict(edges)) == circles
    assert structure.floors(dict(edges)) == floors


def test_what_is_counted() -> None:
    here = structure.structure(ROOT)
    assert "analysis.kernels.histogram" in here.modules["analysis.histograms"]
    assert "kernels" in here.rooms["analysis"]["histograms"]
    folders = here.folders()
    parts = [lines.total for name, lines in folders.items() if name.startswith("perf/")]
    assert folders["perf, all"].total == sum(parts) > 10_000
    assert structure.summary(here)["modules"] == len(sources())
