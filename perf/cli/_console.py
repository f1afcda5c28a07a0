"""What commands read from the command line and print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from analysis.errors import InputError
from perf.records.table import PLAIN_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_Number = TypeVar("_Number", int, float)
_Choice = TypeVar("_Choice", bound=str)


def console(width: int = PLAIN_WIDTH) -> Console:
    """Standard output; as wide as the terminal, or of this many columns where there is none."""
    own = Console()
    return own if own.is_terminal else Console(width=width)


def say(*lines: str, on: Console | None = None) -> None:
    """Print lines as they are: neither coloured nor wrapped."""
    on = on or Console()
    for line in lines:
        on.print(line, highlight=False, markup=False, soft_wrap=True)


def progress() -> Progress:
    """A progress bar on standard error, if that is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )


def split(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str) -> list[int]:
    """The whole numbers of a list with commas."""
    return _converted(text, int, f"{option} must be whole numbers")


def decimals(text: str, option: str) -> list[float]:
    """The numbers of a list with commas."""
    return _converted(text, float, f"{option} must be numbers")


def _converted(text: str, convert: Callable[[str], _Number], must: str) -> list[_Number]:
    try:
        return [convert(part) for part in split(text)]
    except ValueError:
        msg = f"{must} with commas between them, got {text!r}"
        raise InputError(msg) from None


def choices(text: str, option: str, known: Sequence[_Choice]) -> list[_Choice]:
    """Those of the known values that a list with commas names; at least one."""
    chosen = split(text)
    if not chosen or not set(chosen) <= set(known):
        msg = f"{option} must be some of {', '.join(known)} with commas between them, got {text!r}"
        raise InputError(msg)
    named = {str(value): value for value in known}
    return [named[name] for name in chosen]
