"""Executors: `open_executor` starts one, yields it ready for work and takes it down."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import ExecutorBase

DEFAULT_CHUNKSIZE: Final = 250_000
"""Events a chunk: at coffea's 100,000 the cost of opening files and building forms shows."""

EXECUTORS: Final = ("iterative", "futures")
"""Names of executors; each is a module of this package."""


@contextmanager
def open_executor(name: str, *, workers: int = 1, **options: Any) -> Iterator[ExecutorBase]:
    """Start an executor, yield it ready for work, and take it down whatever happens.

    Parameters
    ----------
    name
        One of EXECUTORS.
    workers
        Number of worker processes.
    **options
        Passed on to the executor's module.

    Yields
    ------
    coffea.processor.executor.ExecutorBase
        For coffea's Runner. When the context ends, by an exception or by Ctrl-C too, no process
        of it is left.

    Raises
    ------
    InputError
        If there is no such executor, or no worker is asked for.
    """
    if name not in EXECUTORS:
        msg = f"there is no executor {name!r}: use one of {', '.join(EXECUTORS)}"
        raise InputError(msg)
    if workers < 1:
        msg = f"an executor cannot have {workers} workers: ask for at least one"
        raise InputError(msg)
    module = import_module(f"{__name__}.{name}")
    with module.start(workers=workers, **options) as executor:
        yield executor
