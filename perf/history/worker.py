"""The process that runs workloads in the environment of one version.

It reads a request from standard input and writes its measurements to standard output, both in
JSON. It runs in environments that have nothing of this project but its files.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import threading
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from perf.history import workloads
from perf.measure import clocks, memory
from perf.measure.fresh_process import answering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST: Final = 300
"""Characters of an error that are reported."""

POOL_ROUNDS: Final = 2
"""Samples of a workload in worker processes: seconds each in versions that start them anew."""

LOOK_SECONDS: Final = 0.02
"""Seconds between readings of the memory of workers."""


def main() -> None:
    """Answer one request."""
    warnings.simplefilter("ignore")
    with answering() as answer:
        json.dump(answer_to(json.load(sys.stdin)), answer)


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Run the workloads of a group.

    A request has ``group``, ``path`` of the file, ``chunksize``, ``workers``, ``seconds`` for the
    samples of a workload (None: it is run once and not timed), ``expected`` digest of each result
    that is known, and ``only`` names of workloads. The answer has ``done`` (measured workloads),
    ``missing`` and ``failed`` (reason by workload), and ``digests`` (by result).
    """
    answer: dict[str, Any] = {"done": [], "missing": {}, "failed": {}, "digests": {}}
    imported = _import()
    for workload in workloads.WORKLOADS:
        if workload.group != request["group"] or workload.name not in request["only"]:
            continue
        if workload == workloads.IMPORT:
            answer["done"].append(imported)
            continue
        _run(workload, request, answer)
    return answer


def _import() -> dict[str, Any]:
    """Time the import of coffea, which all other workloads need."""
    wall, cpu = time.perf_counter(), time.process_time()
    import coffea.nanoevents  # noqa: PLC0415  (what is measured)
    import coffea.processor  # noqa: F401, PLC0415

    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "workload": workloads.IMPORT.name,
        "wall": [wall],
        "cpu": [cpu],
        "iterations": 1,
        "peak_memory": memory.peak_memory(),
        "digest": workloads.digest(0),
        "detail": "",
        "sizes": {},
    }


def _run(workload: workloads.Workload, request: dict[str, Any], answer: dict[str, Any]) -> None:
    from perf.history import compat  # noqa: PLC0415  (imports coffea)

    with contextlib.ExitStack() as close:
        try:
            ready = workloads.ready(
                workload,
                request["path"],
                chunksize=request["chunksize"],
                workers=request["workers"],
                close=close,
            )
            memory.reset_peak_memory()
            with _memory_of_children() as largest:
                first = ready.run()
            digest = ready.digest(first)
            expected = request["expected"].get(workload.result, digest)
            if digest != expected:
                # A wrong result has no speed.
                answer["failed"][workload.name] = "its result is not that of the other versions"
                return
            answer["digests"][workload.result] = digest
            if request["seconds"] is None:
                return
            wall, cpu, iterations = _samples(ready, request["seconds"])
            # Other workloads share a process, whose memory holds what earlier ones left.
            alone = workload.group == "ttbar"
            peak = largest() if ready.in_workers else memory.peak_memory() if alone else None
            sizes = asdict(ready.sizes()) if ready.sizes else {}
        except compat.MissingError as error:
            answer["missing"][workload.name] = str(error)
        except Exception as error:  # noqa: BLE001  (any version may fail in any way)
            said = " ".join(str(error).split())[:LONGEST]
            answer["failed"][workload.name] = f"{type(error).__name__}: {said}"
        else:
            answer["done"].append(
                {
                    "workload": workload.name,
                    "wall": wall,
                    "cpu": cpu,
                    "iterations": iterations,
                    "peak_memory": peak,
                    "digest": digest,
                    "detail": ready.detail or workload.detail,
                    "sizes": sizes,
                }
            )


@contextlib.contextmanager
def _memory_of_children() -> Iterator[Callable[[], int | None]]:
    """Watch the memory of children: some versions start workers in each call, and end them there.

    Yields a function that returns the largest resident memory of any child so far, in bytes;
    None if there was none.
    """
    seen: list[int | None] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_SECONDS):
            seen.append(memory.peak_memory_of_children())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: max((peak for peak in seen if peak is not None), default=None)
    finally:
        stop.set()
        thread.join()


def _samples(ready: workloads.Ready, seconds: float) -> tuple[list[float], list[float], int]:
    """Wall and CPU seconds a call, of each sample; and calls of a sample."""
    clock: clocks.CpuClock = clocks.cpu_of_tree if ready.in_workers else time.process_time
    wall: list[float] = []
    used: list[float] = []
    with clocks.gc_frozen():
        if ready.in_workers:
            # Every call starts workers, or waits for some: none is short.
            plan = clocks.Plan(POOL_ROUNDS, 1)
        else:
            plan = clocks.plan(ready.run, seconds=seconds, min_rounds=clocks.SLOW_ROUNDS)
        for _ in range(plan.rounds):
            gc.collect()
            cpu, begin = clock(), time.perf_counter()
            for _ in range(plan.iterations):
                ready.run()
            end = time.perf_counter()
            wall.append((end - begin) / plan.iterations)
            used.append((clock() - cpu) / plan.iterations)
    return wall, used, plan.iterations
