"""Everything that is measured, once.

Cases are made from the registries: kernels x implementations x sizes, queries likewise on
synthetic and on real events, the processor by implementation x executor x chunk size, and what
executors cost beside the work. The pytest benchmarks are generated from them; whatever else
measures takes them from here too.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from perf.cases import delivery, inference, processor, reading, workflow
from perf.cases import tasks as case_tasks
from perf.cases.data import Events, Store, real_columns, real_identity
from perf.measure import clocks
from perf.records import difference
from perf.records.format import data_size, label
from perf.records.record_file import Input, What

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from coffea.processor.executor import ExecutorBase

    from analysis.inference.backends import Backend, Optimizer
    from analysis.kernels import Implementation
    from perf.cases.tasks import Contents, Variant

# The analysis takes seconds to import, which starting pytest need not wait for.
# ruff: noqa: PLC0415

REFERENCE_SIZE: Final = 1_000
"""Largest input of the plain loops, which take some 1e3 times as long as the others."""

MAX_QUERY_SIZES: Final = {"6a": 100_000, "6b": 100_000}
"""Largest input of queries that make every triple of all jets of all events: the columnar
implementation takes 1.7 GB for 1e5 events and more than 18 GB for 1e6."""

VECTORISED: Final[tuple[Implementation, ...]] = ("columnar", "compiled")

Source = Literal["synthetic", "real"]

InferenceTask = Literal["build", "fit", "hypotest", "limit"]
"""Making the model, fitting it, one hypothesis test, an upper limit with its bands."""

REAL_QUERIES: Final = "real/Run2012B_SingleMu_1000.root"
REAL_PROCESSOR: Final = "real/NanoAODv5_TTJets_1000.root"
"""Real CMS files below the data folder: the queries' input, and simulated ttbar."""
REAL_EVENTS: Final = 1_000

WORKERS: Final = 2
"""Of an executor: the cores of the machine that the project is developed on."""

BASE: Final = "iterative"
"""The executor that the others are compared with: no engine, one worker."""

POOLS: Final = ("futures", "dask", "parsl", "spark")
"""Executors that have workers to start."""

MAX_PLAIN_TASKS: Final = {"dask": 1_000, "spark": 10}
"""Most tasks given to coffea's own executors, by those that are measured: one of Spark's takes a
tenth of a second and more, each call of its futures seconds (it makes a new pool)."""

DELAYS: Final = (0, 10, 50)
"""Milliseconds each way that a server is away: in the house, the country, beyond an ocean."""

IN_MEMORY: Final = Input(digest=difference.digest(None), events=0, source="none")
"""Identity of the input of what reads no events."""


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
    start_rounds
        Samples of the start of an executor.
    tasks
        Numbers of empty tasks.
    merged
        Histograms that tasks return: bytes, number of tasks, contents.
    files_events, files
        Events processed and the numbers of files that they are in, equal ones.
    fewest_workers
        By number of workers it is measured from so many.
    whole_events
        Events of each sample of the whole analysis.
    slow_tests
        What is measured with pyhf's own optimisers too, which take seconds a fit.
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
    start_rounds: int
    tasks: tuple[int, ...]
    merged: tuple[tuple[int, int, Contents], ...]
    files_events: int
    files: tuple[int, ...]
    fewest_workers: int
    whole_events: int
    slow_tests: tuple[InferenceTask, ...]


_TASKS: Final = (10, 100, 1_000, 10_000)
_MERGED: Final[tuple[tuple[int, int, Contents], ...]] = (
    (1_024, 64, "random"),
    (100_000, 64, "random"),
    (16_000_000, 16, "random"),
    (16_000_000, 16, "sparse"),
    (100_000_000, 4, "random"),
)

SCALES: Final[dict[str, Scale]] = {
    scale.name: scale
    for scale in (
        # A smoke test: every case is checked, the numbers mean little.
        Scale(
            "small",
            (1_000,),
            (1_000,),
            0.02,
            3,
            1,
            2_000,
            4_000,
            (2_000,),
            1,
            (10, 1_000),
            ((1_024, 8, "random"), (1_000_000, 8, "sparse")),
            4_000,
            (1, 8),
            WORKERS,
            2_000,
            (),
        ),
        # Within five minutes on two cores with the making of data.
        Scale(
            "default",
            (1_000, 10_000, 100_000, 1_000_000),
            (1_000, 10_000, 100_000),
            0.1,
            clocks.MIN_ROUNDS,
            5,
            250_000,
            500_000,
            (50_000, 250_000),
            2,
            _TASKS,
            _MERGED,
            512_000,
            (1, 8, 64),
            1,
            20_000,
            ("hypotest",),
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
            5,
            _TASKS,
            _MERGED,
            2_048_000,
            (1, 8, 64),
            1,
            250_000,
            ("hypotest", "limit"),
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
    started
        Names of executors that this process has started before.
    """

    store: Store
    real: Path | None
    started: set[str] = field(default_factory=set)
    _last: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _executors: ExitStack = field(default_factory=ExitStack)
    _folders: ExitStack = field(default_factory=ExitStack)

    def folder(self, name: str) -> Path:
        """A folder for what the cases of one kind share, which `end` removes."""

        def make() -> Path:
            temporary = TemporaryDirectory(prefix=f"coffea-{name}-")
            return Path(self._folders.enter_context(temporary))

        return cast("Path", self.last("folder", name, make))

    def end(self) -> None:
        """End the executor and remove the folders."""
        self.close()
        self._last.pop("folder", None)
        self._folders.close()

    def executor(self, name: str, workers: int, variant: Variant = "") -> ExecutorBase:
        """An executor that is warm: the one of the case before, if it had the same."""
        from analysis.executors import open_executor

        def start() -> ExecutorBase:
            self.close()
            options = case_tasks.VARIANTS[variant]
            self.started.add(name)
            self._executors.enter_context(case_tasks.orphans_adopted())
            return self._executors.enter_context(open_executor(name, workers=workers, **options))

        return cast("ExecutorBase", self.last("executor", (name, workers, variant), start))

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


def _itself(result: Any) -> Any:
    return result


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
    before
        To be called before each `act`, if there is anything to do.
    after
        Takes back what `act` did, if that is needed; timed apart.
    content
        What of a result of `act` is compared and identified, where that is not all of it: what
        is in a file that it names. Not timed.
    """

    act: Callable[[], Any]
    want: Callable[[], Any]
    key: tuple[Any, ...]
    agree: Callable[[Any, Any], bool]
    identity: Input
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    content: Callable[[Any], Any] = _itself


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
    def cpu_clock(self) -> clocks.CpuClock:
        """Clock of the CPU time it takes."""
        return time.process_time

    @property
    def in_workers(self) -> bool:
        """Whether the work is done in other processes."""
        return False

    @property
    def undoing(self) -> What | None:
        """What a record says of `Ready.after`; None where there is none."""
        return None

    @property
    def from_nothing(self) -> bool:
        """Whether nothing must be warm, so that the first call is measured."""
        return False

    def rounds(self, scale: Scale) -> int | None:  # noqa: ARG002  (of other cases)
        """Number of samples, one call each and each checked; None to let the clock decide."""
        return None


class OnExecutor(Case):
    """One thing measured on an executor.

    Attributes
    ----------
    executor, workers, variant
        Which.
    """

    executor: str
    workers: int
    variant: Variant

    @property
    def on(self) -> str:
        """The executor in names: dask2, dask2-plain."""
        return f"{self.executor}{self.workers}{self.variant and f'-{self.variant}'}"

    @property
    def how(self) -> dict[str, str]:
        """What a record's parameters say of the executor."""
        return {"variant": self.variant} if self.variant else {}

    @property
    def in_workers(self) -> bool:
        """As `Case.in_workers`."""
        return self.executor != BASE

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """As `Case.cpu_clock`."""
        return clocks.cpu_of_tree if self.in_workers else time.process_time

    def rounds(self, scale: Scale) -> int | None:
        """As `Case.rounds`."""
        return scale.processor_rounds


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
class ProcessorCase(OnExecutor):
    """The ttbar processor over files, with an executor that is warm."""

    implementation: Implementation | Literal["idiomatic"]
    executor: str
    chunksize: int
    variations: Literal["all", "nominal"]
    size: int
    of: Source = "synthetic"
    workers: int = 1
    variant: Variant = ""

    @property
    def what(self) -> What:
        """As `Case.what`."""
        real = "-real" if self.of == "real" else ""
        return What(
            name=(
                f"ttbar_{self.variations}-{label(self.size)}-{self.on}"
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
            parameters={"variations": self.variations, "source": self.of, **self.how},
        )

    @property
    def source(self) -> Source:
        """As `Case.source`."""
        return self.of

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.executors import open_executor

        fileset, identity = self._fileset(inputs)

        def want() -> Any:
            # From local files, wherever the case itself reads them.
            with open_executor(BASE) as executor:
                return processor.process(
                    fileset,
                    executor,
                    implementation=another(self.implementation, self.size),
                    variations=self.variations,
                    chunksize=self.size,
                )()

        executor = inputs.executor(self.executor, self.workers, self.variant)
        with self._delivered(fileset) as delivered:
            yield Ready(
                act=processor.process(
                    delivered,
                    executor,
                    implementation=self.implementation,
                    variations=self.variations,
                    chunksize=self.chunksize,
                    deadly=self._deadly,
                    handler=self._handler,
                ),
                # One result serves all executors and chunk sizes, which must not change it.
                want=want,
                key=(self.variations, self.of, self.size),
                agree=difference.agree,
                identity=identity,
                before=self._before(executor),
            )

    @contextmanager
    def _delivered(self, fileset: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The file set as it is read, with all that serves its files."""
        yield fileset

    @property
    def _handler(self) -> type | None:
        """Source of uproot that files of servers are read with; None for the one that `run` has."""
        return None

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

    @property
    def _deadly(self) -> bool:
        return False

    def _before(self, executor: ExecutorBase) -> Callable[[], None] | None:  # noqa: ARG002
        return None

    def _called(self, name: str, group: str, **parameters: str | int | bool) -> What:
        """What `ProcessorCase.what` says, under another name and group."""
        what = ProcessorCase.what.fget(self)  # type: ignore[attr-defined]
        return cast(
            "What",
            what.model_copy(
                update={
                    "name": what.name.replace(f"ttbar_{self.variations}", name),
                    "group": group,
                    "parameters": what.parameters | parameters,
                }
            ),
        )


@dataclass(frozen=True)
class ScalingCase(ProcessorCase):
    """The processor by number of workers.

    The same events by more workers are strong scaling, as many more events weak scaling.
    """

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return self._called("scaling", "scaling")


@dataclass(frozen=True)
class FilesCase(ProcessorCase):
    """The processor over the same events in more files."""

    files: int = 1

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return self._called(f"files{self.files}", "number of files", files=self.files)

    def _fileset(self, inputs: Inputs) -> tuple[dict[str, Any], Input]:
        store = Store(inputs.store.directory, self.size // self.files)
        return store.fileset(self.size), inputs.store.events(self.size).identity


@dataclass(frozen=True)
class ReadingCase(ProcessorCase):
    """The processor over the same events, read from this machine or from a server at a distance.

    Attributes
    ----------
    route
        How they are read.
    milliseconds
        Latency, each way.
    handler
        What reads them.
    """

    route: reading.Route = "local"
    milliseconds: int = 0
    handler: reading.Handler = "default"

    @property
    def what(self) -> What:
        """As `Case.what`."""
        parts = ["read", self.route]
        if self.route in reading.SERVERS:
            parts.append(f"{self.milliseconds}ms")
        if self.handler != "default":
            parts.append(self.handler)
        return self._called(
            "_".join(parts),
            f"reading, {self.milliseconds} ms each way",
            route=self.route,
            milliseconds=self.milliseconds,
            handler=self.handler,
        )

    @contextmanager
    def _delivered(self, fileset: dict[str, Any]) -> Iterator[dict[str, Any]]:
        with reading.delivered(fileset, self.route, self.milliseconds / 1000) as reached:
            yield reached.fileset

    @property
    def _handler(self) -> type | None:
        return reading.source(self.handler, self.route)


@dataclass(frozen=True)
class RecoveryCase(ProcessorCase):
    """The processor where one worker is killed half-way, and where none is.

    The first takes longer by what it costs to notice, to start another worker and to process
    again what was lost.
    """

    killed: bool = False

    @property
    def what(self) -> What:
        """As `Case.what`."""
        name = "one_killed" if self.killed else "none_killed"
        return self._called(name, "one worker killed", killed=self.killed)

    @property
    def from_nothing(self) -> bool:
        """As `Case.from_nothing`: other cases have warmed the workers, and each run takes some."""
        return self.killed

    @property
    def _deadly(self) -> bool:
        return self.killed

    def _before(self, executor: ExecutorBase) -> Callable[[], None]:
        def wait() -> None:
            # Whoever was killed in the round before must have a successor.
            case_tasks.require(executor, self.workers)

        return wait


@dataclass(frozen=True)
class StartCase(OnExecutor):
    """Start of an executor until each worker did a task; apart from that, its end."""

    executor: str
    workers: int
    variant: Variant = ""
    process: Literal["cold", "warm"] = "warm"
    """Cold is a new process, as a user's script, which has to import everything first."""

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return self._what("start")

    @property
    def undoing(self) -> What:
        """As `Case.undoing`."""
        return self._what("end")

    def _what(self, which: str) -> What:
        return What(
            name=f"{which}-{self.process}-{self.on}",
            group=f"executor {which}",
            kind="executor",
            subject=self.executor,
            executor=self.executor,
            workers=self.workers,
            size=0,
            parameters={"process": self.process, **self.how},
        )

    @property
    def in_workers(self) -> bool:
        """As `Case.in_workers`: workers come and go, there is nothing to warm."""
        return False

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """As `Case.cpu_clock`."""
        return clocks.cpu_of_tree

    @property
    def from_nothing(self) -> bool:
        """As `Case.from_nothing`: each start is one."""
        return True

    def rounds(self, scale: Scale) -> int | None:
        """As `Case.rounds`."""
        return scale.start_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        inputs.close()
        kind = case_tasks.FreshStart if self.process == "cold" else case_tasks.Start
        one = kind(self.executor, self.workers, self.variant)
        if self.process == "warm" and self.executor not in inputs.started:
            one.start()
            one.close()
            inputs.started.add(self.executor)
        with case_tasks.orphans_adopted(), closing(one):
            yield Ready(
                act=one.start,
                want=lambda: self.workers,
                key=(self.executor, self.workers),
                agree=lambda got, want: bool(got == want),
                identity=IN_MEMORY,
                after=one.close,
            )


@dataclass(frozen=True)
class TasksCase(OnExecutor):
    """Tasks that do nothing."""

    executor: str
    workers: int
    variant: Variant
    tasks: int

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return What(
            name=f"empty-{label(self.tasks)}-{self.on}",
            group=f"{self.tasks:,} empty tasks",
            kind="executor",
            subject=self.executor,
            executor=self.executor,
            workers=self.workers,
            size=0,
            parameters={"tasks": self.tasks, **self.how},
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        executor = inputs.executor(self.executor, self.workers, self.variant)
        make = self._make()
        meet = partial(case_tasks.require, executor, self.workers, partial(make(), 0))
        meet()
        yield Ready(
            act=case_tasks.calls(executor, self.tasks, make),
            want=lambda: make().expected(self.tasks),
            key=self._key,
            agree=case_tasks.same,
            identity=IN_MEMORY,
        )

    @property
    def _key(self) -> tuple[Any, ...]:
        return (self.tasks,)

    def _make(self) -> Callable[[], case_tasks.Empty]:
        return case_tasks.Empty


@dataclass(frozen=True)
class MergeCase(TasksCase):
    """Tasks that return a histogram that is there already, to be merged."""

    histogram_bytes: int = 1_024
    contents: Contents = "random"

    @property
    def what(self) -> What:
        """As `Case.what`."""
        size = data_size(self.histogram_bytes)
        return What(
            name=f"merge-{label(self.tasks)}x{size.replace(' ', '')}-{self.contents}-{self.on}",
            group=f"merging {self.tasks} x {size}",
            kind="executor",
            subject=self.executor,
            executor=self.executor,
            workers=self.workers,
            size=0,
            parameters={
                "tasks": self.tasks,
                "bytes": self.histogram_bytes,
                "contents": self.contents,
                **self.how,
            },
        )

    @property
    def _key(self) -> tuple[Any, ...]:
        return (self.tasks, self.histogram_bytes, self.contents)

    def _make(self) -> Callable[[], case_tasks.Empty]:
        return partial(case_tasks.Returning, size=self.histogram_bytes, contents=self.contents)


@dataclass(frozen=True)
class DeliveryCase(Case):
    """A file set delivered by a local ServiceX that runs already, nothing in any cache."""

    query: delivery.Query
    data_format: str
    size: int
    workers: int = WORKERS

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return What(
            name=f"deliver-{label(self.size)}-{self.query}-{self.data_format}",
            group="delivery",
            kind="delivery",
            subject="ttbar",
            workers=self.workers,
            size=self.size,
            parameters={"query": self.query, "format": self.data_format},
        )

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """As `Case.cpu_clock`."""
        return clocks.cpu_of_tree

    @property
    def from_nothing(self) -> bool:
        """As `Case.from_nothing`: what was delivered before must not be there."""
        return True

    def rounds(self, scale: Scale) -> int | None:
        """As `Case.rounds`."""
        return scale.processor_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        inputs.close()
        fileset = inputs.store.fileset(self.size)
        how = (fileset, self.query, self.data_format, self.workers)
        with case_tasks.orphans_adopted(), delivery.ready(*how) as (act, forget):
            act()  # The worker processes import what they need.
            yield Ready(
                act=act,
                want=lambda: delivery.wanted(fileset),
                key=("delivery", self.size),
                agree=delivery.agree,
                identity=inputs.store.fileset_identity(self.size),
                before=forget,
                content=delivery.event_numbers,
            )


@dataclass(frozen=True)
class WholeCase(Case):
    """A stage of the whole analysis, from files to pictures, as `python -m analysis all` does it.

    Attributes
    ----------
    stage
        Which; those before it are done.
    events
        Of each sample.
    workers
        Of the executor and of the delivery.
    """

    stage: workflow.StageName
    events: int
    workers: int = WORKERS

    @property
    def what(self) -> What:
        """As `Case.what`."""
        return What(
            name=f"whole-{label(self.events)}-{self.stage}",
            group="whole analysis",
            kind="whole",
            subject=self.stage,
            workers=self.workers,
            size=self.events,
        )

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """As `Case.cpu_clock`."""
        return clocks.cpu_of_tree

    @property
    def from_nothing(self) -> bool:
        """As `Case.from_nothing`: it is begun once, by a command."""
        return True

    def rounds(self, scale: Scale) -> int | None:
        """As `Case.rounds`."""
        return scale.start_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        inputs.close()
        with (
            case_tasks.orphans_adopted(),
        ):
            # The cases before this one did some of the stages, which are not done again.
            analysis, stage = workflow.advanced(
                self.stage, inputs.folder(f"whole-{self.events}"), self.events, self.workers
            )
            yield Ready(
                act=stage.act,
                want=partial(workflow.wanted, self.stage, analysis),
                key=("whole", self.stage, self.events),
                agree=partial(workflow.agree, self.stage),
                identity=Input(
                    digest=difference.digest([analysis.seed, self.events]),
                    events=0,
                    source="synthetic",
                ),
                before=partial(workflow.forget, analysis) if self.stage == "delivery" else None,
                content=partial(workflow.content, self.stage, analysis),
            )


@dataclass(frozen=True)
class InferenceCase(Case):
    """A task of statistics, with a backend and an optimiser of pyhf's."""

    task: InferenceTask
    backend: Backend
    optimizer: Optimizer
    of: Source = "synthetic"
    process: Literal["cold", "warm"] = "warm"
    """Cold is a new process: imports, model and fit, with all that JAX compiles."""

    @property
    def what(self) -> What:
        """As `Case.what`."""
        real = "-real" if self.of == "real" else ""
        return What(
            name=f"{self.task}-{self.process}-{self.backend}-{self.optimizer}{real}",
            group=f"inference: {self.task}",
            kind="inference",
            subject=self.task,
            size=0,
            parameters={
                "backend": self.backend,
                "optimizer": self.optimizer,
                "process": self.process,
                "source": self.of,
            },
        )

    @property
    def source(self) -> Source:
        """As `Case.source`."""
        return self.of

    @property
    def from_nothing(self) -> bool:
        """As `Case.from_nothing`."""
        return self.process == "cold"

    @property
    def cpu_clock(self) -> clocks.CpuClock:
        """As `Case.cpu_clock`."""
        return clocks.cpu_of_tree if self.process == "cold" else time.process_time

    def rounds(self, scale: Scale) -> int | None:
        """As `Case.rounds`: each result is compared, and most take seconds."""
        return scale.start_rounds if self.process == "cold" else scale.processor_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """As `Case.open`."""
        from analysis.inference import build, open_backend

        if self.of == "real":
            assert inputs.real is not None
            templates = inputs.last("templates", "", partial(inference.published, inputs.real))
        else:
            templates = inference.made()
        signal = inference.TESTED_SIGNAL if self.task in {"hypotest", "limit"} else "ttbar"
        with open_backend(self.backend, self.optimizer):
            # JAX compiles for each model: cases that share one follow each other.
            model = inputs.last(
                "model",
                (self.backend, self.optimizer, self.of, signal),
                lambda: build(templates, signal),
            )
            acts: dict[str, Callable[[], float]] = {
                "build": lambda: inference.likelihood(build(templates)),
                "fit": partial(inference.minimum, model),
                "hypotest": partial(inference.cls, model),
                "limit": partial(inference.observed_limit, model),
            }
            act = acts[self.task]
            if self.process == "cold":
                act = inference.in_new_process(self.backend, self.optimizer)
            yield Ready(
                act=act,
                want=partial(inference.expected, self.task, templates),
                key=(self.task, self.of),
                agree=inference.AGREE[self.task],
                identity=inference.identity(templates),
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
        The content of the result.

    Raises
    ------
    DisagreementError
        If they differ.
    """
    if ready.before:
        ready.before()
    got = ready.act()
    if ready.after:
        ready.after()
    return compare(case, ready, inputs, got)


def compare(case: Case, ready: Ready, inputs: Inputs, result: Any) -> Any:
    """Compare a result of a case with that of another implementation, as `checked`."""
    got = ready.content(result)
    what = case.what
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

    And the analysis as published, which is what the kernels are an improvement on, and coffea's
    own executors, which are what ours are.

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
        for executor, workers in ((BASE, 1), *((name, WORKERS) for name in POOLS))
        for variations in (both if executor in {BASE, "futures"} else both[:1])
        for chunksize in (scale.chunksizes if variations == "nominal" else scale.chunksizes[-1:])
        for implementation in VECTORISED
    ]
    plain = [
        ProcessorCase(
            "columnar",
            executor,
            scale.chunksizes[-1],
            "nominal",
            scale.processor_events,
            workers=WORKERS,
            variant="plain",
        )
        for executor in MAX_PLAIN_TASKS
    ]
    idiomatic = [
        ProcessorCase(processor.IDIOMATIC, BASE, chunksize, "nominal", scale.processor_events)
        for chunksize in scale.chunksizes
    ]
    real = [
        ProcessorCase(implementation, BASE, REAL_EVENTS, variations, REAL_EVENTS, "real")
        for variations in both
        for implementation in implementations(REAL_EVENTS)
    ]
    return [*real, *idiomatic, *synthetic, *plain]


def starts(scale: Scale) -> list[StartCase]:  # noqa: ARG001  (one signature for all)
    """Start of each executor that has something to start, warm after cold."""
    return [
        StartCase(executor, WORKERS, process=process)
        for executor in POOLS
        for process in cast("tuple[Literal['cold', 'warm'], ...]", ("cold", "warm"))
    ]


def tasks(scale: Scale) -> list[TasksCase]:
    """Tasks on every executor that do nothing, or return a histogram."""
    everywhere: tuple[tuple[str, int, Variant], ...] = (
        (BASE, 1, ""),
        *((name, WORKERS, "") for name in POOLS),
        ("futures", WORKERS, "threads"),
    )
    found: list[TasksCase] = []
    for one in everywhere:
        found += [TasksCase(*one, number) for number in scale.tasks]
        found += [
            MergeCase(*one, number, size, contents) for size, number, contents in scale.merged
        ]
    found += [
        TasksCase(name, WORKERS, "plain", number)
        for name, most in MAX_PLAIN_TASKS.items()
        for number in scale.tasks
        if number <= most
    ]
    return found


def scalings(scale: Scale) -> list[ScalingCase]:
    """The processor by number of workers, up to one a core: the same events, and more."""
    cores = clocks.machine().cores or 1
    numbers = [n for i in range(cores.bit_length()) if (n := 2**i) >= scale.fewest_workers]
    each = scale.processor_events // WORKERS
    return [
        ScalingCase("columnar", name, scale.chunksizes[0], "nominal", size, workers=workers)
        for name in POOLS
        for workers in numbers
        for size in sorted({each * WORKERS, each * workers})
    ]


def many_files(scale: Scale) -> list[FilesCase]:
    """The processor on every executor by number of files."""
    return [
        FilesCase(
            "columnar",
            name,
            scale.chunksizes[-1],
            "nominal",
            scale.files_events,
            workers=workers,
            files=files,
        )
        for name, workers in ((BASE, 1), *((name, WORKERS) for name in POOLS))
        for files in scale.files
    ]


def readings(scale: Scale) -> list[ReadingCase]:
    """The processor by how its files are read, and by latency; the rest with the largest chunks.

    One process, so that no chunk is waited for while another is processed.
    """
    largest = scale.chunksizes[-1]
    here: tuple[reading.Route, ...] = ("local", "servicex")
    everything: list[tuple[reading.Route, int, reading.Handler, int]] = [
        (route, 0, "default", chunksize) for route in here for chunksize in scale.chunksizes
    ]
    everything += [
        (route, milliseconds, handler, chunksize)
        for milliseconds in DELAYS
        for route in reading.SERVERS
        for handler in reading.HANDLERS
        for chunksize in scale.chunksizes
        if handler == "default" or chunksize == largest
    ]
    return [
        ReadingCase(
            "columnar",
            BASE,
            chunksize,
            "nominal",
            scale.processor_events,
            route=route,
            milliseconds=milliseconds,
            handler=handler,
        )
        for route, milliseconds, handler, chunksize in everything
    ]


def recoveries(scale: Scale) -> list[RecoveryCase]:
    """The processor with and without the loss of a worker."""
    return [
        RecoveryCase(
            "columnar",
            name,
            scale.chunksizes[0],
            "nominal",
            scale.processor_events,
            workers=WORKERS,
            killed=killed,
        )
        for name in POOLS
        for killed in (False, True)
    ]


def deliveries(scale: Scale) -> list[DeliveryCase]:
    """Both kinds of query, and the formats that a selection of events is delivered in."""
    return [
        DeliveryCase("uproot-raw", "parquet", scale.processor_events),
        DeliveryCase("uproot-raw", "root-ttree", scale.processor_events),
        DeliveryCase("func-adl", "parquet", scale.processor_events),
    ]


def wholes(scale: Scale) -> list[WholeCase]:
    """Each stage of the whole analysis, in their order."""
    return [WholeCase(stage, scale.whole_events) for stage in workflow.STAGES]


def inferences(scale: Scale) -> list[InferenceCase]:
    """Every task with every backend and optimiser; fits cold as well, and of published histograms.

    With the slower optimisers a limit takes minutes, a test tens of seconds.
    """
    from analysis.inference.backends import OPTIMIZERS

    pairs = [(backend, one) for backend, found in OPTIMIZERS.items() for one in found]
    ours = [(backend, found[0]) for backend, found in OPTIMIZERS.items()]
    return [
        *(InferenceCase("build", *pair) for pair in ours),
        *(InferenceCase("fit", *pair, process="cold") for pair in pairs),
        *(InferenceCase("fit", *pair, of) for of in get_args(Source) for pair in pairs),
        *(
            InferenceCase(task, *pair)
            for pair in pairs
            for task in cast("tuple[InferenceTask, ...]", ("hypotest", "limit"))
            if pair in ours or task in scale.slow_tests
        ),
    ]


def on_executors(scale: Scale) -> list[OnExecutor]:
    """Every case that needs workers, and what it is compared with; by executor.

    Cases that can share an executor follow each other: starting one takes seconds.
    """
    found = [
        *(case for case in processors(scale) if case.in_workers),
        *starts(scale),
        *tasks(scale),
        *scalings(scale),
        *many_files(scale),
        *recoveries(scale),
    ]
    order = [BASE, *POOLS]
    return sorted(
        found,
        key=lambda case: (
            order.index(case.executor),
            # Starts last: they end what they find open, and are warm by then.
            isinstance(case, StartCase),
            case.workers,
            case.variant,
        ),
    )


def everything(scale: Scale) -> list[Case]:
    """Every case of a scale."""
    return [
        *kernels(scale),
        *queries(scale),
        *(case for case in processors(scale) if not case.in_workers),
        *readings(scale),
        *inferences(scale),
        *on_executors(scale),
        *deliveries(scale),
        *wholes(scale),
    ]
