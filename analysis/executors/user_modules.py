"""The modules of this session that workers cannot import: their source and their constants.

Those are all that are imported here and not installed, and those that they import in turn, also
within functions. Of a module's globals its constants are taken along (numbers, text, arrays, and
collections of these), which a notebook sets.
"""

from __future__ import annotations

import os
import pickle
import sys
import types
from contextlib import suppress
from hashlib import blake2b
from importlib.abc import InspectLoader
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.errors import InputError
from analysis.executors.modules import find, imported_by, installed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

OURS: Final = ("analysis", "perf")
"""Packages that workers have when they are started: they are compared, not sent."""

LARGEST: Final = 1 << 16
"""Bytes of an array or a text, or entries of a collection, that are sent as a constant."""

DEEPEST: Final = 8
"""Levels of nested collections that are sent as a constant."""

_sources: dict[str, tuple[ModuleSpec, str]] = {}


class Module(NamedTuple):
    """A module to be sent."""

    source: str
    origin: str
    """Where it is on the client."""
    locations: list[str] | None
    """Where its submodules are, if it is a package."""
    constants: bytes
    """Pickle of globals by name."""
    digest: str = ""
    """Of all this, and of the modules that it imports."""


def digest(data: bytes | str) -> str:
    """Short name of content."""
    data = data if isinstance(data, bytes) else data.encode(errors="surrogatepass")
    return blake2b(data, digest_size=16).hexdigest()


def user_modules(named: Collection[str]) -> dict[str, Module]:
    """All modules to be sent, by name; `named` ones are sent though they are installed.

    Raises InputError if one was edited after it was imported: its source is not what runs here.
    """
    modules: dict[str, Module] = {}
    for name, module in list(sys.modules.items()):
        # Not of another type: a lazy module would be imported by being asked for anything.
        if type(module) is types.ModuleType and name == module.__name__:
            spec = module.__spec__
            if spec is not None and _is_sent(name, spec, named):
                with suppress(OSError):
                    source = _imported_source(name, module, spec)
                    modules[name] = _module(spec, source, _constants(module))
    imports: dict[str, set[str]] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        module_ = modules[name]
        package = module_.locations is not None
        imports[name] = set(imported_by(module_.source, name, package=package))
        for other in imports[name] - modules.keys() - sys.modules.keys():
            parent = modules.get(other.rpartition(".")[0])
            spec = find(other, None if parent is None else parent.locations)
            if spec is not None and _is_sent(other, spec, named):
                with suppress(OSError, SyntaxError, UnicodeError):
                    modules[other] = _module(spec, read_source(spec), {})
                    todo.append(other)
    own = {
        name: f"{name} {digest(one.source)} {one.origin} {one.locations} {digest(one.constants)}"
        for name, one in modules.items()
    }
    return {
        name: one._replace(digest=digest("".join(own[other] for other in _reached(name, imports))))
        for name, one in modules.items()
    }


def _is_sent(name: str, spec: ModuleSpec, named: Collection[str]) -> bool:
    """Whether a module is named, or is not installed and has source."""
    top = name.partition(".")[0]
    if top in OURS or top in {"__main__", "__mp_main__"}:
        return False
    if isinstance(spec.loader, ExtensionFileLoader):
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    if any(name == one or name.startswith(f"{one}.") for one in named):
        return bool(places)
    return any(place and not installed(place) for place in places)


def _module(spec: ModuleSpec, source: str, constants: dict[str, Any]) -> Module:
    locations = spec.submodule_search_locations
    return Module(
        source,
        spec.origin or "",
        None if locations is None else [os.path.abspath(one) for one in locations],  # noqa: PTH100
        pickle.dumps(constants, pickle.HIGHEST_PROTOCOL),
    )


def read_source(spec: ModuleSpec) -> str:
    """Source of a module as it is now; of a folder without ``__init__.py`` it is empty."""
    if not spec.has_location:
        return ""
    assert spec.origin is not None
    loader = spec.loader
    if isinstance(loader, InspectLoader) and not isinstance(loader, SourceFileLoader):
        return loader.get_source(spec.name) or ""  # of a zip file, or one that was sent to us
    return str(decode_source(Path(spec.origin).read_bytes()))


def _imported_source(name: str, module: types.ModuleType, spec: ModuleSpec) -> str:
    """Source of a module as it was when it was imported; reloading gives it another spec."""
    before, source = _sources.get(name, (None, ""))
    if before is not spec:
        source = read_source(spec)
        # Other loaders, as pytest's, may change the code that they load.
        if type(spec.loader) is SourceFileLoader and not _runs(module, source):
            msg = (
                f"{spec.origin} was edited after {name} was imported: reload it "
                f"(importlib.reload) or start again, so that workers have the code of this session"
            )
            raise InputError(msg)
        _sources[name] = spec, source
    return source


def _runs(module: types.ModuleType, source: str) -> bool:
    """Whether the functions of a module are those of a source."""
    known: set[Any] = set()
    origin = module.__spec__.origin if module.__spec__ else None

    def gather(code: types.CodeType) -> None:
        known.add(_key(code))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                gather(constant)

    try:
        gather(compile(source, str(origin), "exec", dont_inherit=True))
    except SyntaxError:
        return False
    held = list(vars(module).values())
    for value in tuple(held):
        if isinstance(value, type) and value.__module__ == module.__name__:
            held.extend(vars(value).values())
    functions = (getattr(value, "__code__", None) for value in held if callable(value))
    return all(
        _key(code) in known
        for code in functions
        if isinstance(code, types.CodeType) and code.co_filename == origin
    )


def _key(code: types.CodeType) -> tuple[Any, ...]:
    """What makes two pieces of code the same."""
    constants = tuple(
        _key(value) if isinstance(value, types.CodeType) else (type(value), repr(value))
        for value in code.co_consts
    )
    return code.co_qualname, code.co_firstlineno, code.co_code, code.co_names, constants


def _constants(module: types.ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and _is_constant(value)
    }


def _is_constant(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if kind in {tuple, list, set, frozenset, dict, str, bytes}:
        parts = (*value, *value.values()) if kind is dict else value
        if len(value) > LARGEST or depth > DEEPEST:
            return False
        return kind in {str, bytes} or all(_is_constant(part, depth + 1) for part in parts)
    if kind is np.ndarray:
        return not value.dtype.hasobject and value.nbytes <= LARGEST
    return value is None or kind in {bool, int, float, complex} or isinstance(value, np.number)


def _reached(name: str, imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that a module imports, directly or not, itself included; in order of names."""
    reached, todo = {name}, [name]
    while todo:
        more = (imports[todo.pop()] & imports.keys()) - reached
        reached |= more
        todo.extend(more)
    return sorted(reached)
