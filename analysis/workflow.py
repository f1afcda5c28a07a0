"""The whole analysis as stages: events, delivery, histograms, fit, limit, pictures."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis import __main__ as commands
from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE
from analysis.inference.results import Source
from analysis.pipeline import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.inference import Backend
    from analysis.kernels import Implementation

LIMITED: Final = "single_top_tW"
"""Signal whose strength is limited: that of ttbar is too well known for it, and the only process
in some bins of few events, where a discovery is beyond doubt and any formula."""

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
"""Whose versions may decide what stages make."""

# Each stage imports what it needs when it is its turn: one that is kept takes no time.
# ruff: noqa: PLC0415


def code() -> dict[str, str | None]:
    """What all stages are made with: the sources of this package, Python, and PACKAGES."""
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
class Whole:
    """An analysis from files to cross section, each stage as its command does it.

    Attributes
    ----------
    folder
        Where everything goes.
    fileset
        FILESET.json of the user's; None to make events.
    events, seed
        Of each sample that is made, as of ``make-data``.
    delivery
        Whether ServiceX delivers what is processed.
    config, deployment
        As `config` and `backend` of ``deliver``.
    implementation, executor, workers, chunksize
        As of ``run``; as many workers transform files.
    backend
        As of ``fit``.
    """

    folder: Path
    fileset: Path | None = None
    events: int = 20_000
    seed: int = 1
    delivery: bool = True
    config: Path | None = None
    deployment: str | None = None
    implementation: Implementation = "columnar"
    executor: str = "futures"
    workers: int = 2
    chunksize: int = DEFAULT_CHUNKSIZE
    backend: Backend = "numpy"

    @property
    def files(self) -> Path:
        """The file set that all begins with."""
        return self.fileset or self.folder / "data" / "fileset.json"

    @property
    def inputs(self) -> Path:
        """The file set that is processed."""
        return self.folder / "delivered" / "fileset.json" if self.delivery else self.files

    @property
    def histograms(self) -> Path:
        """What ``run`` writes."""
        return self.folder / "histograms.json"

    @property
    def fitted(self) -> Path:
        """What ``fit`` writes."""
        return self.folder / "fit.json"

    def stages(self) -> list[Stage]:
        """In their order. Executor and workers decide how long it takes, and not what comes.

        What the first rests on all others do, too: the code that makes them.
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
        """What the user's file set lists."""
        from analysis.files.fileset import read_fileset

        assert self.fileset is not None
        return read_fileset(self.fileset).digest

    def find_events(self) -> Sequence[Path]:
        """The user's files; those of this machine are watched for changes."""
        from analysis.files.fileset import read_fileset

        assert self.fileset is not None
        paths = [path for one in read_fileset(self.fileset).values() for path in one["files"]]
        return [self.fileset, *(local for path in paths if (local := Path(path)).is_file())]

    def make_events(self) -> Sequence[Path]:
        """Synthetic NanoAOD of all samples."""
        directory = self.files.parent
        commands.make_data(directory, events=self.events, seed=self.seed)
        return [self.files, *sorted(directory.glob("*.root"))]

    def deliver(self) -> Sequence[Path]:
        """What the analysis needs of the events, by ServiceX."""
        directory = self.inputs.parent
        commands.deliver_command(
            self.files,
            directory,
            config=self.config,
            backend=self.deployment,
            workers=self.workers,
        )
        return [self.inputs, *sorted(directory.glob("*/*.parquet"))]

    def make_histograms(self) -> Sequence[Path]:
        """Histograms of all regions, channels and systematic variations."""
        commands.run_command(
            self.inputs,
            self.histograms,
            implementation=self.implementation,
            executor=self.executor,
            workers=self.workers,
            chunksize=self.chunksize,
        )
        return [self.histograms]

    def fit(self) -> Sequence[Path]:
        """The cross section."""
        from analysis.inference.results import fit_command

        workspace = self.folder / "workspace.json"
        source = Source(self.histograms, backend=self.backend)
        fit_command(source, self.fitted, workspace=workspace)
        return [self.fitted, workspace]

    def limit(self) -> Sequence[Path]:
        """Upper limit and significance of the signal."""
        from analysis.inference.results import limit_command

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
