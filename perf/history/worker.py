"""The process that does acts in the environment of one version.

It reads a request from its standard input, and writes what it measured to its standard output,
both JSON. It runs in environments that have nothing of this project but its files.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import threading
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from perf.history import workloads
from perf.measure import clocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST: Final = 300
"""Characters of an error that are reported."""

POOL_ROUNDS: Final = 2
"""Samples of an act in worker processes: seconds each in versions that start the workers anew."""

LOOK_SECONDS: Final = 0.02
"""Between looks at the memory of workers."""


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    # coffea draws its progress on the standard output, whatever it is told: the answer must be
    # alone there.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    with answer:
        json.dump(answer_to(request), answer)


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """Do the acts of a group.

    Parameters
    ----------
    request
        ``group``, ``path`` of the file, ``chunksize``, ``workers``, ``seconds`` for the samples
        of an act (None: they are done once and not timed), ``expected`` digest of each result
        that is known, ``only`` names of acts.

    Returns
    -------
    dict
        ``done`` (measured acts), ``missing`` and ``failed`` (reason, by act), ``digests`` (by
        result).
    """
    answer: dict[str, Any] = {"done": [], "missing": {}, "failed": {}, "digests": {}}
    imported = _import()
    for act in workloads.ACTS:
        if act.group != request["group"] or act.name not in request["only"]:
            continue
        if act == workloads.IMPORT:
            answer["done"].append(imported)
            continue
        _one(act, request, answer)
    return answer


def _import() -> dict[str, Any]:
    """Import coffea, once and for all, and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    import coffea.nanoevents  # noqa: PLC0415  (what is measured)
    import coffea.processor  # noqa: F401, PLC0415

    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "act": workloads.IMPORT.name,
        "wall": [wall],
        "cpu": [cpu],
        "iterations": 1,
        "peak_memory": clocks.peak_memory(),
        "digest": workloads.digest(0),
        "detail": "",
        "sizes": {},
    }


def _one(act: workloads.Act, request: dict[str, Any], answer: dict[str, Any]) -> None:
    from perf.history import compat  # noqa: PLC0415  (imports coffea)

    with contextlib.ExitStack() as close:
        try:
            made = workloads.ready(
                act,
                request["path"],
                chunksize=request["chunksize"],
                workers=request["workers"],
                close=close,
            )
            clocks.reset_peak_memory()
            with _memory_of_children() as largest:
                first = made.do()
            digest = made.digest(first)
            expected = request["expected"].get(act.result, digest)
            if digest != expected:
                # There is no speed of a wrong result.
                answer["failed"][act.name] = "its result is not that of the other versions"
                return
            answer["digests"][act.result] = digest
            if request["seconds"] is None:
                return
            wall, cpu, iterations = _samples(made, request["seconds"])
            # Other acts share a process, which holds what those before them left.
            alone = act.group == "ttbar"
            peak = largest() if made.in_workers else clocks.peak_memory() if alone else None
            sizes = asdict(made.sizes()) if made.sizes else {}
        except compat.MissingError as error:
            answer["missing"][act.name] = str(error)
        except Exception as error:  # noqa: BLE001  (any version may fail in any way)
            said = " ".join(str(error).split())[:LONGEST]
            answer["failed"][act.name] = f"{type(error).__name__}: {said}"
        else:
            answer["done"].append(
                {
                    "act": act.name,
                    "wall": wall,
                    "cpu": cpu,
                    "iterations": iterations,
                    "peak_memory": peak,
                    "digest": digest,
                    "detail": made.detail or act.detail,
                    "sizes": sizes,
                }
            )


@contextlib.contextmanager
def _memory_of_children() -> Iterator[Callable[[], int | None]]:
    """Look at them while they live: versions that start workers in each call end them there, too.

    Yields
    ------
    Callable
        Largest resident memory of any child so far, in bytes; None if there was none.
    """
    seen: list[int | None] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_SECONDS):
            seen.append(clocks.peak_memory_of_children())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: max((one for one in seen if one is not None), default=None)
    finally:
        stop.set()
        thread.join()


def _samples(made: workloads.Ready, seconds: float) -> tuple[list[float], list[float], int]:
    """Wall and CPU seconds a call, of each sample; and calls in each."""
    clock: clocks.CpuClock = clocks.cpu_of_tree if made.in_workers else time.process_time
    wall: list[float] = []
    used: list[float] = []
    with clocks.settled():
        if made.in_workers:
            # Every call starts workers, or waits for some: there is no short one.
            plan = clocks.Plan(POOL_ROUNDS, 1)
        else:
            plan = clocks.plan(made.do, seconds=seconds, min_rounds=clocks.SLOW_ROUNDS)
        for _ in range(plan.rounds):
            gc.collect()
            cpu, begin = clock(), time.perf_counter()
            for _ in range(plan.iterations):
                made.do()
            end = time.perf_counter()
            wall.append((end - begin) / plan.iterations)
            used.append((clock() - cpu) / plan.iterations)
    return wall, used, plan.iterations
