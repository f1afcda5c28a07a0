"""Benchmarks that changed their meaning: earlier measurements of them are void."""

from __future__ import annotations

import fnmatch
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pydantic

from analysis.errors import InputError

if TYPE_CHECKING:
    from perf.records.record_file import Record

VOID: Final = "void.toml"
SHIPPED: Final = Path(__file__).parents[1]
"""The installed package `perf`, with the history and the file of voids that came with it."""


class Void(pydantic.BaseModel):
    """A benchmark that means something else since a day.

    Attributes
    ----------
    benchmark
        Name or pattern of published benchmarks.
    since
        First day of the new meaning. Earlier measurements are neither drawn nor compared.
    reason
        For people.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    benchmark: str = pydantic.Field(min_length=1)
    since: date
    reason: str = pydantic.Field(min_length=1)

    def covers(self, benchmark: str, record: Record) -> bool:
        """Whether a measurement of a benchmark is void."""
        return record.timestamp.date() < self.since and fnmatch.fnmatchcase(
            benchmark, self.benchmark
        )


def version_controlled(root: Path | None) -> Path:
    """The folder `perf` of a project; without one, that of this package."""
    own = (root or Path()) / "perf"
    return own if root is not None or (own / VOID).is_file() else SHIPPED


def voids(root: Path | None = None) -> list[Void]:
    """What a project, as in `store.collect`, declares void."""
    path = version_controlled(root) / VOID
    if not path.is_file():
        return []
    try:
        content = tomllib.loads(path.read_text())
        return [Void.model_validate(entry) for entry in content.get("void", [])]
    except (tomllib.TOMLDecodeError, pydantic.ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        msg = (
            f"{path} cannot be read ({why}): each [[void]] needs a benchmark, a day `since` and a "
            "reason"
        )
        raise InputError(msg) from None
