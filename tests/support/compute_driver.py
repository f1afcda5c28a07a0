"""Runs the executor `compute`: ``python -m tests.support.compute_driver FILESET``.

A folder that has coffea.compute is named as `perf.coffea_compute` does. It prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.executors._computable import _Work, threads
from analysis.runner.job import Job, execute


def fails_in_the_second_chunk(events: Any) -> Any:
    """Processor that raises."""
    if events.metadata["entrystart"]:
        msg = "no second chunk"
        raise ValueError(msg)
    return {"events": len(events)}


def on_threads(number: int, patience: float) -> dict[str, bool]:
    """Whether a pool of so many threads processes an item, and is at work after `patience` seconds."""
    seen = threading.Event()
    work = _Work(lambda _: seen.set(), [0], lambda one, _: one)
    with threads(number - 1) as backend:
        task = backend.compute(work)
        return {"processed": seen.wait(patience), "at work": not task.done()}


def main() -> None:
    """Compare with the iterative executor."""
    job = Job.of_ttbar(Path(sys.argv[1]), variations="nominal", chunksize=1000)
    wanted = execute(job, "iterative")
    runs = [execute(job, "compute", workers=workers) for workers in (1, 2, 2)]
    failing = Job(job.fileset, fails_in_the_second_chunk, chunksize=1000).inspect()
    said = partial = None
    with open_executor("compute", workers=2, recoverable=True) as executor:
        try:
            failing.run(executor)
        except InputError as error:
            said, partial = str(error), error.partial_output  # type: ignore[attr-defined]
        again = job.inspect().run(executor)
    with open_executor("compute", workers=2, retries=0) as executor:
        try:
            failing.run(executor)
        except InputError as error:
            ended = str(error)
    answer = {
        "chunks": [wanted.chunks, *(run.chunks for run in (*runs, again))],
        "events": [wanted.events, *(run.events for run in (*runs, again))],
        "repeated": [run.repeated for run in (*runs, again)],
        "equal": [run.accumulated == wanted.accumulated for run in (*runs, again)],
        "said": said,
        "ended": ended,
        "partial": partial,
        "of one thread": on_threads(1, patience=1.0),
        "of two threads": on_threads(2, patience=60.0),
    }
    sys.stdout.write(f"{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
