"""Input events of measurements: made from one seed and kept on disk.

The synthetic events are those of one sample, from event 0 on, in zstd NanoAOD files with the
branches that the analysis reads. Kernels and queries are measured on columns of these files, the
processor on the files. The events are the same for every version of what is measured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perf.records.record_file import Input

if TYPE_CHECKING:
    from collections.abc import Mapping

# ruff: noqa: PLC0415

SEED: Final = 20150
PROCESS: Final = "ttbar"
VARIATION: Final = "nominal"
TREE: Final = "Events"
DEFAULT_DIRECTORY: Final = ".perf/data"
"""Below the root directory of the project; not under version control."""

COUNTERS: Final = ("nElectron", "nMuon", "nJet")

DENSE_JETS: Final = 4
DENSE_FRACTION: Final = 0.69
"""Share of events with at least DENSE_JETS selected jets in 1e6 events of this sample."""


@dataclass(frozen=True)
class Events:
    """Columns of events by branch, and their identity."""

    columns: Mapping[str, Any]
    identity: Input


class Store:
    """The synthetic events of one seed, in files of `file_events` below `directory`.

    Files of an earlier session are used again. `compression` and `branches` are as of
    `analysis.synthetic.write_fileset`.
    """

    def __init__(
        self,
        directory: Path,
        file_events: int = 250_000,
        compression: str = "zstd",
        branches: str = "slim",
        format: str = "ttree",
    ) -> None:
        self.directory = directory
        self.file_events = file_events
        self.compression = compression
        self.branches = branches
        self.format = format
        self._events: dict[tuple[str, int], Events] = {}
        self._pool: dict[str, Any] = {}
        self._files: dict[int, Input] = {}

    def events(self, n: int) -> Events:
        """Columns of the events [0, n)."""
        return self._cut("all", n)

    def dense(self, n: int) -> Events:
        """Columns of the selected jets of the first `n` events with at least four of them."""
        return self._cut("dense", n)

    def _cut(self, which: str, n: int) -> Events:
        if (which, n) not in self._events:
            if which == "all":
                whole, what = self._columns(n), "events"
            else:
                whole, what = self._dense(n), f"events with {DENSE_JETS} selected jets"
            columns = {name: _first(column, n) for name, column in whole.items()}
            self._events[which, n] = Events(
                columns, _identity(columns, f"synthetic {self._sample()}, {what}", n)
            )
        return self._events[which, n]

    def _dense(self, n: int) -> dict[str, Any]:
        import awkward as ak

        from analysis.kernels import KERNELS

        wanted = int(n / DENSE_FRACTION) + 64
        while True:
            columns = self._columns(wanted)
            kernel = KERNELS["jets"]
            mask = kernel.run("columnar", *kernel.arguments(columns))
            kept = ak.sum(mask, axis=1) >= DENSE_JETS
            if ak.sum(kept) >= n:
                return {
                    name: column[mask][kept]
                    for name, column in columns.items()
                    if name.startswith("Jet_")
                }
            wanted += wanted // 10

    def _columns(self, n: int) -> dict[str, Any]:
        """Columns of at least `n` events."""
        if not self._pool or len(self._pool["event"]) < n:
            (sample,) = self.fileset(n).values()
            self._pool = _read([Path(path) for path in sample["files"]])
        return self._pool

    def fileset(self, events: int) -> dict[str, Any]:
        """File set of at least `events` events, in whole files, of coffea's form."""
        from analysis.synthetic import write_fileset

        # Existing files are kept, and a larger file set begins with the same files.
        others = {self.compression, self.branches, self.format} - {"zstd", "slim", "ttree"}
        name = ", ".join((f"files of {self.file_events}", *sorted(others)))
        return write_fileset(
            self.directory / name,
            events=-(-events // self.file_events) * self.file_events,
            seed=SEED,
            processes=[PROCESS],
            variations=[VARIATION],
            events_per_file=self.file_events,
            compression=self.compression,
            branches=self.branches,
            format=self.format,
        )

    def fileset_identity(self, events: int) -> Input:
        """Identity of the events of `fileset`: that of `events`, read a file at a time."""
        from analysis.synthetic.columns import Digest

        total = -(-events // self.file_events) * self.file_events
        if total not in self._files:
            (sample,) = self.fileset(total).values()
            whole = Digest()
            for path in sample["files"]:
                whole.update(_read([Path(path)]))
            source = f"synthetic {self._sample()}, events"
            self._files[total] = Input(digest=whole.hexdigest(), events=total, source=source)
        return self._files[total]

    def _sample(self) -> str:
        from analysis.synthetic import GENERATOR_VERSION

        return f"{PROCESS} {VARIATION}, generator {GENERATOR_VERSION}, seed {SEED}"


def _read(paths: list[Path], tree: str = TREE) -> dict[str, Any]:
    """Columns of all events of some files, but for the counters."""
    import awkward as ak
    import uproot

    from analysis.synthetic import SLIM_BRANCHES

    wanted = [name for name in SLIM_BRANCHES if name not in COUNTERS]
    parts: list[dict[str, Any]] = []
    for path in paths:
        with uproot.open({path: tree}) as events:
            parts.append({name: events[name].array(library="ak") for name in wanted})
    joined = {name: ak.concatenate([part[name] for part in parts]) for name in wanted}
    return {name: _first(column, len(column)) for name, column in joined.items()}


def real_columns(path: Path, branches: tuple[str, ...], tree: str = TREE) -> Events:
    """Columns of all events of a real NanoAOD file: those of the branches that it has."""
    import uproot

    with uproot.open({path: tree}) as events:
        have = set(events.keys(recursive=False))
        columns = {
            name: _first(events[name].array(library="ak"), events.num_entries)
            for name in branches
            if name in have
        }
        return Events(columns, _identity(columns, path.name, events.num_entries))


def real_identity(path: Path, events: int) -> Input:
    """Identity of a real file: of its bytes."""
    import hashlib

    return Input(
        digest=hashlib.sha256(path.read_bytes()).hexdigest(), events=events, source=path.name
    )


def _first(column: Any, n: int) -> Any:
    """The first `n` events in memory of their own, as read from a file with just these."""
    import awkward as ak

    packed = ak.to_packed(column[:n])
    return packed if packed.ndim > 1 else ak.to_numpy(packed)


def _identity(columns: Mapping[str, Any], source: str, events: int) -> Input:
    from analysis.synthetic import digest

    return Input(digest=digest(columns), events=events, source=source)


SHARED_VARIABLE: Final = "COFFEA_SCALING_DATA"
"""Environment variable that names the data folder: real CMS files and reference histograms."""

SHARED_CANDIDATES: Final = ("../shared/data", "shared-data")
"""Where it is looked for without that variable, relative to the root directory."""


def find_shared(root: Path) -> Path | None:
    """The data folder; None if it is absent. `root` is the project's root directory."""
    named = os.environ.get(SHARED_VARIABLE)
    candidates = [named] if named else SHARED_CANDIDATES
    for candidate in candidates:
        folder = (root / candidate).resolve()
        if folder.is_dir():
            return folder
    return None


def why_no_shared() -> str:
    """One sentence on why `find_shared` found nothing."""
    return f"the data folder is absent: name it in the environment variable {SHARED_VARIABLE}"
