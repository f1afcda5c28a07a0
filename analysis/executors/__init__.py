"""Executors: `open_executor` starts one, yields it ready for work and takes it down."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import NotInstalledError

# pydantic takes a fifth of a second to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from coffea.processor.executor import ExecutorBase

    from analysis.executors.options import Options

DEFAULT_CHUNKSIZE: Final = 250_000
"""Events a chunk: at coffea's 100,000 the cost of opening files and building forms shows."""

EXECUTORS: Final = ("iterative", "futures", "dask", "parsl", "spark", "taskvine", "compute")
"""Names of executors; each is a module of this package."""


@contextmanager
def open_executor(
    name: str, /, *, workers: int = 1, modules: Sequence[str] = (), **options: Any
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
        Of the executor: the fields of its model in `analysis.executors.options`, which
        docs/executors.md lists.

    Yields
    ------
    coffea.processor.executor.ExecutorBase
        For coffea's Runner. When the context ends, by an exception or by Ctrl-C too, no process
        of it is left.

    Raises
    ------
    InputError
        If there is no such executor or option, if a value or the number of workers is not
        allowed, or if what the executor needs is not installed.
    """
    given = parse_options(name, {**options, "modules": modules}, workers=workers)
    from analysis.executors.code import sent

    module = import_executor(name)
    reserved = getattr(given, "environment", {})
    with sent(given.modules, reserved), module.start(given, workers) as executor:
        yield executor


def import_executor(name: str) -> Any:
    """The module of an executor; raises NotInstalledError if its engine is not installed."""
    try:
        return import_module(f"{__name__}.{name}")
    except ImportError as error:
        from analysis.executors.options import MODELS

        msg = f"the {name} executor needs {MODELS[name].install} ({error})"
        raise NotInstalledError(msg) from error


def parse_options(name: str, options: Mapping[str, Any], *, workers: int = 1) -> Options:
    """See `analysis.executors.options`."""
    from analysis.executors import options as models

    return models.parse_options(name, options, workers=workers)


def options_of(name: str) -> list[str]:
    """Names of the options of an executor."""
    from analysis.executors.options import MODELS

    return sorted(MODELS[name].model_fields)
