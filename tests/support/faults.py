"""Processors that fail as real ones do. Importable by workers, as a user's module is."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot
from coffea.processor import ProcessorABC


class Plain(ProcessorABC):
    """Counts events and fills jet pt: what the others do when they do not fail.

    Parameters
    ----------
    marks
        Folder in which a chunk at work leaves a file named by its first event.
    """

    def __init__(self, marks: Path | str | None = None) -> None:
        self.marks = None if marks is None else Path(marks)

    def process(self, events: Any) -> dict[str, Any]:
        self.before(events)
        jets = np.asarray(events.Jet.pt.layout.content.data)
        filled = hist.Hist.new.Reg(50, 0, 250, name="pt").Int64().fill(jets)
        return {"pt": filled, "events": Counter({events.metadata["dataset"]: len(events)})}

    def before(self, events: Any) -> None:
        """Fail, in the ways below."""

    def first(self) -> bool:
        """Whether this is the first time that any chunk gets here, on any worker."""
        assert self.marks is not None
        try:
            (self.marks / "first").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def postprocess(self, accumulator: Any) -> Any:
        return accumulator


class KillsOnce(Plain):
    """The first chunk that is processed takes its worker with it, as short memory does; once."""

    def before(self, events: Any) -> None:  # noqa: ARG002
        if self.first():
            os.kill(os.getpid(), signal.SIGKILL)


class KillsAlways(Plain):
    """Each attempt at the chunk that begins at event 0 of a file `bad` in its name kills."""

    bad = "file"

    def before(self, events: Any) -> None:
        about = events.metadata
        if about["entrystart"] == 0 and self.bad in about["filename"]:
            os.kill(os.getpid(), signal.SIGKILL)


class Raises(Plain):
    """The chunk that begins at event 1000 of any file raises, always."""

    def before(self, events: Any) -> None:
        if events.metadata["entrystart"] == 1000:
            msg = "jets out of order"
            raise ZeroDivisionError(msg)


class Hungry(Plain):
    """Every chunk takes much more memory than any limit that the tests set."""

    gigabytes = 3

    def before(self, events: Any) -> None:  # noqa: ARG002
        eaten = []
        for _ in range(self.gigabytes * 16):
            eaten.append(np.ones(1 << 23))  # 64 MB, every page touched
            time.sleep(0.02)
        del eaten


class Slow(Plain):
    """Every chunk takes a while; it says when it is at work."""

    seconds = 0.5

    def before(self, events: Any) -> None:
        if self.marks is not None:
            (self.marks / f"{os.getpid()}-{events.metadata['entrystart']}").touch()
        time.sleep(self.seconds)


class SlowAndForks(Slow):
    """Every chunk leaves a process behind that waits longer than the test."""

    def before(self, events: Any) -> None:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        super().before(events)


def damage(path: Path, branch: str = "Jet_pt", basket: int = 0) -> None:
    """Overwrite bytes of a basket: the file opens, and the chunk cannot be read."""
    with uproot.open(f"{path}:Events") as tree:
        start = int(tree[branch].member("fBasketSeek")[basket])
        size = int(tree[branch].member("fBasketBytes")[basket])
    with path.open("r+b") as file:
        file.seek(start + size // 2)
        file.write(b"\xff" * (size // 4))
