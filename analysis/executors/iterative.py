"""One chunk after another in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from coffea.processor import IterativeExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.executors.options import IterativeOptions


@contextmanager
def start(options: IterativeOptions, workers: int) -> Iterator[IterativeExecutor]:
    """Yield the executor, coffea's own; there is nothing to start, and one worker."""
    assert workers == 1
    yield IterativeExecutor(retries=options.retries, status=options.status)
