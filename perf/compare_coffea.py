"""A processor, for `compare --processor`: run in the environments of both sides.

Each side names its processor in an environment variable, so this file serves any.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, Runner

from analysis.processors import load

if TYPE_CHECKING:
    from collections.abc import Callable

NanoAODSchema.warn_missing_crossrefs = False


@cache
def prepared() -> Callable[[], Any]:
    """One run over a file that was looked at before."""
    processor = load(os.environ["COFFEA_SCALING_PROCESSOR"]).processor
    runner = Runner(executor=IterativeExecutor(status=False), schema=NanoAODSchema)
    fileset = {
        "ttbar__nominal": {
            "files": {os.environ["COFFEA_SCALING_FILE"]: "Events"},
            "metadata": {"process": "ttbar", "variation": "nominal", "xsec": 729.84},
        }
    }
    chunks = list(runner.preprocess(fileset, treename="Events"))
    return lambda: runner(chunks, processor_instance=processor, treename="Events")


def bench_processor() -> Any:
    """A processor on the file, by coffea's Runner."""
    return prepared()()
