"""A case: one thing that is measured, how its input is made and how its result is checked.

To add a case, subclass `Case`: `Case.what` names it in records, `Case.open` makes its input and
yields a `Ready`. `perf/bench_example.py` writes out what is then done with it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from perf.cases import tasks
from perf.measure import clocks
from perf.peers.processes import OURS, opened
from perf.records.digest import result_digest
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from coffea.processor.executor import ExecutorBase

    from analysis import ttbar
    from analysis.kernels import Implementation
    from perf.cases.data import Store
    from perf.cases.scales import Scale
    from perf.cases.tasks import Variant
    from perf.peers.processes import Peer, Running

# The analysis takes seconds to import, and pytest must start quickly: in this package it is
# imported where it is used.
# ruff: noqa: PLC0415

Source = Literal["synthetic", "real"]

REFERENCE_SIZE: Final = 1_000
"""Largest input of the reference implementations, which take about 1,000 times as long."""

VECTORISED: Final[tuple[Implementation, ...]] = ("columnar", "compiled")

PROCESSORS: Final[tuple[ttbar.Implementation, ...]] = (*VECTORISED, "fused")
"""Implementations of the ttbar processor that are fast."""

REAL_PROCESSOR: Final = "real/NanoAODv5_TTJets_1000.root"
"""Simulated ttbar of CMS, below the data folder."""
REAL_EVENTS: Final = 1_000

WORKERS: Final = 2
"""Of an executor: the cores of the machine that the project is developed on."""

BASE: Final = "iterative"
"""The executor that the others are compared with: it runs in this process."""

POOLS: Final = ("futures", "dask", "parsl", "spark")
"""Executors with worker processes."""

EXECUTORS: Final = ((BASE, 1), *((name, WORKERS) for name in POOLS))
"""Every executor with its number of workers."""

IN_MEMORY: Final = Input(digest=result_digest(None), events=0, source="none")
"""Identity of the input of cases that read no events."""


@dataclass
class Inputs:
    """What the cases of one session share: input files, the open executor, cached values."""

    store: Store
    """The synthetic events."""
    real: Path | None
    """The data folder; None where it is absent."""
    started: set[str] = field(default_factory=set)
    """Names of the executors that this process has started so far."""
    warmed: set[Any] = field(default_factory=set)
    """What the workers of the open executor were warmed up for."""
    _cache: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _executor: ExitStack = field(default_factory=ExitStack)
    _folders: ExitStack = field(default_factory=ExitStack)
    _peers: dict[str, ExitStack] = field(default_factory=dict)

    def folder(self, name: str) -> Path:
        """A folder that the cases of one kind share; `close` removes it."""

        def make() -> Path:
            temporary = TemporaryDirectory(prefix=f"coffea-{name}-")
            return Path(self._folders.enter_context(temporary))

        return cast("Path", self.cached("folder", name, make))

    def close(self) -> None:
        """End the executor and remove the folders."""
        self.close_executor()
        self._cache.pop("folder", None)
        self._folders.close()
        for peer in self._peers.values():
            peer.close()

    def executor(self, name: str, workers: int, variant: Variant = "") -> ExecutorBase:
        """A running executor: that of the case before, if it is the same."""
        from analysis.executors import open_executor

        def start() -> ExecutorBase:
            self.close_executor()
            self.started.add(name)
            self._executor.enter_context(tasks.orphans_adopted())
            return self._executor.enter_context(
                open_executor(name, workers=workers, **tasks.VARIANTS[variant])
            )

        return cast("ExecutorBase", self.cached("executor", (name, workers, variant), start))

    def close_executor(self) -> None:
        """End the executor."""
        self.warmed.clear()
        self._cache.pop("executor", None)
        self._executor.close()

    def peer(self, peer: Peer) -> Running:
        """The process of a peer: that of the case before, if it is the same. Ours stays beside it."""
        slot = f"peer {peer == OURS}"

        def start() -> Running:
            self._peers.setdefault(slot, ExitStack()).close()
            return self._peers[slot].enter_context(opened(peer))

        return cast("Running", self.cached(slot, peer.name, start))

    def put(self, what: str, key: Any, value: Any) -> None:
        """Make `value` what `cached` returns for this key."""
        self._cache[what] = key, value

    def cached(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """The newest value of one sort, made anew where it has another key.

        Cases of one kernel and size follow each other and share their arguments.
        """
        if what not in self._cache or self._cache[what][0] != key:
            self._cache.pop(what, None)
            self._cache[what] = key, make()
        return self._cache[what][1]

    def real_file(self, name: str) -> Path:
        """A real file below the data folder; FileNotFoundError if there is none."""
        if self.real is None:
            msg = f"there is no data folder to find {name} in"
            raise FileNotFoundError(msg)
        return self.real / name


def _unchanged(result: Any) -> Any:
    return result


@dataclass(frozen=True)
class Ready:
    """A case whose input is made, ready to be measured.

    Attributes
    ----------
    run
        What is timed.
    expected
        Computes the result in another way on the same input.
    result_key
        Equal for all cases that must have the same result.
    compare
        Whether two results are equal, as (result, expected).
    identity
        Of the input.
    setup
        Called before each `run`; not timed.
    teardown
        Called after each `run`; timed on its own (`Case.teardown_record`).
    content
        What of a result of `run` is compared and identified, if not all of it: the content of
        the file that it names, for example. Not timed.
    versions
        Of packages that only this case uses, beside those that every record has.
    """

    run: Callable[[], Any]
    expected: Callable[[], Any]
    result_key: tuple[Any, ...]
    compare: Callable[[Any, Any], bool]
    identity: Input
    setup: Callable[[], object] | None = None
    teardown: Callable[[], None] | None = None
    content: Callable[[Any], Any] = _unchanged
    versions: Mapping[str, str] = field(default_factory=dict)


class Case(ABC):
    """One thing that is measured.

    Subclasses define `what` and `open`; the other properties have defaults, which a subclass
    overrides by a field or a class attribute of the same name.
    """

    @property
    @abstractmethod
    def what(self) -> What:
        """How records name and describe it."""

    @abstractmethod
    def open(self, inputs: Inputs) -> AbstractContextManager[Ready]:
        """Make the input and start the workers: everything that is not timed."""

    @property
    def id(self) -> str:
        """Its name, unique in the catalogue."""
        return self.what.name

    @property
    def source(self) -> Source:
        """Which events it is measured on."""
        return "synthetic"

    @property
    def in_workers(self) -> bool:
        """Whether other processes do the work; their CPU time then counts too."""
        return False

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """Clock of the CPU time it takes."""
        return clocks.cpu_of_tree if self.in_workers else time.process_time

    @property
    def teardown_record(self) -> What | None:
        """How records describe `Ready.teardown`; None where nothing is torn down."""
        return None

    @property
    def cold(self) -> bool:
        """Whether the first call is measured, without a warm-up."""
        return False

    def rounds(self, scale: Scale) -> int | None:  # noqa: ARG002  (for subclasses)
        """Number of samples of one call each, every one checked; None to choose by the clock."""
        return None


@dataclass(frozen=True)
class OnExecutor(Case):
    """A case that is measured on an executor."""

    executor: str
    workers: int = 1
    variant: Variant = ""

    @property
    def on(self) -> str:
        """The executor in names: dask2, dask2-plain."""
        return f"{self.executor}{self.workers}{self.variant and f'-{self.variant}'}"

    @property
    def variant_parameters(self) -> dict[str, str]:
        """The variant among a record's parameters."""
        return {"variant": self.variant} if self.variant else {}

    @property
    def in_workers(self) -> bool:
        """All executors but the base run the work in other processes or threads."""
        return self.executor != BASE

    def rounds(self, scale: Scale) -> int | None:
        """As the processor: a call takes seconds."""
        return scale.processor_rounds

    def overhead(self, name: str, group: str, **parameters: str | int) -> What:
        """What records say of a measurement of the executor alone, without events."""
        return What(
            name=name,
            group=group,
            kind="executor",
            subject=self.executor,
            executor=self.executor,
            workers=self.workers,
            size=0,
            parameters={**parameters, **self.variant_parameters},
        )


# --- checks


class DisagreementError(Exception):
    """A case has another result than another implementation on the same input."""

    def __init__(self, case: str, other: str) -> None:
        super().__init__(
            f"{case}: its result differs from {other} on the same input; no speed is reported"
        )


def run_checked(case: Case, ready: Ready, inputs: Inputs) -> Any:
    """Run a case once and return its result, checked as by `check`."""
    if ready.setup:
        ready.setup()
    result = ready.run()
    if ready.teardown:
        ready.teardown()
    return check(case, ready, inputs, result)


def check(case: Case, ready: Ready, inputs: Inputs, result: Any) -> Any:
    """Compare a result with that of another implementation on the same input.

    Returns the content of the result; raises DisagreementError if they differ. `inputs` caches
    the newest result of each implementation, to compare the next case with.
    """
    content = ready.content(result)
    what = case.what
    other = (
        cross_check(what.implementation, what.size) if what.implementation else "what is expected"
    )
    key = (what.kind, *ready.result_key)
    # Results of the processor are small: all are kept, for the same input on other executors.
    of = str(key) if what.kind == "processor" else ""
    expected = inputs.cached(f"result of {other} {of}", key, ready.expected)
    if not ready.compare(content, expected):
        raise DisagreementError(case.id, other)
    inputs.put(f"result of {what.implementation} {of}", key, content)
    return content


def cross_check(implementation: str, size: int) -> Implementation:
    """The implementation that a result is compared with.

    That is the reference where it takes less than seconds, else the other fast one.
    """
    if implementation == "reference":
        return "columnar"
    if size <= REFERENCE_SIZE:
        return "reference"
    return "compiled" if implementation == "columnar" else "columnar"


def implementations(size: int) -> tuple[Implementation, ...]:
    """Implementations that are measured on so many events."""
    return ("reference", *VECTORISED) if size <= REFERENCE_SIZE else VECTORISED
