"""Modules: what one imports, where it is, and whether it is installed. None is imported for it."""

from __future__ import annotations

import ast
import site
import sysconfig
from contextlib import suppress
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


@lru_cache(10_000)
def imported_by(source: str, name: str, *, package: bool) -> tuple[str, ...]:
    """Names of modules that a module may import, the packages that they are in, and its own.

    They stand in its source, also where it imports only when a function is called. Names that
    are made up at run time are not found.
    """
    here = name if package else name.rpartition(".")[0]
    names = {name}
    tree: ast.AST = ast.Module([], [])
    with suppress(SyntaxError, ValueError):
        tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                base = node.module or ""
                if node.level:
                    with suppress(ImportError):
                        base = resolve_name("." * node.level + base, here)
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(other)), *_],
            ):
                names.add(other)
    found: set[str] = set()
    for one in names:
        parts = one.split(".")
        found.update(".".join(parts[: n + 1]) for n in range(len(parts)))
    return tuple(sorted(found - {""}))


def find(name: str, locations: list[str] | None) -> ModuleSpec | None:
    """Where a module is; `locations` are those of the package that it is in, if it is in one."""
    if "." in name and locations is None:
        return None
    with suppress(Exception):  # of a user's finders
        return PathFinder.find_spec(name, locations)
    return None


@lru_cache(100_000)
def installed(place: str) -> bool:
    """Whether a file is one of Python's or of an installed package."""
    path = Path(place)
    return any(one in path.parts for one in ("site-packages", "dist-packages")) or any(
        path.is_relative_to(home) for home in _homes()
    )


@cache
def _homes() -> set[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return {
        *(sysconfig.get_path(name) for name in names),
        *site.getsitepackages(),
        site.getusersitepackages(),
    }
