"""Proof that each chunk was processed once: no result is cached, lost, or merged twice.

`Counted` wraps a processor. Each result carries a 1, so that the merged output says how many
results it has. Beside that, each call writes a line to a file of its worker when it begins and
when it ends. The files say what the result cannot: whether a call happened at all (an engine may
return an earlier result), and which chunks were at work when a worker died.
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

from analysis.errors import ChangedError, InputError
from analysis.files import bulk
from analysis.files.columns import ahead
from analysis.files.fileset import is_parquet
from analysis.files.inspection import changed
from analysis.runner.merging import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


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
    """Files that workers write, one each, in a folder that they and the client see."""

    folder: Path
    """Workers that do not see it write nothing, and say so in their result."""
    nonce: str
    """Of one run. As part of the processor, it keeps an engine from taking two runs for one."""

    def write(self, event: str, chunk: Chunk) -> bool:
        """Write a line, on a worker; False if the folder is not there."""
        name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
        try:
            with (self.folder / name).open("ab", buffering=0) as file:
                # One write, so that a death leaves whole lines.
                file.write(json.dumps([event, self.nonce, *chunk]).encode() + b"\n")
        except OSError:
            return False
        return True

    def read(self) -> dict[str, Counter[Chunk]]:
        """How often each chunk began and ended, by ``begin`` and ``end``."""
        counts: dict[str, Counter[Chunk]] = {"begin": Counter(), "end": Counter()}
        for file in self.folder.iterdir():
            for line in file.read_text().splitlines():
                event, nonce, *chunk = json.loads(line)
                if nonce == self.nonce:
                    counts[event][Chunk(*chunk)] += 1
        return counts

    def unfinished(self) -> list[tuple[Chunk, int]]:
        """Chunks that began more often than they ended, and how often; the worst first."""
        counts = self.read()
        return (counts["begin"] - counts["end"]).most_common()


@contextmanager
def tally(parent: Path | None = None) -> Iterator[Tally]:
    """Make a folder for a run's tally, and remove it afterwards.

    Workers on other machines need a `parent` that they share with this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="coffea-tally-", dir=parent))
    try:
        yield Tally(folder, uuid.uuid4().hex)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Counted(ProcessorABC):
    """A coffea processor, or function of events, whose calls are counted."""

    def __init__(self, processor: ProcessorABC | Callable[[Any], Any], to: Tally) -> None:
        self.processor = processor
        self.tally = to

    def process(self, events: Any) -> dict[str, Any]:
        """Process a chunk, and give ``out``, the `Output` of the processor, and numbers to add up.

        ``results`` is 1, and ``unseen`` is 1 if the tally could not be written.
        """
        about = events.metadata
        _check_uuid(events)
        chunk = Chunk(*(about[k] for k in ("dataset", "filename", "entrystart", "entrystop")))
        seen = self.tally.write("begin", chunk)
        processor = self.processor
        try:
            with ahead(events, bulk.taken()):
                out = (processor.process if isinstance(processor, ProcessorABC) else processor)(
                    events
                )
        except Exception:
            # It failed, but the worker lives.
            self.tally.write("end", chunk)
            raise
        if out is None:
            msg = "the processor returned None, not an accumulator"
            raise ValueError(msg)
        self.tally.write("end", chunk)
        return {"out": Output(out), "results": 1, "unseen": int(not seen)}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Apply the processor's own, if it has one; coffea calls it once, on the merged output."""
        accumulator["out"] = accumulator["out"].value
        own = getattr(self.processor, "postprocess", None)
        if callable(own):
            after = own(accumulator["out"])
            if after is not None:
                accumulator["out"] = after
        return accumulator


def _check_uuid(events: Any) -> None:
    """Raise ChangedError unless the ROOT file that coffea opened is the inspected one."""
    # It begins with the UUID of the file that coffea opened.
    key = getattr(events.attrs.get("@events_factory"), "_partition_key", None)
    about = events.metadata
    if key and not is_parquet(about["filename"]) and not key.startswith(about["fileuuid"]):
        raise ChangedError(changed(about["filename"]))


def check_chunks(
    asked: set[Chunk], done: set[Chunk], counts: Mapping[str, int], events: int, *, may_skip: bool
) -> None:
    """Raise InputError unless the merged output has one result of each chunk.

    `done` are the chunks with at least one result: as many results as chunks means one of each.
    """
    wrong = None
    if done - asked or (asked - done and not may_skip):
        wrong = f"{len(done)} of {len(asked)} chunks"
    elif counts["results"] != len(done):
        wrong = f"{counts['results']} results of {len(done)} chunks"
    elif events != (expected := sum(chunk.stop - chunk.start for chunk in done)):
        wrong = f"{events} of {expected} events"
    if wrong:
        msg = f"the executor merged {wrong}: the result is not used, run it again"
        raise InputError(msg)


def calls_repeated(done: set[Chunk], tally: Tally) -> int:
    """Number of calls of the processor that are not in the result.

    InputError says that a result was merged which no call of this run gave.
    """
    calls = tally.read()["end"]
    if cached := [chunk for chunk in done if chunk not in calls]:
        msg = (
            f"{len(cached)} of {len(done)} chunks were never processed, their results come from "
            "an earlier run: the result is not used, restart the executor and run it again"
        )
        raise InputError(msg)
    return sum(calls[chunk] - 1 for chunk in done)
