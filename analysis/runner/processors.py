"""Processors of users, by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import coffea.nanoevents
from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC

from analysis.errors import InputError
from analysis.executors.modules import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Loaded(NamedTuple):
    """A processor, ready to run.

    Attributes
    ----------
    processor
        coffea processor, or function of events.
    modules
        Modules that workers may not be able to import, for `open_executor` to send.
    """

    processor: ProcessorABC | Callable[[Any], Any]
    modules: tuple[str, ...]


def load(spec: str, arguments: Mapping[str, Any] | None = None) -> Loaded:
    """Import a processor.

    Parameters
    ----------
    spec
        ``package.module:Name``. The name is that of a class derived from ProcessorABC, of an
        instance of one, of a function of events, or of a class or function that makes one of
        these when called with `arguments`.
    arguments
        Keywords to make it with.

    Returns
    -------
    Loaded
        The processor and what to send with it.

    Raises
    ------
    InputError
        If there is no such thing, or making it fails.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        msg = f"a processor is named as package.module:Class, not {spec!r}"
        raise InputError(msg)
    if module_name.endswith(".py"):
        stem = Path(module_name).stem
        msg = f"a processor is named by its module, not its file: {stem}:{name}"
        raise InputError(msg)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module does when it is imported
        msg = f"{module_name} cannot be imported: {type(error).__name__}: {error}"
        raise InputError(msg) from error
    if not hasattr(module, name):
        msg = f"{module_name} has no {name}: name a class or function of it"
        raise InputError(msg)
    found = getattr(module, name)
    if inspect.isclass(found) or arguments:
        try:
            found = found(**(arguments or {}))
        except Exception as error:
            msg = f"{spec} cannot be made: {type(error).__name__}: {error}; see --arguments"
            raise InputError(msg) from error
    if not isinstance(found, ProcessorABC) and not callable(found):
        msg = (
            f"{spec} is no processor: derive it from ProcessorABC, or make it a function of events"
        )
        raise InputError(msg)
    package = module_name.partition(".")[0]
    return Loaded(found, () if _installed(package) else (package,))


def _installed(package: str) -> bool:
    """Whether workers, which have the same packages as this process, can import it too."""
    if package in {"analysis", "perf"}:
        return True
    spec = importlib.util.find_spec(package)
    places = [*(spec.submodule_search_locations or ()), spec.origin] if spec else []
    return any(installed(place) for place in places if place)


def schema(name: str) -> type[BaseSchema]:
    """A schema of coffea's NanoEvents.

    Parameters
    ----------
    name
        As coffea.nanoevents calls it, or ``package.module:Name``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    module_name, colon, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name) if colon else coffea.nanoevents
    except ImportError as error:
        msg = f"{module_name} cannot be imported: {error}"
        raise InputError(msg) from error
    found = getattr(module, attribute if colon else name, None)
    if not (inspect.isclass(found) and issubclass(found, BaseSchema)):
        known = [
            one
            for one, value in vars(coffea.nanoevents).items()
            if inspect.isclass(value) and issubclass(value, BaseSchema)
        ]
        msg = f"there is no schema {name}: use one of {', '.join(sorted(known))}"
        raise InputError(msg)
    return found
