"""The record of a measurement, and the file of records: one JSON line each.

pytest-benchmark, the claims, the scaling runs and the history write the same record, so that
tables, comparisons and pages read one form. Records hold seconds; rates are derived for display
only, because tools that compare numbers take the larger one for the slower.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import statistics
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import pydantic

from analysis.errors import InputError
from analysis.files import output
from perf.records.compressed import decompressed
from perf.records.unreadable import leave_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA_VERSION: Final = 1
"""Raised whenever an older reader would misread a record."""

NAMED: Final = 3
"""Most lines of a file that a sentence names as bad."""

DEFAULT_PATH: Final = ".perf/records.jsonl"
"""Relative to the root of the project; not under version control."""

OLD_METRIC: Final = "measured."
"""Prefix of metrics among the parameters of records before `Record.metrics`."""

Seconds = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]


class _Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


Kind = Literal[
    "kernel",
    "query",
    "processor",
    "executor",
    "selection",
    "inference",
    "delivery",
    "whole",
    "import",
    "events",
    "histogram",
    "limit",
    "peer",
]
"""Kind of a subject."""


class What(_Frozen):
    """What was measured.

    Attributes
    ----------
    name
        Name of the measurement; the same in every run.
    group
        Measurements of one group are compared: one kernel, query or configuration of the processor.
    kind, subject
        Kind and name of the kernel, query, processor or executor.
    implementation
        Implementation of the kernels; None where none is called.
    executor, workers, chunksize
        How the processor was run; chunksize in events.
    size
        Number of events asked for.
    parameters
        Everything else that distinguishes it.
    """

    name: str
    group: str
    kind: Kind
    subject: str
    implementation: str | None = None
    executor: str | None = None
    workers: int | None = None
    size: int
    chunksize: int | None = None
    parameters: dict[str, str | int | float | bool] = pydantic.Field(default_factory=dict)


class Input(_Frozen):
    """The data that a measurement reads.

    Attributes
    ----------
    digest
        SHA-256 of the content, hexadecimal.
    source
        Where the events come from, for people: generator and seed, or name of a file.
    """

    digest: str
    events: int = pydantic.Field(ge=0)
    source: str


class Machine(_Frozen):
    """The machine of a measurement; None where something is not known, as of asv's results.

    Attributes
    ----------
    name
        A given name: the own name of a virtual machine changes with every start.
    cpu
        Model of the processor.
    cores
        Cores that the process may use.
    memory
        Memory in bytes.
    kernel, python
        Operating system and Python, each with its version.
    """

    name: str
    cpu: str
    cores: int | None
    memory: int | None
    kernel: str
    python: str


class Claimed(_Frozen):
    """A ratio that ``claims`` judged: what was claimed, what was measured, and the verdict.

    Attributes
    ----------
    bound
        At least or at most this was claimed; None of what is only shown beside the others.
    value, low, high
        The estimate, and the ends of its interval.
    """

    claim: str
    sense: Literal["at least", "at most"]
    bound: float | None
    value: float
    low: float
    high: float
    unit: str
    verdict: Literal["holds", "undecided", "FAILS", "-"]


class Record(_Frozen):
    """One measurement.

    Attributes
    ----------
    run
        Identity of the session that measured.
    timestamp
        End of the measurement, UTC.
    versions
        Versions of packages by name.
    load_before, load_after
        Load average of the last minute before and after; None where the system has none.
    iterations
        Calls in each sample.
    wall_seconds, cpu_seconds
        Seconds a call, one entry for each sample, of all threads and workers; empty if not measured.
    counts
        Counted quantities by unit (``instructions``, ``bytes``), one entry for each sample. Less is
        better.
    metrics
        Other measured numbers by name, such as ``task_bytes``.
    peak_memory
        Largest resident memory of one process in bytes; None if not known.
    check
        Digest of the result, which was compared with that of another implementation; None where
        the measuring tool does not record it (asv).
    commit, committed
        Commit of coffea and its date, where it was built from a repository.
    claims
        What ``claims`` found by this measurement and the one beside it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    run: str
    timestamp: pydantic.AwareDatetime = pydantic.Field(default_factory=lambda: datetime.now(UTC))
    what: What
    input: Input
    versions: dict[str, str]
    machine: Machine
    load_before: float | None
    load_after: float | None
    iterations: int = pydantic.Field(ge=1)
    wall_seconds: tuple[Seconds, ...] = ()
    cpu_seconds: tuple[Seconds, ...] = ()
    counts: dict[str, tuple[pydantic.FiniteFloat, ...]] = pydantic.Field(default_factory=dict)
    metrics: dict[str, int | pydantic.FiniteFloat] = pydantic.Field(default_factory=dict)
    peak_memory: int | None = None
    check: str | None
    commit: str | None = None
    committed: pydantic.AwareDatetime | None = None
    claims: tuple[Claimed, ...] = ()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _of_before(cls, data: Any) -> Any:
        """Old records have their metrics among the parameters, with a prefix."""
        match data:
            case {"what": {"parameters": dict(parameters)} as what}:
                old = [name for name in parameters if name.startswith(OLD_METRIC)]
                if old:
                    metrics = {name.removeprefix(OLD_METRIC): parameters[name] for name in old}
                    rest = {name: parameters[name] for name in parameters if name not in old}
                    return {**data, "what": {**what, "parameters": rest}, "metrics": metrics}
        return data

    @pydantic.field_validator("cpu_seconds", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """No samples if one of them is not known (`perf.measure.clocks.TreeCpu`)."""
        return (
            ()
            if any(isinstance(sample, float) and math.isnan(sample) for sample in value)
            else value
        )

    @pydantic.field_validator("metrics", mode="before")
    @classmethod
    def _finite(cls, value: Any) -> Any:
        """Without those that are not known: NaN, which JSON has as null."""
        if not isinstance(value, dict):
            return value
        return {
            name: number
            for name, number in value.items()
            if number is not None and not (isinstance(number, float) and math.isnan(number))
        }

    @pydantic.model_validator(mode="after")
    def _measured(self) -> Record:
        if not (self.wall_seconds or self.cpu_seconds or any(self.counts.values())) and (
            self.peak_memory is None
        ):
            msg = "it has no sample"
            raise ValueError(msg)
        return self

    @property
    def campaign(self) -> str:
        """Identity of the campaign, or else of the run; one that was resumed is one."""
        known = [self.what.parameters.get(name) for name in ("campaign", "code")]
        return " ".join(str(part) for part in known if part) or self.run

    @property
    def wall_median(self) -> float:
        """Median of wall seconds a call; NaN if not measured."""
        return statistics.median(self.wall_seconds) if self.wall_seconds else math.nan

    @property
    def wall_minimum(self) -> float:
        """Minimum of wall seconds a call; NaN if not measured."""
        return min(self.wall_seconds, default=math.nan)

    @property
    def cpu_median(self) -> float | None:
        """Median of CPU seconds a call; None if not measured."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    @property
    def seconds_per_event(self) -> float | None:
        """Median of wall seconds an event; None if not measured, or without events."""
        known = self.input.events and self.wall_seconds
        return self.wall_median / self.input.events if known else None

    @property
    def cpu_seconds_per_event(self) -> float | None:
        """Median of CPU seconds an event; None if not measured, or without events."""
        cpu = self.cpu_median
        return cpu / self.input.events if cpu is not None and self.input.events else None

    @property
    def events_per_second(self) -> float | None:
        """Events a second, for display only."""
        seconds = self.seconds_per_event
        return 1 / seconds if seconds else None


def append(path: Path, record: Record) -> None:
    """Add a record to the end of a file, whole or not at all; makes the file and its folder.

    Several processes may append to one file. A line that an interrupted writer left unfinished is
    removed.
    """
    line = (record.model_dump_json() + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            end = _end_of_whole_lines(file)
            os.ftruncate(file, end)
            written = os.write(file, line)
            if written != len(line):
                # The disk is full: leave no half record.
                os.ftruncate(file, end)
                msg = f"{path} cannot be written: only {written} of {len(line)} bytes fit"
                raise InputError(msg)
            os.fsync(file)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise InputError(msg) from error


def remove(path: Path, unwanted: Callable[[Record], bool]) -> None:
    """Remove unwanted records from a file, all or none; lines that are no records stay."""
    try:
        with _locked(path) as file, output.whole(path) as part:
            with open(file, "rb", closefd=False) as opened:
                lines = opened.read().split(b"\n")[:-1]
            part.write_bytes(
                b"".join(
                    line + b"\n"
                    for number, line in enumerate(lines, start=1)
                    if isinstance(record := _parsed(line, number), str) or not unwanted(record)
                )
            )
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise InputError(msg) from error


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, open for writing by this process alone; made if missing."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The process that had the lock may have replaced the file (`remove`).
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return
        finally:
            # Closing releases the lock.
            os.close(file)


def _end_of_whole_lines(file: int, block: int = 65_536) -> int:
    """Length of a file up to its last newline."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - block)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read(path: Path) -> list[Record]:
    """Records of a file, oldest first; it is compressed if its name ends in ``.gz``.

    An unfinished last line is ignored. A line that is no record is left out, and a sentence says
    so.
    """
    records, bad = parse(path)
    if bad:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        leave_out(f"{path}: {'; '.join(bad[:NAMED])}{more}")
    return records


def parse(path: Path) -> tuple[list[Record], list[str]]:
    """Records of a file as in `read`, and what is wrong with its other lines."""
    records: list[Record] = []
    bad: list[str] = []
    content, ends = decompressed(path)
    lines = content.split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _parsed(line, number)
        if isinstance(record, Record):
            records.append(record)
        else:
            bad.append(record)
    if not ends:
        bad.append(f"the file is cut off after line {len(lines)}")
        if not lines:
            msg = f"{path} cannot be read: it is cut off"
            raise InputError(msg)
    return records, bad


def notes_path(path: Path) -> Path:
    """Where the notes on a file of records are: why something was not measured."""
    return path.with_name(path.name.partition(".jsonl")[0] + ".notes.json")


def _parsed(line: bytes, number: int) -> Record | str:
    """The record of a line, or the reason why it is none."""
    try:
        content: Any = json.loads(line)
    except (ValueError, RecursionError):
        return f"line {number} is not JSON"
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return (
            f"line {number} has schema {version}, this version reads up to {SCHEMA_VERSION}: "
            "update the project"
        )
    try:
        return Record.model_validate_json(line)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the top"
        return f"line {number} is not a record: at {at}: {first['msg']}"
