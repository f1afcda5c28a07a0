"""Throughput of a processor on every executor, by number of workers and chunk size.

The unit is a visit (`perf.scaling.worker`): a process that starts the executor, runs once to warm up, and
runs for the record. Processes differ by more than runs of one process do, so that visits are
repeated, not runs; and they are interleaved: every cell once a round, in random order. What slows
the machine down then slows all, and ratios are taken between visits of a round.

A visit that is done is in the file of results at once. What is there is not measured again.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.errors import InputError
from analysis.executors import EXECUTORS, import_executor, options_of, parse_options
from analysis.executors.worker import ALLOCATOR
from analysis.files import output
from analysis.folders import alone
from perf.measure.fresh_process import Process, ProcessError, python_call
from perf.records import identity, provenance, record_file
from perf.records.record_file import Input, Record, What
from perf.records.unreadable import leave_out
from perf.scaling.worker import Cell, Job, Measured, Outcome, Request, prepare, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

BASELINE: Final = "iterative"
"""The executor that others are compared with, and that makes the reference."""

ENGINES: Final = (
    *("cloudpickle", "dask", "distributed", "loky", "lz4", "ndcctools", "parsl", "pyspark"),
)
"""Packages whose versions stand in records beside those of `measure.PACKAGES`."""

ARGUMENTS: Final = "the arguments"
"""What a measurement depends on that is no state: others than these are another measurement."""

GRACE: Final = 60.0
"""Seconds that a visit has to end its executor after Ctrl-C."""


@dataclass(frozen=True)
class Visit:
    """One visit that is to be made or was.

    Attributes
    ----------
    cell
        How the job is processed.
    round
        Which repetition, from 0.
    """

    cell: Cell
    round: int


@dataclass(frozen=True)
class Done:
    """A visit with what it measured."""

    visit: Visit
    measured: Measured


@dataclass(frozen=True)
class Failed:
    """A cell that could not be measured, and why."""

    cell: Cell
    reason: str


# --- what is to be measured


def cells(
    executors: Sequence[str],
    workers: Sequence[int],
    chunksizes: Sequence[int],
    *,
    options: Sequence[str] = (),
    untuned: bool = False,
) -> list[Cell]:
    """Every executor x number of workers x chunk size.

    Parameters
    ----------
    executors, workers, chunksizes
        Of each; the iterative executor has one worker.
    options
        ``KEY=VALUE`` for all executors that have the option, ``EXECUTOR.KEY=VALUE`` for one;
        values are JSON, or else text.
    untuned
        Whether to measure coffea's own executors as they come, too.

    Raises
    ------
    InputError
        If there is no such executor or option, or what the executor needs is not installed.
    """
    for what, numbers in (("workers", workers), ("events a chunk", chunksizes)):
        if not numbers or min(numbers) < 1:
            msg = f"ask for at least one of {what}"
            raise InputError(msg)
    known = {name: _known_options(name) for name in dict.fromkeys(executors)}
    if not known:
        msg = f"name an executor: {', '.join(EXECUTORS)}"
        raise InputError(msg)
    given = _options(options, known)
    made = []
    for name, has in known.items():
        chosen = parse_options(name, given[name])
        given[name].pop("tuned", None)
        # The iterative executor has no option for this (`perf.scaling.worker.opened`).
        sides = (True, False) if untuned and (name == BASELINE or "tuned" in has) else (True,)
        if not getattr(chosen, "tuned", True):
            sides = (False,)
        for tuned in sides:
            for count in (1,) if name == BASELINE else dict.fromkeys(workers):
                made += [
                    Cell(
                        executor=name,
                        workers=count,
                        chunksize=chunksize,
                        tuned=tuned,
                        options=given[name],
                    )
                    for chunksize in dict.fromkeys(chunksizes)
                ]
    for cell in made:
        parse_options(cell.executor, cell.all_options, workers=cell.workers)
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
    for one in given:
        key, equals, text = one.partition("=")
        if not (key and equals):
            msg = f"--option takes KEY=VALUE, not {one!r}"
            raise InputError(msg)
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        executor, dot, name = key.partition(".")
        chosen = [executor] if dot else [one for one, has in known.items() if key in has]
        for executor in chosen:
            if executor not in known:
                msg = f"--option {one}: {executor} is not measured, see --executors"
                raise InputError(msg)
            if (name or key) not in known[executor]:
                msg = (
                    f"the {executor} executor has no option {name or key!r}: "
                    f"it has {', '.join(known[executor])}"
                )
                raise InputError(msg)
            options[executor][name or key] = value
        if not chosen:
            msg = f"--option {one}: none of {', '.join(known)} has it"
            raise InputError(msg)
    return options


def order(cells: Sequence[Cell], rounds: int, seed: int) -> list[Visit]:
    """Visits in the order in which they are made: round by round, each in a random order."""
    return [
        Visit(cells[index], number)
        for number in range(rounds)
        for index in np.random.default_rng([seed, number]).permutation(len(cells))
    ]


# --- measuring


@dataclass
class Campaign:
    """Visits of one job, made or to be made.

    Parameters
    ----------
    job
        What is processed.
    path
        File of results.
    """

    job: Job
    path: Path

    def __post_init__(self) -> None:
        """Look at the input, so that what is wrong with it is said before any work is done.

        Raises
        ------
        InputError
            If the file set, a file of it, or the processor cannot be used.
        """
        prepared = prepare(self.job)
        job = self.job.model_dump(mode="json", exclude={"fileset", "scratch"})
        self.input = Input(
            digest=prepared.digest, events=prepared.events, source=str(self.job.fileset)
        )
        self.versions = versions()
        self.machine = provenance.machine()
        # All that could make a result another one, in value or in time, but for our own code.
        self.parts = {
            ARGUMENTS: identity.digest(job),
            "the file set or one of its files": self.input.digest,
            "the machine": identity.digest(self.machine.model_dump()),
            **identity.environment(),
            **identity.modules(*self.job.modules),
        }
        self.identity = identity.digest(self.parts)
        self.run = uuid.uuid4().hex
        self.codes: dict[str, str] = {}
        which = identity.digest(self.identity, self._code(BASELINE))
        self.reference = self.path.with_name(f"{self.path.name}.reference-{which[:12]}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have the folder of results for this process only.

        Raises
        ------
        InputError
            If another process has it, or the file in it cannot be written.
        """
        output.check_with_folder(self.path)
        if output.is_stream(self.path):
            msg = f"{self.path} is no file that can be read again: name another with --output"
            raise InputError(msg)
        with alone(self.path.parent):
            yield

    def outdated(self, visits: Sequence[Visit]) -> tuple[int, list[str]]:
        """How many visits were made of something else, and what has changed since the last.

        Parameters
        ----------
        visits
            That are to be made now.
        """
        if not self.path.exists():
            return 0, []
        others = [
            (record, before)
            for record in record_file.read(self.path)
            if (before := json.loads(str(record.what.parameters.get("depends on", "{}"))))
            and record.input.source == self.input.source
            and before[ARGUMENTS] == self._depends[ARGUMENTS]
            and not self._is_ours(record)
            and read(record).visit in visits
        ]
        if not others:
            return 0, []
        _, before = max(others, key=lambda one: one[0].timestamp)
        changed = identity.changes(before, self._depends)
        return len(others), changed or ["the code of this project"]

    @property
    def _depends(self) -> dict[str, str]:
        return {name: part[:12] for name, part in self.parts.items()}

    def found(self) -> list[Done]:
        """Visits of this job, with the code as it is now, that are in the file."""
        if not self.path.exists():
            return []
        return read_all(record for record in record_file.read(self.path) if self._is_ours(record))

    def forget(self, cell: Cell | None = None) -> None:
        """Take visits out of the file: all of this job, or those of a cell."""
        if not self.path.exists():
            return
        record_file.remove(
            self.path,
            lambda one: (
                self._is_ours(one)
                and (cell is None or any(done.visit.cell == cell for done in read_all([one])))
            ),
        )
        if cell is None:
            self.reference.unlink(missing_ok=True)

    def measure(self, visit: Visit, *, runs: int = 1) -> Done | Failed:
        """Make a visit, and write it to the file when it is done.

        Parameters
        ----------
        visit
            To be made; there must be a reference.
        runs
            Timed runs of it.
        """
        self._require_unchanged(visit.cell.executor)
        before = provenance.load_average()
        outcome = visit_apart(
            Request(
                job=self.job,
                cell=visit.cell,
                runs=runs,
                seed=visit.round,
                input=self.input.digest,
                reference=self.reference,
            )
        )
        self._require_unchanged(visit.cell.executor)
        if outcome.measured is None:
            if outcome.wrong:
                # There is no speed of a wrong result.
                self.forget(visit.cell)
            return Failed(visit.cell, outcome.error or "")
        done = Done(visit, outcome.measured)
        record_file.append(self.path, self._record(done, outcome.check, before))
        return done

    def _require_unchanged(self, executor: str) -> None:
        """Raise if what a visit runs is not what it was when this began."""
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
        """Make the result that all others must have, by the iterative executor.

        Raises
        ------
        InputError
            If it cannot be made.
        """
        if self.reference.exists():
            return
        try:
            for old in self.path.parent.glob(f"{self.path.name}.reference-*"):
                old.unlink()
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}"
            raise InputError(msg) from error
        cell = Cell(executor=BASELINE, chunksize=chunksize)
        outcome = visit_apart(
            Request(
                job=self.job,
                cell=cell,
                input=self.input.digest,
                reference=self.reference,
                make_reference=True,
            )
        )
        if outcome.error is not None:
            raise InputError(outcome.error)

    def _record(self, done: Done, check: str, before: float | None) -> Record:
        cell, measured = done.visit.cell, done.measured
        parameters: dict[str, str | int | float | bool] = {
            "campaign": self.identity,
            "code": self._code(cell.executor),
            "depends on": json.dumps(self._depends),
            "round": done.visit.round,
            "tuned": cell.tuned,
            "options": json.dumps(cell.options, sort_keys=True),
        }
        if self.job.processor == "ttbar":
            parameters["variations"] = self.job.variations
        return Record(
            run=self.run,
            what=What(
                name=(
                    f"scale-{self.job.processor}-{cell.executor}{cell.workers}"
                    f"{'' if cell.tuned else '-plain'}-chunk{cell.chunksize}"
                ),
                group=f"scale, {self.job.processor}",
                kind="processor",
                subject=self.job.processor,
                implementation=self.job.implementation if self.job.processor == "ttbar" else None,
                executor=cell.executor,
                workers=cell.workers,
                size=self.input.events,
                chunksize=cell.chunksize,
                parameters=parameters,
            ),
            input=self.input,
            versions=self.versions,
            machine=self.machine,
            load_before=before,
            load_after=provenance.load_average(),
            iterations=1,
            wall_seconds=measured.wall,
            cpu_seconds=measured.cpu,
            metrics=measured.model_dump(exclude={"wall", "cpu"}, exclude_none=True),
            peak_memory=measured.peak_worker,
            check=check,
        )


def read(record: Record) -> Done:
    """The visit that a record is of.

    Raises
    ------
    InputError
        If it is of none.
    """
    what, parameters = record.what, record.what.parameters
    try:
        measured = Measured(
            **{
                **dict.fromkeys(Measured.model_fields),
                **record.metrics,
                "wall": record.wall_seconds,
                "cpu": record.cpu_seconds,
            }  # type: ignore[arg-type]
        )
        cell = Cell(
            executor=what.executor or "",
            workers=what.workers or 0,
            chunksize=what.chunksize or 0,
            tuned=bool(parameters["tuned"]),
            options=json.loads(str(parameters["options"])),
        )
        return Done(Visit(cell, int(parameters["round"])), measured)
    except (KeyError, ValueError) as error:
        msg = f"the record {what.name} is not of a scaling measurement: {error}"
        raise InputError(msg) from None


def read_all(records: Iterable[Record]) -> list[Done]:
    """The visits that records are of; what is of none is left out, and a sentence says so."""
    found = []
    for record in records:
        try:
            found.append(read(record))
        except InputError as error:
            leave_out(str(error))
    return found


def last_campaign(path: Path) -> tuple[list[Done], Record]:
    """Visits of the job that was measured last, and its newest record.

    Of each executor those with the code that was measured last.

    Raises
    ------
    InputError
        If the file cannot be read or holds none.
    """
    records = sorted(
        (one for one in record_file.read(path) if "campaign" in one.what.parameters),
        key=lambda record: record.timestamp,
    )
    if not records:
        msg = f"{path} holds no scaling measurement: make one with `python -m perf scale`"
        raise InputError(msg)

    def of(record: Record, *names: str) -> tuple[Any, ...]:
        return tuple(record.what.parameters.get(name) for name in names)

    newest = records[-1]
    members = [one for one in records if of(one, "campaign") == of(newest, "campaign")]
    codes = {one.what.executor: of(one, "code") for one in members}
    found = read_all(one for one in members if of(one, "code") == codes[one.what.executor])
    return found, newest


def versions() -> dict[str, str]:
    """Versions of what `measure.versions` names, and of ENGINES."""
    found = provenance.versions()
    for package in ENGINES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


# --- the process of a visit


def visit_apart(request: Request) -> Outcome:
    """Make a visit in a process of its own, of which nothing is left however it ends."""
    # Workers of the other executors are given these: whoever computes is to have them, or ratios
    # would be of memory settings.
    cell = request.cell
    settings = ALLOCATOR if cell.executor == BASELINE and cell.tuned else {}
    command = python_call("perf.scaling.worker.main")
    try:
        with Process(command, settings, interrupt=GRACE) as process:
            return Outcome.model_validate_json(process.finish(request.model_dump_json()))
    except ProcessError as error:
        return Outcome(error=str(error))
