"""Trials of `compare`: whether it finds a known slowdown, and nothing else.

Each trial compares two commits of a generated repository, under a background load of its own. One
kernel of the second commit does 1 or 5 % more work, and all others are the same on both sides: a
trial tells both whether that is found and whether anything else is called changed. The latter is no
easier than between identical sides: by Holm's rule a benchmark that is found leaves its share of
the error to the rest. Trials of identical commits are made on request.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from analysis.errors import InputError
from perf.compare import (
    benchmarks,
    injected_slowdown,
    instructions,
    report,
    session,
    sides,
    verdict,
    worker,
)
from perf.compare.injected_slowdown import BASE, PERCENT, SLOWED
from perf.programs import uv_program
from perf.records import identity, plain, provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["one", "five", "none"]
"""Tag of the second commit."""

Tool = Literal["compare", "asv"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TOOLS: Final[tuple[Tool, ...]] = get_args(Tool)

ASV: Final = "asv==0.6.6"
"""Version of asv in trials, in an environment of its own."""

ASV_RUNNER: Final = "0.3.2"
MACHINE: Final = "trials"

SPIN: Final = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Program that is busy until its parent ends, in whatever way."""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that loop as fast as they can, until the context ends."""
    with ExitStack() as stack:
        for _ in range(processes):
            command = [sys.executable, "-c", SPIN, str(os.getpid())]
            process = subprocess.Popen(command, start_new_session=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@dataclass(frozen=True)
class Trial:
    """One trial: of `compare` or asv, with a slowdown or without, counted from 1."""

    tool: Tool
    kind: Kind
    number: int

    @property
    def key(self) -> dict[str, Any]:
        """Entries of its record in the file."""
        return {"tool": self.tool, "kind": self.kind, "number": self.number}


@dataclass
class Trials:
    """Trials; those in a file, a line of JSON each, are done."""

    path: Path
    folder: Path
    """Keeps the generated repository and asv's environments."""
    data: Path
    """Keeps the synthetic events."""
    load: int = 2
    """Busy processes beside a trial."""
    budget: float = session.BUDGET
    """Seconds of a comparison."""
    resolution: float = verdict.RESOLUTION
    """Change that matters in a comparison."""
    only: tuple[str, ...] = benchmarks.KERNELS
    """Patterns of kernels that share the time of a comparison."""

    @property
    def _conditions(self) -> dict[str, Any]:
        """Entries of a record: trials of other conditions are others."""
        return {
            "load": self.load,
            "budget": self.budget,
            "resolution": self.resolution,
            "only": list(self.only),
            "code": code(),
        }

    def done(self) -> list[dict[str, Any]]:
        """Trials of the file under these conditions."""
        want = self._conditions.items()
        return [record for record in _read(self.path) if want <= record.items()]

    def pending(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that are not in the file."""
        done = self.done()
        return [
            trial
            for trial in trials
            if not any(trial.key.items() <= record.items() for record in done)
        ]

    def make(self, trial: Trial, show: Callable[[session.Comparison], None]) -> dict[str, Any]:
        """Make a trial and append its record to the file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        repository = injected_slowdown.repository(self.folder)
        counted = self._prepared(repository)
        begin = time.monotonic()
        with busy(self.load):
            if trial.tool == "compare":
                outcome = self._compared(repository, trial, show)
            else:
                outcome = self._asv(repository, trial)
        record = {
            **trial.key,
            **self._conditions,
            "instructions": counted,
            "seconds": time.monotonic() - begin,
            "load_average": provenance.load_average(),
            "versions": provenance.versions(),
            "machine": provenance.machine().model_dump(),
            **outcome,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return record

    def _prepared(self, repository: Path) -> dict[str, float | str]:
        """Compile the kernels of all commits once, before any trial.

        Returns instructions of SLOWED over those of the first commit, or why there are none.
        """
        path = self.folder / f"prepared-{code()}.json"
        if not path.exists():
            counts = {}
            every = {tag: sides.side(f"{tag}@{repository}") for tag in (BASE, *KINDS)}
            with benchmarks.scratch() as scratch:
                kernels = benchmarks.kernels(scratch, self.data, benchmarks.KERNELS)
                for side in every.values():
                    with session.Process(side, 0) as process:
                        for kernel in kernels:
                            result = str(scratch / "result.npz")
                            process.call("open", name=kernel.name, spec=kernel.spec, result=result)
                (slowed,) = (kernel for kernel in kernels if kernel.name == SLOWED)
                for tag in PERCENT:
                    counts[tag] = instructions.counted(slowed, every[BASE], every[tag])
            path.write_text(json.dumps({tag: _ratio(*pair) for tag, pair in counts.items()}))
        prepared: dict[str, float | str] = json.loads(path.read_text())
        return prepared

    def _compared(
        self, repository: Path, trial: Trial, show: Callable[[session.Comparison], None]
    ) -> dict[str, Any]:
        a, b = (sides.side(f"{tag}@{repository}") for tag in (BASE, trial.kind))
        with benchmarks.scratch() as scratch:
            kernels = benchmarks.kernels(scratch, self.data, self.only)
            comparison = session.Comparison(
                a, b, kernels, seed=trial.number, resolution=self.resolution
            )
            comparison.run(self.budget, show)
        result = report.as_json(comparison)
        outcomes = {name: member["outcome"] for name, member in result["benchmarks"].items()}
        return {"outcomes": outcomes, "result": result}

    def _asv(self, repository: Path, trial: Trial) -> dict[str, Any]:
        where = self._asv_project(repository)
        done = _asv(where, "continuous", "--machine", MACHINE, BASE, trial.kind)
        text = done.stdout + done.stderr
        missing = [name for name in benchmarks.KERNELS if f"{_asv_name(name)}.time_it" not in text]
        # Status 1 is that of a slowdown.
        if done.returncode not in {0, 1} or missing or "failed" in done.stdout:
            msg = f"asv has not measured all ({done.returncode}): {text.strip()[-600:]}"
            raise InputError(msg)
        changed = {
            match["name"]: "slower" if match["sign"] == "+" else "faster"
            for match in _ASV_ROW.finditer(done.stdout)
        }
        outcomes = {name: changed.get(_asv_name(name), "no change") for name in benchmarks.KERNELS}
        return {"outcomes": outcomes, "exit_status": done.returncode, "output": done.stdout}

    def _asv_project(self, repository: Path) -> Path:
        """Folder with the same benchmarks for asv, with its defaults."""
        where = (self.folder / "asv").resolve()
        modules = where / "benchmarks"
        modules.mkdir(parents=True, exist_ok=True)
        (modules / "__init__.py").write_text("")
        (modules / "_worker.py").write_text(Path(worker.__file__).read_text())
        (where / "records").mkdir(exist_ok=True)
        (where / "records" / "plain.py").write_text(Path(plain.__file__).read_text())
        for kernel in benchmarks.kernels(modules, self.data, benchmarks.KERNELS):
            # A module each: asv imports the one that it measures in every process anew.
            path = modules / f"{_asv_name(kernel.name)}.py"
            path.write_text(_ASV_MODULE.format(spec=json.dumps(kernel.spec)))
        versions = provenance.versions()
        config = {
            "version": 1,
            "project": "coffea-scaling-made-up",
            "repo": str(repository.resolve()),
            "branches": ["main"],
            "environment_type": "virtualenv",
            "pythons": [".".join(versions["python"].split(".")[:2])],
            "matrix": {
                "req": {
                    "asv_runner": [ASV_RUNNER],
                    **{name: [versions[name]] for name in ("awkward", "numba", "numpy", "coffea")},
                }
            },
            "build_command": ["python -m build --wheel --outdir {build_cache_dir} {build_dir}"],
            "benchmark_dir": "benchmarks",
        }
        (where / "asv.conf.json").write_text(json.dumps(config, indent=1))
        _asv(where, "machine", "--yes", "--machine", MACHINE)
        return where


def _asv(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run asv of the version ASV, without the packages and the settings of this environment."""
    # asv keeps its list of machines in the home folder, where the user may have another.
    home = {"HOME": str(where), "XDG_CACHE_HOME": str(Path.home() / ".cache")}
    environ = {name: value for name, value in os.environ.items() if name not in sides.DROPPED}
    tool = [uv_program(), "tool", "run", "--from", ASV, "--with", "virtualenv", "--with", "build"]
    return subprocess.run(
        [*tool, "asv", *arguments],
        cwd=where,
        env={**environ, **home},
        capture_output=True,
        text=True,
        check=False,
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """Trials of a file, without a line that an interrupted writer left unfinished."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError, RecursionError):
            records.append(json.loads(line))
    return records


def _ratio(a: instructions.Counts | str, b: instructions.Counts | str) -> float | str:
    """Instructions of B over those of A, or why they were not counted."""
    if isinstance(a, str) or isinstance(b, str):
        return a if isinstance(a, str) else str(b)
    return round(statistics.median(b) / statistics.median(a), 5)


_ASV_ROW: Final = re.compile(
    r"^\|\s*(?P<sign>[+-])\s*\|.*\|\s*(?P<name>\w+)\.time_it\s*\|\s*$", re.MULTILINE
)

_ASV_MODULE: Final = '''\
"""Made by compare-trials."""

from ._worker import kernel

call = kernel({spec}).calls[0]
# It compiles before it is timed.
call()


def time_it():
    call()
'''


def _asv_name(name: str) -> str:
    return name.replace("-", "_")


def code() -> str:
    """Identity of the code, environment and machine: trials of another are not resumed."""
    return identity.digest(
        identity.modules(
            "perf.compare.session",
            "perf.compare.benchmarks",
            "perf.compare.sides",
            "perf.compare.injected_slowdown",
        ),
        identity.environment(),
        provenance.machine().model_dump(),
        injected_slowdown.state(),
    )[:12]
