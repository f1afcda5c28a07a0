"""Rounds of fresh processes, in a random order: each times all sides of a cell once.

Processes differ by more than calls of one process do, so a process is one sample. Sides of a cell
are in the same processes, and their ratios are taken within each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.processes import environment
from perf.cases.case import BASE
from perf.limits.sides import Answer, Request
from perf.measure.fresh_process import Process, ProcessError, python_call
from perf.measure.paired import in_rounds
from perf.records.format import label
from perf.records.limits import KIND, PREFIX
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from perf.limits.sides import Side
    from perf.records.record_file import Input

Allocator = Literal["workers", "default"]

ALLOCATORS: Final[dict[Allocator, Mapping[str, str | None]]] = {
    "workers": ALLOCATOR,
    "default": dict.fromkeys(ALLOCATOR),
}
"""Environments of the processes: glibc's allocator as workers have it, or as it comes."""

TOLD: Final[dict[Allocator, str]] = {
    "workers": "allocator of workers",
    "default": "allocator as it comes",
}

REPEATS: Final = 2
"""Calls of each side in a process."""

GRACE: Final = 10.0
"""Seconds that a process has to end after Ctrl-C."""


@dataclass(frozen=True)
class Cell:
    """Sides that are measured in the same processes, on one input.

    Attributes
    ----------
    codec
        Of the files, as records name it.
    rounds
        Number of processes.
    repeats
        Calls of each side in a process, besides the one whose result is compared.
    beside
        Sides whose results are compared with those of the others, and no more.
    """

    fileset: Mapping[str, Any]
    identity: Input
    sides: tuple[Side, ...]
    allocator: Allocator = "workers"
    codec: str = "zstd"
    rounds: int = 1
    repeats: int = REPEATS
    beside: tuple[Side, ...] = ()

    def what(self, side: Side, prefix: str = PREFIX) -> What:
        """What a record of a side is of, its name beginning with the prefix."""
        analysis = side.task == "processor"
        words = [self.codec, side.variations, self.allocator]
        words += [side.name.replace(" ", "_")] if side.name else []
        words += [] if analysis else [side.task.replace(" ", "_")]
        words += [] if side.part else [f"chunk{label(side.chunksize)}", side.reader]
        return What(
            name=prefix + "-".join(words),
            group=f"limit, {self.codec}, {side.variations}",
            kind=KIND,
            subject="ttbar" if analysis else side.name or side.task,
            implementation=side.name if analysis else None,
            executor=None if side.part else BASE,
            workers=None if side.part else 1,
            size=self.identity.events,
            chunksize=None if side.part else side.chunksize,
            parameters={
                "codec": self.codec,
                "variations": side.variations,
                "allocator": self.allocator,
                **({} if side.part else {"reader": side.reader}),
            },
        )


@dataclass
class Samples:
    """What the processes of a cell measured: seconds of each, by side; the largest peak memory."""

    wall: dict[Side, list[float]] = field(default_factory=dict)
    cpu: dict[Side, list[float]] = field(default_factory=dict)
    check: dict[Side, str] = field(default_factory=dict)
    bytes: dict[Side, int] = field(default_factory=dict)
    peak_memory: int | None = None

    def add(self, sides: Sequence[Side], answer: Answer) -> None:
        """Add what a process measured; an InputError if a result is not that of another process."""
        for side, timed in zip(sides, answer.timed, strict=True):
            if self.check.setdefault(side, timed.check) != timed.check:
                msg = f"{side.result}: the result of two processes differs: run the tests"
                raise InputError(msg)
            self.wall.setdefault(side, []).append(timed.wall)
            self.cpu.setdefault(side, []).append(timed.cpu)
            self.bytes[side] = timed.bytes
        if answer.peak_memory is not None:
            self.peak_memory = max(answer.peak_memory, self.peak_memory or 0)


def measure(
    cells: Sequence[Cell], seed: int, advance: Callable[[Cell], object] = lambda _: None
) -> list[Samples]:
    """Measure cells, a process of each in turn; `advance` is called after every process.

    An InputError if results differ, or a process fails.
    """
    found = [Samples() for _ in cells]
    most = max((cell.rounds for cell in cells), default=0)
    for number, turn in in_rounds(range(len(cells)), most, seed):
        cell = cells[number]
        if turn < cell.rounds:
            found[number].add(cell.sides, _in_fresh_process(cell, seed + turn))
            advance(cell)
    return found


def _in_fresh_process(cell: Cell, seed: int) -> Answer:
    request = Request(
        fileset=dict(cell.fileset),
        sides=cell.sides,
        beside=cell.beside,
        repeats=cell.repeats,
        seed=seed,
    )
    # Not only the new variables of the process: this one may have been started with others.
    with environment(ALLOCATORS[cell.allocator]):
        process = Process(python_call("perf.limits.worker.main"), interrupt=GRACE)
    try:
        with process:
            answer = Answer.model_validate_json(process.finish(request.model_dump_json()))
    except ProcessError as error:
        msg = f"a process that measured {cell.codec} files failed: {error}"
        raise InputError(msg) from error
    if answer.error is not None:
        raise InputError(answer.error)
    if answer.allocator != ALLOCATORS[cell.allocator]:
        msg = (
            "a process was started with another allocator than was asked for: no speed is reported"
        )
        raise InputError(msg)
    return answer
