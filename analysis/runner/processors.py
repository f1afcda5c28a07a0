"""Processors and schemas of users, by name."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coffea.nanoevents
from coffea.nanoevents import BaseSchema
from coffea.processor import ProcessorABC

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def load(
    spec: str, arguments: Mapping[str, Any] | None = None
) -> ProcessorABC | Callable[[Any], Any]:
    """Import a processor ``package.module:Name``.

    The name is that of a class derived from ProcessorABC, an instance of one, a function of
    events, or a class or function that makes one of these from `arguments`, its keywords.
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
    processor = getattr(module, name)
    if inspect.isclass(processor) or arguments:
        try:
            processor = processor(**(arguments or {}))
        except Exception as error:
            msg = f"{spec} cannot be made: {type(error).__name__}: {error}; see --arguments"
            raise InputError(msg) from error
    if not isinstance(processor, ProcessorABC) and not callable(processor):
        msg = (
            f"{spec} is no processor: derive it from ProcessorABC, or make it a function of events"
        )
        raise InputError(msg)
    return processor


def schema(name: str) -> type[BaseSchema]:
    """Schema of NanoEvents: the name of a class of coffea.nanoevents, or ``package.module:Name``."""
    module_name, colon, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name) if colon else coffea.nanoevents
    except ImportError as error:
        msg = f"{module_name} cannot be imported: {error}"
        raise InputError(msg) from error
    found = getattr(module, attribute if colon else name, None)
    if not (inspect.isclass(found) and issubclass(found, BaseSchema)):
        known = [
            known_name
            for known_name, value in vars(coffea.nanoevents).items()
            if inspect.isclass(value) and issubclass(value, BaseSchema)
        ]
        msg = f"there is no schema {name}: use one of {', '.join(sorted(known))}"
        raise InputError(msg)
    return found
