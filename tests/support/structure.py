"""How the code is built: modules, imports, circles and lines, here or at a git revision.

``python -m tests.support.structure [REVISION ...]`` prints a column for each revision and one for
this checkout.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import grimp
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("analysis", "perf")
FOLDERS: Final = (*PACKAGES, "benchmarks", "tests")
LONG: Final = 450
"""Lines above which a module has to say why."""

Edges = dict[str, set[str]]
"""What each module, or each room, imports."""


class Lines(NamedTuple):
    """Lines of a module: all, and those without docstrings, comments and blank ones."""

    total: int
    code: int


@dataclass
class Structure:
    """The structure of one checkout."""

    lines: dict[str, Lines]
    """By path."""
    modules: Edges
    rooms: dict[str, Edges] = field(default_factory=dict)
    """By package, what its modules and folders import of each other."""

    def folders(self) -> dict[str, Lines]:
        """Sums over the folders of the packages, and over each package."""
        sums: Counter[tuple[str, int]] = Counter()
        for path, lines in self.lines.items():
            parts = Path(path).parts
            inner = "/".join(parts[:2]) if len(parts) > 2 else f"{parts[0]}/*.py"
            for name in (inner, f"{parts[0]}, all"):
                for index, number in enumerate(lines):
                    sums[name, index] += number
        return {name: Lines(sums[name, 0], sums[name, 1]) for name, _ in sums}

    def longest(self) -> list[str]:
        """Modules outside of tests that are long, the longest first."""
        long = [
            (lines.total, path)
            for path, lines in self.lines.items()
            if lines.total > LONG and not path.startswith("tests/")
        ]
        return [f"{path} {total}" for total, path in sorted(long, reverse=True)]


def count_lines(source: str) -> Lines:
    """Count the lines of a module."""
    code: set[int] = set()
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped | {tokenize.ENDMARKER}:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        # A string that stands alone documents what it follows.
        match node:
            case ast.Expr(ast.Constant(str())):
                code.difference_update(range(node.lineno, (node.end_lineno or 0) + 1))
    return Lines(source.count("\n"), len(code))


def imports(folder: Path) -> Edges:
    """What each module of the packages imports of them when it runs."""
    sys.path.insert(0, str(folder))
    try:
        graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    finally:
        sys.path.remove(str(folder))
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def between_rooms(modules: Edges, package: str) -> Edges:
    """Imports between what lies directly in a package: its modules and folders."""
    edges: Edges = {}
    for importer, imported in modules.items():
        if room := _room(importer, package):
            edges.setdefault(room, set()).update(
                other for name in imported if (other := _room(name, package)) not in {"", room}
            )
    return edges


def _room(module: str, package: str) -> str:
    """The room of a module; empty where it has none."""
    names = module.split(".")
    return names[1] if names[0] == package and len(names) > 1 else ""


def circles(edges: Edges) -> list[list[str]]:
    """Groups of which each member imports each other, if only through others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        rest = [start]
        while rest:
            new = edges.get(rest.pop(), set()) - seen
            seen |= new
            rest += new
        return seen

    reach = {name: reached(name) for name in edges}
    groups = {
        tuple(sorted({name} | {other for other in reach[name] if name in reach[other]}))
        for name in edges
    }
    return sorted(list(group) for group in groups if len(group) > 1)


def floors(edges: Edges) -> int:
    """How many modules, or rooms, stand on each other; a circle counts as one."""
    member = {name: name for name in edges}
    for group in circles(edges):
        member |= dict.fromkeys(group, group[0])
    merged: Edges = {}
    for name, imported in edges.items():
        merged.setdefault(member[name], set()).update(member[other] for other in imported)

    @cache
    def height(name: str) -> int:
        return 1 + max((height(other) for other in merged[name] if other != name), default=0)

    return max(map(height, merged), default=0)


def structure(folder: Path) -> Structure:
    """Structure of the checkout in a folder."""
    paths = [path for name in FOLDERS for path in sorted((folder / name).rglob("*.py"))]
    modules = imports(folder)
    return Structure(
        {str(path.relative_to(folder)): count_lines(path.read_text()) for path in paths},
        modules,
        {package: between_rooms(modules, package) for package in PACKAGES},
    )


def at_revision(revision: str) -> Structure:
    """Structure at a revision of this repository."""
    command = ["git", "-C", str(ROOT), "archive", revision]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return structure(Path(folder))


def summary(found: Structure) -> dict[str, int]:
    """Numbers of a structure."""
    numbers = {
        "modules": len(found.modules),
        "imports between them": sum(map(len, found.modules.values())),
        "circles of modules": len(circles(found.modules)),
    }
    for package, edges in found.rooms.items():
        numbers |= {
            f"{package}: rooms": len(edges),
            f"{package}: imports between rooms": sum(map(len, edges.values())),
            f"{package}: circles of rooms": len(circles(edges)),
            f"{package}: floors": floors(edges),
        }
    numbers[f"modules of more than {LONG} lines"] = len(found.longest())
    return numbers


def report(columns: Mapping[str, Structure]) -> Iterable[Table | str]:
    """Tables with a column for each structure, then the circles and the long modules of each."""
    yield _table({name: summary(found) for name, found in columns.items()})
    lines: dict[str, dict[str, int]] = {}
    for name, found in columns.items():
        folders = found.folders()
        lines[name] = {folder: one.total for folder, one in folders.items()}
        lines[f"{name}, code"] = {folder: one.code for folder, one in folders.items()}
    yield "\nLines, and lines of code: without docstrings, comments and blank lines"
    yield _table(lines)
    for name, found in columns.items():
        graphs = (found.modules, *found.rooms.values())
        groups = [" <-> ".join(group) for graph in graphs for group in circles(graph)]
        for title, rows in (("circles", groups), (f"more than {LONG} lines", found.longest())):
            yield f"\n{name}, {title}:" + "".join(f"\n  {row}" for row in rows or ["none"])


def _table(columns: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("", box=None)
    for name in columns:
        table.add_column(name, justify="right")
    rows = {row: None for numbers in columns.values() for row in numbers}
    for row in sorted(rows, key=_order):
        cells = (numbers.get(row) for numbers in columns.values())
        table.add_row(row, *("" if cell is None else f"{cell:,}" for cell in cells))
    return table


def _order(row: str) -> tuple[str, bool, str]:
    """What is of no package first; of each package its folders by name, then their sum."""
    package = re.split("[/,:]", row)[0]
    return (package if package in FOLDERS else "", "all" in row, row if "/" in row else "")


def main(revisions: Sequence[str]) -> None:
    """Print the structure of each revision and of this checkout."""
    columns = {revision: at_revision(revision) for revision in revisions}
    columns["here"] = structure(ROOT)
    console = Console(width=99)
    for part in report(columns):
        console.print(part, highlight=False)


if __name__ == "__main__":
    main(sys.argv[1:])
