"""Bytes that travel between processes for a chunk: its task, and its accumulator."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import cloudpickle
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, Runner

from analysis.ttbar import TtbarProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Sizes(NamedTuple):
    """Bytes of one chunk, pickled."""

    task: int
    """Function and item, as an executor gets them."""
    accumulator: int
    """What the processor returned, with coffea's metrics."""


@dataclass
class Weighing(IterativeExecutor):
    """An executor that records the size of what an engine would send."""

    weighed: list[Sizes] = field(default_factory=list)

    def __call__(
        self, items: Sequence[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> Any:
        """As coffea's, after recording the sizes of the first item."""
        if items:
            task = len(cloudpickle.dumps((function, items[0])))
            self.weighed.append(Sizes(task, len(cloudpickle.dumps(function(items[0])))))
        return super().__call__(items, function, accumulator)


def weigh(fileset: Mapping[str, Any], variations: Literal["nominal", "all"]) -> Sizes:
    """Sizes of the first chunk of the ttbar analysis, as coffea's Runner sends it."""
    NanoAODSchema.warn_missing_crossrefs = False
    executor = Weighing(status=False)
    runner = Runner(
        executor=executor,
        pre_executor=IterativeExecutor(status=False),
        schema=NanoAODSchema,
        chunksize=1_000,
        maxchunks=1,
    )
    # coffea prints its progress even without `status`.
    with redirect_stdout(io.StringIO()):
        runner(
            dict(fileset),
            processor_instance=TtbarProcessor("columnar", variations),
            treename="Events",
        )
    return executor.weighed[0]
