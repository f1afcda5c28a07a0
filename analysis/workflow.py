"""The whole analysis as stages: events, delivery, histograms, fit, limit, pictures.

`advance` does the stages of a `Workflow` one after the other; a stage whose input, settings and
output are unchanged since an earlier run is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pydantic

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE
from analysis.files.output import whole
from analysis.folders import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from analysis.inference import Backend
    from analysis.ttbar import Implementation

STATE: Final = "stages.json"
"""File of a folder that says which stages are done."""

LIMITED: Final = "single_top_tW"
"""Signal whose strength is limited. That of ttbar is known too well for a limit, and ttbar is the
only process in some bins of few events, where the discovery is beyond doubt and any formula."""

PACKAGES: Final = (
    "awkward",
    "boost-histogram",
    "coffea",
    "hist",
    "iminuit",
    "jax",
    "matplotlib",
    "mplhep",
    "numba",
    "numpy",
    "pyarrow",
    "pyhf",
    "scipy",
    "servicex",
    "uproot",
)
"""Packages whose versions may decide what stages make."""

# Each stage imports what it needs when it is its turn: one that is kept takes no time.
# ruff: noqa: PLC0415


@dataclass(frozen=True)
class Stage:
    """A step of an analysis, named by what it makes."""

    name: str
    make: Callable[[], Sequence[Path]]
    """Makes files, and returns their paths."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """All that decides their content, besides the stages before it; JSON."""


class Done(pydantic.BaseModel):
    """A stage that is done."""

    name: str
    key: str
    """Digest of all that decided what it made."""
    wall_seconds: float
    cpu_seconds: float
    """Of this process, and of its children that ended."""
    files: dict[str, tuple[int, int, int]]
    """Bytes, time of modification (ns) and inode of the files that it made, by name."""
    kept: bool = False
    """Whether it was done in an earlier run."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _, _ in self.files.values())


def code() -> dict[str, str | None]:
    """Identity of the code of all stages: sources of this package, Python, and PACKAGES."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    known: dict[str, str | None] = {
        "analysis": digest.hexdigest(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            known[name] = None
    return known


@dataclass(frozen=True)
class Workflow:
    """An analysis from files to cross section, each stage as its command does it."""

    folder: Path
    """For all results."""
    fileset: Path | None = None
    """FILESET.json of the user's; None to make events."""
    events: int = 20_000
    """Of each sample that is made."""
    seed: int = 1
    delivery: bool = True
    """Whether ServiceX delivers what is processed."""
    config: Path | None = None
    """A servicex.yaml; None for a local endpoint."""
    deployment: str | None = None
    """Name of a ServiceX deployment in it."""
    implementation: Implementation = "columnar"
    executor: str = "futures"
    workers: int = 2
    """Of the executor, and of the local endpoint."""
    chunksize: int = DEFAULT_CHUNKSIZE
    backend: Backend = "numpy"

    @property
    def files(self) -> Path:
        """File set of the first stage."""
        return self.fileset or self.folder / "data" / "fileset.json"

    @property
    def inputs(self) -> Path:
        """File set that is processed."""
        return self.folder / "delivered" / "fileset.json" if self.delivery else self.files

    @property
    def histograms(self) -> Path:
        """Output of ``run``."""
        return self.folder / "histograms.json"

    @property
    def fitted(self) -> Path:
        """Output of ``fit``."""
        return self.folder / "fit.json"

    def stages(self) -> list[Stage]:
        """All stages in order. Executor and workers do not decide results, and are in no `about`.

        All stages rest on the first, and so on its code.
        """
        first = (
            Stage("events", self.make_events, {"events": self.events, "seed": self.seed})
            if self.fileset is None
            else Stage("events", self.find_events, {"fileset": self._listed()})
        )
        first = replace(first, about={**first.about, "code": code()})
        how = {"implementation": self.implementation, "chunksize": self.chunksize}
        whence = {"deployment": self.deployment, "config": self._config()}
        delivery = [Stage("delivery", self.deliver, whence)]
        return [
            first,
            *(delivery if self.delivery else []),
            Stage("histograms", self.make_histograms, how),
            Stage("fit", self.fit, {"backend": self.backend}),
            Stage("limit", self.limit, {"backend": self.backend}),
            Stage("pictures", self.draw),
        ]

    def _config(self) -> str | None:
        try:
            return None if self.config is None else self.config.read_text()
        except (OSError, ValueError) as error:
            msg = f"{self.config} cannot be read: {error}"
            raise InputError(msg) from error

    def _listed(self) -> str:
        """Digest of the user's file set."""
        from analysis.files.fileset import read_fileset

        assert self.fileset is not None
        return read_fileset(self.fileset).digest

    def find_events(self) -> Sequence[Path]:
        """The user's files; those of this machine are watched for changes."""
        from analysis.files.fileset import read_fileset

        assert self.fileset is not None
        paths = [
            path for dataset in read_fileset(self.fileset).values() for path in dataset["files"]
        ]
        return [self.fileset, *(local for path in paths if (local := Path(path)).is_file())]

    def make_events(self) -> Sequence[Path]:
        """Synthetic NanoAOD of all samples."""
        from analysis.synthetic import write_fileset

        directory = self.files.parent
        write_fileset(directory, events=self.events, seed=self.seed, progress=True)
        return [self.files, *sorted(directory.glob("*.root"))]

    def deliver(self) -> Sequence[Path]:
        """What the analysis needs of the events, by ServiceX."""
        from analysis.delivery.fileset import deliver_fileset

        directory = self.inputs.parent
        deliver_fileset(
            self.files,
            directory,
            config=self.config,
            backend=self.deployment,
            workers=self.workers,
        )
        return [self.inputs, *sorted(directory.glob("*/*.parquet"))]

    def make_histograms(self) -> Sequence[Path]:
        """Histograms of all regions, channels and systematic variations."""
        from analysis.runner import save
        from analysis.runner.job import Job, execute

        job = Job.of_ttbar(self.inputs, self.implementation, chunksize=self.chunksize)
        save.check(self.histograms, job)
        save.save(self.histograms, job, execute(job, self.executor, workers=self.workers))
        return [self.histograms]

    def fit(self) -> Sequence[Path]:
        """The cross section."""
        from analysis.inference.results import Source, fit_command

        workspace = self.folder / "workspace.json"
        source = Source(self.histograms, backend=self.backend)
        fit_command(source, self.fitted, workspace=workspace)
        return [self.fitted, workspace]

    def limit(self) -> Sequence[Path]:
        """Upper limit and significance of the signal."""
        from analysis.inference.results import Source, limit_command

        path = self.folder / "limit.json"
        source = Source(self.histograms, signal=LIMITED, backend=self.backend)
        limit_command(source, path, level=0.95)
        return [path]

    def draw(self) -> Sequence[Path]:
        """Prediction and data, before and after the fit."""
        from analysis import plots
        from analysis.files import histogram_io

        run = histogram_io.read(self.histograms)
        return plots.plot(run, self.folder / "pictures", "png", self.fitted)


def advance(stages: Sequence[Stage], folder: Path) -> Iterator[Done]:
    """Do the stages that are not done, and yield each as it ends.

    A stage is done again if what decides it has changed, if one before it was done again, or if
    a file that it made is gone or was changed. What is done is written to STATE in the folder.

    Raises
    ------
    InputError
        If a stage does not make its files, or another process is at work in the folder; and what
        stages raise.
    """
    with alone(folder):
        known = _read(folder / STATE)
        finished: list[Done] = []
        key = ""
        for stage in stages:
            key = _digest(key, stage)
            before = known.get(stage.name)
            if before is not None and before.key == key and before.files == _stats(before.files):
                done = before.model_copy(update={"kept": True})
            else:
                known.clear()  # What comes after rests on what is made now.
                done = _do(stage, key)
            finished.append(done)
            with whole(folder / STATE) as part:
                rows = [each.model_dump(exclude={"kept"}) for each in finished]
                part.write_text(json.dumps(rows, indent=1))
            yield done


def _do(stage: Stage, key: str) -> Done:
    wall, cpu = time.perf_counter(), _cpu()
    made = [str(path) for path in stage.make()]
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    files = _stats(made)
    if missing := [path for path in made if path not in files]:
        msg = f"the stage {stage.name} did not make {' and '.join(missing)}: run it again"
        raise InputError(msg)
    return Done(name=stage.name, key=key, wall_seconds=wall, cpu_seconds=cpu, files=files)


def _digest(before: str, stage: Stage) -> str:
    text = json.dumps([before, stage.name, stage.about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stats(paths: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    stats = {path: Path(path).stat() for path in paths if Path(path).is_file()}
    return {path: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats.items()}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _read(path: Path) -> dict[str, Done]:
    try:
        rows = json.loads(path.read_text())
        return {done.name: done for done in map(Done.model_validate, rows)}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        msg = f"{path} is damaged, remove it to do all stages again: {error}"
        raise InputError(" ".join(msg.split())) from error
