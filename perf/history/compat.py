"""One interface to all releases of coffea from 0.7.22 to 2026.9.0.

Until 0.7.31 events are lazy (awkward 1), and a `Runner` maps a processor over chunks. From 2023.12
to 2025.3 events are dask-awkward arrays, of which `apply_to_fileset` builds a graph, and there is
no `Runner`. From 2025.7 on events are virtual arrays, the `Runner` is back, and the graph is an
option. A branch has `coffea.compute`, and no release. This module runs in the environments of all of
them, so it imports nothing of this project that is not as portable, and nothing that one lacks.
"""

from __future__ import annotations

import contextlib
import inspect
import pickle
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import coffea.processor
import hist
import numpy as np
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TREE: Final = "Events"
DATASET: Final = "events"

NanoAODSchema.warn_missing_crossrefs = False

VIRTUAL: Final = "virtual"
EAGER: Final = "eager"
DASK: Final = "dask"

OLD_AWKWARD: Final = int(ak.__version__.partition(".")[0]) < 2
HAS_RUNNER: Final = hasattr(coffea.processor, "Runner")

DASK_AWKWARD: Final = "dask-awkward"
"""Name of the way by `apply_to_fileset`, from 2023.12 on, beside those of executors."""

POOLS: Final = ("futures", "dask", "compute")
"""Executors that have workers."""


FAN_IN: Final = 4
"""Results that coffea.compute merges in one task, by default."""


class MissingError(Exception):
    """The installed version has no such thing; the message says what."""


# --- events


@cache
def modes() -> tuple[str, ...]:
    """Modes to open events that this version has, its default first."""
    if OLD_AWKWARD:
        # Columns are virtual arrays of awkward 1, read when they are used.
        return (VIRTUAL,)
    parameters = inspect.signature(NanoEventsFactory.from_root).parameters
    if "mode" not in parameters:
        return (DASK, EAGER)
    return (VIRTUAL, EAGER, *([DASK] if find_spec("dask_awkward") else []))


def open_events(path: str, mode: str, start: int | None = None, stop: int | None = None) -> Any:
    """NanoEvents of a NanoAOD file in one of `modes`; MissingError if this version lacks it.

    `start` and `stop` choose entries, but not in dask mode.
    """
    if mode not in modes():
        msg = f"events are not opened in {mode} mode in this version"
        raise MissingError(msg)
    options: dict[str, Any] = {"schemaclass": NanoAODSchema, "metadata": {"dataset": DATASET}}
    if start is not None:
        options |= {"entry_start": start, "entry_stop": stop}
    if OLD_AWKWARD:
        return NanoEventsFactory.from_root(path, treepath=TREE, **options).events()
    if "mode" in inspect.signature(NanoEventsFactory.from_root).parameters:
        options["mode"] = mode
    else:
        options["delayed"] = mode == DASK
    return NanoEventsFactory.from_root({path: TREE}, **options).events()


def is_delayed(events: Any) -> bool:
    """Whether operations on the events make a graph that must be computed."""
    return type(events).__module__.partition(".")[0] == "dask_awkward"


def compute(result: Any) -> Any:
    """Result of a graph, with one thread; anything else is returned as it is."""
    if not find_spec("dask"):
        return result
    import dask  # noqa: PLC0415  (not all versions depend on it)

    (done,) = dask.compute(result, scheduler="synchronous")
    return done


def materialised(column: Any) -> Any:
    """The numbers of a column, read and computed, in one flat numpy array."""
    return np.asarray(ak.to_numpy(ak.flatten(compute(column), axis=None)))


def number_of(events: Any) -> Any:
    """Number of events."""
    return ak.num(events, axis=0) if is_delayed(events) else len(events)


def count(mask: Any) -> Any:
    """Number of events that a mask keeps."""
    total = ak.sum(mask)
    return total if is_delayed(mask) else int(total)


def new_histogram(events: Any, *axes: Any, **options: Any) -> Any:
    """Histogram that can be filled with columns of these events."""
    if is_delayed(events):
        from hist.dask import Hist  # noqa: PLC0415  (as above)

        return Hist(*axes, **options)
    return hist.Hist(*axes, **options)


# --- processing


@dataclass(frozen=True)
class Sizes:
    """Sizes of what an executor moves."""

    tasks: int
    task_bytes: int
    """Of a pickled task, on average."""
    accumulator_bytes: int
    """Of the pickled results of all tasks together."""


def ways() -> tuple[str, ...]:
    """Ways to process a file set that this version has, the recommended one first."""
    delayed = (DASK_AWKWARD,) if DASK in modes() else ()
    if not HAS_RUNNER:
        return delayed
    here = {
        "futures": hasattr(coffea.processor, "FuturesExecutor"),
        "dask": hasattr(coffea.processor, "DaskExecutor") and find_spec("distributed"),
        "compute": find_spec("coffea.compute"),
    }
    return ("iterative", *(name for name in POOLS if here[name]), *delayed)


@dataclass
class Job:
    """A processor, a file and its chunks."""

    path: str
    processor: Any
    """Its result is a dict of histograms and numbers."""
    chunksize: int
    """Events of a chunk, about."""
    workers: int = 1
    """Processes, of ways that have any."""
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def prepare(self, way: str) -> Callable[[], dict[str, Any]]:
        """Start the workers, and return a function that processes the file once.

        MissingError if this version has no such way.
        """
        if way not in ways():
            msg = f"{way} is not among the ways of this version: {', '.join(ways())}"
            raise MissingError(msg)
        if way == DASK_AWKWARD:
            fileset = self._steps()
            return lambda: compute(self._graph(fileset))
        executor = self._executor(way)
        return lambda: self._run(executor)

    def close(self) -> None:
        """Stop the workers."""
        self._open.close()

    def sizes(self, way: str) -> Sizes:
        """Sizes of tasks and of their results."""
        import cloudpickle  # noqa: PLC0415  (as above)

        result = self.prepare(way)()
        accumulator = len(cloudpickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL))
        if way == DASK_AWKWARD:
            import dask  # noqa: PLC0415  (as above)

            # As it is sent to a scheduler: without unused columns, and with fused layers.
            (graph,) = dask.optimize(self._graph(self._steps()))
            tasks: dict[Any, Any] = {}
            for collection in _collections(graph):
                # Tasks in common are in the graph of each.
                tasks |= dict(collection.dask)
            total = len(cloudpickle.dumps(tasks, protocol=pickle.HIGHEST_PROTOCOL))
            return Sizes(len(tasks), round(total / len(tasks)), accumulator)
        sent: list[int] = []
        self._run(_spy(sent))
        return Sizes(len(sent), round(sum(sent) / len(sent)), accumulator)

    def _run(self, executor: Any) -> dict[str, Any]:
        runner = coffea.processor.Runner(
            executor=executor, schema=NanoAODSchema, chunksize=self.chunksize, savemetrics=False
        )
        result: dict[str, Any] = runner(
            {DATASET: [self.path]}, processor_instance=self.processor, treename=TREE
        )
        return result

    def _executor(self, way: str) -> Any:
        if way == "iterative":
            return coffea.processor.IterativeExecutor(status=False)
        if way == "futures":
            return coffea.processor.FuturesExecutor(workers=self.workers, status=False)
        if way == "compute":
            return self._computed()
        from distributed import Client, LocalCluster  # noqa: PLC0415  (as above)

        cluster = self._open.enter_context(
            LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
            )
        )
        client = self._open.enter_context(Client(cluster))
        client.wait_for_workers(self.workers)
        return coffea.processor.DaskExecutor(client=client, status=False)

    def _computed(self) -> Any:
        """An executor of coffea.compute."""
        from analysis.executors._computable import threads, total  # noqa: PLC0415  (as above)

        backend = self._open.enter_context(threads(self.workers))

        class Computed(coffea.processor.IterativeExecutor):
            def __call__(self, items: Sequence[Any], function: Any, accumulator: Any) -> Any:
                def add(one: Any, other: Any) -> Any:
                    return coffea.processor.accumulate([one, other])

                found = total(backend, function, list(items), add, FAN_IN)
                return coffea.processor.accumulate([found], accumulator), 0

        return Computed(status=False)

    def _steps(self) -> Any:
        """File set with its chunks."""
        from coffea.dataset_tools import preprocess  # noqa: PLC0415  (not in all versions)

        # Positional: the keyword has had two names.
        fileset = {DATASET: {"files": {self.path: TREE}}}
        available, _ = preprocess(fileset, self.chunksize)
        return available

    def _graph(self, fileset: Any) -> dict[str, Any]:
        from coffea.dataset_tools import apply_to_fileset  # noqa: PLC0415  (as above)

        made = apply_to_fileset(self.processor, fileset, schemaclass=NanoAODSchema)
        graph: dict[str, Any] = (made[0] if isinstance(made, tuple) else made)[DATASET]
        return graph


def _collections(graph: Any) -> Iterator[Any]:
    """The collections in a graph."""
    if isinstance(graph, dict):
        for part in graph.values():
            yield from _collections(part)
    elif hasattr(graph, "dask"):
        yield graph


def _spy(sent: list[int]) -> Any:
    """An iterative executor that notes the sizes of what it would send to workers."""
    import cloudpickle  # noqa: PLC0415  (as above)

    class Spy(coffea.processor.IterativeExecutor):
        def __call__(self, items: Sequence[Any], function: Any, accumulator: Any) -> Any:
            items = list(items)
            # The last call counts: the one before finds the number of events of each file.
            sent[:] = [
                len(cloudpickle.dumps((function, item), protocol=pickle.HIGHEST_PROTOCOL))
                for item in items
            ]
            return super().__call__(items, function, accumulator)

    return Spy(status=False)
