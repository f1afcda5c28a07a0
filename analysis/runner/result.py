"""What a run gives, and what it took."""

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
    """What a run gave.

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
        What of the file set is in it, for normalising.
    left_out
        What is not, a sentence each.
    skipped
        Chunks that could not be read and were left out.
    traced
        By data set, what was found out of the branches that the processor reads, if it was asked.
    executor
        Its name, its number of workers and their PYTHONHASHSEED (``hash_seed``), by which sets are
        ordered and which may be unknown; of what `analysis.runner.job.execute` did.
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
    traced: Mapping[str, Traced] = field(default_factory=dict)
    executor: Mapping[str, Any] = field(default_factory=dict)
