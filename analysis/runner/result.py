"""Result of a run, and its cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.files.fileset import FileSet
    from analysis.runner.counting import Chunk
    from analysis.runner.tracing import Traced


@dataclass(frozen=True)
class Result:
    """Result of a run, and its cost.

    Attributes
    ----------
    accumulated
        What the processor returned, merged over all chunks.
    events
        Number of events processed.
    chunks
        Number of chunks processed.
    bytes_read
        Bytes read from ROOT files, metadata included; None for Parquet, which coffea does not
        count.
    read_ahead
        Branches that were read in one go, summed over chunks: by the bulk reader (``bulk``) and by
        uproot for it (``uproot``); empty if it was not used.
    wall_seconds
        From the first chunk's start to the end of merging; without opening files to look at them
        and without the start of the executor.
    processing_seconds
        Wall seconds in the processor, summed over chunks, reading of branches included.
    repeated
        How many chunks were processed once more than their result was used, after a failure or
        the death of a worker; None if workers did not share a folder with this process to count
        it in.
    fileset
        The file set without what was left out, for normalising.
    left_out
        A sentence for each file or chunk that was left out.
    skipped
        Chunks that could not be read and were left out.
    traced
        By data set, the branches that the processor reads, if the job asks for it.
    executor
        Name, number of workers and their PYTHONHASHSEED (``hash_seed``; None if unknown), by which
        sets are ordered, and whether they were started with `analysis.allocator.ALLOCATOR`
        (``allocator``; None if unknown). `analysis.runner.job.execute` fills it in.
    """

    accumulated: Any
    events: int
    chunks: int
    bytes_read: int | None
    wall_seconds: float
    processing_seconds: float
    repeated: int | None
    fileset: FileSet
    left_out: tuple[str, ...] = ()
    skipped: tuple[Chunk, ...] = ()
    read_ahead: Mapping[str, int] = field(default_factory=dict)
    traced: Mapping[str, Traced] = field(default_factory=dict)
    executor: Mapping[str, Any] = field(default_factory=dict)
