"""The commands of this project, as its Makefile and command lines declare them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from perf.records.void import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAKEFILE: Final = SHIPPED.parent / "Makefile"
"""Of the clone that this is; there is none beside an installed package."""

_TARGET: Final = re.compile(r"^([a-z-]+):.*?## (.*)\n((?:\t.*\n|\n(?=\t))*)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command, what it does, and its options or recipe, a pair of texts each."""

    name: str
    does: str
    details: tuple[tuple[str, str], ...] = ()


def make_targets(makefile: Path = MAKEFILE) -> list[Command]:
    """Targets with a description; their recipe is the detail."""
    if not makefile.is_file():
        return []
    return [
        Command(
            f"make {name}", does, (("", recipe.replace("\n\t", "\n").strip()),) if recipe else ()
        )
        for name, does, recipe in _TARGET.findall(makefile.read_text())
    ]


def of_group(program: str, group: Any) -> Iterator[Command]:
    """Commands of a program, a group of typer's, with those of the groups in it.

    Typer has had click inside since 0.20 and beside it before: nothing of either is named here.
    """
    for name, command in group.commands.items():
        words = f"{program} {name}"
        if hasattr(command, "commands"):
            yield from of_group(words, command)
            continue
        options = tuple(
            (" ".join(option.opts), option.help or "")
            for option in command.params
            if option.name != "help"
        )
        paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
        yield Command(words, paragraph, options)
