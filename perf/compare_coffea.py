"""A processor, for `compare --processor`: run in the environments of both sides.

Each side names its processor in an environment variable, so this file serves any.
"""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, Runner

from analysis.processors import load, schema

if TYPE_CHECKING:
    from collections.abc import Callable

NanoAODSchema.warn_missing_crossrefs = False


@cache
def prepared() -> Callable[[], Any]:
    """One run over files that were looked at before."""
    job = json.loads(os.environ["COFFEA_SCALING_JOB"])
    processor = load(os.environ["COFFEA_SCALING_PROCESSOR"], job["arguments"]).processor
    runner = Runner(
        executor=IterativeExecutor(status=False),
        schema=schema(job["schema"]),
        format=job["format"],
    )
    chunks = list(runner.preprocess(job["fileset"], treename="Events"))
    return lambda: runner(chunks, processor_instance=processor, treename="Events")


def bench_processor() -> Any:
    """A processor on the files, by coffea's Runner."""
    return prepared()()
