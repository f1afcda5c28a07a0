"""Which branches a processor reads, found by running copies of it on events without content."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import cloudpickle
import uproot
from coffea.nanoevents import NanoEventsFactory
from coffea.nanoevents import trace as coffea_trace
from coffea.processor import ProcessorABC

from analysis.files.fileset import is_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from coffea.nanoevents import BaseSchema

    from analysis.files.fileset import FileSet
    from analysis.files.inspection import File

TRACING_FAILED: Final = "Exception during function tracing: "
"""How coffea's warning of an error of the processor begins."""


class Traced(NamedTuple):
    """Branches that a processor reads, as far as tracing found them."""

    branches: frozenset[str]
    failure: str = ""
    """Why it failed on events without content, after these branches; empty if it did not."""


def trace(
    fileset: FileSet,
    files: Collection[File],
    processor: ProcessorABC | Callable[[Any], Any],
    schema: type[BaseSchema],
    options: Mapping[str, Any],
) -> dict[str, Traced]:
    """Branches that the processor reads of each data set, found on its first file.

    coffea's Runner can trace, but gives the processor no metadata of the data set, and runs the
    object that is sent to workers: histograms that it keeps would have events of the trace.
    """
    traced: dict[str, Traced] = {}
    for file in files:
        if file.dataset in traced:
            continue
        about = {
            **fileset.datasets[file.dataset].metadata,
            "dataset": file.dataset,
            "filename": file.path,
            "treename": file.tree,
            "entrystart": 0,
            "entrystop": 0,
            "fileuuid": str(UUID(bytes=file.uuid)),
        }
        how = {"schemaclass": schema, "metadata": about, "mode": "virtual"}
        with _without_events(file, options, how) as events:
            traced[file.dataset] = _traced(processor, events)
    return traced


@contextmanager
def _without_events(
    file: File, options: Mapping[str, Any], how: Mapping[str, Any]
) -> Iterator[Any]:
    """No events of a file."""
    none = {"entry_start": 0, "entry_stop": 0, **how}
    if is_parquet(file.path):
        yield NanoEventsFactory.from_parquet(file.path, **none).events()
        return
    with uproot.open({file.path: None}, **options) as opened:
        yield NanoEventsFactory.from_root(file=opened, treepath=file.tree, **none).events()


def _traced(processor: ProcessorABC | Callable[[Any], Any], events: Any) -> Traced:
    """Branches that copies of a processor read of events without content."""
    read: set[str] = set()
    failure = ""
    # Processors that take numbers out of arrays fail early with the first.
    for trace in (
        coffea_trace.trace_with_typetracer,
        coffea_trace.trace_with_length_zero_array,
        coffea_trace.trace_with_length_one_array,
    ):
        copy = cloudpickle.loads(cloudpickle.dumps(processor))
        function = copy.process if isinstance(copy, ProcessorABC) else copy
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            read |= trace(function, events)
        failures = [
            str(warning.message) for warning in said if TRACING_FAILED in str(warning.message)
        ]
        if not failures:
            return Traced(frozenset(read))
        failure = " ".join(failures[-1].removeprefix(TRACING_FAILED).split())[:300]
    return Traced(frozenset(read), failure)
