"""Cases of coffea's NanoEvents: opening a file, reading columns, filling a histogram.

Each result is compared with one that is computed without coffea.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.errors import InputError
from perf.cases.case import REAL_EVENTS, REAL_PROCESSOR, Case, Ready, Source, cross_check
from perf.cases.data import DENSE_JETS, TREE, real_identity
from perf.cases.kernels import KernelCase
from perf.records.format import label
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from perf.cases.case import Inputs
    from perf.cases.scales import Scale

# ruff: noqa: PLC0415

Mode = Literal["eager", "virtual"]
MODES: Final[tuple[Mode, ...]] = ("eager", "virtual")
"""Of NanoEvents: all columns are read at once, or each when it is first used."""

BINS: Final = 50


def nanoevents(path: Path | str, events: int | None, mode: Mode) -> Any:
    """The first events of a NanoAOD file, or all of them, as coffea's NanoEvents."""
    import uproot
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    NanoAODSchema.warn_missing_crossrefs = False
    # Opened here and not by coffea, which would keep the columns for the next time.
    file = uproot.open(path, array_cache=None)
    with warnings.catch_warnings():
        # Real files have masses that the schema sets to zero, of photons for one.
        warnings.filterwarnings("ignore", "Branch .* already exists", RuntimeWarning)
        return NanoEventsFactory.from_root(
            file, treepath=TREE, schemaclass=NanoAODSchema, mode=mode, entry_stop=events
        ).events()


@dataclass(frozen=True)
class NanoCase(Case):
    """A case of NanoEvents."""

    size: int
    source: Source = "synthetic"

    def _what(self, name: str, **parameters: str) -> What:
        real = "-real" if self.source == "real" else ""
        suffix = "".join(f"-{value}" for value in parameters.values())
        return What(
            name=f"nanoevents_{name}-{label(self.size)}{suffix}{real}",
            group=f"NanoEvents, {name}",
            kind="events",
            subject=name,
            size=self.size,
            parameters={"source": self.source, **parameters},
        )

    def _file(self, inputs: Inputs) -> tuple[str, Input]:
        if self.source == "real":
            path = inputs.real_file(REAL_PROCESSOR)
            return str(path), real_identity(path, REAL_EVENTS)
        (sample,) = inputs.store.fileset(self.size).values()
        # One file has them all: its number of events is chosen so.
        return next(iter(sample["files"])), inputs.store.events(self.size).identity


@dataclass(frozen=True)
class OpenCase(NanoCase):
    """A file opened as NanoEvents; no column is read."""

    @property
    def what(self) -> What:
        """Named by number of events."""
        return self._what("open", mode="virtual")

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Choose the file."""
        path, identity = self._file(inputs)
        yield Ready(
            run=lambda: len(nanoevents(path, self.size, "virtual")),
            expected=lambda: self.size,
            result_key=(self.source, self.size),
            compare=lambda result, expected: bool(result == expected),
            identity=identity,
        )


@dataclass(frozen=True)
class ReadCase(NanoCase):
    """A file opened, and the columns of the analysis read by NanoEvents."""

    mode: Mode = "virtual"

    @property
    def what(self) -> What:
        """Named by number of events and mode."""
        return self._what("read", mode=self.mode)

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Choose the file."""
        from analysis.files.columns import Columns
        from analysis.ttbar import branches

        path, identity = self._file(inputs)
        names = branches("nominal")

        def read() -> dict[str, Any]:
            columns = Columns(nanoevents(path, self.size, self.mode))
            return {name: columns[name] for name in names}

        yield Ready(
            run=read,
            expected=lambda: _columns(path, names, self.size),
            result_key=("read", self.source, self.size),
            compare=same_columns,
            identity=identity,
        )


def _columns(path: str, names: tuple[str, ...], events: int) -> dict[str, Any]:
    """Columns of a file, read without coffea."""
    import uproot

    with uproot.open({path: TREE}) as tree:
        return {name: tree[name].array(library="ak", entry_stop=events) for name in names}


def same_columns(result: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether columns hold the same values, to the last bit."""
    import awkward as ak

    return result.keys() == expected.keys() and all(
        bool(ak.array_equal(result[name], expected[name], equal_nan=True, check_parameters=False))
        for name in expected
    )


@dataclass(frozen=True)
class NanoKernelCase(KernelCase):
    """A kernel on NanoEvents in memory: each call looks up their columns."""

    @property
    def what(self) -> What:
        """Named as the kernel's case on columns."""
        what = super().what
        return what.model_copy(
            update={"name": f"{what.name}-nanoevents", "parameters": {"input": "NanoEvents"}}
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Have NanoEvents read their columns."""
        from analysis.files.columns import Columns
        from analysis.kernels import KERNELS

        kernel = KERNELS[self.kernel]
        events = inputs.cached(
            "nanoevents",
            (kernel.dense, self.size),
            lambda: self._events(inputs, dense=kernel.dense),
        )
        columns = (inputs.store.dense if kernel.dense else inputs.store.events)(self.size)
        arguments = kernel.arguments(columns.columns)

        def run() -> Any:
            return kernel.run(self.implementation, *kernel.arguments(Columns(events)))

        yield Ready(
            run=run,
            # The same kernel on columns that were read without coffea.
            expected=partial(kernel.run, cross_check(self.implementation, self.size), *arguments),
            result_key=(self.kernel, self.size, "nanoevents"),
            compare=lambda result, expected: kernel.agree(result, expected, *arguments),
            identity=columns.identity,
        )

    def _events(self, inputs: Inputs, *, dense: bool) -> Any:
        import awkward as ak

        from analysis.files.columns import Columns
        from analysis.kernels import KERNELS

        (sample,) = inputs.store.fileset(self.size).values()
        path = next(iter(sample["files"]))
        if not dense:
            return nanoevents(path, self.size, "virtual")
        events = nanoevents(path, None, "virtual")
        jets = KERNELS["jets"]
        mask = jets.run("columnar", *jets.arguments(Columns(events)))
        kept = ak.sum(mask, axis=1) >= DENSE_JETS
        if ak.sum(kept) < self.size:
            msg = f"{path} has too few events for {self.id}: write larger files"
            raise InputError(msg)
        return ak.zip({"Jet": events.Jet[mask][kept][: self.size]}, depth_limit=1)


@dataclass(frozen=True)
class FillCase(NanoCase):
    """A histogram of the analysis filled with a jagged column of NanoEvents: hist and awkward."""

    weighted: bool = True

    @property
    def what(self) -> What:
        """Named by number of events and weights."""
        return self._what("fill", weights="weighted" if self.weighted else "unweighted")

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Read the column that is filled."""
        import awkward as ak
        import hist
        import numpy as np

        path, identity = self._file(inputs)
        pt = nanoevents(path, self.size, "virtual").Jet.pt
        weight = ak.broadcast_arrays(1.0 + np.arange(len(pt)) % 4, pt)[0]
        edges = np.linspace(0.0, 500.0, BINS + 1)

        def run() -> Any:
            filled = hist.Hist.new.Variable(edges, name="pt").Weight()
            weights = {"weight": ak.flatten(weight)} if self.weighted else {}
            filled.fill(pt=ak.flatten(pt), **weights)
            return filled.values()

        def expected() -> Any:
            values, weights = (ak.to_numpy(ak.flatten(column)) for column in (pt, weight))
            # NumPy's last bin includes its upper edge, that of hist does not.
            inside = values < edges[-1]
            weights = weights[inside] if self.weighted else None
            return np.histogram(values[inside], edges, weights=weights)[0]

        yield Ready(
            run=run,
            expected=expected,
            result_key=("fill", self.size, self.weighted),
            compare=lambda result, expected: bool(np.array_equal(result, expected)),
            identity=identity,
        )


def nano_cases(scale: Scale) -> list[NanoCase]:
    """Opening, reading and filling by number of events, up to those of a file; opening a real one."""
    sizes = [size for size in scale.sizes if size <= scale.file_events]
    return [
        OpenCase(REAL_EVENTS, "real"),
        *(OpenCase(size) for size in sizes),
        *(ReadCase(size, mode=mode) for size in sizes for mode in MODES),
        *(FillCase(size, weighted=weighted) for size in sizes for weighted in (True, False)),
    ]
