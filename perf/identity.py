"""What a measurement depends on, so that what was measured of something else is not shown for it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pkgutil
import sys
import sysconfig
from functools import cache, lru_cache
from importlib.metadata import distributions
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.machinery import ModuleSpec

VARIABLES: Final = (
    *("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONMALLOC", "PYTHONOPTIMIZE"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMBA_NUM_THREADS", "NUMBA_DISABLE_JIT", "NUMBA_OPT"),
)
"""What the names begin with of environment variables by which the same code is faster or slower."""


def digest(*parts: Any) -> str:
    """Hexadecimal SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What of that which something depends on has changed, is there no more or has come."""
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def environment() -> dict[str, str]:
    """Of this process: Python, all that is installed, and VARIABLES."""
    settings = {
        name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)
    }
    return {
        "Python": digest(sys.version),
        "the installed packages": _installed_packages(),
        "the environment variables": digest(settings),
    }


@cache
def _installed_packages() -> str:
    return digest(sorted({f"{one.name} {one.version}" for one in distributions()}))


# --- source


def modules(*names: str) -> dict[str, str]:
    """Modules and all that they import, but for installed packages: the digest of each.

    They are read, not run: what a module imports stands in its source, also where it is imported
    only when a function is called. `sys.modules` has not that, and has what others imported.
    Names that are made up at run time are not found.

    Parameters
    ----------
    names
        Of modules, ``PACKAGE.*`` for all of a package; nothing is found for one that does not exist.

    Returns
    -------
    dict
        By "the module NAME"; packages without source are left out.
    """
    found: dict[str, str] = {}
    seen: dict[str, ModuleSpec | None] = {}
    todo = [part for name in names for one in _expanded(name) for part in _prefixes(one)]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        spec = seen[name] = _find(name, seen)
        if spec is None or spec.origin is None or _is_installed(spec.origin):
            continue
        path = Path(spec.origin)
        try:
            status = path.stat()
        except OSError:  # built in, or frozen
            continue
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        content, imported = _read(path, package, status.st_mtime_ns, status.st_size)
        found[f"the module {name}"] = content
        todo += [part for one in imported for part in _prefixes(one)]
    return found


def _expanded(name: str) -> list[str]:
    package = name.removesuffix(".*")
    if package == name:
        return [name]
    spec = _find(package, {})
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return [f"{package}.{one.name}" for one in pkgutil.iter_modules(places)]


def _prefixes(name: str) -> Iterator[str]:
    """A module and the packages that it is in, the outermost last."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _find(name: str, seen: dict[str, ModuleSpec | None]) -> ModuleSpec | None:
    """Where a module is, which is not imported for it, nor are the packages that it is in."""
    parent = name.rpartition(".")[0]
    path: Iterable[str] | None = None
    if parent:
        if parent not in seen:
            seen[parent] = _find(parent, seen)
        of = seen[parent]
        if of is None or of.submodule_search_locations is None:
            return None
        # That of a package without __init__.py looks for its parent among what is imported.
        path = getattr(of.submodule_search_locations, "_path", of.submodule_search_locations)
        if of.origin is not None and _is_installed(of.origin):
            return None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None if path is None else list(path))
        except (AttributeError, ImportError, ValueError):
            continue
        if spec is not None:
            return spec
    return None


@cache
def _is_installed(origin: str) -> bool:
    path = Path(origin)
    homes = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or any(
        path.is_relative_to(home) for home in homes
    )


@lru_cache(4096)
def _read(path: Path, package: str, changed: int, size: int) -> tuple[str, tuple[str, ...]]:  # noqa: ARG001  (of what is remembered)
    """Digest of a module, and names that it imports, some of which are no modules."""
    content = path.read_bytes()
    names: set[str] = set()
    try:
        tree = ast.parse(content) if path.suffix == ".py" else ast.Module([], [])
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {one.name for one in node.names}
            case ast.ImportFrom():
                base = "." * node.level + (node.module or "")
                try:
                    base = resolve_name(base, package) if node.level else base
                except ImportError:
                    continue
                names |= {base, *(f"{base}.{one.name}" for one in node.names)}
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                names.add(name)
    return hashlib.sha256(content).hexdigest(), tuple(sorted(names))
