"""Cases of what executors cost beside the work: start, end, empty tasks, merging of results."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from perf.cases import tasks as task_functions
from perf.cases.case import EXECUTORS, IN_MEMORY, POOLS, WORKERS, OnExecutor, Ready
from perf.records.format import data_size, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perf.cases.case import Inputs
    from perf.cases.scales import Scale
    from perf.cases.tasks import Contents, Empty, Variant
    from perf.records.record_file import What

MAX_PLAIN_TASKS: Final = {"dask": 1_000, "spark": 10}
"""Most tasks given to coffea's own executors, by those that are measured. A task of coffea's
SparkExecutor takes more than 0.1 s, a call of its FuturesExecutor seconds (it makes a new pool)."""


@dataclass(frozen=True, kw_only=True)
class StartCase(OnExecutor):
    """Start of an executor until each worker did a task; its end is a record of its own."""

    process: Literal["cold", "warm"] = "warm"
    """Cold is a new process, as of a user's script, which has to import everything first."""

    in_workers = True
    cold = True

    @property
    def what(self) -> What:
        """Its start."""
        return self._what("start")

    @property
    def teardown_record(self) -> What:
        """Its end."""
        return self._what("end")

    def _what(self, which: str) -> What:
        return self.overhead(
            f"{which}-{self.process}-{self.on}", f"executor {which}", process=self.process
        )

    def rounds(self, scale: Scale) -> int | None:
        """A start takes seconds."""
        return scale.start_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """End the executor of the case before; where it must be warm, start it once before."""
        inputs.close_executor()
        kind = task_functions.FreshStart if self.process == "cold" else task_functions.Start
        start = kind(self.executor, self.workers, self.variant)
        if self.process == "warm" and self.executor not in inputs.started:
            start.start()
            start.close()
            inputs.started.add(self.executor)
        with task_functions.orphans_adopted(), closing(start):
            yield Ready(
                run=start.start,
                expected=lambda: self.workers,
                result_key=(self.executor, self.workers),
                compare=lambda result, expected: bool(result == expected),
                identity=IN_MEMORY,
                teardown=start.close,
            )


@dataclass(frozen=True, kw_only=True)
class TasksCase(OnExecutor):
    """Tasks that do nothing."""

    tasks: int

    @property
    def what(self) -> What:
        """Named by the number of tasks."""
        return self.overhead(
            f"empty-{label(self.tasks)}-{self.on}",
            f"{self.tasks:,} empty tasks",
            tasks=self.tasks,
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Start the executor; each worker runs one of the tasks."""
        executor = inputs.executor(self.executor, self.workers, self.variant)
        make = self._task()
        task_functions.wait_for_workers(executor, self.workers, partial(make(), 0))
        yield Ready(
            run=task_functions.calls(executor, self.tasks, make),
            expected=lambda: make().expected(self.tasks),
            result_key=self._result_key,
            compare=task_functions.same,
            identity=IN_MEMORY,
        )

    @property
    def _result_key(self) -> tuple[Any, ...]:
        return (self.tasks,)

    def _task(self) -> Callable[[], Empty]:
        return task_functions.Empty


@dataclass(frozen=True, kw_only=True)
class MergeCase(TasksCase):
    """Tasks that return a histogram that exists already, to be merged."""

    histogram_bytes: int = 1_024
    contents: Contents = "random"

    @property
    def what(self) -> What:
        """Named by number and size of the histograms."""
        size = data_size(self.histogram_bytes)
        return self.overhead(
            f"merge-{label(self.tasks)}x{size.replace(' ', '')}-{self.contents}-{self.on}",
            f"merging {self.tasks} x {size}",
            tasks=self.tasks,
            bytes=self.histogram_bytes,
            contents=self.contents,
        )

    @property
    def _result_key(self) -> tuple[Any, ...]:
        return (self.tasks, self.histogram_bytes, self.contents)

    def _task(self) -> Callable[[], Empty]:
        return partial(task_functions.Returning, size=self.histogram_bytes, contents=self.contents)


def plain_executors(scale: Scale) -> list[str]:
    """Coffea's own executors that are measured."""
    return list(MAX_PLAIN_TASKS) if scale.details else []


def starts(scale: Scale) -> list[StartCase]:
    """Start of each executor that has workers, warm after cold."""
    processes: tuple[Literal["cold", "warm"], ...] = ("cold", "warm")
    if not scale.details:
        processes = ("warm",)
    return [
        StartCase(executor, WORKERS, process=process)
        for executor in POOLS
        for process in processes
    ]


def tasks(scale: Scale) -> list[TasksCase]:
    """Tasks on every executor that do nothing, or return a histogram."""
    cases: list[TasksCase] = []
    executors: list[tuple[str, int, Variant]] = [(*each, "") for each in EXECUTORS]
    for executor in (*executors, ("futures", WORKERS, "threads")):
        cases += [TasksCase(*executor, tasks=number) for number in scale.tasks]
        cases += [
            MergeCase(*executor, tasks=number, histogram_bytes=size, contents=contents)
            for size, number, contents in scale.merged
        ]
    cases += [
        TasksCase(name, WORKERS, "plain", tasks=number)
        for name in plain_executors(scale)
        for number in scale.tasks
        if number <= MAX_PLAIN_TASKS[name]
    ]
    return cases
