"""What Dask's scheduler costs a task, at numbers of workers that no one machine has.

The scheduler is the real one, alone in a process, so that its CPU time is measured alone. The
workers are simulated, all of them in a second process (`perf.scaling.simulated_workers`). The
client is this process. It submits what coffea's DaskExecutor submits: a task that holds the
processor, one task a chunk that depends on it, and a tree of reductions.

What is left out makes a scheduler slower, not faster: dashboard, TLS, a network between machines.

What a task costs depends on how many messages the scheduler finds when it looks. Tasks of no
duration (`task_seconds` 0) come back in twos, because a worker of one thread is sent two; tasks
that take time come back one by one, which is what an analysis does and costs about twice as
much; and a scheduler that has time to spare pays for being woken too. The cost that limits a
cluster is that of a busy scheduler: `saturating` gives the duration of tasks that keeps it so.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import resource
import time
import warnings
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import distributed
import psutil

from analysis.errors import InputError
from perf.measure import memory
from perf.measure.fresh_process import (
    Process,
    ProcessError,
    ProcessTimeoutError,
    answers,
    python_call,
)
from perf.scaling.simulated_workers import Job, end_with_parent, enter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAN_IN: Final = 16
"""Results that one task of the reduction adds up."""

TIMEOUT: Final = 300.0
"""Seconds for one load, processes and warming up included."""

IDLE_SECONDS: Final = 2.0
"""How long the scheduler is watched without tasks: 2 ms of CPU are 0.1 % of it."""

DEMAND: Final = 2_000.0
"""Tasks a second, of some duration, with which the scheduler does not keep up: it did 1,100 to
1,400 where this was measured, and had work for 75 to 90 % of the time."""

PROCESSOR_BYTES: Final = 20_000
"""Size of the processor, which travels once."""

WARM_TASKS: Final = 100
"""Submitted before the clock starts: the scheduler imports and compiles what it needs."""

POLL_SECONDS: Final = 0.005
"""Between two looks whether the work is done: the resolution of the wall time."""

SPARE_FILES: Final = 200
"""Open files of a process besides the connections."""


@dataclass(frozen=True)
class Load:
    """What one load cost, on simulated workers of one thread each."""

    workers: int
    tasks: int
    """Tasks of the map: one a chunk, or one a batch of chunks."""
    submitted: int
    """These, the task that holds the processor, and the reduction: so many the scheduler saw
    finish."""
    task_seconds: float
    """Mean duration of a task of the map."""
    wall_seconds: float
    """From the first submission to the arrival of the result."""
    scheduler_cpu_seconds: float
    client_cpu_seconds: float
    workers_cpu_seconds: float
    """CPU time of the three processes meanwhile."""
    scheduler_waited_seconds: float
    """How long the scheduler had work and no core; 0 where the system does not say."""
    idle_share: float
    """Cores that the scheduler uses while the workers only send heartbeats; 0 if not measured."""
    scheduler_peak_memory: int | None
    """Largest resident memory of the scheduler's process in bytes; None where it is not known."""

    @property
    def task_rate(self) -> float:
        """Tasks of the map a second."""
        return self.tasks / self.wall_seconds

    @property
    def scheduler_share(self) -> float:
        """Cores that the scheduler used."""
        return self.scheduler_cpu_seconds / self.wall_seconds

    @property
    def busy_share(self) -> float:
        """Share of the time in which the scheduler had work: near 1 it limited the rate.

        Whether it had a core for it or not, so that other programs do not make it look idle.
        """
        return (self.scheduler_cpu_seconds + self.scheduler_waited_seconds) / self.wall_seconds

    @property
    def cpu_per_task(self) -> float:
        """CPU seconds of the scheduler a task of the map, its share of the reduction included.

        Without what the scheduler uses when it has no tasks.
        """
        busy = self.scheduler_cpu_seconds - self.idle_share * self.wall_seconds
        return max(busy, 0.0) / self.tasks


def saturating(workers: int) -> float:
    """Duration of a task in seconds with which so many workers keep a scheduler busy."""
    return workers / DEMAND


def measure_load(
    workers: int,
    tasks: int,
    *,
    task_seconds: float = 0.0,
    reduction: int | None = FAN_IN,
    seed: int,
    idle_seconds: float = IDLE_SECONDS,
    timeout: float = TIMEOUT,
    silent: int = 0,
) -> Load:
    """Put a load on a scheduler of its own, which must see every task finish once.

    Each task takes half to one and a half of `task_seconds`: if all took the same, all answers
    would come at once. One task of the reduction adds up so many results, None for no reduction.
    The scheduler is watched without tasks for `idle_seconds` afterwards. So many workers are
    `silent`: they take tasks and never answer. Everything must be done within `timeout` seconds.

    Raises
    ------
    InputError
        If a number makes no sense, a process ends by itself, or the time is up.
    """
    _check(workers, tasks, task_seconds, reduction, silent)
    deadline = time.monotonic() + timeout
    late = (
        f"the scheduler did not finish {tasks:,} tasks on {workers:,} workers within {timeout:g} s: "
        "ask for fewer tasks, or allow more time"
    )
    try:
        with (
            Process(python_call("perf.scaling.scheduler_load.serve_scheduler")) as scheduler,
            Process(python_call("perf.scaling.simulated_workers.main")) as simulated,
        ):
            address = scheduler.answer(deadline - time.monotonic()).strip()
            simulated.ask(json.dumps(asdict(Job(address, workers, task_seconds, silent, seed))))
            simulated.answer(deadline - time.monotonic())
            with distributed.Client(address, set_as_default=False) as client:
                run = _Run(client, scheduler, simulated, deadline, late)
                return run.measure(workers, tasks, task_seconds, reduction, idle_seconds)
    except ProcessTimeoutError:
        raise InputError(late) from None
    except ProcessError as error:
        msg = f"a process of the load ended by itself ({error}): measure again"
        raise InputError(msg) from None
    except (OSError, TimeoutError) as error:
        msg = f"the connection to the scheduler was lost ({error}): measure again"
        raise InputError(msg) from error


def _check(
    workers: int, tasks: int, task_seconds: float, reduction: int | None, silent: int
) -> None:
    if workers < 1 or tasks < 1:
        msg = f"{tasks} tasks on {workers} workers are no load: give at least one of each"
        raise InputError(msg)
    if not (math.isfinite(task_seconds) and task_seconds >= 0):
        msg = f"a task cannot take {task_seconds} s: give 0 or more"
        raise InputError(msg)
    if reduction is not None and reduction < 2:
        msg = f"a reduction of {reduction} never ends: give 2 or more"
        raise InputError(msg)
    if not 0 <= silent <= workers:
        msg = f"{silent} of {workers} workers cannot be silent: give 0 to {workers}"
        raise InputError(msg)
    # Two connections a worker, for messages and for heartbeats, as of a real one.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and 2 * workers + SPARE_FILES > hard:
        msg = (
            f"{workers:,} workers need {2 * workers + SPARE_FILES:,} open files and the system "
            f"allows {hard:,}: raise `ulimit -n`, or take fewer workers"
        )
        raise InputError(msg)


# --- this process: the client


@dataclass(frozen=True)
class _Run:
    """The client with the processes that it needs."""

    client: Any
    scheduler: Process
    simulated: Process
    deadline: float
    late: str

    def measure(
        self,
        workers: int,
        tasks: int,
        task_seconds: float,
        reduction: int | None,
        idle_seconds: float,
    ) -> Load:
        self.finish(_submit(self.client, _warm_chunk, _warm_merge, WARM_TASKS, FAN_IN)[0])

        others, before = _cpu(self.simulated), self.look()
        client, begin = time.process_time(), time.perf_counter()
        work, submitted = _submit(self.client, _chunk, _merge, tasks, reduction)
        self.finish(work)
        wall, client = time.perf_counter() - begin, time.process_time() - client
        after = self.look()
        others = _cpu(self.simulated) - others
        finished = after.finished - before.finished
        if finished != submitted:
            msg = (
                f"the scheduler saw {finished:,} tasks finish where {submitted:,} were "
                "submitted, so the load means nothing: measure again"
            )
            raise InputError(msg)
        peak = memory.peak_memory(self.scheduler.pid)
        # What the scheduler forgets after the last task is of the tasks, not of idleness.
        del work
        idle = self.idle(idle_seconds) if idle_seconds > 0 else 0.0
        return Load(
            workers=workers,
            tasks=tasks,
            submitted=submitted,
            task_seconds=task_seconds,
            wall_seconds=wall,
            scheduler_cpu_seconds=after.cpu - before.cpu,
            client_cpu_seconds=client,
            workers_cpu_seconds=others,
            scheduler_waited_seconds=after.waited - before.waited,
            idle_share=idle,
            scheduler_peak_memory=peak,
        )

    def look(self) -> _Snapshot:
        """What the scheduler has used and done so far."""
        found: _Snapshot = self.client.run_on_scheduler(_snapshot)
        return found

    def idle(self, seconds: float) -> float:
        time.sleep(min(seconds, 0.5))
        before, begin = self.look(), time.perf_counter()
        time.sleep(seconds)
        return (self.look().cpu - before.cpu) / (time.perf_counter() - begin)

    def finish(self, work: Sequence[Any]) -> None:
        """Wait until all is done."""
        pending = list(work)
        while pending:
            if pending[-1].done():
                status = pending.pop().status
                if status != "finished":
                    msg = f"the scheduler gave a task up ({status}): measure again"
                    raise InputError(msg)
            elif time.monotonic() > self.deadline:
                raise InputError(self.late)
            else:
                self.scheduler.check()
                self.simulated.check()
                time.sleep(POLL_SECONDS)


def _submit(
    client: Any,
    chunk: Callable[[Any], Any],
    merge: Callable[[Any], Any],
    tasks: int,
    reduction: int | None,
) -> tuple[list[Any], int]:
    """Submit as coffea's DaskExecutor does; futures to wait for, and number of tasks."""
    holder = client.submit(_hold, bytes(PROCESSOR_BYTES), pure=False)
    items = [_item(number) for number in range(tasks)]
    submitted = 1 + tasks
    with warnings.catch_warnings():
        # A graph above 10 MB is what is measured here.
        warnings.filterwarnings("ignore", "Sending large graph")
        work = client.map(chunk, list(zip(items, repeat(holder))), retries=3)
        while reduction is not None and len(work) > 1:
            groups = [work[start : start + reduction] for start in range(0, len(work), reduction)]
            work = client.map(merge, groups, retries=3)
            submitted += len(work)
    return work, submitted


def _item(number: int) -> tuple[str, str, str, int, int, str]:
    """What describes a chunk, of the size of coffea's WorkItem."""
    file = f"root://eospublic.cern.ch//eos/store/ttbar/{number // 10:08d}.root"
    return "ttbar", file, "Events", number, number + 1, f"{number // 10:032x}"


def _cpu(process: Process) -> float:
    """CPU seconds of a process, in steps of 10 ms."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


# The functions that are never called: keys of tasks begin with their names.


def _hold(value: Any) -> Any:
    return value


def _chunk(value: Any) -> Any:
    return value


def _merge(value: Any) -> Any:
    return value


def _warm_chunk(value: Any) -> Any:
    return value


def _warm_merge(value: Any) -> Any:
    return value


# --- the scheduler's process


def serve_scheduler() -> None:
    """A scheduler on this machine, as `dask scheduler` starts it, until the parent ends."""
    enter()
    stream = answers()
    # As `dask scheduler` does: the collector then looks less often at hundreds of thousands of
    # objects that live long.
    gc.set_threshold(*(3 * one for one in gc.get_threshold()))

    async def serve() -> None:
        end_with_parent()
        async with distributed.Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            stream.write(f"{scheduler.address}\n")
            stream.flush()
            await asyncio.Event().wait()

    asyncio.run(serve())


@dataclass(frozen=True)
class _Snapshot:
    """What the scheduler has used in seconds, and how often a task finished."""

    cpu: float
    waited: float
    finished: int


def _snapshot(dask_scheduler: Any) -> _Snapshot:
    """Look at the scheduler; called in its process."""
    try:
        # Of the first thread, which is the scheduler's: time on a core, and waiting for one.
        waited = int(Path("/proc/self/schedstat").read_text().split()[1]) * 1e-9
    except OSError:
        waited = 0.0
    # The scheduler keeps these counts anyway, so that no plugin slows it down.
    prefixes = dask_scheduler.task_prefixes.values()
    finished = sum(one.state_counts["memory"] for one in prefixes)
    return _Snapshot(time.process_time(), waited, finished)
