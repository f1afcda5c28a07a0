"""Executors: `open_executor` starts one, yields it ready for work and takes it down."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import cloudpickle

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from coffea.processor.executor import ExecutorBase

DEFAULT_CHUNKSIZE: Final = 250_000
"""Events a chunk: at coffea's 100,000 the cost of opening files and building forms shows."""

EXECUTORS: Final = ("iterative", "futures", "dask", "parsl", "spark", "taskvine")
"""Names of executors; each is a module of this package."""

FIELDS: Final = ("retries", "compression", "batch", "fan_in", "status")
"""Options that all but the iterative executor have: fields of `batches.BatchedExecutor`."""


@contextmanager
def open_executor(
    name: str, *, workers: int = 1, modules: Sequence[str] = (), **options: Any
) -> Iterator[ExecutorBase]:
    """Start an executor, yield it ready for work, and take it down whatever happens.

    Parameters
    ----------
    name
        One of EXECUTORS.
    workers
        Number of worker processes.
    modules
        Names of modules or packages that workers cannot import, sent with the processor.
    **options
        Of the executor: keywords of ``start`` in its module, and of FIELDS. Those of all engines:
        ``environment`` (of workers), ``tuned`` (False for coffea's own executor as it comes).

    Yields
    ------
    coffea.processor.executor.ExecutorBase
        For coffea's Runner. When the context ends, by an exception or by Ctrl-C too, no process
        of it is left.

    Raises
    ------
    InputError
        If there is no such executor or option, if no worker is asked for, or if what the executor
        needs is not installed.
    """
    if name not in EXECUTORS:
        msg = f"there is no executor {name!r}: use one of {', '.join(EXECUTORS)}"
        raise InputError(msg)
    if workers < 1:
        msg = f"an executor cannot have {workers} workers: ask for at least one"
        raise InputError(msg)
    module = import_module(f"{__name__}.{name}")
    known = options_of(module)
    for option in options:
        if option not in known:
            msg = f"the {name} executor has no option {option!r}: it has {', '.join(known)}"
            raise InputError(msg)
    with _by_value(modules), module.start(workers=workers, **options) as executor:
        yield executor


def options_of(module: ModuleType) -> list[str]:
    """Names of the options of an executor's module."""
    parameters = inspect.signature(module.start).parameters.values()
    own = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    fields = FIELDS if any(one.kind is one.VAR_KEYWORD for one in parameters) else ()
    return sorted({*own, *fields} - {"workers"})


@contextmanager
def _by_value(names: Sequence[str]) -> Iterator[None]:
    """Have classes and functions of modules pickled whole, not by name."""
    sent = []
    try:
        for name in names:
            try:
                module = import_module(name)
            except ImportError as error:
                msg = f"the module {name} cannot be sent to workers: {error}"
                raise InputError(msg) from error
            cloudpickle.register_pickle_by_value(module)
            sent.append(module)
        yield
    finally:
        for module in sent:
            cloudpickle.unregister_pickle_by_value(module)
