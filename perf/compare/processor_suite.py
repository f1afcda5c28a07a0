"""A processor, for `compare --processor`: run in the environments of both sides.

Each side names its processor in an environment variable, so this file serves any.
"""

from __future__ import annotations

import json
import os
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from coffea.nanoevents import NanoAODSchema
from coffea.processor import FuturesExecutor, IterativeExecutor, Runner

if TYPE_CHECKING:
    from collections.abc import Callable

# A side of before 2026-11-27 has the second.
processors: Any = import_module(
    "analysis.runner.processors" if find_spec("analysis.runner") else "analysis.processors"
)

NanoAODSchema.warn_missing_crossrefs = False


@cache
def prepared() -> Callable[[], Any]:
    """A run over files that are inspected once, before."""
    job = json.loads(os.environ["COFFEA_SCALING_JOB"])
    loaded: Any = processors.load(os.environ["COFFEA_SCALING_PROCESSOR"], job["arguments"])
    # Before 2026-11-27 it was a tuple, with what to send to workers.
    processor = loaded[0] if isinstance(loaded, tuple) else loaded
    workers = job["workers"]
    several = partial(FuturesExecutor, workers=workers)
    runner = Runner(
        executor=(several if workers > 1 else IterativeExecutor)(status=False),
        chunksize=job["chunksize"],
        schema=processors.schema(job["schema"]),
        format=job["format"],
    )
    chunks = list(runner.preprocess(job["fileset"], treename="Events"))
    return lambda: runner(chunks, processor_instance=processor, treename="Events")


def bench_processor() -> Any:
    """A processor on the files, by coffea's Runner."""
    return prepared()()
