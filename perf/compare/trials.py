"""Does `compare` find what is there, and nothing else? Trials with a slowdown that is known.

Each trial compares two commits of a made-up repository, under a background load that it makes
itself. One kernel of the second commit does 5 % more work; all others are the same on both
sides, so that a trial tells both whether the 5 % is found and whether anything else is. That is
no easier than to compare identical sides: what is found leaves, by Holm's rule, its share of the
error to the rest. Trials of identical commits alone are made as well if they are asked for.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from rich import box
from rich.table import Table

from analysis.errors import InputError
from perf.compare import injected_slowdown, session
from perf.compare import report as compare_report
from perf.compare import worker as compare_worker
from perf.compare.injected_slowdown import BASE, FIVE, NONE, SLOWED
from perf.environments import _uv_program
from perf.measure import clocks
from perf.records import identity, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Kind = Literal["five", "none"]
Tool = Literal["compare", "asv"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TOOLS: Final[tuple[Tool, ...]] = get_args(Tool)

ASV: Final = "asv==0.6.6"
"""The asv that trials are made with, in an environment of its own."""

ASV_RUNNER: Final = "0.3.2"
MACHINE: Final = "trials"

SPIN: Final = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Is busy until its parent is gone, however that ended."""

TAG: Final[dict[Kind, str]] = {"five": FIVE, "none": NONE}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that do nothing as fast as they can, for as long as this lasts."""
    with ExitStack() as stack:
        for _ in range(processes):
            command = [sys.executable, "-c", SPIN, str(os.getpid())]
            one = subprocess.Popen(command, start_new_session=True)
            stack.callback(one.wait)
            stack.callback(one.kill)
        yield


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes
    ----------
    tool, kind, number
        Which: of `compare` or asv, with five percent or without, counted from 1.
    """

    tool: Tool
    kind: Kind
    number: int

    @property
    def key(self) -> dict[str, Any]:
        """By which it is found among those that are done."""
        return {"tool": self.tool, "kind": self.kind, "number": self.number}


@dataclass
class Trials:
    """Trials, of which those that are in a file are done.

    Attributes
    ----------
    path
        Of the file, a line of JSON each.
    folder
        Where the made-up repository and asv's environments are kept.
    data
        Of the synthetic events.
    load
        Busy processes beside.
    budget
        Seconds of a comparison.
    """

    path: Path
    folder: Path
    data: Path
    load: int = 2
    budget: float = session.BUDGET

    def done(self) -> list[dict[str, Any]]:
        """All that was made with this load and budget, by this code."""
        want = {"load": self.load, "budget": self.budget, "code": code()}
        return [
            one
            for one in _read(self.path)
            if all(one.get(key) == value for key, value in want.items())
        ]

    def pending(self, trials: Sequence[Trial]) -> list[Trial]:
        """Trials that are not in the file."""
        have = self.done()
        return [
            trial for trial in trials if not any(trial.key.items() <= one.items() for one in have)
        ]

    def make(self, trial: Trial, report: Callable[[session.Comparison], None]) -> dict[str, Any]:
        """Make a trial and keep what it found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        repository = injected_slowdown.repository(self.folder)
        self._compile(repository)
        begin = time.monotonic()
        with busy(self.load):
            if trial.tool == "compare":
                found = self._compared(repository, trial, report)
            else:
                found = self._asv(repository, trial)
        kept = {
            **trial.key,
            "load": self.load,
            "budget": self.budget,
            "code": code(),
            "seconds": time.monotonic() - begin,
            "load_average": clocks.load_average(),
            "versions": clocks.versions(),
            "machine": clocks.machine().model_dump(),
            **found,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(kept) + "\n")
        return kept

    def _compile(self, repository: Path) -> None:
        """Compile the kernels of all commits once, which is no part of a trial."""
        mark = self.folder / f"compiled-{code()}"
        if mark.exists():
            return
        with session.scratch() as scratch:
            chosen = session.kernels(scratch, self.data, session.KERNELS)
            for tag in (BASE, NONE, FIVE):
                with session.Process(session.side(f"{tag}@{repository}"), 0) as process:
                    for one in chosen:
                        result = str(scratch / "result.npz")
                        process.call("open", name=one.name, spec=one.spec, result=result)
        mark.touch()

    def _compared(
        self, repository: Path, trial: Trial, report: Callable[[session.Comparison], None]
    ) -> dict[str, Any]:
        a = session.side(f"{BASE}@{repository}")
        b = session.side(f"{TAG[trial.kind]}@{repository}")
        with session.scratch() as scratch:
            made = session.comparison(
                a, b, session.kernels(scratch, self.data, session.KERNELS), seed=trial.number
            )
            made.run(self.budget, report)
        whole = compare_report.as_json(made)
        return {
            "outcomes": {name: one["outcome"] for name, one in whole["benchmarks"].items()},
            "result": whole,
        }

    def _asv(self, repository: Path, trial: Trial) -> dict[str, Any]:
        where = self._asv_project(repository)
        done = _asv(where, "continuous", "--machine", MACHINE, BASE, TAG[trial.kind])
        text = done.stdout + done.stderr
        missing = [name for name in session.KERNELS if f"{_asv_name(name)}.time_it" not in text]
        # One is what a slowdown ends with.
        if done.returncode not in {0, 1} or missing or "failed" in done.stdout:
            msg = f"asv has not measured all ({done.returncode}): {text.strip()[-600:]}"
            raise InputError(msg)
        changed = {
            match["name"]: "slower" if match["sign"] == "+" else "faster"
            for match in _ASV_ROW.finditer(done.stdout)
        }
        outcomes = {name: changed.get(_asv_name(name), "no change") for name in session.KERNELS}
        return {"outcomes": outcomes, "exit_status": done.returncode, "output": done.stdout}

    def _asv_project(self, repository: Path) -> Path:
        """Folder with the same benchmarks for asv, with its defaults."""
        where = (self.folder / "asv").resolve()
        benchmarks = where / "benchmarks"
        benchmarks.mkdir(parents=True, exist_ok=True)
        (benchmarks / "__init__.py").write_text("")
        worker = Path(compare_worker.__file__)
        (benchmarks / "_worker.py").write_text(worker.read_text())
        (where / "records").mkdir(exist_ok=True)
        (where / "records" / "plain.py").write_text(Path(plain.__file__).read_text())
        for one in session.kernels(benchmarks, self.data, session.KERNELS):
            # A module each: asv imports the one that it measures, in every process anew.
            path = benchmarks / f"{_asv_name(one.name)}.py"
            path.write_text(_ASV_MODULE.format(spec=json.dumps(one.spec)))
        versions = clocks.versions()
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
    """Run asv of ASV, without the packages and the settings of this environment."""
    # It keeps its list of machines in the home folder, where the user has another.
    home = {"HOME": str(where), "XDG_CACHE_HOME": str(Path.home() / ".cache")}
    kept = {name: one for name, one in os.environ.items() if name not in session.DROPPED}
    tool = [_uv_program(), "tool", "run", "--from", ASV, "--with", "virtualenv", "--with", "build"]
    return subprocess.run(
        [*tool, "asv", *arguments],
        cwd=where,
        env={**kept, **home},
        capture_output=True,
        text=True,
        check=False,
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """Trials of a file. What an interrupted writer left of a line is none."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            continue
    return found


_ASV_ROW: Final = re.compile(
    r"^\|\s*(?P<sign>[+-])\s*\|.*\|\s*(?P<name>\w+)\.time_it\s*\|\s*$", re.MULTILINE
)

_ASV_MODULE: Final = '''\
"""Made by compare-trials."""

from ._worker import kernel

act = kernel({spec}).acts[0]
# Compiled before it is timed.
act()


def time_it():
    act()
'''


def _asv_name(name: str) -> str:
    return name.replace("-", "_")


def code() -> str:
    """Identity of what decides: trials of another code, machine or environment are others."""
    return identity.digest(
        identity.modules("perf.compare.session", "perf.compare.injected_slowdown"),
        identity.environment(),
        clocks.machine().model_dump(),
        injected_slowdown.state(),
    )[:12]


def table(done: Sequence[dict[str, Any]]) -> Table:
    """Trials by tool and kind."""
    made = Table(box=box.SIMPLE, pad_edge=False)
    for heading in (
        "tool",
        "B is",
        "trials",
        "5 % found",
        "as B / A",
        "false slower",
        "false faster",
        "of judgements",
        "no change",
        "undecided",
        "A / A",
        "seconds",
    ):
        made.add_column(heading, justify="left" if heading in {"tool", "B is"} else "right")
    for tool in ("compare", "asv"):
        for kind, label in (("five", "5 % slower in one kernel"), ("none", "identical")):
            trials = [one for one in done if (one["tool"], one["kind"]) == (tool, kind)]
            if trials:
                made.add_row(tool, label, *_row(trials, kind))
    return made


def _row(trials: Sequence[dict[str, Any]], kind: str) -> list[str]:
    slowed = SLOWED if kind == "five" else None
    others = [
        outcome
        for trial in trials
        for name, outcome in trial["outcomes"].items()
        if name != slowed
    ]
    found, ratios = "-", "-"
    if slowed:
        hits = [trial["outcomes"].get(slowed) == "slower" for trial in trials]
        found = f"{sum(hits)} of {len(hits)}"
        effects = [
            cpu["effect"]["ratio"]
            for trial in trials
            if "result" in trial and (cpu := trial["result"]["benchmarks"][slowed]["cpu"])
        ]
        if effects:
            ratios = f"{min(effects):.3f} to {max(effects):.3f}"
    controls = [
        abs(one["cpu"]["control"]["ratio"] - 1)
        for trial in trials
        if "result" in trial
        for one in trial["result"]["benchmarks"].values()
        if one["cpu"]
    ]
    return [
        str(len(trials)),
        found,
        ratios,
        str(others.count("slower")),
        str(others.count("faster")),
        str(len(others)),
        f"{others.count('no change') / len(others):.0%}",
        f"{others.count('undecided') / len(others):.0%}",
        f"{statistics.median(controls):.1%}, {max(controls):.1%}" if controls else "-",
        f"{statistics.median(trial['seconds'] for trial in trials):.0f}",
    ]


def footnote(done: Sequence[dict[str, Any]]) -> list[str]:
    """What was measured with, and on."""
    last = done[-1]
    loads = [one["load_average"] for one in done if one["load_average"] is not None]
    where = last["machine"]
    return [
        (
            f"Slowed: {SLOWED}. {last['load']} busy processes beside, {last['budget']:.0f} s for a "
            f"comparison. A / A: what the control arm shows, median and largest. "
            f"{ASV}, asv_runner {ASV_RUNNER}, with the defaults of both."
        ),
        ", ".join(f"{name} {one}" for name, one in last["versions"].items()),
        (
            f"{where['name']}: {where['cpu']}, {where['cores']} cores, {where['kernel']}, "
            f"load average {min(loads):.1f} to {max(loads):.1f}, code {last['code']}"
        ),
    ]


def reached(done: Sequence[dict[str, Any]]) -> bool | None:
    """Whether `compare` does what is asked of it; None before 20 trials.

    At most one false "slower" in all, and the five percent found in nine of ten.
    """
    mine = [one for one in done if one["tool"] == "compare" and one["kind"] == "five"]
    if len(mine) < 20:
        return None
    hits = sum(one["outcomes"].get(SLOWED) == "slower" for one in mine)
    false = sum(
        outcome == "slower"
        for one in done
        if one["tool"] == "compare"
        for name, outcome in one["outcomes"].items()
        if name != SLOWED or one["kind"] == "none"
    )
    return bool(hits >= 0.9 * len(mine) and false <= max(1, len(mine) // 20))
