"""The acts in every release, in fresh processes and in random order; each result checked.

The unit is a visit: a process in the environment of a version that does a group of acts. Visits
are repeated, and all versions are visited in every round, so that what slows the machine down
slows all. A visit that is done is in the file of results at once, and is not made again. What a
version has not, or cannot do, and why, stands beside in a file of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import psutil
from packaging.version import InvalidVersion, Version

from analysis.errors import InputError
from analysis.files import output
from perf.cases.data import Store
from perf.environments import HERE, Environment, environment, releases
from perf.history import workloads
from perf.measure import clocks
from perf.records import identity, record_file
from perf.records.record_file import Input, Record, What

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

PATH: Final = ".perf/history.jsonl"
"""Of what the history measured."""

COMPRESSION: Final = "zlib"
"""Of the input: zstd needs a package that the environments of the releases lack."""

STACK_SINCE: Final = Version("2025.7")
"""The first release that runs on the dependencies of today."""

PATIENCE: Final = 1800.0
"""Seconds after which a visit is given up; the longest takes three minutes on a busy machine."""

LONGEST: Final = 300
"""Characters of another process's words that are repeated."""

ROOT: Final = Path(__file__).parents[2]
MEMORY_INPUT: Final = Input(digest=hashlib.sha256(b"").hexdigest(), events=0, source="none")


@dataclass(frozen=True)
class Visit:
    """One process that is to do a group of acts.

    Attributes
    ----------
    version
        As `environments.environment` takes it.
    group
        Of acts.
    round
        Which repetition, from 0.
    """

    version: str
    group: workloads.Group
    round: int


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Attributes
    ----------
    events
        In the file.
    chunksize, workers
        Of the processor.
    seconds
        For the samples of an act in a process, about.
    """

    events: int = 100_000
    chunksize: int = 25_000
    workers: int = 2
    seconds: float = 0.3


def sorted_versions(versions: Iterable[str]) -> list[str]:
    """Versions in the order of their numbers, and then what has no number."""

    def key(version: str) -> tuple[bool, Version]:
        try:
            return False, Version(version)
        except InvalidVersion:
            return True, Version("0")

    return sorted(dict.fromkeys(versions), key=key)


def default_versions(stack: str | None) -> list[str]:
    """Releases that are measured: all, or those that run on a stack."""
    known = sorted_versions(releases())
    return [one for one in known if stack is None or Version(one) >= STACK_SINCE]


def order(
    versions: Sequence[str], groups: Sequence[workloads.Group], rounds: int, seed: int
) -> list[Visit]:
    """Visits in the order in which they are made: round by round, each in a random order."""
    cells = [(version, group) for version in versions for group in groups]
    return [
        Visit(cells[index][0], cells[index][1], number)
        for number in range(rounds)
        for index in np.random.default_rng([seed, number]).permutation(len(cells))
    ]


@dataclass
class Notes:
    """What stands beside the results: what must come out, and what was not measured, and why.

    Attributes
    ----------
    path
        File of JSON.
    digests
        Of each result.
    missing, failed
        Reason by act, by version: of what it has not, and of what went wrong. The latter has the
        entry INSTALL for a version that could not be installed.
    """

    path: Path
    campaign: str
    digests: dict[str, str] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, campaign: str) -> Notes:
        """The notes of a campaign; empty ones if there are none of it."""
        try:
            return cls(path, campaign, **json.loads(path.read_text()).get(campaign, {}))
        except FileNotFoundError:
            return cls(path, campaign)
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            msg = f"{path} cannot be read ({error}): take it away"
            raise InputError(msg) from None

    def write(self) -> None:
        """Write them, whole or not at all; what is there of other campaigns stays."""
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


def notes_path(path: Path) -> Path:
    """Where the notes of a file of results are."""
    return path.with_name(path.name.partition(".jsonl")[0] + ".notes.json")


@dataclass
class Campaign:
    """Visits made or to be made on one input, with one body of code, on one machine.

    Parameters
    ----------
    path
        File of results.
    data
        Where the events are kept.
    settings
        What is measured.
    stack
        Fixes what is not coffea; None for what each version asks for.
    machine
        Name of this machine in records.
    folder
        Of environments; by default as `environments.environment` has it.
    """

    path: Path
    data: Path
    settings: Settings = field(default_factory=Settings)
    stack: str | None = None
    machine: str | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Make the input."""
        store = Store(self.data, self.settings.events, COMPRESSION)
        (sample,) = store.fileset(self.settings.events).values()
        (file,) = sample["files"]
        self.file = Path(file).absolute()
        self.input = store.fileset_identity(self.settings.events)
        self.where = clocks.machine(self.machine)
        self.identity = _identity(
            self.input.digest, self.settings, self.stack, self.where.name, self.where.cpu
        )
        self.run = uuid.uuid4().hex
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}"
            raise InputError(msg) from error
        self.notes = Notes.read(notes_path(self.path), self.identity)
        self.environments: dict[str, Environment] = {}

    def install(self, version: str) -> str | None:
        """Make the environment of a version; the reason if it cannot be made."""
        # What went wrong before may be right today.
        self.notes.failed.pop(version, None)
        try:
            self.environments[version] = environment(version, folder=self.folder, stack=self.stack)
        except InputError as error:
            self.notes.failed[version] = {INSTALL: str(error)}
            self.notes.write()
            return str(error)
        return None

    def make_reference(self, groups: Collection[workloads.Group] = workloads.GROUPS) -> None:
        """Find the results that all versions must have, by the coffea of this interpreter.

        Parameters
        ----------
        groups
            Of the acts whose results are needed.

        Raises
        ------
        InputError
            If it fails at one.
        """
        wanted: dict[str, workloads.Act] = {}
        needed = {act.result for act in workloads.ACTS if act.group in groups}
        for act in workloads.ACTS:
            if act.result in needed - self.notes.digests.keys() and act != workloads.IMPORT:
                wanted.setdefault(act.result, act)
        names = {act.name for act in wanted.values()}
        here = environment(HERE)
        for group in dict.fromkeys(act.group for act in wanted.values()):
            answer = self._ask(here, group, names, None)
            for name, reason in {**answer["missing"], **answer["failed"]}.items():
                msg = f"this installation cannot do {name}: {reason}"
                raise InputError(msg)
            self.notes.digests.update(answer["digests"])
        self.notes.write()

    def todo(self, visit: Visit, found: Collection[tuple[str, str, int]]) -> list[str]:
        """Names of acts that a visit is still to do.

        Parameters
        ----------
        visit
            To be made.
        found
            What `found` gives.
        """
        not_done = {
            **self.notes.missing.get(visit.version, {}),
            **self.notes.failed.get(visit.version, {}),
        }
        return [
            act.name
            for act in workloads.ACTS
            if act.group == visit.group
            and INSTALL not in not_done
            and act.name not in not_done
            and (visit.version, act.name, visit.round) not in found
        ]

    def found(self) -> set[tuple[str, str, int]]:
        """(version, act, round) of what is in the file."""
        if not self.path.exists():
            return set()
        return {
            (str(of["coffea"]), str(of["act"]), int(of["round"]))
            for of in (record.what.parameters for record in record_file.read(self.path))
            if of.get("campaign") == self.identity
        }

    def measure(self, visit: Visit, names: Collection[str]) -> list[Record]:
        """Make a visit, and write what it measured to the file.

        Parameters
        ----------
        visit
            To be made; its version must be installed.
        names
            Acts to do.
        """
        env = self.environments[visit.version]
        before = clocks.load_average()
        answer = self._ask(env, visit.group, names, self.settings.seconds)
        after = clocks.load_average()
        for kept, reasons in (
            (self.notes.missing, answer["missing"]),
            (self.notes.failed, answer["failed"]),
        ):
            if reasons:
                kept.setdefault(visit.version, {}).update(reasons)
        self.notes.write()
        made = [
            self._record(visit, env, one, before=before, after=after) for one in answer["done"]
        ]
        for record in made:
            record_file.append(self.path, record)
        return made

    def _record(
        self,
        visit: Visit,
        env: Environment,
        done: dict[str, Any],
        *,
        before: float | None,
        after: float | None,
    ) -> Record:
        act = next(one for one in workloads.ACTS if one.name == done["act"])
        reads = act.kind not in {"import", "histogram"}
        processor, day = act.kind == "processor", releases().get(visit.version)
        parameters: dict[str, str | int | float | bool] = {
            "campaign": self.identity,
            "coffea": visit.version,
            "act": act.name,
            "round": visit.round,
            "stack": self.stack or "",
            "environment": env.name,
        }
        if day is not None:
            parameters["released"] = day.isoformat()
        if done["detail"]:
            parameters["detail"] = done["detail"]
        return Record(
            run=self.run,
            what=What(
                name=f"history-{act.name}",
                group=f"history, {act.subject}",
                kind=act.kind,
                subject=act.subject,
                implementation=act.detail if act.kind == "kernel" else None,
                executor=done["detail"] if processor else None,
                workers=self._workers(done["detail"]) if processor else None,
                size=self.settings.events
                if reads
                else workloads.FILLED * (act.kind == "histogram"),
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
        return self.settings.workers if way in {"futures", "dask"} else 1

    def _ask(
        self, env: Environment, group: str, names: Collection[str], seconds: float | None
    ) -> dict[str, Any]:
        """Have a fresh process of an environment do acts."""
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
        try:
            return _answer(env.python, request, settings)
        except (ValueError, subprocess.SubprocessError) as error:
            reasons = dict.fromkeys(names, f"its process failed: {error}")
            return {"done": [], "missing": {}, "failed": reasons, "digests": {}}


def _answer(python: Path, request: dict[str, Any], settings: dict[str, str]) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(
            # Not -m: what worker processes find as the main module they import once more.
            [str(python), "-c", "from perf.history.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env={**os.environ, **settings},
            # A session of its own: Ctrl-C of a terminal ends it by way of us, with its workers.
            start_new_session=True,
        )
        try:
            answer, _ = process.communicate(json.dumps(request), timeout=PATIENCE)
        finally:
            # All that it has started, whether it ended well or not.
            _end(process)
        if process.returncode == 0:
            whole: dict[str, Any] = json.loads(answer)
            return whole
        noise.seek(0)
        last = ([line.strip() for line in noise if line.strip()] or ["it said nothing"])[-1]
    msg = f"status {process.returncode}, {last[:LONGEST]}"
    raise ValueError(msg)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill what still runs of a process and of all that it started."""
    if process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    one.kill()
        process.kill()
        process.wait()
    # Its group outlives it as long as it has members: workers whose executor failed to end them.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _python_of(env: Environment) -> str:
    """Version of an interpreter: the environment's settings tell."""
    with contextlib.suppress(OSError):
        for line in (env.python.parents[1] / "pyvenv.cfg").read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() in {"version_info", "version"}:
                return value.strip()
    return "unknown"


def _identity(*parts: Any) -> str:
    """Of all that could make a result another one, in value or in time, but for the version."""
    # Kernels are imported by names that are made up.
    return identity.digest(
        repr(parts), identity.modules("perf.history.worker", "analysis.kernels.*")
    )
