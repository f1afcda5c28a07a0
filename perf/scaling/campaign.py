"""Throughput of a processor on every executor, by number of workers and chunk size.

The unit is a worker run (`perf.scaling.worker`): a process that starts the executor, runs once to
warm up, and runs for the record. Processes differ by more than runs of one process do, so worker
runs are repeated, not runs. They are interleaved: every configuration once a round, in random
order. What slows the machine down then slows all, and ratios are taken within a round.

A worker run that is done is in the file of results at once, and is not made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pydantic

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.files import output
from analysis.folders import alone
from perf import coffea_compute
from perf.measure.fresh_process import Process, ProcessError, python_call
from perf.measure.paired import in_rounds
from perf.records import identity, provenance, record_file
from perf.records.record_file import Input, Record, What
from perf.records.unreadable import leave_out
from perf.scaling.configurations import BASELINE
from perf.scaling.worker import (
    TTBAR,
    Configuration,
    Job,
    Measured,
    Outcome,
    Request,
    source_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from perf.scaling.shapes import Shape

ENGINES: Final = (
    *("cloudpickle", "dask", "distributed", "loky", "lz4", "ndcctools", "parsl", "pyspark"),
)
"""Packages whose versions stand in records beside those of `provenance.PACKAGES`."""

ARGUMENTS: Final = "the arguments"
"""What a measurement depends on that is no state: others than these are another measurement."""

GRACE: Final = 60.0
"""Seconds that a worker run has to end its executor after Ctrl-C."""

_MEASURED: Final = pydantic.TypeAdapter(Measured)


@dataclass(frozen=True)
class WorkerRun:
    """One worker run that is to be made or was: which configuration, and which repetition from 0."""

    configuration: Configuration
    round: int


@dataclass(frozen=True)
class Done:
    """A worker run with what it measured."""

    worker_run: WorkerRun
    measured: Measured


@dataclass(frozen=True)
class Failed:
    """A configuration that could not be measured, and why."""

    configuration: Configuration
    reason: str


def order(
    pairs: Sequence[tuple[Shape | None, Configuration]], rounds: int, seed: int
) -> list[tuple[Shape | None, WorkerRun]]:
    """Worker runs in the order in which they are made: round by round, each in a random order."""
    return [
        (shape, WorkerRun(configuration, number))
        for (shape, configuration), number in in_rounds(pairs, rounds, seed)
    ]


@dataclass
class Campaign:
    """Worker runs of one job, made or to be made, in a file of results.

    The input is inspected first, so that an InputError says what is wrong before any work is done.
    """

    job: Job
    path: Path
    weak: str = ""
    """What one worker has to do, if the job is one of a series in which each has as much."""

    def __post_init__(self) -> None:
        inspected = self.job.inspect()
        job = self.job.model_dump(mode="json", exclude={"fileset", "scratch"})
        self.input = Input(
            digest=inspected.digest, events=inspected.events, source=str(self.job.fileset)
        )
        self.versions = provenance.versions(*ENGINES)
        compute = coffea_compute.identity()
        if compute is not None:
            self.versions["coffea.compute"] = compute
        self.machine = provenance.machine()
        # All that could make a result another one, in value or in time, but for our own code.
        self.parts = {
            ARGUMENTS: identity.digest(job),
            "the file set or one of its files": self.input.digest,
            "the machine": identity.digest(self.machine.model_dump()),
            **identity.environment(),
            **identity.modules(*self.job.modules),
            **({"coffea.compute": compute} if compute else {}),
        }
        self.identity = identity.digest(self.parts)
        self.run = uuid.uuid4().hex
        self.codes: dict[str, str] = {}
        which = identity.digest(self.identity, self._code(BASELINE))
        self._references = f"{self.path.name}.{identity.digest(self.input.source)[:8]}.reference-"
        self.reference = self.path.with_name(f"{self._references}{which[:12]}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder of results for this process only; an InputError if another has it."""
        output.check_with_folder(self.path)
        if output.is_stream(self.path):
            msg = f"{self.path} is no file that can be read again: name another with --output"
            raise InputError(msg)
        with alone(self.path.parent):
            yield

    def outdated(self, pending: Sequence[WorkerRun]) -> tuple[int, list[str]]:
        """How many of these were made of something else, and what has changed since the last."""
        if not self.path.exists():
            return 0, []
        others = [
            (record, before)
            for record in record_file.read(self.path)
            if (before := json.loads(str(record.what.parameters.get("depends on", "{}"))))
            and record.input.source == self.input.source
            and before[ARGUMENTS] == self._depends[ARGUMENTS]
            and not self._is_ours(record)
            and read(record).worker_run in pending
        ]
        if not others:
            return 0, []
        _, before = max(others, key=lambda other: other[0].timestamp)
        changed = identity.changes(before, self._depends)
        return len(others), changed or ["the code of this project"]

    @property
    def _depends(self) -> dict[str, str]:
        return {name: part[:12] for name, part in self.parts.items()}

    def done(self) -> list[Done]:
        """Worker runs of this job, with the code as it is now, that are in the file."""
        return read_all(self._ours())

    def newest(self) -> Record | None:
        """The record of `done` that was measured last."""
        return max(self._ours(), key=lambda record: record.timestamp, default=None)

    def _ours(self) -> list[Record]:
        if not self.path.exists():
            return []
        return [record for record in record_file.read(self.path) if self._is_ours(record)]

    def forget(self, configuration: Configuration | None = None) -> None:
        """Delete worker runs from the file: all of this job, or those of a configuration."""
        if not self.path.exists():
            return

        def unwanted(record: Record) -> bool:
            return self._is_ours(record) and (
                configuration is None
                or any(
                    done.worker_run.configuration == configuration for done in read_all([record])
                )
            )

        record_file.remove(self.path, unwanted)
        if configuration is None:
            self.reference.unlink(missing_ok=True)

    def measure(self, worker_run: WorkerRun, *, runs: int = 1) -> Done | Failed:
        """Make a worker run with so many timed runs, and write it to the file when it is done.

        There must be a reference.
        """
        configuration = worker_run.configuration
        self._require_unchanged(configuration.executor)
        before = provenance.load_average()
        outcome = in_fresh_process(
            Request(
                job=self.job,
                configuration=configuration,
                runs=runs,
                seed=worker_run.round,
                input=self.input.digest,
                reference=self.reference,
            )
        )
        self._require_unchanged(configuration.executor)
        if outcome.measured is None:
            if outcome.wrong:
                # There is no speed of a wrong result.
                self.forget(configuration)
            return Failed(configuration, outcome.error or "")
        done = Done(worker_run, outcome.measured)
        record_file.append(self.path, self._record(done, outcome.check, before))
        return done

    def _require_unchanged(self, executor: str) -> None:
        """Raise if what a worker run executes is not what it was when this began."""
        now = {**self.parts, **identity.modules(*self.job.modules)}
        changed = identity.changes(self.parts, now)
        if changed or self._code(executor) != source_of(executor):
            msg = (
                f"{' and '.join(changed) or 'the code of this project'} was changed while it was "
                "measured: what was measured before is kept, run it again"
            )
            raise InputError(msg)

    def _is_ours(self, record: Record) -> bool:
        name, parameters = record.what.executor or "", record.what.parameters
        return parameters.get("campaign") == self.identity and parameters.get(
            "code"
        ) == self._code(name)

    def _code(self, executor: str) -> str:
        if executor not in self.codes:
            self.codes[executor] = source_of(executor)
        return self.codes[executor]

    def make_reference(self, chunksize: int) -> None:
        """Make the result that all others must have, by the iterative executor."""
        if self.reference.exists():
            return
        try:
            for old in self.path.parent.glob(f"{self._references}*"):
                old.unlink()
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}"
            raise InputError(msg) from error
        outcome = in_fresh_process(
            Request(
                job=self.job,
                configuration=Configuration(executor=BASELINE, chunksize=chunksize),
                input=self.input.digest,
                reference=self.reference,
                make_reference=True,
            )
        )
        if outcome.error is not None:
            raise InputError(outcome.error)

    def _record(self, done: Done, check: str, before: float | None) -> Record:
        configuration, measured = done.worker_run.configuration, done.measured
        own = self.job.processor == TTBAR
        metrics = dataclasses.asdict(measured)
        return Record(
            run=self.run,
            what=What(
                name=(
                    f"scale-{self.job.processor}-{configuration.executor}{configuration.workers}"
                    f"{'' if configuration.tuned else '-plain'}-chunk{configuration.chunksize}"
                ),
                group=f"scale, {self.job.processor}",
                kind="processor",
                subject=self.job.processor,
                implementation=self.job.implementation if own else None,
                executor=configuration.executor,
                workers=configuration.workers,
                size=self.input.events,
                chunksize=configuration.chunksize,
                parameters={
                    "campaign": self.identity,
                    "code": self._code(configuration.executor),
                    "depends on": json.dumps(self._depends),
                    "round": done.worker_run.round,
                    "tuned": configuration.tuned,
                    "options": json.dumps(configuration.options, sort_keys=True),
                    **({"variations": self.job.variations} if own else {}),
                    **({"weak": self.weak} if self.weak else {}),
                },
            ),
            input=self.input,
            versions=self.versions,
            machine=self.machine,
            load_before=before,
            load_after=provenance.load_average(),
            iterations=1,
            wall_seconds=metrics.pop("wall"),
            cpu_seconds=metrics.pop("cpu"),
            metrics={name: value for name, value in metrics.items() if value is not None},
            peak_memory=measured.peak_worker,
            check=check,
        )


def read(record: Record) -> Done:
    """The worker run that a record is of; an InputError if it is of none."""
    what, parameters = record.what, record.what.parameters
    try:
        measured = _MEASURED.validate_python(
            {
                **{field.name: None for field in dataclasses.fields(Measured)},
                **record.metrics,
                "wall": record.wall_seconds,
                "cpu": record.cpu_seconds,
            }
        )
        configuration = Configuration(
            executor=what.executor or "",
            workers=what.workers or 0,
            chunksize=what.chunksize or 0,
            tuned=bool(parameters["tuned"]),
            options=json.loads(str(parameters["options"])),
        )
        return Done(WorkerRun(configuration, int(parameters["round"])), measured)
    except (KeyError, ValueError) as error:
        msg = f"the record {what.name} is not of a scaling measurement: {error}"
        raise InputError(msg) from None


def read_all(records: Iterable[Record]) -> list[Done]:
    """The worker runs that records are of; what is of none is left out, and a sentence says so."""
    done = []
    for record in records:
        try:
            done.append(read(record))
        except InputError as error:
            leave_out(str(error))
    return done


def last_campaign(path: Path) -> tuple[list[Done], Record]:
    """Worker runs of the job that was measured last, or of its series, and its newest record.

    Of each executor those with the code that was measured last. An InputError if there is none.
    """
    records = sorted(
        (record for record in record_file.read(path) if "campaign" in record.what.parameters),
        key=lambda record: record.timestamp,
    )
    if not records:
        msg = f"{path} holds no scaling measurement: make one with `python -m perf scale`"
        raise InputError(msg)

    def value(record: Record, name: str) -> object:
        return record.what.parameters.get(name)

    newest = records[-1]
    members = [
        record
        for record in records
        if value(record, "campaign") == value(newest, "campaign")
        or (
            value(newest, "weak")
            and value(record, "weak") == value(newest, "weak")
            and (record.machine, record.versions) == (newest.machine, newest.versions)
        )
    ]
    codes = {record.what.executor: value(record, "code") for record in members}
    current = (r for r in members if value(r, "code") == codes[r.what.executor])
    return read_all(current), newest


def in_fresh_process(request: Request) -> Outcome:
    """Make a worker run in a process of its own, of which nothing is left however it ends."""
    # Worker processes are given these: whoever computes is to have them, or ratios would be of
    # memory settings.
    configuration = request.configuration
    computes = configuration.inside and configuration.tuned
    command = python_call("perf.scaling.worker.main")
    try:
        with Process(command, ALLOCATOR if computes else None, interrupt=GRACE) as process:
            return Outcome.model_validate_json(process.finish(request.model_dump_json()))
    except ProcessError as error:
        return Outcome(error=str(error))
