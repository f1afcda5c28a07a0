"""Everything that is measured, once.

Cases are made from the registries: kernels x implementations x sizes, queries likewise on
synthetic and on real events, the processor by implementation x executor x chunk size. The
pytest benchmarks are generated from them; whatever else measures takes them from here too.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from perf import measure, processor
from perf.data import Events, real_columns, real_identity
from perf.results import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from coffea.processor.executor import ExecutorBase

    from analysis.kernels import Implementation
    from perf.data import Store

# The analysis takes seconds to import, which starting pytest need not wait for.
# ruff: noqa: PLC0415

REFERENCE_SIZE: Final = 1_000
"""Largest input of the plain loops, which take some 1e3 times as long as the others."""

MAX_QUERY_SIZES: Final = {"6a": 100_000, "6b": 100_000}
"""Largest input of queries that make every triple of all jets of all events: the columnar
implementation takes 1.7 GB for 1e5 events and more than 18 GB for 1e6."""

VECTORISED: Final[tuple[Implementation, ...]] = ("columnar", "compiled")

Source = Literal["synthetic", "real"]

REAL_QUERIES: Final = "real/Run2012B_SingleMu_1000.root"
REAL_PROCESSOR: Final = "real/NanoAODv5_TTJets_1000.root"
"""Real CMS files below the data folder: the queries' input, and simulated ttbar."""
REAL_EVENTS: Final = 1_000

WORKERS: Final = 2
"""Of the pool: the cores of the machine that the project is developed on."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    name
        Of the scale.
    sizes, query_sizes
        Events of kernels, and of queries.
    seconds
        For the samples of one case, about.
    min_rounds
        Least number of samples of a kernel or query; of the processor `processor_rounds`.
    file_events
        Events of each file.
    processor_events
        Events processed, in whole files.
    chunksizes
        Of the processor, in events.
    """

    name: str
    sizes: tuple[int, ...]
    query_sizes: tuple[int, ...]
    seconds: float
    min_rounds: int
    processor_rounds: int
    file_events: int
    processor_events: int
    chunksizes: tuple[int, ...]


SCALES: Final[dict[str, Scale]] = {
    scale.name: scale
    for scale in (
        # A smoke test: every case is checked, the numbers mean little.
        Scale("small", (1_000,), (1_000,), 0.02, 3, 1, 2_000, 4_000, (2_000,)),
        # Within five minutes on two cores with the making of data.
        Scale(
            "default",
            (1_000, 10_000, 100_000, 1_000_000),
            (1_000, 10_000, 100_000),
            0.1,
            measure.MIN_ROUNDS,
            5,
            250_000,
            500_000,
            (50_000, 250_000),
        ),
        Scale(
            "large",
            (1_000, 10_000, 100_000, 1_000_000),
            (1_000, 10_000, 100_000, 1_000_000),
            2.0,
            10,
            5,
            250_000,
            2_000_000,
            (25_000, 50_000, 100_000, 250_000),
        ),
    )
}
DEFAULT_SCALE: Final = "default"


@dataclass
class Inputs:
    """What cases are measured on.

    Attributes
    ----------
    store
        The synthetic events.
    real
        The data folder; None where it is absent.
    """

    store: Store
    real: Path | None
    _last: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _executors: ExitStack = field(default_factory=ExitStack)

    def executor(self, name: str, workers: int) -> ExecutorBase:
        """An executor that is warm: the one of the case before, if it had the same."""
        from analysis.executors import open_executor

        def start() -> ExecutorBase:
            self.close()
            return self._executors.enter_context(open_executor(name, workers=workers))

        return cast("ExecutorBase", self.last("executor", (name, workers), start))

    def close(self) -> None:
        """End the executor."""
        self._last.pop("executor", None)
        self._executors.close()

    def keep(self, what: str, key: Any, value: Any) -> None:
        """Make `value` what `last` gives for this key."""
        self._last[what] = key, value

    def last(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gave when it was last called for this key; only the newest is kept.

        Cases of one kernel and size follow each other and share their arguments.
        """
        if what not in self._last or self._last[what][0] != key:
            self._last.pop(what, None)
            self._last[what] = key, make()
        return self._last[what][1]

    def real_file(self, name: str) -> Path:
        """A real file below the data folder.

        Raises
        ------
        FileNotFoundError
            If there is no data folder.
        """
        if self.real is None:
            msg = f"there is no data folder to find {name} in"
            raise FileNotFoundError(msg)
        return self.real / name


@dataclass(frozen=True)
class Ready:
    """A case that can be measured at once.

    Attributes
    ----------
    act
        What is timed.
    want
        Gives the result of another implementation on the same input.
    key
        The same for all cases that must have the same result.
    agree
        Whether two results are equal, as (got, want).
    identity
        Of the input.
    """

    act: Callable[[], Any]
    want: Callable[[], Any]
    key: tuple[Any, ...]
    agree: Callable[[Any, Any], bool]
    identity: Input


class Case(ABC):
    """One measured thing."""

    @property
    @abstractmethod
    def what(self) -> What:
        """What a record says of it."""

    @abstractmethod
    def open(self, inputs: Inputs) -> AbstractContextManager[Ready]:
        """Make its input, its workers: all that is not timed."""

    @property
    def id(self) -> str:
        """Its name, unique in the catalogue."""
        return self.what.name

    @property
    def source(self) -> Source:
        """Which events it is measured on."""
        return "synthetic"

    @property
    def cpu_clock(self) -> Callable[[], float]:
        """Clock of the CPU time it takes."""
        return time.process_time

    @property
    def in_workers(self) -> bool:
        """Whether the work is done in other processes."""
        return False


@dataclass(frozen=True)
class KernelCase(Case):
    """A kernel in one implementation on so many events."""

    kernel: str
    implementation: Implementation
    size: int

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return What(
            name=f"{self.kernel}-{label(self.size)}-{self.implementation}",
            group=self.kernel,
            kind="kernel",
            subject=self.kernel,
            implementation=self.implementation,
            size=self.size,
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.kernels import KERNELS

        kernel = KERNELS[self.kernel]
        events = (inputs.store.dense if kernel.dense else inputs.store.events)(self.size)
        arguments = inputs.last(
            "arguments", (self.kernel, self.size), lambda: kernel.arguments(events.columns)
        )
        yield Ready(
            act=partial(kernel.run, self.implementation, *arguments),
            want=partial(kernel.run, another(self.implementation, self.size), *arguments),
            key=(self.kernel, self.size),
            agree=lambda got, want: kernel.agree(got, want, *arguments),
            identity=events.identity,
        )


@dataclass(frozen=True)
class QueryCase(Case):
    """An ADL query in one implementation on so many events in memory."""

    query: str
    implementation: Implementation
    size: int
    of: Source = "synthetic"

    @property
    def what(self) -> What:
        """As `Case.what`."""
        real = "-real" if self.of == "real" else ""
        return What(
            name=f"query_{self.query}-{label(self.size)}-{self.implementation}{real}",
            group=f"query {self.query}",
            kind="query",
            subject=self.query,
            implementation=self.implementation,
            size=self.size,
            parameters={"source": self.of},
        )

    @property
    def source(self) -> Source:
        """As `Case.source`."""
        return self.of

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        import numpy as np

        from analysis.adl import QUERIES

        query = QUERIES[self.query]
        events = self._events(inputs)
        yield Ready(
            act=partial(query.run, events.columns, self.implementation),
            want=partial(query.run, events.columns, another(self.implementation, self.size)),
            key=(self.query, self.of, self.size),
            agree=lambda got, want: bool(np.array_equal(got, want)),
            identity=events.identity,
        )

    def _events(self, inputs: Inputs) -> Events:
        from analysis.adl import BTAGS, INPUTS

        if self.of == "synthetic":
            return inputs.store.events(self.size)
        path = inputs.real_file(REAL_QUERIES)
        return cast(
            "Events", inputs.last("real", path, lambda: real_columns(path, (*INPUTS, *BTAGS)))
        )


@dataclass(frozen=True)
class ProcessorCase(Case):
    """The ttbar processor over files, with an executor that is warm."""

    implementation: Implementation | Literal["idiomatic"]
    executor: str
    chunksize: int
    variations: Literal["all", "nominal"]
    size: int
    of: Source = "synthetic"
    workers: int = 1

    @property
    def what(self) -> What:
        """As `Case.what`."""
        real = "-real" if self.of == "real" else ""
        return What(
            name=(
                f"ttbar_{self.variations}-{label(self.size)}-{self.executor}{self.workers}"
                f"-chunk{label(self.chunksize)}-{self.implementation}{real}"
            ),
            group=f"ttbar, {self.variations}",
            kind="processor",
            subject="ttbar",
            implementation=self.implementation,
            executor=self.executor,
            workers=self.workers,
            size=self.size,
            chunksize=self.chunksize,
            parameters={"variations": self.variations, "source": self.of},
        )

    @property
    def source(self) -> Source:
        """As `Case.source`."""
        return self.of

    @property
    def in_workers(self) -> bool:
        """As `Case.in_workers`."""
        return self.executor != "iterative"

    @property
    def cpu_clock(self) -> Callable[[], float]:
        """As `Case.cpu_clock`."""
        return measure.cpu_of_tree if self.in_workers else time.process_time

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.executors import open_executor

        fileset, identity = self._fileset(inputs)

        def want() -> Any:
            with open_executor("iterative") as executor:
                return processor.process(
                    fileset,
                    executor,
                    implementation=another(self.implementation, self.size),
                    variations=self.variations,
                    chunksize=self.size,
                )()

        yield Ready(
            act=processor.process(
                fileset,
                inputs.executor(self.executor, self.workers),
                implementation=self.implementation,
                variations=self.variations,
                chunksize=self.chunksize,
            ),
            # One result serves all executors and chunk sizes, which must not change it.
            want=want,
            key=(self.variations, self.of, self.size),
            agree=processor.agree,
            identity=identity,
        )

    def _fileset(self, inputs: Inputs) -> tuple[dict[str, Any], Input]:
        if self.of == "synthetic":
            fileset = inputs.store.fileset(self.size)
            return fileset, inputs.store.fileset_identity(self.size)
        path = inputs.real_file(REAL_PROCESSOR)
        fileset = {
            "ttbar__nominal": {
                "files": {str(path): "Events"},
                "metadata": {"process": "ttbar", "variation": "nominal", "xsec": 729.84},
            }
        }
        return fileset, real_identity(path, REAL_EVENTS)


@dataclass(frozen=True)
class StartCase(Case):
    """Start of an executor, one task for each worker, and its end."""

    executor: str
    workers: int

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return What(
            name=f"start-{self.executor}{self.workers}",
            group="executor start",
            kind="executor",
            subject=self.executor,
            executor=self.executor,
            workers=self.workers,
            size=0,
        )

    @property
    def cpu_clock(self) -> Callable[[], float]:
        """As `Case.cpu_clock`: with the children, whose times are known once they ended."""
        return measure.cpu_with_ended

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:  # noqa: ARG002  (reads no events)
        """As `Case.open`."""
        yield Ready(
            act=partial(processor.start_and_stop, self.executor, self.workers),
            want=lambda: list(range(self.workers)),
            key=(self.executor, self.workers),
            agree=lambda got, want: bool(got == want),
            identity=Input(digest=measure.digest(None), events=0, source="none"),
        )


def checked(case: Case, ready: Ready, inputs: Inputs) -> Any:
    """The result of a case, if it agrees with that of another implementation.

    Parameters
    ----------
    case, ready
        The case, opened.
    inputs
        Keeps the newest result of each implementation, to compare the next case with.

    Returns
    -------
    Any
        The result.

    Raises
    ------
    DisagreementError
        If they differ.
    """
    what = case.what
    got = ready.act()
    other = another(what.implementation, what.size) if what.implementation else "what is expected"
    key = (what.kind, *ready.key)
    want = inputs.last(f"result of {other}", key, ready.want)
    if not ready.agree(got, want):
        raise DisagreementError(case.id, other)
    inputs.keep(f"result of {what.implementation}", key, got)
    return got


class DisagreementError(Exception):
    """A case has another result than another implementation on the same input."""

    def __init__(self, case: str, other: str) -> None:
        super().__init__(
            f"{case}: its result differs from {other} on the same input; no speed is reported"
        )


def another(implementation: str, size: int) -> Implementation:
    """The implementation that a result is compared with.

    The definition itself where it can be awaited, otherwise the other of the two fast ones.
    """
    if implementation == "reference":
        return "columnar"
    if size <= REFERENCE_SIZE:
        return "reference"
    return "compiled" if implementation == "columnar" else "columnar"


def implementations(size: int) -> tuple[Implementation, ...]:
    """Implementations that are measured on so many events."""
    return ("reference", *VECTORISED) if size <= REFERENCE_SIZE else VECTORISED


def label(events: int) -> str:
    """A number of events in short: 1e5, 25e4, 1234."""
    digits = str(events)
    mantissa = digits.rstrip("0") or "0"
    zeros = len(digits) - len(mantissa)
    return f"{mantissa}e{zeros}" if zeros > 2 else digits


def kernels(scale: Scale) -> list[KernelCase]:
    """Every kernel x implementation x size."""
    from analysis.kernels import KERNELS

    return [
        KernelCase(name, implementation, size)
        for name in KERNELS
        for size in scale.sizes
        for implementation in implementations(size)
    ]


def queries(scale: Scale) -> list[QueryCase]:
    """Every query x implementation x size, and on the real file."""
    from analysis.adl import QUERIES

    return [
        QueryCase(name, implementation, size, source)
        for name in QUERIES
        for source, sizes in cast(
            "tuple[tuple[Source, tuple[int, ...]], ...]",
            (("synthetic", scale.query_sizes), ("real", (REAL_EVENTS,))),
        )
        for size in sizes
        if size <= MAX_QUERY_SIZES.get(name, size)
        for implementation in implementations(size)
    ]


def processors(scale: Scale) -> list[ProcessorCase]:
    """The processor: nominal with every executor and chunk size, all variations with the largest.

    And the analysis as published, which is what the kernels are an improvement on.

    What the chunk size costs is the opening and merging of chunks, the same for both.
    """
    both: tuple[Literal["nominal", "all"], ...] = ("nominal", "all")
    synthetic = [
        ProcessorCase(
            implementation,
            executor,
            chunksize,
            variations,
            scale.processor_events,
            workers=workers,
        )
        # Cases of one executor follow each other and share its workers.
        for executor, workers in (("iterative", 1), ("futures", WORKERS))
        for variations in both
        for chunksize in (scale.chunksizes if variations == "nominal" else scale.chunksizes[-1:])
        for implementation in VECTORISED
    ]
    idiomatic = [
        ProcessorCase(
            processor.IDIOMATIC, "iterative", chunksize, "nominal", scale.processor_events
        )
        for chunksize in scale.chunksizes
    ]
    real = [
        ProcessorCase(implementation, "iterative", REAL_EVENTS, variations, REAL_EVENTS, "real")
        for variations in both
        for implementation in implementations(REAL_EVENTS)
    ]
    return [*real, *idiomatic, *synthetic]


def starts(scale: Scale) -> list[StartCase]:  # noqa: ARG001  (one signature for all)
    """Start of each executor that has something to start."""
    return [StartCase("futures", WORKERS)]


def everything(scale: Scale) -> list[Case]:
    """Every case of a scale."""
    return [*kernels(scale), *queries(scale), *processors(scale), *starts(scale)]
