"""One chunk after another in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from coffea.processor import IterativeExecutor

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def start(
    *, workers: int = 1, retries: int = 3, status: bool = True
) -> Iterator[IterativeExecutor]:
    """Yield the executor, coffea's own; there is nothing to start.

    Parameters
    ----------
    workers
        Must be 1.
    retries
        How often a chunk is tried again that failed.
    status
        Whether to show progress.

    Raises
    ------
    InputError
        If more workers are asked for.
    """
    if workers != 1:
        msg = (
            f"the iterative executor has one worker, not {workers}: "
            "leave --workers out or use --executor futures"
        )
        raise InputError(msg)
    yield IterativeExecutor(retries=retries, status=status)
