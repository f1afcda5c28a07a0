"""The process of a peer: it answers one query a line, with the counts and what they cost."""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
import warnings

from perf.measure.fresh_process import answers
from perf.peers.query import Query


def main() -> None:
    """Import the peer that the first argument names, then answer until the input ends.

    A request is ``[path, query]``. An answer has counts, CPU seconds of all threads, wall seconds
    and versions; or, under "missing" or "error", why there is none.
    """
    stream = answers()
    warnings.simplefilter("ignore")
    missing = None
    try:
        peer = importlib.import_module(f"perf.peers.{sys.argv[1]}")
    except ImportError as error:
        missing = str(error)
    for line in sys.stdin:
        path, query = json.loads(line)
        answer: dict[str, object]
        if missing is not None:
            answer = {"missing": missing}
        else:
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                counts = peer.run(path, Query(*query))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                answer = {
                    "counts": [float(count) for count in counts],
                    "cpu": cpu,
                    "wall": wall,
                    "versions": peer.versions(),
                }
            except Exception as error:  # noqa: BLE001  (whoever asked is told)
                answer = {"error": f"{type(error).__name__}: {error}"}
        stream.write(json.dumps(answer) + "\n")
        stream.flush()
