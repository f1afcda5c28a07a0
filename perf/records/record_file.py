"""The one record of a measurement, and the file of records: one JSON line each.

Whoever measures (pytest-benchmark, the paired claims, the scaling runs, the history) leaves the
same record, so that the table, the comparison and the report read one form. Seconds are stored;
rates are derived for display alone, because a tool that compares numbers takes the larger one
for the slower.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import math
import os
import statistics
import zlib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import pydantic

from analysis.errors import InputError
from analysis.files import output
from perf.records.unreadable import leave_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA_VERSION: Final = 1
"""Raised whenever an older reader would misread a record."""

NAMED: Final = 3
"""Lines of a file that are named, of those that are no records."""

DEFAULT_PATH: Final = ".perf/records.jsonl"
"""Below the root directory of the project; not under version control."""

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
]
"""What a measured thing is."""


class What(_Frozen):
    """What was measured.

    Attributes
    ----------
    name
        Of the measurement; the same in every run.
    group
        What it is compared with: one kernel, one query, one configuration of the processor.
    kind
        What `subject` is.
    subject
        Name of the kernel, query, processor or executor.
    implementation
        Of the kernels; none where none is called.
    executor, workers, chunksize
        How the processor was run; chunksize in events.
    size
        Events asked for.
    parameters
        Whatever else distinguishes it.
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
    """Identity of what was measured on.

    Attributes
    ----------
    digest
        SHA-256 of the content, hexadecimal.
    events
        Number of events.
    source
        Where the events come from, for people: generator and seed, or name of a file.
    """

    digest: str
    events: int = pydantic.Field(ge=0)
    source: str


class Machine(_Frozen):
    """Where it was measured.

    Attributes
    ----------
    name
        As given; a virtual machine's own name changes with every start.
    cpu
        Model of the processor.
    cores
        Cores that this process may use; None if not known (asv).
    memory
        In bytes; None if not known.
    kernel, python
        Operating system with its version; Python with its version.
    """

    name: str
    cpu: str
    cores: int | None
    memory: int | None
    kernel: str
    python: str


class Record(_Frozen):
    """One measurement.

    Attributes
    ----------
    schema_version
        SCHEMA_VERSION of the writer.
    run
        One for each session that measures.
    timestamp
        When the measurement ended, UTC.
    what, input, versions, machine
        What, on what, with which versions of which packages, where.
    load_before, load_after
        Load average of the last minute around the measurement; None where there is none.
    iterations
        Calls in each sample.
    wall_seconds, cpu_seconds
        Seconds a call, one entry for each sample. CPU time is that of all threads and workers.
        None of one of them, or of both, where it was not measured.
    counts
        What is counted and not timed, by unit (``instructions``, ``bytes``): one entry for each
        sample. Less is better.
    metrics
        Other measured numbers by name, such as ``task_bytes``.
    peak_memory
        Largest resident memory during the samples in bytes (of one process); None if not known.
    check
        SHA-256 of the result that was compared with another implementation's; None where whoever
        measured compared it and does not say (asv).
    commit, committed
        Of coffea, where it was built from a repository: hexadecimal, and when it was committed.
        A release is named by its version.
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
    counts: dict[str, tuple[float, ...]] = pydantic.Field(default_factory=dict)
    metrics: dict[str, int | float] = pydantic.Field(default_factory=dict)
    peak_memory: int | None = None
    check: str | None
    commit: str | None = None
    committed: pydantic.AwareDatetime | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _of_before(cls, data: Any) -> Any:
        """Records once had their metrics among the parameters, with a prefix."""
        match data:
            case {"what": {"parameters": dict(parameters)} as what}:
                old = {name for name in parameters if name.startswith(OLD_METRIC)}
                if old:
                    metrics = {name.removeprefix(OLD_METRIC): parameters[name] for name in old}
                    rest = {name: parameters[name] for name in parameters if name not in old}
                    return {**data, "what": {**what, "parameters": rest}, "metrics": metrics}
        return data

    @pydantic.field_validator("cpu_seconds", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Of samples of which one is not known (`perf.measure.clocks.TreeCpu`) none."""
        return () if any(isinstance(one, float) and math.isnan(one) for one in value) else value

    @pydantic.model_validator(mode="after")
    def _measured(self) -> Record:
        if not (self.wall_seconds or self.cpu_seconds or any(self.counts.values())) and (
            self.peak_memory is None
        ):
            msg = "it has no sample of anything"
            raise ValueError(msg)
        return self

    @property
    def wall_median(self) -> float:
        """Median of seconds a call; NaN if wall time was not measured."""
        return statistics.median(self.wall_seconds) if self.wall_seconds else math.nan

    @property
    def wall_minimum(self) -> float:
        """Minimum of seconds a call; NaN if wall time was not measured."""
        return min(self.wall_seconds, default=math.nan)

    @property
    def cpu_median(self) -> float | None:
        """Median of CPU seconds a call, if CPU time was measured."""
        return statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    @property
    def seconds_per_event(self) -> float | None:
        """Median of seconds an event; None if not measured or no events are involved."""
        known = self.input.events and self.wall_seconds
        return self.wall_median / self.input.events if known else None

    @property
    def cpu_seconds_per_event(self) -> float | None:
        """Median of CPU seconds an event; None if not measured or no events are involved."""
        cpu = self.cpu_median
        return cpu / self.input.events if cpu is not None and self.input.events else None

    @property
    def events_per_second(self) -> float | None:
        """Events a second, for display alone."""
        seconds = self.seconds_per_event
        return 1 / seconds if seconds else None


def append(path: Path, record: Record) -> None:
    """Add a record to the end of a file, whole or not at all.

    Processes may append to one file at the same time. What an interrupted writer left of a line
    is taken away.

    Parameters
    ----------
    path
        File of records; made with its folder if missing.
    record
        What to add.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    line = (record.model_dump_json() + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            end = _end_of_whole_lines(file)
            os.ftruncate(file, end)
            written = os.write(file, line)
            if written != len(line):
                # A full disk: nobody must find half a record.
                os.ftruncate(file, end)
                msg = f"{path} cannot be written: only {written} of {len(line)} bytes fit"
                raise InputError(msg)
            os.fsync(file)
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise InputError(msg) from error


def remove(path: Path, unwanted: Callable[[Record], bool]) -> None:
    """Take records out of a file, all or none; what is no record stays where it is.

    Parameters
    ----------
    path
        File of records.
    unwanted
        Whether one is taken out.

    Raises
    ------
    InputError
        If the file cannot be read or written.
    """
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
    """The file, open to be written by this process alone; made if missing."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock may have put another file in its place (`remove`).
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                yield file
                return
        finally:
            # Closing gives the lock back.
            os.close(file)


def _end_of_whole_lines(file: int, block: int = 65_536) -> int:
    """Length of a file up to its last newline."""
    end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - block)
        found = os.pread(file, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read(path: Path) -> list[Record]:
    """Records of a file, oldest first.

    What an interrupted writer left of the last line is passed over. A line that is no record is
    left out, and a sentence says so.

    Parameters
    ----------
    path
        File of records; compressed if its name ends in ``.gz``.

    Returns
    -------
    list[Record]
        All of them.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    found: list[Record] = []
    bad: list[str] = []
    for number, line in enumerate(_content(path).split(b"\n")[:-1], start=1):
        if not line.strip():
            continue
        record = _parsed(line, number)
        if isinstance(record, Record):
            found.append(record)
        else:
            bad.append(record)
    if bad:
        more = f", and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        leave_out(f"{path}: {'; '.join(bad[:NAMED])}{more}")
    return found


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            content = file.read()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        msg = f"there are no records at {path}: make some with `pytest --benchmark-only`"
        raise InputError(msg) from None
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError(msg) from error


def _parsed(line: bytes, number: int) -> Record | str:
    """The record that a line is; or in words why it is none."""
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
