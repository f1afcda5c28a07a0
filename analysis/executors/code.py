"""What workers are to have as the client has it: code that is not installed, folder, environment.

Functions and classes travel by name (pickle), and a worker imports what it is told the name of;
once, so that a warm one would go on with code that the user has edited since, and find nothing at
all of a module that only the client can import. So each run sends the source of all modules of
the client that are not installed, and of those that they import, also within functions. A worker
imports them from that; and again, with all that depends on them, if they are not what it has.

With the source go the values of a module's global constants (numbers, text, arrays, and
collections of these), which a notebook sets; so do the working folder, `sys.path`, and the
environment variables that the client has changed.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import types
import uuid
from contextlib import contextmanager, suppress
from hashlib import blake2b
from importlib import import_module, invalidate_caches
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle
import numpy as np

from analysis.errors import InputError
from analysis.executors.modules import find, imported_by, installed
from analysis.executors.worker import ALLOCATOR, FREEZE
from analysis.processes import set_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from analysis.executors.limit import Limit

HERE: Final = uuid.uuid4().hex
"""Of this process: code that it sent itself, as to threads, needs nothing."""

OURS: Final = ("analysis", "perf")
"""Packages that workers have, as they are started with them: they are compared, not sent."""

KEPT: Final = frozenset((*ALLOCATOR, FREEZE, "PYTHONHASHSEED", "TMPDIR", "PWD", "OLDPWD", "_"))
"""Environment variables that do not travel: those by which engines start workers."""

KEPT_OF: Final = ("LOKY_", "DASK_", "PARSL_", "SPARK_", "PYSPARK_", "SLURM_", "_CONDOR_")
"""What the names of others of that kind begin with."""

LARGEST: Final = 1 << 16
"""Bytes of an array or a text, or entries of a collection, that travels as a constant."""

DEEPEST: Final = 8
"""Collections in one another that do."""

_inherited: Final = dict(os.environ)
_named: set[str] = set()
_reserved: set[str] = set()
_seen: dict[str, tuple[ModuleSpec, str]] = {}
_specs: dict[str, ModuleSpec] = {}


class _Module(NamedTuple):
    """A module on its way.

    Attributes
    ----------
    source, origin
        What it consists of, and where the client has it.
    locations
        Where other parts of it are, if it is a package.
    constants
        Pickle of globals by name.
    digest
        Of all this, and of the modules that it imports.
    """

    source: str
    origin: str
    locations: list[str] | None
    constants: bytes
    digest: str = ""


class _Surroundings(NamedTuple):
    """What a worker is to be like, and the digests of modules that it has to have."""

    folder: str | None
    path: list[str]
    variables: dict[str, str | None]
    modules: dict[str, _Module]
    ours: dict[str, str]


class Task(NamedTuple):
    """A function on its way.

    Attributes
    ----------
    function
        Pickled.
    limit
        For a call of it.
    recoverable
        Whether what it raises is to be kept, and not raised.
    surroundings
        Pickled, empty if the worker is this process.
    digest
        Of `surroundings`.
    origin
        HERE of the client.
    """

    function: bytes
    limit: Limit | None
    recoverable: bool
    surroundings: bytes
    digest: str
    origin: str

    @property
    def inside(self) -> bool:
        """Whether this process is the client."""
        return self.origin == HERE

    def call(self, item: Any) -> Any:
        """Call the function: another for each item, as it may be of a processor with state."""
        function = cloudpickle.loads(self.function)
        process = os.getpid()
        try:
            if self.limit is None:
                return function(item)
            return self.limit.call(function, item, inside=self.inside)
        finally:
            if os.getpid() != process:
                # The processor forked, and this is the child: it is no worker.
                _leave()


def _leave() -> None:
    """End this process without what its parent has to do at its end."""
    error = sys.exception()
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    status = error.code if isinstance(error, SystemExit) else error and 1
    os._exit(status if isinstance(status, int) else int(status is not None))


# --- on the client


def dumps(
    function: Callable[..., Any],
    limit: Limit | None = None,
    *,
    inside: bool = False,
    recoverable: bool = False,
) -> bytes:
    """Pickle a function with what it needs, for `entered`.

    Parameters
    ----------
    function
        To be called on workers.
    limit, recoverable
        As of `Task`.
    inside
        Whether workers are threads of this process, which have all that it has.

    Raises
    ------
    InputError
        If a module was edited after it was imported, so that its source is not what runs here.
    """
    around = b"" if inside else pickle.dumps(_surroundings(), pickle.HIGHEST_PROTOCOL)
    task = Task(cloudpickle.dumps(function), limit, recoverable, around, _digest(around), HERE)
    return pickle.dumps(task, pickle.HIGHEST_PROTOCOL)


@contextmanager
def sent(names: Sequence[str], reserved: Collection[str] = ()) -> Iterator[None]:
    """Send modules though they are installed here, and do not send variables.

    Parameters
    ----------
    names
        Of modules or packages.
    reserved
        Environment variables with which workers are started.

    Raises
    ------
    InputError
        If one cannot be imported.
    """
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module does when it is imported
            msg = f"the module {name} cannot be sent to workers: {error}"
            raise InputError(msg) from error
    added = set(names) - _named, set(reserved) - _reserved
    _named.update(added[0])
    _reserved.update(added[1])
    try:
        yield
    finally:
        _named.difference_update(added[0])
        _reserved.difference_update(added[1])


def _surroundings() -> _Surroundings:
    folder = None
    with suppress(FileNotFoundError):
        folder = os.getcwd()  # noqa: PTH109
    changed = {
        name: os.environ.get(name)
        for name in os.environ.keys() | _inherited.keys()
        if os.environ.get(name) != _inherited.get(name)
        and name not in KEPT | _reserved
        and not name.startswith(KEPT_OF)
    }
    path = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100
    return _Surroundings(folder, path, changed, _modules(), _ours())


def _ours() -> dict[str, str]:
    """Digests of this package's modules that are imported; another after one was reloaded."""
    found = {}
    for name in _started.keys() & sys.modules.keys():
        spec = sys.modules[name].__spec__
        if spec is not None:
            same = _specs.setdefault(name, spec) is spec
            found[name] = _started[name] if same else _digest(_read(spec))
    return found


def _modules() -> dict[str, _Module]:
    """Modules that are not installed: those that are imported, and those that they will import."""
    found: dict[str, _Module] = {}
    for name, module in list(sys.modules.items()):
        # Not of another type: asked for anything, a lazy one would be imported.
        if type(module) is types.ModuleType and name == module.__name__:
            spec = module.__spec__
            if spec is not None and _travels(name, spec):
                with suppress(OSError):
                    source = _source(name, module, spec)
                    constants = pickle.dumps(_constants(module), pickle.HIGHEST_PROTOCOL)
                    found[name] = _module(spec, source, constants)
    imports: dict[str, set[str]] = {}
    todo = list(found)
    while todo:
        name = todo.pop()
        one = found[name]
        imports[name] = set(imported_by(one.source, name, package=one.locations is not None))
        for other in imports[name] - found.keys() - sys.modules.keys():
            parent = found.get(other.rpartition(".")[0])
            spec = find(other, None if parent is None else parent.locations)
            if spec is not None and _travels(other, spec):
                with suppress(OSError, SyntaxError, UnicodeError):
                    found[other] = _module(spec, _read(spec), pickle.dumps({}))
                    todo.append(other)
    own = {
        name: f"{name} {_digest(one.source)} {one.origin} {one.locations} {_digest(one.constants)}"
        for name, one in found.items()
    }
    return {
        name: one._replace(
            digest=_digest("".join(own[other] for other in _reached(name, imports)))
        )
        for name, one in found.items()
    }


def _travels(name: str, spec: ModuleSpec) -> bool:
    """Whether a module is sent: one that is not installed, has source, and was not sent to us."""
    top = name.partition(".")[0]
    if top in OURS or top in {"__main__", "__mp_main__"}:
        return False
    if isinstance(spec.loader, ExtensionFileLoader):
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    if any(name == one or name.startswith(f"{one}.") for one in _named):
        return bool(places)
    return any(place and not installed(place) for place in places)


def _module(spec: ModuleSpec, source: str, constants: bytes) -> _Module:
    locations = spec.submodule_search_locations
    return _Module(
        source,
        spec.origin or "",
        None if locations is None else [os.path.abspath(one) for one in locations],  # noqa: PTH100
        constants,
    )


def _read(spec: ModuleSpec) -> str:
    """Source of a module; of a folder without ``__init__.py`` it is empty."""
    if not spec.has_location:
        return ""
    assert spec.origin is not None
    loader = spec.loader
    if isinstance(loader, InspectLoader) and not isinstance(loader, SourceFileLoader):
        return loader.get_source(spec.name) or ""  # of a zip file, or one that was sent to us
    return str(decode_source(Path(spec.origin).read_bytes()))


def _source(name: str, module: types.ModuleType, spec: ModuleSpec) -> str:
    """Source of a module as it was when it was imported; reloading gives it another spec."""
    before, source = _seen.get(name, (None, ""))
    if before is not spec:
        source = _read(spec)
        # Other loaders may change the code that they load, as pytest's does.
        if type(spec.loader) is SourceFileLoader and not _runs(module, source):
            msg = (
                f"{spec.origin} was edited after {name} was imported: reload it "
                f"(importlib.reload) or start again, so that workers have the code of this session"
            )
            raise InputError(msg)
        _seen[name] = spec, source
    return source


def _runs(module: types.ModuleType, source: str) -> bool:
    """Whether the functions of a module are those of its source."""
    known: set[Any] = set()
    origin = module.__spec__.origin if module.__spec__ else None

    def gather(code: types.CodeType) -> None:
        known.add(_key(code))
        for one in code.co_consts:
            if isinstance(one, types.CodeType):
                gather(one)

    try:
        gather(compile(source, str(origin), "exec", dont_inherit=True))
    except SyntaxError:
        return False
    held = list(vars(module).values())
    for one in tuple(held):
        if isinstance(one, type) and one.__module__ == module.__name__:
            held.extend(vars(one).values())
    functions = (getattr(one, "__code__", None) for one in held if callable(one))
    return all(
        _key(code) in known
        for code in functions
        if isinstance(code, types.CodeType) and code.co_filename == origin
    )


def _key(code: types.CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _key(one) if isinstance(one, types.CodeType) else (type(one), repr(one))
        for one in code.co_consts
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
        return kind in {str, bytes} or all(_is_constant(one, depth + 1) for one in parts)
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


def _digest(data: bytes | str) -> str:
    data = data if isinstance(data, bytes) else data.encode(errors="surrogatepass")
    return blake2b(data, digest_size=16).hexdigest()


# --- on workers


class _Finder(MetaPathFinder, InspectLoader):
    """Imports modules that were sent."""

    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """As of the import system: first of all finders, as the worker may find another."""
        one = self.modules.get(name)
        if one is None:
            return None
        spec = ModuleSpec(name, self, origin=one.origin or None, loader_state=one)
        spec.has_location = bool(one.origin)
        spec.submodule_search_locations = one.locations
        return spec

    def get_source(self, name: str) -> str:
        """As of the import system, which asks for tracebacks."""
        return self.modules[name].source

    def is_package(self, name: str) -> bool:
        """As of the import system."""
        return self.modules[name].locations is not None

    def get_code(self, name: str) -> types.CodeType:
        """As of the import system."""
        one = self.modules[name]
        return compile(one.source, one.origin, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """As of the import system; and give constants the values that they have on the client."""
        super().exec_module(module)
        vars(module).update(pickle.loads(self.modules[module.__name__].constants))


def _sources() -> dict[str, str]:
    """Digests of all modules of this package, as this process was started with them."""
    top = Path(__file__).parents[1]
    found = {}
    for path in top.rglob("*.py"):
        parts = path.relative_to(top.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        with suppress(OSError, SyntaxError, UnicodeError):
            found[name] = _digest(str(decode_source(path.read_bytes())))
    return found


_started: Final = _sources()
_finder = _Finder()
_condition = threading.Condition()
_at_work = 0
_current = ""
_originals: dict[str, str | None] = {}
_own_path: list[str] = []


@contextmanager
def entered(data: bytes) -> Iterator[Task]:
    """Have this process as the client is, while a batch is processed.

    Threads of a worker that are sent other things at once, by other clients, wait for each other.

    Parameters
    ----------
    data
        Of `dumps`.

    Yields
    ------
    Task
        The function.
    """
    global _at_work, _current  # noqa: PLW0603
    one: Task = pickle.loads(data)
    if one.inside or not one.surroundings:
        yield one
        return
    with _condition:
        _condition.wait_for(lambda: not _at_work or _current == one.digest)
        if _current != one.digest:
            _current = ""
            _surround(pickle.loads(one.surroundings))
            _current = one.digest
        _at_work += 1
    try:
        yield one
    finally:
        with _condition:
            _at_work -= 1
            _condition.notify_all()


def _surround(around: _Surroundings) -> None:
    for name, digest in around.ours.items():
        if _started.get(name) != digest:
            msg = (
                f"workers were started with another {name} than this session has: open the "
                "executor again, or start the workers of a cluster again"
            )
            raise InputError(msg)
    if around.folder is not None:
        with suppress(OSError):
            os.chdir(around.folder)
    _set_variables(around.variables)
    if not _own_path:
        _own_path.extend(sys.path)
    theirs = [one for one in around.path if Path(one).exists()]
    sys.path[:] = [*theirs, *(one for one in _own_path if one not in theirs)]
    invalidate_caches()
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    stale = _stale(around.modules)
    _finder.modules = around.modules
    for name in stale:
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(child, None)
        del sys.modules[name]
    # What was there is there again. What cannot be imported says so to whoever needs it.
    for name in stale:
        if name in around.modules:
            with suppress(Exception):
                import_module(name)


def _stale(modules: Mapping[str, _Module]) -> list[str]:
    """Modules of this process that are not as they were sent now."""
    stale = []
    for name, module in sys.modules.items():
        spec = getattr(module, "__spec__", None) if type(module) is types.ModuleType else None
        if spec is not None and spec.loader is _finder:
            if name not in modules or modules[name].digest != spec.loader_state.digest:
                stale.append(name)
        elif name in modules:
            stale.append(name)
    return stale


def _set_variables(variables: Mapping[str, str | None]) -> None:
    """Set environment variables; those of the client before have the values again that they had."""
    gone = _originals.keys() - variables.keys()
    set_variables({name: _originals.pop(name) for name in gone})
    for name in variables:
        _originals.setdefault(name, os.environ.get(name))
    set_variables(variables)
