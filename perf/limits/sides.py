"""What a process is asked to time, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic

from perf.records.limits import PARTS

if TYPE_CHECKING:
    from perf.records.limits import Part

Task = Literal[
    "read",
    "data",
    "whole",
    "compute",
    "processor",
    "arrays",
    "held out",
    "read memory",
    "write memory",
]
"""A part of the limit; the analysis, in coffea's Runner; reading the columns of its branches and no
more; a processor of `held_out`; an array far larger than the caches."""


class Side(pydantic.BaseModel):
    """One of the things that are timed beside each other.

    Attributes
    ----------
    name
        Implementation of the analysis, or the processor that was held out.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    task: Task
    name: str = ""
    variations: Literal["all", "nominal"] = "nominal"
    chunksize: int = 250_000
    reader: Literal["bulk", "uproot"] = "bulk"

    @property
    def part(self) -> Part | None:
        """The part of the limit that it is, if it is one."""
        return next((part for part in PARTS if part == self.task), None)

    @property
    def result(self) -> str:
        """The same for all sides that have to give the same."""
        if self.part and self.task != "compute":
            return f"{self.task}, {self.variations}"
        if self.task in {"processor", "compute"}:
            return f"the analysis, {self.variations}"
        return f"{self.task}, {self.name}"


class Request(pydantic.BaseModel):
    """Sides on a file set: each is called `repeats` times, in a random order.

    Attributes
    ----------
    beside
        Sides that are not timed and whose memory is not measured: they run last, and have to give
        what the others gave.
    """

    fileset: dict[str, Any]
    sides: tuple[Side, ...]
    beside: tuple[Side, ...] = ()
    repeats: int
    seed: int


class Timed(pydantic.BaseModel):
    """Median of the calls of one process.

    Attributes
    ----------
    wall, cpu
        Seconds a call.
    check
        Digest of the result.
    bytes
        That were read or decompressed; 0 where it is no part.
    """

    wall: float
    cpu: float
    check: str
    bytes: int = 0


class Answer(pydantic.BaseModel):
    """What a process measured, in the order of the sides, or a sentence on why it could not.

    Attributes
    ----------
    allocator
        Variables of the environment that set glibc's allocator, as the process was started with.
    """

    allocator: dict[str, str | None] = pydantic.Field(default_factory=dict)
    timed: tuple[Timed, ...] = ()
    peak_memory: int | None = None
    error: str | None = None


def parts(variations: Literal["all", "nominal"] = "nominal") -> tuple[Side, ...]:
    """All parts of the limit."""
    return tuple(Side(task=part, variations=variations) for part in PARTS)


def processor(name: str, chunksize: int = 250_000, **how: Any) -> Side:
    """The analysis in an implementation."""
    return Side(task="processor", name=name, chunksize=chunksize, **how)
