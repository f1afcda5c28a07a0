"""What coffea's NanoEvents cost: cases beside those of `perf.cases.catalogue`, of the same form.

Kernels take columns; that coffea gives them, and what it costs to open a file and to read it, is
measured here. Each result is checked against one that does without coffea.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.errors import InputError
from perf.cases.catalogue import (
    REAL_EVENTS,
    REAL_PROCESSOR,
    Case,
    KernelCase,
    Ready,
    another,
)
from perf.cases.data import DENSE_JETS, TREE, real_identity
from perf.records.format import label
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from perf.cases.catalogue import Inputs, Scale, Source

# The analysis takes seconds to import, which starting pytest need not wait for.
# ruff: noqa: PLC0415

Mode = Literal["eager", "virtual"]
MODES: Final[tuple[Mode, ...]] = ("eager", "virtual")
"""Of NanoEvents: all columns are read at once, or each when it is first used."""

BINS: Final = 50


def nanoevents(path: Path | str, events: int | None, mode: Mode) -> Any:
    """The first events of a file, as coffea gives them.

    Parameters
    ----------
    path
        NanoAOD file.
    events
        How many; None for all.
    mode
        Of NanoEvents.
    """
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
    """One thing measured of NanoEvents."""

    size: int
    of: Source = "synthetic"

    def _what(self, name: str, **parameters: str) -> What:
        real = "-real" if self.of == "real" else ""
        suffix = "".join(f"-{one}" for one in parameters.values())
        return What(
            name=f"nanoevents_{name}-{label(self.size)}{suffix}{real}",
            group=f"NanoEvents, {name}",
            kind="events",
            subject=name,
            size=self.size,
            parameters={"source": self.of, **parameters},
        )

    @property
    def source(self) -> Source:
        """As `Case.source`."""
        return self.of

    def _file(self, inputs: Inputs) -> tuple[str, Input]:
        if self.of == "real":
            path = inputs.real_file(REAL_PROCESSOR)
            return str(path), real_identity(path, REAL_EVENTS)
        (sample,) = inputs.store.fileset(self.size).values()
        # One file has them all: its number of events is chosen so.
        return next(iter(sample["files"])), inputs.store.events(self.size).identity


@dataclass(frozen=True)
class OpenCase(NanoCase):
    """A file opened as NanoEvents, of which no column is read."""

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return self._what("open", mode="virtual")

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        path, identity = self._file(inputs)
        yield Ready(
            act=lambda: len(nanoevents(path, self.size, "virtual")),
            want=lambda: self.size,
            key=(self.of, self.size),
            agree=lambda got, want: bool(got == want),
            identity=identity,
        )


@dataclass(frozen=True)
class ReadCase(NanoCase):
    """The columns of the analysis, read by NanoEvents from a file that is opened anew."""

    mode: Mode = "virtual"

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return self._what("read", mode=self.mode)

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.files.columns import Columns
        from analysis.ttbar import branches

        path, identity = self._file(inputs)
        names = branches("nominal")

        def read() -> dict[str, Any]:
            columns = Columns(nanoevents(path, self.size, self.mode))
            return {name: columns[name] for name in names}

        yield Ready(
            act=read,
            want=lambda: _columns(path, names, self.size),
            key=("read", self.of, self.size),
            agree=same_columns,
            identity=identity,
        )


def _columns(path: str, names: tuple[str, ...], events: int) -> dict[str, Any]:
    """Columns of a file without coffea."""
    import uproot

    with uproot.open({path: TREE}) as tree:
        return {name: tree[name].array(library="ak", entry_stop=events) for name in names}


def same_columns(got: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
    """Whether columns hold the same values, to the last bit."""
    import awkward as ak

    return got.keys() == want.keys() and all(
        bool(ak.array_equal(got[name], want[name], equal_nan=True, check_parameters=False))
        for name in want
    )


@dataclass(frozen=True)
class NanoKernelCase(KernelCase):
    """A kernel on NanoEvents that are in memory: their columns are looked up in every call."""

    @property
    def what(self) -> What:
        """As `Case.what`."""
        what = KernelCase.what.fget(self)  # type: ignore[attr-defined]
        found: What = what.model_copy(
            update={"name": f"{what.name}-nanoevents", "parameters": {"input": "NanoEvents"}}
        )
        return found

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.files.columns import Columns
        from analysis.kernels import KERNELS

        kernel = KERNELS[self.kernel]
        events = inputs.last(
            "nanoevents",
            (kernel.dense, self.size),
            lambda: self._events(inputs, dense=kernel.dense),
        )
        columns = (inputs.store.dense if kernel.dense else inputs.store.events)(self.size)
        arguments = kernel.arguments(columns.columns)

        def act() -> Any:
            return kernel.run(self.implementation, *kernel.arguments(Columns(events)))

        yield Ready(
            act=act,
            # The same kernel on columns that were read without coffea.
            want=partial(kernel.run, another(self.implementation, self.size), *arguments),
            key=(self.kernel, self.size, "nanoevents"),
            agree=lambda got, want: kernel.agree(got, want, *arguments),
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
        """As `Case.what`."""
        return self._what("fill", weights="weighted" if self.weighted else "unweighted")

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        import awkward as ak
        import hist
        import numpy as np

        path, identity = self._file(inputs)
        pt = nanoevents(path, self.size, "virtual").Jet.pt
        weight = ak.broadcast_arrays(1.0 + np.arange(len(pt)) % 4, pt)[0]
        edges = np.linspace(0.0, 500.0, BINS + 1)

        def act() -> Any:
            filled = hist.Hist.new.Variable(edges, name="pt").Weight()
            weights = {"weight": ak.flatten(weight)} if self.weighted else {}
            filled.fill(pt=ak.flatten(pt), **weights)
            return filled.values()

        def want() -> Any:
            values, weights = (ak.to_numpy(ak.flatten(one)) for one in (pt, weight))
            # The last bin of numpy has its upper edge, that of hist has not.
            inside = values < edges[-1]
            weights = weights[inside] if self.weighted else None
            return np.histogram(values[inside], edges, weights=weights)[0]

        yield Ready(
            act=act,
            want=want,
            key=("fill", self.size, self.weighted),
            agree=lambda got, want: bool(np.array_equal(got, want)),
            identity=identity,
        )


def reading(scale: Scale) -> list[NanoCase]:
    """What NanoEvents cost by themselves, of as many events as are in a file; and of a real one."""
    sizes = [size for size in scale.sizes if size <= scale.file_events]
    return [
        OpenCase(REAL_EVENTS, "real"),
        *(OpenCase(size) for size in sizes),
        *(ReadCase(size, mode=mode) for size in sizes for mode in MODES),
        *(FillCase(size, weighted=weighted) for size in sizes for weighted in (True, False)),
    ]
