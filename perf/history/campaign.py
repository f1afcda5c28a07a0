"""The workloads in every release, in fresh processes and in random order; each result checked.

A worker run is a process in the environment of a version that runs a group of workloads. All
versions have a run in every round, so that a slow moment of the machine slows all of them. A run is
written to the file of results at once, and is not repeated. Notes beside that file say which
workloads a version lacks or failed at, and why.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.version import InvalidVersion, Version

from analysis.errors import InputError
from analysis.files import output
from perf.cases.data import Store
from perf.environments import HERE, environment, releases
from perf.exact_environment import Environment
from perf.history import workloads
from perf.measure.fresh_process import Process, ProcessError, python_call
from perf.measure.paired import in_rounds
from perf.records import identity, provenance, record_file
from perf.records.record_file import Input, Record, What

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

PATH: Final = ".perf/history.jsonl"
"""File of results."""

COMPRESSION: Final = "zlib"
"""Of the input: zstd needs a package that the environments of the releases lack."""

PINNED_SINCE: Final = Version("2025.7")
"""The first release that runs with the dependencies of today."""

TIMEOUT: Final = 1800.0
"""Seconds after which a worker run is given up; the longest takes three minutes on a busy machine."""

ROOT: Final = Path(__file__).parents[2]
MEMORY_INPUT: Final = Input(digest=hashlib.sha256(b"").hexdigest(), events=0, source="none")


@dataclass(frozen=True)
class WorkerRun:
    """One process that runs a group of workloads in the environment of a version."""

    version: str
    """As `environments.environment` takes it."""
    group: workloads.Group
    round: int
    """Which repetition, from 0."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    events: int = 100_000
    """In the file."""
    chunksize: int = 25_000
    workers: int = 2
    seconds: float = 0.3
    """For the samples of a workload in a process, about."""


def sorted_versions(versions: Iterable[str]) -> list[str]:
    """Versions in the order of their numbers, then those without a number."""

    def key(version: str) -> tuple[bool, Version]:
        try:
            return False, Version(version)
        except InvalidVersion:
            return True, Version("0")

    return sorted(dict.fromkeys(versions), key=key)


def default_versions(pins: str | None) -> list[str]:
    """Releases that are measured: all, or those that run with the pins of a new release."""
    known = sorted_versions(releases())
    return [release for release in known if pins is None or Version(release) >= PINNED_SINCE]


def order(
    versions: Sequence[str], groups: Sequence[workloads.Group], rounds: int, seed: int
) -> list[WorkerRun]:
    """Worker runs in the order in which they are made: round by round, each in a random order."""
    configurations = [(version, group) for version in versions for group in groups]
    return [
        WorkerRun(version, group, number)
        for (version, group), number in in_rounds(configurations, rounds, seed)
    ]


@dataclass
class Notes:
    """Notes of a campaign beside its results: expected digests, and what was not measured, and why."""

    path: Path
    campaign: str
    digests: dict[str, str] = field(default_factory=dict)
    """By result."""
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    """By version and workload, why the version lacks it."""
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    """By version and workload, what went wrong; INSTALL stands for the environment."""

    @classmethod
    def read(cls, path: Path, campaign: str) -> Notes:
        """Notes of a campaign, empty if there are none."""
        try:
            return cls(path, campaign, **json.loads(path.read_text()).get(campaign, {}))
        except FileNotFoundError:
            return cls(path, campaign)
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            msg = f"{path} cannot be read ({error}): take it away"
            raise InputError(msg) from None

    def write(self) -> None:
        """Write the notes, whole or not at all, and keep those of other campaigns."""
        content = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            content = json.loads(self.path.read_text())
        content[self.campaign] = {
            "digests": self.digests,
            "missing": self.missing,
            "failed": self.failed,
        }
        with output.whole(self.path) as part:
            part.write_text(json.dumps(content, indent=1))


INSTALL: Final = "install"


@dataclass
class Campaign:
    """Worker runs on one input, with one version of the code, on one machine."""

    path: Path
    """File of results."""
    data: Path
    """Folder of the events."""
    settings: Settings = field(default_factory=Settings)
    pins: str | None = None
    """Fix what is not coffea; None for what each version asks for."""
    machine: str | None = None
    """Name of this machine in records."""
    folder: Path | None = None
    """Of environments; by default as `environments.environment` has it."""

    def __post_init__(self) -> None:
        """Make the input."""
        store = Store(self.data, self.settings.events, COMPRESSION)
        (sample,) = store.fileset(self.settings.events).values()
        (file,) = sample["files"]
        self.file = Path(file).absolute()
        self.input = store.fileset_identity(self.settings.events)
        self.where = provenance.machine(self.machine)
        self.identity = _identity(
            self.input.digest, self.settings, self.pins, self.where.name, self.where.cpu
        )
        self.run = uuid.uuid4().hex
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}"
            raise InputError(msg) from error
        self.notes = Notes.read(record_file.notes_path(self.path), self.identity)
        self.environments: dict[str, Environment] = {}

    def install(self, version: str) -> str | None:
        """Make the environment of a version; returns the reason if it cannot be made."""
        # What failed before may work today.
        self.notes.failed.pop(version, None)
        try:
            self.environments[version] = environment(version, folder=self.folder, pins=self.pins)
        except InputError as error:
            self.notes.failed[version] = {INSTALL: str(error)}
            self.notes.write()
            return str(error)
        return None

    def make_reference(self, groups: Collection[workloads.Group] = workloads.GROUPS) -> None:
        """Compute the results that all versions must have, with the coffea of this interpreter."""
        wanted: dict[str, workloads.Workload] = {}
        needed = {one.result for one in workloads.WORKLOADS if one.group in groups}
        for workload in workloads.WORKLOADS:
            if (
                workload.result in needed - self.notes.digests.keys()
                and workload != workloads.IMPORT
            ):
                wanted.setdefault(workload.result, workload)
        names = {workload.name for workload in wanted.values()}
        here = environment(HERE)
        for group in dict.fromkeys(workload.group for workload in wanted.values()):
            answer = self._ask(here, group, names, None)
            for name, reason in {**answer["missing"], **answer["failed"]}.items():
                msg = f"this installation cannot run {name}: {reason}"
                raise InputError(msg)
            self.notes.digests.update(answer["digests"])
        self.notes.write()

    def todo(self, run: WorkerRun, done: Collection[tuple[str, str, int]]) -> list[str]:
        """Names of workloads that a worker run must still do; `done` is that of `self.done()`."""
        skipped = {
            **self.notes.missing.get(run.version, {}),
            **self.notes.failed.get(run.version, {}),
        }
        if INSTALL in skipped:
            return []
        return [
            workload.name
            for workload in workloads.WORKLOADS
            if workload.group == run.group
            and workload.name not in skipped
            and (run.version, workload.name, run.round) not in done
        ]

    def done(self) -> set[tuple[str, str, int]]:
        """(version, workload, round) of the records in the file."""
        if not self.path.exists():
            return set()
        return {
            (str(of["coffea"]), str(of["act"]), int(of["round"]))
            for of in (record.what.parameters for record in record_file.read(self.path))
            if of.get("campaign") == self.identity
        }

    def measure(self, run: WorkerRun, names: Collection[str]) -> list[Record]:
        """Run workloads of a version, which must be installed, and write the records to the file."""
        env = self.environments[run.version]
        before = provenance.load_average()
        answer = self._ask(env, run.group, names, self.settings.seconds)
        after = provenance.load_average()
        for notes, reasons in (
            (self.notes.missing, answer["missing"]),
            (self.notes.failed, answer["failed"]),
        ):
            if reasons:
                notes.setdefault(run.version, {}).update(reasons)
        self.notes.write()
        records = [
            self._record(run, env, done, before=before, after=after) for done in answer["done"]
        ]
        for record in records:
            record_file.append(self.path, record)
        return records

    def _record(
        self,
        run: WorkerRun,
        env: Environment,
        done: dict[str, Any],
        *,
        before: float | None,
        after: float | None,
    ) -> Record:
        workload = next(one for one in workloads.WORKLOADS if one.name == done["workload"])
        reads = workload.kind not in {"import", "histogram"}
        processor, day = workload.kind == "processor", releases().get(run.version)
        parameters: dict[str, str | int | float | bool] = {
            "campaign": self.identity,
            "coffea": run.version,
            "act": workload.name,
            "round": run.round,
            "stack": self.pins or "",
            "environment": env.name,
        }
        if day is not None:
            parameters["released"] = day.isoformat()
        if done["detail"]:
            parameters["detail"] = done["detail"]
        return Record(
            run=self.run,
            what=What(
                name=f"history-{workload.name}",
                group=f"history, {workload.subject}",
                kind=workload.kind,
                subject=workload.subject,
                implementation=workload.detail if workload.kind == "kernel" else None,
                executor=done["detail"] if processor else None,
                workers=self._workers(done["detail"]) if processor else None,
                size=self.settings.events
                if reads
                else workloads.FILLED * (workload.kind == "histogram"),
                chunksize=self.settings.chunksize if processor else None,
                parameters=parameters,
            ),
            input=self.input if reads else MEMORY_INPUT,
            versions={"python": _python_of(env), **env.installed},
            machine=self.where,
            load_before=before,
            load_after=after,
            iterations=done["iterations"],
            wall_seconds=done["wall"],
            cpu_seconds=done["cpu"],
            metrics=done["sizes"],
            peak_memory=done["peak_memory"],
            check=done["digest"],
        )

    def _workers(self, way: str) -> int:
        return self.settings.workers if way in {"futures", "dask", "compute"} else 1

    def _ask(
        self, env: Environment, group: str, names: Collection[str], seconds: float | None
    ) -> dict[str, Any]:
        """Have a fresh process in an environment run workloads."""
        request = {
            "group": group,
            "only": sorted(names),
            "path": str(self.file),
            "chunksize": self.settings.chunksize,
            "workers": self.settings.workers,
            "seconds": seconds,
            "expected": self.notes.digests,
        }
        cache = self.data.absolute() if env.name == HERE else env.python.parents[1]
        settings = {
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": "0",
            # Machine code is of one version of numba.
            "NUMBA_CACHE_DIR": str(cache / "numba-cache"),
            **dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        }
        command = python_call("perf.history.worker.main", python=env.python)
        try:
            with Process(command, settings) as process:
                answer: dict[str, Any] = json.loads(process.finish(json.dumps(request), TIMEOUT))
        except (ValueError, ProcessError) as error:
            reasons = dict.fromkeys(names, f"its process failed: {error}")
            return {"done": [], "missing": {}, "failed": reasons, "digests": {}}
        return answer


def _python_of(env: Environment) -> str:
    """Version of an interpreter: the environment's settings tell."""
    with contextlib.suppress(OSError):
        for line in (env.python.parents[1] / "pyvenv.cfg").read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() in {"version_info", "version"}:
                return value.strip()
    return "unknown"


def _identity(*parts: Any) -> str:
    """Identity of all that could change a result or its time, except the version."""
    # Names of modules of kernels are not written in the source.
    return identity.digest(
        repr(parts), identity.modules("perf.history.worker", "analysis.kernels.*")
    )
