"""Causes of changes, where somebody found them: `watch` tells when and how much, people tell why."""

from __future__ import annotations

import fnmatch
import tomllib
from typing import TYPE_CHECKING, Final

import pydantic

from analysis.errors import InputError
from perf.publish.change_points import packages
from perf.records.void import version_controlled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perf.publish.change_points import Change

CAUSES: Final = "causes.toml"
MOST: Final = 6
"""Packages that are named beside a change."""


class Cause(pydantic.BaseModel):
    """Why a benchmark changed at a release or commit; `benchmark` and `case` are patterns."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    at: str = pydantic.Field(min_length=1)
    benchmark: str = pydantic.Field(min_length=1)
    case: str
    reason: str = pydantic.Field(min_length=1)

    def explains(self, change: Change) -> bool:
        """Whether this is the cause of a change."""
        return (
            change.after.name == self.at
            and fnmatch.fnmatchcase(change.benchmark, self.benchmark)
            and fnmatch.fnmatchcase(change.case, self.case)
        )


def causes(root: Path | None = None) -> list[Cause]:
    """Causes that a project, as in `store.collect`, knows of."""
    path = version_controlled(root) / CAUSES
    if not path.is_file():
        return []
    try:
        entries = tomllib.loads(path.read_text()).get("cause", [])
        return [Cause.model_validate(entry) for entry in entries]
    except (tomllib.TOMLDecodeError, pydantic.ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        msg = f"{path} cannot be read ({why}): each [[cause]] needs at, benchmark, case and reason"
        raise InputError(msg) from None


def why(change: Change, known: Sequence[Cause]) -> str:
    """The cause of a change if it is known, and what else changed there."""
    found = [cause.reason for cause in known if cause.explains(change)]
    named = packages(change)
    more = len(named) - MOST
    others = ", ".join(named[:MOST]) + (f" and {more} more" if more > 0 else "") or "nothing"
    return " ".join([*found, f"Also changed: {others}" if found else others])
