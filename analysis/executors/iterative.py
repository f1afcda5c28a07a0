"""One chunk after another in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coffea.processor import IterativeExecutor

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def start(*, workers: int = 1, **options: Any) -> Iterator[IterativeExecutor]:
    """Yield the executor; there is nothing to start.

    Parameters
    ----------
    workers
        Must be 1.
    **options
        Fields of coffea's IterativeExecutor.

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
    yield IterativeExecutor(**options)
