"""coffea.compute: of the threads of a pool one hands out steps and processes none."""

from __future__ import annotations

import atexit
import os
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coffea

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

WHAT = "wall time of 40 steps that sleep for 10 ms, on a pool of two"
UNIT = "ms"

CLONE = os.environ.get("COFFEA_REPO")
BRANCH = "c8840381ffc3814e925216b5b66d7d01b198e71a"

if CLONE and find_spec("coffea.compute") is None:
    # No release has it, and it needs no other part of coffea.
    _folder = tempfile.TemporaryDirectory(prefix="coffea-compute-")
    atexit.register(_folder.cleanup)
    _archive = Path(_folder.name) / "compute.tar"
    _at = ("git", "-c", "safe.directory=*", "-C", CLONE)
    _what = f"{BRANCH}:src/coffea/compute"
    subprocess.run([*_at, "archive", "--output", _archive, _what], check=True)
    with tarfile.open(_archive) as _tar:
        _tar.extractall(Path(_folder.name) / "compute", filter="data")
    coffea.__path__.insert(0, _folder.name)

from coffea.compute.backends.common import Accumulator
from coffea.compute.backends.threaded import ThreadedBackend
from coffea.compute.protocol import WorkElement


@dataclass(frozen=True)
class Step:
    """A number, as the input of a step."""

    start: int

    @property
    def stop(self) -> int:
        """The end of its range."""
        return self.start + 1

    def __len__(self) -> int:
        return 1

    def load(self) -> int:
        """Give the number."""
        return self.start


@dataclass(frozen=True)
class Sleeps:
    """A Computable whose steps wait, as for a file, and give their number."""

    steps: int = 40
    key: str = "sleeps"

    def __len__(self) -> int:
        return self.steps

    def gen_steps(self) -> Iterator[Any]:
        """Give the steps in their order."""
        for number in range(self.steps):
            yield WorkElement(self.process, Step(number))

    def process(self, number: int) -> int:
        """Wait."""
        time.sleep(0.01)
        return number


class Apart(ThreadPoolExecutor):
    """The proposal: what hands out steps has a thread of its own."""

    def submit(self, item: Any, /) -> Future[Any]:  # type: ignore[override]
        """Submit a step, or start the thread."""
        if isinstance(item, Accumulator):
            own = ThreadPoolExecutor(1)
            started = own.submit(item)
            own.shutdown(wait=False)
            return started
        return super().submit(item)


def turns(_folder: Path, side: str) -> Iterator[tuple[float, Any]]:
    """Time all steps. With a pool of one thread, the first side would not end."""
    pool = ThreadPoolExecutor if side == "before" else Apart
    with ThreadedBackend(partial(pool, 2)) as backend:
        while True:
            begin = time.perf_counter()
            task = backend.compute(Sleeps())
            task.wait()
            yield (time.perf_counter() - begin) * 1e3, task.result()
