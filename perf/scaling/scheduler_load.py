"""What dask's scheduler costs a task, at numbers of workers that no one machine has.

The scheduler is the real one, alone in a process, so that its CPU time is measured alone. The
workers are simulated, all of them in a second process: each speaks the protocol of
`distributed.Worker` over connections of its own (register, heartbeats, compute-task, add-keys,
task-finished, free-keys, stealing, and messages sent at most every 2 ms), but computes nothing
and stores nothing. The client is this process. It submits what coffea's DaskExecutor submits: a
task that holds the processor, one task a chunk that depends on it, and a tree of reductions.

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
import heapq
import logging
import math
import multiprocessing
import os
import resource
import signal
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import distributed
import numpy as np
import psutil
from distributed.batched import BatchedSend
from distributed.comm import connect
from distributed.protocol.pickle import dumps
from distributed.scheduler import heartbeat_interval
from distributed.versions import get_versions

from analysis.errors import InputError
from perf.measure import clocks
from perf.scaling.laws import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from numpy.typing import NDArray
    from rich.table import Table

FAN_IN: Final = 16
"""Results that one task of the reduction adds up."""

TIMEOUT: Final = 300.0
"""Seconds for one load, processes and warming up included."""

IDLE_SECONDS: Final = 2.0
"""How long the scheduler is watched without tasks: 2 ms of CPU are 0.1 % of it."""

DEMAND: Final = 2_000.0
"""Tasks a second, of some duration, with which the scheduler does not keep up: it did 1,100 to
1,400 where this was measured, and had work for 75 to 90 % of the time."""

BUSY: Final = 0.5
"""Least share of the time in which the scheduler has work, in a load that is fitted. Below, more of
what is measured is the price of waking up for every message, which a busy one does not pay."""

CONFIDENCE: Final = 0.95
"""Of intervals."""

DRAWS: Final = 2_000
"""Of the parameters, for the interval of what follows from them."""

MOST_WORKERS: Final = 1e9
"""Where the search for a capacity ends."""

RESULT_BYTES: Final = 100_000
"""Size of a result as the simulated workers state it: histograms, compressed."""

PROCESSOR_BYTES: Final = 20_000
"""Size of the processor, which travels once."""

WARM_TASKS: Final = 100
"""Submitted before the clock starts: the scheduler imports and compiles what it needs."""

WARM_PREFIX: Final = "_warm"
"""Keys of tasks begin with the name of their function: these take no time."""

SEND_INTERVAL: Final = "2ms"
"""Of a real worker (`distributed.worker`)."""

POLL_SECONDS: Final = 0.005
"""Between two looks whether the work is done: the resolution of the wall time."""

SPARE_FILES: Final = 200
"""Open files of a process besides the connections."""


@dataclass(frozen=True)
class Load:
    """What one load cost.

    Attributes
    ----------
    workers
        Simulated workers, of one thread each.
    tasks
        Tasks of the map: one a chunk, or one a batch of chunks.
    submitted
        These, the task that holds the processor, and the reduction. The scheduler saw exactly
        so many finish.
    task_seconds
        Mean duration of a task of the map.
    wall_seconds
        From the first submission to the arrival of the result.
    scheduler_cpu_seconds, client_cpu_seconds, workers_cpu_seconds
        CPU time of the three processes meanwhile.
    scheduler_waited_seconds
        How long the scheduler had work and no core, because others had them; 0 where the system
        does not say.
    idle_share
        Cores that the scheduler uses while the workers have nothing to do but to send
        heartbeats; 0 if that was not measured.
    scheduler_peak_memory
        Largest resident memory of the scheduler's process in bytes; None where it is not known.
    """

    workers: int
    tasks: int
    submitted: int
    task_seconds: float
    wall_seconds: float
    scheduler_cpu_seconds: float
    client_cpu_seconds: float
    workers_cpu_seconds: float
    scheduler_waited_seconds: float
    idle_share: float
    scheduler_peak_memory: int | None

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
    """Put a load on a scheduler of its own.

    Parameters
    ----------
    workers
        Simulated workers, of one thread each.
    tasks
        Tasks of the map.
    task_seconds
        Mean duration of a task of the map. Each takes half to one and a half of it: if all took
        the same, all answers would come at once.
    reduction
        Results that one task of the reduction adds up; None for no reduction.
    seed
        Of the durations and of the moments of heartbeats.
    idle_seconds
        How long to watch the scheduler without tasks, afterwards; 0 for not at all.
    timeout
        Seconds for everything.
    silent
        So many of the workers take tasks and never answer.

    Returns
    -------
    Load
        Of a run in which the scheduler saw every task finish once.

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
            _process(_serve_scheduler) as scheduler,
            _process(_serve_workers) as simulated,
        ):
            address = scheduler.receive(deadline, late)
            simulated.connection.send(_Job(address, workers, task_seconds, silent, seed))
            simulated.receive(deadline, late)
            with distributed.Client(address, set_as_default=False) as client:
                run = _Run(client, scheduler, simulated, deadline, late)
                return run.measure(workers, tasks, task_seconds, reduction, idle_seconds)
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
    """A client with the processes that it needs."""

    client: Any
    scheduler: _Child
    simulated: _Child
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

        others, before = self.simulated.cpu(), self.look()
        client, begin = time.process_time(), time.perf_counter()
        work, submitted = _submit(self.client, _chunk, _merge, tasks, reduction)
        self.finish(work)
        wall, client = time.perf_counter() - begin, time.process_time() - client
        after = self.look()
        others = self.simulated.cpu() - others
        finished = after.finished - before.finished
        if finished != submitted:
            msg = (
                f"the scheduler saw {finished:,} tasks finish where {submitted:,} were "
                "submitted, so the load means nothing: measure again"
            )
            raise InputError(msg)
        peak = clocks.peak_memory(self.scheduler.process.pid)
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


# --- the other two processes


@dataclass(frozen=True)
class _Child:
    """A process, and a pipe to it whose end it takes for its own."""

    process: SpawnProcess
    connection: Connection

    def receive(self, deadline: float, late: str) -> Any:
        """What the process says; an exception if that is what it says."""
        if not self.connection.poll(max(0.0, deadline - time.monotonic())):
            raise InputError(late)
        try:
            said = self.connection.recv()
        except EOFError:
            said = RuntimeError("it was killed, or could not start")
        if isinstance(said, Exception):
            msg = f"a process of the load ended by itself ({said}): measure again"
            raise InputError(msg)
        return said

    def check(self) -> None:
        """Raise if the process has ended, or has something to say when nothing is expected."""
        if self.connection.poll():
            self.receive(0, "")

    def cpu(self) -> float:
        """CPU seconds of the process, in steps of 10 ms."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)


@contextmanager
def _process(target: Callable[..., None], *arguments: Any) -> Iterator[_Child]:
    """A process for as long as the context lasts, whatever ends it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=target, args=(theirs, *arguments), name=target.__name__, daemon=True
    )
    try:
        process.start()
        theirs.close()
        yield _Child(process, ours)
    finally:
        ours.close()
        if process.pid is not None:
            # Neither has anything to save, and a busy loop would answer late.
            process.kill()
            process.join()
        process.close()


def _enter() -> None:
    """Settle in as a child: no logs, no Ctrl-C of its own, as many files as may be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve_scheduler(connection: Connection) -> None:
    """A scheduler on this machine, as `dask scheduler` starts it, until the parent ends."""
    _enter()
    # As `dask scheduler` does: the collector then looks less often at hundreds of thousands of
    # objects that live long.
    gc.set_threshold(*(3 * one for one in gc.get_threshold()))

    async def serve() -> None:
        _end_with_parent(connection)
        async with distributed.Scheduler(
            host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
        ) as scheduler:
            connection.send(scheduler.address)
            await asyncio.Event().wait()

    asyncio.run(serve())


def _end_with_parent(connection: Connection) -> None:
    # The parent says nothing more: that something is to be read is that it has gone.
    asyncio.get_running_loop().add_reader(connection.fileno(), os._exit, 0)


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


@dataclass(frozen=True)
class _Job:
    """What the process of the simulated workers is to do."""

    address: str
    workers: int
    task_seconds: float
    silent: int
    seed: int


def _serve_workers(connection: Connection) -> None:
    """Simulated workers until the parent ends."""
    _enter()
    try:
        job: _Job = connection.recv()
    except EOFError:
        return

    async def serve() -> None:
        _end_with_parent(connection)
        rng = np.random.default_rng(job.seed)
        versions = get_versions()
        async with asyncio.TaskGroup() as group:
            for number in range(job.workers):
                worker = _Worker(job, number, rng)
                # One after the other: the scheduler accepts them one by one all the same.
                interval = await worker.register(versions)
                group.create_task(worker.listen())
                group.create_task(worker.beat(interval))
            connection.send(job.workers)

    try:
        asyncio.run(serve())
    except* Exception as group:  # noqa: BLE001  (the parent tells the user)
        connection.send(RuntimeError(f"simulated workers: {group.exceptions[0]!r}"))


class _Worker:
    """A worker of one thread as the scheduler sees it.

    Parameters
    ----------
    job
        Where the scheduler is, and how long tasks take.
    number
        Of the worker.
    rng
        Draws durations and the first heartbeat.
    """

    def __init__(self, job: _Job, number: int, rng: np.random.Generator) -> None:
        self._job = job
        self._number = number
        self._silent = number < job.silent
        self._rng = rng
        self._comm: Any = None
        self._stream: Any = None
        self._address = ""
        # Sent and not begun, by key; and the order of it, in which keys taken away remain.
        self._ready: dict[str, dict[str, Any]] = {}
        self._order: list[tuple[Any, str]] = []
        self._running: str | None = None
        self._held: set[str] = set()

    async def register(self, versions: dict[str, Any]) -> float:
        """Become known to the scheduler; seconds between heartbeats."""
        # A task is not unpacked: nobody will call it.
        self._comm = await connect(self._job.address, deserialize=False)
        # Unique, and nobody connects to it: results are never gathered.
        self._address = self._comm.local_address
        now = time.time()
        await self._comm.write(
            {
                "op": "register-worker",
                "reply": False,
                "address": self._address,
                "status": "running",
                "nthreads": 1,
                "name": f"simulated-{self._number}",
                "now": now,
                "resources": {},
                "memory_limit": 4 * 2**30,
                "local_directory": "",
                "services": {},
                "nanny": None,
                "pid": 0,
                "versions": versions,
                "metrics": _metrics(),
                "extra": {},
                "stimulus_id": f"worker-connect-{now}",
                "server_id": f"Worker-simulated-{self._number}",
            },
            serializers=["msgpack"],
        )
        answer = await self._comm.read()
        if answer["status"] != "OK":
            msg = f"refused by the scheduler: {answer}"
            raise RuntimeError(msg)
        self._stream = BatchedSend(interval=SEND_INTERVAL)
        self._stream.start(self._comm)
        return float(answer["heartbeat-interval"])

    async def beat(self, interval: float) -> None:
        """Send heartbeats as often as the scheduler wants them."""
        comm = await connect(self._job.address)
        await asyncio.sleep(self._rng.uniform(0, interval))
        while True:
            now = time.time()
            await comm.write(
                {
                    "op": "heartbeat_worker",
                    "reply": True,
                    "address": self._address,
                    "now": now,
                    "metrics": _metrics(),
                    "executing": {self._running: 0.0} if self._running else {},
                    "extensions": {"spans": {}, "shuffle": {}},
                },
                serializers=["msgpack"],
            )
            answer = await comm.read()
            await asyncio.sleep(answer["heartbeat-interval"])

    async def listen(self) -> None:
        """Do what the scheduler says."""
        while True:
            for message in await self._comm.read():
                match message["op"]:
                    case "compute-task":
                        self._accept(message)
                    case "free-keys" | "remove-replicas":
                        self._forget(message["keys"])
                    case "steal-request":
                        self._give(message["key"], message["stimulus_id"])
                    case operation:
                        msg = f"{operation} is not simulated"
                        raise RuntimeError(msg)

    def _send(self, operation: str, stimulus: str, **content: Any) -> None:
        self._stream.send({"op": operation, "stimulus_id": stimulus, **content})

    def _accept(self, task: dict[str, Any]) -> None:
        key = task["key"]
        warm = key.startswith(WARM_PREFIX)
        if self._silent and not warm:
            return
        # A worker fetches what it has not as soon as it knows of the task, and says so.
        missing = [one for one in task["who_has"] if one not in self._held]
        for one in missing:
            self._send("add-keys", f"gather-dep-success-{time.time()}", keys=[one])
        self._held.update(missing)
        if warm or self._job.task_seconds == 0:
            self._finish(task, time.time())
            return
        self._ready[key] = task
        heapq.heappush(self._order, (task["priority"], key))
        self._next()

    def _next(self) -> None:
        """Begin the task of the first priority, if none is running."""
        while self._running is None and self._order:
            _, key = heapq.heappop(self._order)
            task = self._ready.pop(key, None)
            if task is not None:
                self._running = key
                seconds = self._job.task_seconds * self._rng.uniform(0.5, 1.5)
                asyncio.get_running_loop().call_later(seconds, self._end, task, time.time())

    def _end(self, task: dict[str, Any], begin: float) -> None:
        self._running = None
        self._finish(task, begin)
        self._next()

    def _finish(self, task: dict[str, Any], begin: float) -> None:
        now = time.time()
        self._held.add(task["key"])
        self._send(
            "task-finished",
            f"task-finished-{now}",
            status="OK",
            key=task["key"],
            run_id=task["run_id"],
            nbytes=RESULT_BYTES,
            type=_TYPE,
            typename="dict",
            metadata={},
            thread=self._number,
            startstops=[{"action": "compute", "start": begin, "stop": now}],
        )

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._held.discard(key)
            self._ready.pop(key, None)

    def _give(self, key: str, stimulus: str) -> None:
        """Answer whether another worker may have a task: only if it has not begun."""
        state: str | None = None
        if self._ready.pop(key, None) is not None:
            state = "ready"
        elif key == self._running:
            state = "executing"
        elif key in self._held:
            state = "memory"
        self._send("steal-response", stimulus, key=key, state=state)


_TYPE: Final = dumps(dict)
"""The type of a result as a worker states it."""


def _metrics() -> dict[str, Any]:
    """What a worker says of itself in a heartbeat: entries of a real one's that is at work."""
    digests: dict[str | tuple[str, ...], float] = {"latency": 0.015, "tick-duration": 0.98}
    for activity in ("thread-cpu", "thread-noncpu", "executor", "other"):
        digests["execute", _chunk.__name__, activity, "seconds"] = 0.2
    for activity, unit in (
        ("memory-read", "count"),
        ("memory-read", "bytes"),
        ("serialize", "seconds"),
        ("compress", "seconds"),
        ("network", "seconds"),
    ):
        digests["get-data", activity, unit] = 0.2
    transfer = ("bytes", "count", "count_total")
    return {
        "task_counts": {"executing": 1},
        "bandwidth": {"total": 100_000_000, "workers": {}, "types": {}},
        "digests_total_since_heartbeat": digests,
        "managed_bytes": 0,
        "spilled_bytes": {"memory": 0, "disk": 0},
        "transfer": {f"{way}_{what}": 0 for way in ("incoming", "outgoing") for what in transfer},
        "event_loop_interval": 0.02,
        "cpu": 99.0,
        "memory": 500_000_000,
        "time": time.time(),
        "host_net_io": {"read_bps": 1e5, "write_bps": 1e5},
        "host_disk_io": {"read_bps": 1e5, "write_bps": 0.0},
        "num_fds": 34,
    }


# --- what follows from loads


@dataclass(frozen=True)
class Cost:
    """What a busy scheduler costs: CPU seconds a task are ``per_task + workers * per_worker``.

    A task is one of the map, its share of the reduction included.

    Attributes
    ----------
    per_task, per_worker
        CPU seconds.
    idle
        Cores used without any task or worker.
    heartbeat
        CPU seconds a heartbeat.
    fitted
        The loads that it is from.
    left_out
        Those in which the scheduler was not busy.
    draws
        Possible values of the four, one set in a row: their joint uncertainty.
    """

    per_task: Estimate
    per_worker: Estimate
    idle: Estimate
    heartbeat: Estimate
    fitted: tuple[Load, ...]
    left_out: tuple[Load, ...]
    draws: NDArray[np.float64] = field(repr=False, compare=False)

    def seconds(self, workers: int) -> Estimate:
        """CPU seconds a task at so many workers.

        Parameters
        ----------
        workers
            Number of them.
        """
        return _estimate(
            self.per_task.value + workers * self.per_worker.value,
            self.draws[:, 0] + workers * self.draws[:, 1],
        )


def fit_load(loads: Sequence[Load], rng: np.random.Generator, *, busy: float = BUSY) -> Cost:
    """Cost of a task against the number of workers, from several loads.

    A straight line by least squares of relative errors, whose slope and intercept are not
    negative. The uncertainty is that of normal errors of unknown size (Student's t): with three
    loads it is large.

    Parameters
    ----------
    loads
        Of different numbers of workers; more than one of each is better.
    rng
        Draws possible values of the parameters.
    busy
        Least share of the time in which the scheduler had work, in a load that counts.

    Raises
    ------
    InputError
        If fewer than three loads, or of fewer than two numbers of workers, count.
    """
    fitted = tuple(one for one in loads if one.busy_share >= busy and one.cpu_per_task > 0)
    left_out = tuple(one for one in loads if one not in fitted)
    if len(fitted) < 3 or len({one.workers for one in fitted}) < 2:
        msg = (
            f"the scheduler was busy (at least {busy:.0%} of the time) in only {len(fitted)} of "
            f"{len(loads)} loads, and a line needs three, of two numbers of workers: "
            "take more workers, or shorter tasks"
        )
        raise InputError(msg)
    workers = np.array([one.workers for one in fitted], float)
    seconds = np.array([one.cpu_per_task for one in fitted])
    cost, cost_draws = _line(workers, seconds, 1 / seconds, rng)
    watched = [one for one in loads if one.idle_share > 0]
    beats = np.array([_heartbeats(one.workers) for one in watched])
    shares = np.array([one.idle_share for one in watched])
    if len(watched) >= 3 and len(set(beats)) >= 2:
        idle, idle_draws = _line(beats, shares, np.ones(len(watched)), rng)
    else:
        idle = np.array([shares.mean() if watched else 0.0, 0.0])
        idle_draws = np.tile(idle, (DRAWS, 1))
    draws = np.hstack([cost_draws, idle_draws])
    values = (*cost, *idle)
    per_task, per_worker, idle_share, heartbeat = (
        _estimate(float(value), column) for value, column in zip(values, draws.T, strict=True)
    )
    return Cost(per_task, per_worker, idle_share, heartbeat, fitted, left_out, draws)


def _line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    weights: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intercept and slope by least squares of weighted errors, and draws of the two."""
    square = weights**2
    center = np.average(x, weights=square)
    level = np.average(y, weights=square)
    spread = np.sum(square * (x - center) ** 2)
    slope = np.sum(square * (x - center) * (y - level)) / spread
    errors = weights * (y - level - slope * (x - center))
    free = len(x) - 2
    sigma = math.sqrt(float(np.sum(errors**2)) / free)
    # At the weighted center the level and the slope are independent, but for the sigma they share.
    normal = rng.standard_normal((2, DRAWS)) / np.sqrt(rng.chisquare(free, DRAWS) / free)
    levels = level + normal[0] * sigma / math.sqrt(float(np.sum(square)))
    slopes = slope + normal[1] * sigma / math.sqrt(float(spread))

    def positive(level: NDArray[np.float64], slope: NDArray[np.float64]) -> NDArray[np.float64]:
        # Keep the level where the loads are, and neither end below zero.
        level = np.maximum(level, 0)
        slope = np.clip(slope, 0, level / center)
        return np.stack([level - slope * center, slope], axis=-1)

    return positive(np.asarray(level), np.asarray(slope)), positive(levels, slopes)


def _estimate(value: float, draws: NDArray[np.float64]) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def _heartbeats(workers: float) -> float:
    """Heartbeats a second of so many workers: at most 200."""
    # Nobody's interval is for a fraction of a worker; the search below asks for it all the same.
    return workers / float(heartbeat_interval(workers))


@dataclass(frozen=True)
class Capacity:
    """The largest number of workers that one scheduler keeps at work.

    Attributes
    ----------
    workers
        With its interval; whole numbers.
    seconds_per_chunk, chunks_per_task
        The work, and how it is cut into tasks.
    tasks_per_second
        Of the map, at that number of workers.
    share
        Cores that the scheduler then uses.
    predicted
        Whether more workers than in any load that was measured: the line goes on, if it does.
    """

    workers: Estimate
    seconds_per_chunk: float
    chunks_per_task: float
    tasks_per_second: float
    share: float
    predicted: bool


def capacity(
    cost: Cost, seconds_per_chunk: float, *, chunks_per_task: float = 1, share: float = 1.0
) -> Capacity:
    """How many workers keep the scheduler at a share of a core.

    With more, workers wait for the scheduler. It is a calculation for workers that are always at
    work; nothing of this size was run.

    Parameters
    ----------
    cost
        What a task costs.
    seconds_per_chunk
        That a worker needs.
    chunks_per_task
        1 for a task a chunk; more for batches, their mean if they differ.
    share
        Cores that the scheduler may use: it has one thread.

    Raises
    ------
    InputError
        If a number makes no sense.
    """
    seconds = seconds_per_chunk * chunks_per_task
    if not (math.isfinite(seconds) and seconds > 0 and 0 < share <= 1):
        msg = (
            f"{chunks_per_task} chunks of {seconds_per_chunk} s and {share} of a core have no "
            "capacity: give positive numbers, and at most one core"
        )
        raise InputError(msg)
    estimate = (
        cost.per_task.value,
        cost.per_worker.value,
        cost.idle.value,
        cost.heartbeat.value,
    )
    found = _largest(np.vstack([estimate, cost.draws]), seconds, share)
    workers = _estimate(float(found[0]), found[1:])
    workers = Estimate(*(math.floor(one) for one in (workers.value, workers.low, workers.high)))
    return Capacity(
        workers=workers,
        seconds_per_chunk=seconds_per_chunk,
        chunks_per_task=chunks_per_task,
        tasks_per_second=workers.value / seconds,
        share=share,
        predicted=workers.value > max(one.workers for one in cost.fitted),
    )


def _largest(parameters: NDArray[np.float64], seconds: float, share: float) -> NDArray[np.float64]:
    """Largest number of workers for each row of parameters, by bisection."""
    per_task, per_worker, idle, heartbeat = parameters.T
    low, high = np.zeros(len(parameters)), np.full(len(parameters), MOST_WORKERS)
    beats = np.vectorize(_heartbeats, otypes=[float])
    # Of a billion, to the thousandth of a worker.
    for _ in range(40):
        middle = (low + high) / 2
        used = idle + heartbeat * beats(middle)
        used += middle / seconds * (per_task + middle * per_worker)
        low, high = np.where(used <= share, middle, low), np.where(used <= share, high, middle)
    found: NDArray[np.float64] = np.round(low, 2)
    return found


# --- what people read


def table(loads: Sequence[Load], cost: Cost | None = None) -> Table:
    """The loads, a row each, and the cost below.

    Parameters
    ----------
    loads
        What was measured.
    cost
        What was fitted to it, if anything.
    """
    from rich.table import Table  # noqa: PLC0415  (the scheduler's process needs none)

    shown = Table("workers", title="Load on dask's scheduler", pad_edge=False)
    for heading in (
        "tasks",
        "s/task",
        "wall",
        "tasks/s",
        "scheduler",
        "busy",
        "CPU/task",
        "idle",
        "memory",
        "client",
        "workers'",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.columns[0].justify = "right"
    for one in loads:
        memory = one.scheduler_peak_memory
        shown.add_row(
            f"{one.workers:,}",
            f"{one.tasks:,}",
            f"{one.task_seconds:.3g}",
            f"{one.wall_seconds:.2f} s",
            f"{one.task_rate:,.0f}",
            f"{one.scheduler_share:.0%}",
            f"{one.busy_share:.0%}",
            f"{one.cpu_per_task * 1e6:,.0f} us",
            f"{one.idle_share:.1%}",
            "-" if memory is None else f"{memory / 1e6:,.0f} MB",
            f"{one.client_cpu_seconds / one.wall_seconds:.0%}",
            f"{one.workers_cpu_seconds / one.wall_seconds:.0%}",
        )
    if cost is not None:
        shown.caption = (
            f"a busy scheduler: {_micro(cost.per_task, 0)} us a task, and "
            f"{_micro(cost.per_worker, 3)} us for each worker ({CONFIDENCE:.0%} intervals; "
            f"{len(cost.fitted)} of {len(cost.fitted) + len(cost.left_out)} loads kept it busy)"
        )
    return shown


def capacity_table(capacities: Sequence[Capacity]) -> Table:
    """How many workers one scheduler keeps at work, a row for each way to cut the work.

    Parameters
    ----------
    capacities
        What was calculated.
    """
    from rich.table import Table  # noqa: PLC0415

    shown = Table("s/chunk", title="Workers that one scheduler keeps at work", pad_edge=False)
    shown.columns[0].justify = "right"
    for heading in ("chunks/task", "workers", f"{CONFIDENCE:.0%} interval", "tasks/s", ""):
        shown.add_column(heading, justify="right", no_wrap=True)
    for one in capacities:
        shown.add_row(
            f"{one.seconds_per_chunk:g}",
            f"{one.chunks_per_task:g}",
            f"{one.workers.value:,.0f}",
            f"{one.workers.low:,.0f} to {one.workers.high:,.0f}",
            f"{one.tasks_per_second:,.0f}",
            "predicted" if one.predicted else "within loads",
        )
    return shown


def _micro(estimate: Estimate, digits: int) -> str:
    value, low, high = (
        f"{1e6 * one:,.{digits}f}" for one in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
