"""Configurations to be measured: executors x numbers of workers x chunk sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.executors import EXECUTORS, import_executor, options_of, parse_options
from analysis.executors.options import parse_pair
from perf.scaling.worker import Configuration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BASELINE: Final = "iterative"
"""The executor that others are compared with, and that makes the reference."""


def configurations(
    executors: Sequence[str],
    workers: Sequence[int],
    chunksizes: Sequence[int],
    *,
    options: Sequence[str] = (),
    untuned: bool = False,
) -> list[Configuration]:
    """Every executor x number of workers x chunk size; the iterative executor has one worker.

    Options are ``KEY=VALUE`` for all executors that have the option, ``EXECUTOR.KEY=VALUE`` for
    one; values are JSON, or else text. An executor is a name, or ``NAME:KEY=VALUE`` with an option
    that others of the name have not. `untuned` adds coffea's own executors with their defaults.

    Raises
    ------
    InputError
        If there is no such executor or option, or what the executor needs is not installed.
    """
    for what, numbers in (("workers", workers), ("events a chunk", chunksizes)):
        if not numbers or min(numbers) < 1:
            msg = f"ask for at least one of {what}"
            raise InputError(msg)
    parted = {text: text.partition(":")[::2] for text in executors}
    known = {name: _known_options(name) for name, _ in parted.values()}
    if not known:
        msg = f"name an executor: {', '.join(EXECUTORS)}"
        raise InputError(msg)
    given = _options(options, known)
    made = []
    for name, own in parted.values():
        has, of_one = known[name], dict(given[name]) | (dict([parse_pair(own)]) if own else {})
        chosen = parse_options(name, of_one)
        of_one.pop("tuned", None)
        # The iterative executor has no option for this (`perf.scaling.worker.opened`).
        stock = untuned and not own and (name == BASELINE or "tuned" in has)
        sides = (True, False) if stock else (True,)
        if not getattr(chosen, "tuned", True):
            sides = (False,)
        made += [
            Configuration(
                executor=name,
                workers=count,
                chunksize=chunksize,
                tuned=tuned,
                options=of_one,
            )
            for tuned in sides
            for count in ((1,) if name == BASELINE else dict.fromkeys(workers))
            for chunksize in dict.fromkeys(chunksizes)
        ]
    for configuration in made:
        parse_options(
            configuration.executor, configuration.all_options, workers=configuration.workers
        )
    return made


def _known_options(name: str) -> list[str]:
    if name not in EXECUTORS:
        msg = f"there is no executor {name!r}: use one of {', '.join(EXECUTORS)}"
        raise InputError(msg)
    import_executor(name)
    return options_of(name)


def _options(
    given: Sequence[str], known: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Options of each executor."""
    options: dict[str, dict[str, Any]] = {name: {} for name in known}
    for option in given:
        key, value = parse_pair(option)
        executor, dot, name = key.partition(".")
        chosen = [executor] if dot else [one for one, has in known.items() if key in has]
        for executor in chosen:
            if executor not in known:
                msg = f"--option {option}: {executor} is not measured, see --executors"
                raise InputError(msg)
            if (name or key) not in known[executor]:
                msg = (
                    f"the {executor} executor has no option {name or key!r}: "
                    f"it has {', '.join(known[executor])}"
                )
                raise InputError(msg)
            options[executor][name or key] = value
        if not chosen:
            msg = f"--option {option}: none of {', '.join(known)} has it"
            raise InputError(msg)
    return options
