"""Workers run the code that the client has, as it has it now, in its folder and environment.

Functions and classes are pickled by name, and a worker imports that name once; so a warm one
would go on with code that the user has edited since, and would not find a module that only the
client can import. So each run sends the source of the `user_modules`, and with it the working
folder, `sys.path`, and the environment variables that the client has changed. A worker imports
the modules from that source; and again, with all that depends on them, if they have changed.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import types
import uuid
from contextlib import contextmanager, suppress
from importlib import import_module, invalidate_caches
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cloudpickle

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors.user_modules import Module, digest, read_source, user_modules
from analysis.executors.worker import FREEZE
from analysis.processes import set_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from analysis.executors.limit import Limit

HERE: Final = uuid.uuid4().hex
"""Of this process: code that it sent itself, as to threads, needs nothing."""

KEPT: Final = frozenset((*ALLOCATOR, FREEZE, "PYTHONHASHSEED", "TMPDIR", "PWD", "OLDPWD", "_"))
"""Environment variables that are not sent: those with which engines start workers."""

KEPT_PREFIXES: Final = ("LOKY_", "DASK_", "PARSL_", "SPARK_", "PYSPARK_", "SLURM_", "_CONDOR_")
"""What the names of others of that kind begin with."""

_inherited: Final = dict(os.environ)
_named: set[str] = set()
_reserved: set[str] = set()
_specs: dict[str, ModuleSpec] = {}


class Surroundings(NamedTuple):
    """What a worker is to be like."""

    folder: str | None
    path: list[str]
    variables: dict[str, str | None]
    modules: dict[str, Module]
    ours: dict[str, str]
    """Digests of the modules of this package that it must have been started with."""


class Task(NamedTuple):
    """A function, and what it needs."""

    function: bytes
    """Pickled."""
    limit: Limit | None
    """For each call."""
    recoverable: bool
    """Whether an exception of a call is to be kept, and not raised."""
    surroundings: bytes
    """Pickled, empty if the worker is this process."""
    digest: str
    """Of `surroundings`."""
    origin: str
    """HERE of the client."""

    @property
    def inside(self) -> bool:
        """Whether this process is the client."""
        return self.origin == HERE

    def call(self, item: Any) -> Any:
        """Call a new copy of the function, as it may be of a processor with state."""
        function = cloudpickle.loads(self.function)
        process = os.getpid()
        try:
            if self.limit is None:
                return function(item)
            return self.limit.call(function, item, inside=self.inside)
        finally:
            if os.getpid() != process:
                # The processor forked, and this is the child: it must not become a worker.
                _leave()


def _leave() -> None:
    """End this process without what its parent does at its end."""
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

    Workers that are threads of this process (`inside`) have all that it has. Raises InputError
    as `user_modules` does.
    """
    around = b"" if inside else pickle.dumps(_surroundings(), pickle.HIGHEST_PROTOCOL)
    task = Task(cloudpickle.dumps(function), limit, recoverable, around, digest(around), HERE)
    return pickle.dumps(task, pickle.HIGHEST_PROTOCOL)


@contextmanager
def sent(names: Sequence[str], reserved: Collection[str] = ()) -> Iterator[None]:
    """Send these modules though they are installed, and do not send `reserved` variables."""
    for name in names:
        try:
            import_module(name)
        except Exception as error:  # whatever a user's module raises when it is imported
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


def _surroundings() -> Surroundings:
    folder = None
    with suppress(FileNotFoundError):
        folder = os.getcwd()  # noqa: PTH109
    changed = {
        name: os.environ.get(name)
        for name in os.environ.keys() | _inherited.keys()
        if os.environ.get(name) != _inherited.get(name)
        and name not in KEPT | _reserved
        and not name.startswith(KEPT_PREFIXES)
    }
    path = [os.path.abspath(one) for one in sys.path]  # noqa: PTH100
    return Surroundings(folder, path, changed, user_modules(_named), _ours())


def _ours() -> dict[str, str]:
    """Digests of this package's modules that are imported; a reloaded one is read again."""
    digests = {}
    for name in _started.keys() & sys.modules.keys():
        spec = sys.modules[name].__spec__
        if spec is not None:
            same = _specs.setdefault(name, spec) is spec
            digests[name] = _started[name] if same else digest(read_source(spec))
    return digests


# --- on workers


class _Finder(MetaPathFinder, InspectLoader):
    """Imports modules that were sent."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        """Before all other finders, as the worker may have another module of that name."""
        module = self.modules.get(name)
        if module is None:
            return None
        spec = ModuleSpec(name, self, origin=module.origin or None, loader_state=module)
        spec.has_location = bool(module.origin)
        spec.submodule_search_locations = module.locations
        return spec

    def get_source(self, name: str) -> str:
        """For tracebacks."""
        return self.modules[name].source

    def is_package(self, name: str) -> bool:
        """For the import system."""
        return self.modules[name].locations is not None

    def get_code(self, name: str) -> types.CodeType:
        """For the import system."""
        module = self.modules[name]
        return compile(module.source, module.origin, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Give constants the values that they have on the client, too."""
        super().exec_module(module)
        vars(module).update(pickle.loads(self.modules[module.__name__].constants))


def _digests() -> dict[str, str]:
    """Digests of all modules of this package, with which this process was started."""
    top = Path(__file__).parents[1]
    digests = {}
    for path in top.rglob("*.py"):
        parts = path.relative_to(top.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        with suppress(OSError, SyntaxError, UnicodeError):
            digests[name] = digest(str(decode_source(path.read_bytes())))
    return digests


_started: Final = _digests()
_finder = _Finder()
_condition = threading.Condition()
_at_work = 0
_current = ""
_originals: dict[str, str | None] = {}
_own_path: list[str] = []


@contextmanager
def entered(data: bytes) -> Iterator[Task]:
    """Make this process like the client while a batch is processed; `data` is of `dumps`.

    Threads of a worker that are sent different surroundings, by several clients, take turns.
    """
    global _at_work, _current  # noqa: PLW0603
    task: Task = pickle.loads(data)
    if task.inside or not task.surroundings:
        yield task
        return
    with _condition:
        _condition.wait_for(lambda: not _at_work or _current == task.digest)
        if _current != task.digest:
            _current = ""
            _surround(pickle.loads(task.surroundings))
            _current = task.digest
        _at_work += 1
    try:
        yield task
    finally:
        with _condition:
            _at_work -= 1
            _condition.notify_all()


def _surround(around: Surroundings) -> None:
    for name, wanted in around.ours.items():
        if _started.get(name) != wanted:
            msg = (
                f"workers were started with another {name} than this session has: open the "
                "executor again, or start the workers of a cluster again"
            )
            raise InputError(msg)
    if around.folder is not None:
        with suppress(OSError):
            os.chdir(around.folder)
    _set_client_variables(around.variables)
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
    # Import again what was imported. Whoever needs what cannot be imported will be told so.
    for name in stale:
        if name in around.modules:
            with suppress(Exception):
                import_module(name)


def _stale(modules: Mapping[str, Module]) -> list[str]:
    """Modules of this process that differ from those that were sent now."""
    stale = []
    for name, module in sys.modules.items():
        spec = getattr(module, "__spec__", None) if type(module) is types.ModuleType else None
        if spec is not None and spec.loader is _finder:
            if name not in modules or modules[name].digest != spec.loader_state.digest:
                stale.append(name)
        elif name in modules:
            stale.append(name)
    return stale


def _set_client_variables(variables: Mapping[str, str | None]) -> None:
    """Set environment variables of a client, and restore those of the client before."""
    gone = _originals.keys() - variables.keys()
    set_variables({name: _originals.pop(name) for name in gone})
    for name in variables:
        _originals.setdefault(name, os.environ.get(name))
    set_variables(variables)
