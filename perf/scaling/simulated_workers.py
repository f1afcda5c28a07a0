"""Dask workers that speak the protocol of `distributed.Worker` and compute nothing.

Each has connections of its own: register, heartbeats, compute-task, add-keys, task-finished,
free-keys, stealing, and messages sent at most every 2 ms. All are in one process, which `main` is.

distributed's own `Worker` objects in one process cannot replace them: each task costs them more
than it costs the scheduler, so that they, and not the scheduler, would limit the rate.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from distributed.batched import BatchedSend
from distributed.comm import connect
from distributed.protocol.pickle import dumps
from distributed.versions import get_versions

from analysis.processes import die_with_parent
from perf.measure.fresh_process import answers

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULT_BYTES: Final = 100_000
"""Size of a result as the workers state it: histograms, compressed."""

WARM_PREFIX: Final = "_warm"
"""Keys of tasks begin with the name of their function: these take no time."""

SEND_INTERVAL: Final = "2ms"
"""Of a real worker (`distributed.worker`)."""

_TYPE: Final = dumps(dict)
"""The type of a result as a worker states it."""


@dataclass(frozen=True)
class Job:
    """Scheduler's address, number of workers, mean seconds of a task, and silent workers.

    A silent worker takes tasks and never answers. The seed is that of durations and of the moments
    of heartbeats.
    """

    address: str
    workers: int
    task_seconds: float
    silent: int
    seed: int


def enter() -> None:
    """Begin as a process of a load: no logs, as many files as may be, an end with the parent."""
    die_with_parent()
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def end_with_parent() -> None:
    """End when the input does: the parent, which sends nothing more, has gone."""
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)


def main() -> None:
    """Read a job, register its workers, say so, and work until the parent ends."""
    enter()
    stream = answers()
    job = Job(**json.loads(sys.stdin.readline()))

    async def serve() -> None:
        end_with_parent()
        rng = np.random.default_rng(job.seed)
        versions = get_versions()
        async with asyncio.TaskGroup() as group:
            for number in range(job.workers):
                worker = _Worker(job, number, rng)
                # One after the other: the scheduler accepts them one by one all the same.
                interval = await worker.register(versions)
                group.create_task(worker.listen())
                group.create_task(worker.beat(interval))
            stream.write(f"{job.workers}\n")
            stream.flush()

    try:
        asyncio.run(serve())
    except* Exception as group:  # noqa: BLE001  (the parent tells the user)
        sys.exit(f"simulated workers: {group.exceptions[0]!r}")


class _Worker:
    """A worker of one thread as the scheduler sees it."""

    def __init__(self, job: Job, number: int, rng: np.random.Generator) -> None:
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
        missing = [held for held in task["who_has"] if held not in self._held]
        for fetched in missing:
            self._send("add-keys", f"gather-dep-success-{time.time()}", keys=[fetched])
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


def _metrics() -> dict[str, Any]:
    """What a worker says of itself in a heartbeat: entries of a real one's that is at work."""
    digests: dict[str | tuple[str, ...], float] = {"latency": 0.015, "tick-duration": 0.98}
    for activity in ("thread-cpu", "thread-noncpu", "executor", "other"):
        digests["execute", "_chunk", activity, "seconds"] = 0.2
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
