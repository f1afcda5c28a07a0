"""Proof that each chunk was processed once: no result is a cached one, lost, or merged twice.

A processor is wrapped in `Counted`. What it returns carries a 1, so that the merged output says
how many results are in it; and beside that, out of band, each call writes a line to a file of its
worker when it begins and when it ends. The file tells what the result cannot: whether a call
happened at all (an engine may hand back an earlier result), and which chunks were at work when a
worker died.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coffea.processor import ProcessorABC

from analysis.errors import ChangedError
from analysis.files.fileset import is_parquet
from analysis.files.inspection import changed
from analysis.runner.merging import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Chunk(NamedTuple):
    """Consecutive events of a file."""

    dataset: str
    path: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.path}: events {self.start} to {self.stop}"


@dataclass(frozen=True)
class Tally:
    """Files that workers write, one each, in a folder that they and the client see.

    Attributes
    ----------
    folder
        Where. Workers that do not see it write nothing, and say so in band.
    nonce
        Of one run. It is part of the processor that is sent, so that no engine takes two runs
        for the same computation.
    """

    folder: Path
    nonce: str

    def write(self, event: str, chunk: Chunk) -> bool:
        """Write a line, on a worker; whether the folder is there to write it to."""
        name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        try:
            with (self.folder / name).open("ab", buffering=0) as file:
                # One write, so that what is there after a death is whole lines.
                file.write(json.dumps([event, self.nonce, *chunk]).encode() + b"\n")
        except OSError:
            return False
        return True

    def read(self) -> dict[str, Counter[Chunk]]:
        """How often each chunk was begun and ended, by ``begin`` and ``end``."""
        counts: dict[str, Counter[Chunk]] = {"begin": Counter(), "end": Counter()}
        for file in self.folder.iterdir():
            for line in file.read_text().splitlines():
                event, nonce, *chunk = json.loads(line)
                if nonce == self.nonce:
                    counts[event][Chunk(*chunk)] += 1
        return counts

    def unfinished(self) -> list[tuple[Chunk, int]]:
        """Chunks that were begun more often than ended, and how often; the worst first."""
        counts = self.read()
        return (counts["begin"] - counts["end"]).most_common()


@contextmanager
def tally(parent: Path | None = None) -> Iterator[Tally]:
    """Make a folder for a run's tally, and remove it afterwards.

    Parameters
    ----------
    parent
        Where: for workers on other machines a folder that they share with this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="coffea-tally-", dir=parent))
    try:
        yield Tally(folder, uuid.uuid4().hex)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Counted(ProcessorABC):
    """A processor that counts its calls.

    Parameters
    ----------
    processor
        coffea processor, or function of events.
    to
        Where to count.
    """

    def __init__(self, processor: ProcessorABC | Callable[[Any], Any], to: Tally) -> None:
        self.processor = processor
        self.tally = to

    def process(self, events: Any) -> dict[str, Any]:
        """Process a chunk.

        Returns
        -------
        dict
            ``out``, the `Output` of the processor; ``results``, 1; and ``unseen``, 1 if the
            tally could not be written.

        Raises
        ------
        ChangedError
            If the file that was opened is not the one that was looked at.
        """
        about = events.metadata
        _check_uuid(events)
        chunk = Chunk(*(about[k] for k in ("dataset", "filename", "entrystart", "entrystop")))
        seen = self.tally.write("begin", chunk)
        processor = self.processor
        try:
            out = (processor.process if isinstance(processor, ProcessorABC) else processor)(events)
        except Exception:
            # It failed, which is not dying at it.
            self.tally.write("end", chunk)
            raise
        if out is None:
            msg = "the processor returned None, not an accumulator"
            raise ValueError(msg)
        self.tally.write("end", chunk)
        return {"out": Output(out), "results": 1, "unseen": int(not seen)}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """As the processor's own, if it has one; coffea calls it once, with everything merged.

        ``out`` is afterwards what the processor gave, or made of it.
        """
        accumulator["out"] = accumulator["out"].value
        own = getattr(self.processor, "postprocess", None)
        if callable(own):
            after = own(accumulator["out"])
            if after is not None:
                accumulator["out"] = after
        return accumulator


def _check_uuid(events: Any) -> None:
    """Whether the ROOT file that was opened is the one that was looked at."""
    # UUID, tree and range of events, of what coffea opened.
    key = getattr(events.attrs.get("@events_factory"), "_partition_key", None)
    about = events.metadata
    if key and not is_parquet(about["filename"]) and not key.startswith(about["fileuuid"]):
        raise ChangedError(changed(about["filename"]))
