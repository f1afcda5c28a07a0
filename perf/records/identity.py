"""What a measurement depends on: code, environment and arguments, by their digests."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import sys
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import distributions
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.executors.modules import find, imported_by, installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec

VARIABLES: Final = (
    *("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONMALLOC", "PYTHONOPTIMIZE"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMBA_NUM_THREADS", "NUMBA_DISABLE_JIT", "NUMBA_OPT"),
)
"""Prefixes of environment variables that make the same code faster or slower."""


def digest(*parts: Any) -> str:
    """Hexadecimal SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of dependencies that changed, disappeared or appeared."""
    return [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]


def environment() -> dict[str, str]:
    """Digests of Python, of the installed packages and of VARIABLES, of this process."""
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
    return digest(sorted({f"{package.name} {package.version}" for package in distributions()}))


# --- source


def modules(*names: str) -> dict[str, str]:
    """Digests of modules and of all that they import, by "the module NAME".

    Installed packages, modules without source and names that do not exist are left out.
    ``PACKAGE.*`` names all modules of a package. Modules are read, not imported: `sys.modules`
    misses imports in functions that were not called, and has imports of others.
    """
    digests: dict[str, str] = {}
    specs: dict[str, ModuleSpec | None] = {}
    todo = {module for name in names for module in _expanded(name, specs)}
    done: set[str] = set()
    while todo:
        name = todo.pop()
        done.add(name)
        spec = _find(name, specs)
        if spec is None or spec.origin is None or installed(spec.origin):
            continue
        path = Path(spec.origin)
        try:
            status = path.stat()
        except OSError:  # built in, or frozen
            continue
        content, source = _read(path, status.st_mtime_ns, status.st_size)
        digests[f"the module {name}"] = content
        package = spec.submodule_search_locations is not None
        todo |= set(imported_by(source, name, package=package)) - done
    return digests


def _find(name: str, specs: dict[str, ModuleSpec | None]) -> ModuleSpec | None:
    if name not in specs:
        above = name.rpartition(".")[0]
        spec = _find(above, specs) if above else None
        specs[name] = find(name, None if spec is None else _locations(spec))
    return specs[name]


def _locations(package: ModuleSpec) -> list[str] | None:
    places = package.submodule_search_locations
    # Places of a package without __init__.py are computed from the imported package.
    return None if places is None else list(getattr(places, "_path", places))


def _expanded(name: str, specs: dict[str, ModuleSpec | None]) -> list[str]:
    package = name.removesuffix(".*")
    if package == name:
        return [name]
    spec = _find(package, specs)
    places = None if spec is None else _locations(spec)
    return [f"{package}.{module.name}" for module in pkgutil.iter_modules(places or [])]


@lru_cache(4096)
def _read(path: Path, changed: int, size: int) -> tuple[str, str]:  # noqa: ARG001  (keys of the cache)
    """Digest and source of a module; the source of a compiled one is empty."""
    content = path.read_bytes()
    source = ""
    if path.suffix == ".py":
        with suppress(SyntaxError, UnicodeError):
            source = decode_source(content)
    return hashlib.sha256(content).hexdigest(), source
