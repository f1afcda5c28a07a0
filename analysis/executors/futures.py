"""A pool of worker processes on this machine, warm before the first chunk.

coffea's FuturesExecutor by default makes a new loky pool in every call, each worker of which
imports coffea anew (seconds). Here one pool serves all calls.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import loky
from coffea.processor import FuturesExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT: Final = {
    # By default loky ends a worker that grew by 300 MB, which any chunk of 250,000 events does,
    # and starts another: seconds. What keeps memory small is `analysis.run`.
    "LOKY_MAX_MEMORY_LEAK_SIZE": "1e12",
}
"""Environment variables of the workers."""


@contextmanager
def start(*, workers: int = 1, **options: Any) -> Iterator[FuturesExecutor]:
    """Start the pool, yield the executor that uses it, and end its processes.

    Parameters
    ----------
    workers
        Number of worker processes.
    **options
        Fields of coffea's FuturesExecutor.
    """
    pool = loky.ProcessPoolExecutor(max_workers=workers, initializer=_warm, env=ENVIRONMENT)
    finished = False
    try:
        # One task for each worker starts them all.
        list(pool.map(abs, range(workers)))
        yield FuturesExecutor(pool=pool, workers=workers, **options)
        finished = True
    finally:
        # After an exception or Ctrl-C nobody waits for chunks that are still at work.
        pool.shutdown(wait=True, kill_workers=not finished)


def _warm() -> None:
    """Import what every chunk needs, once for each worker."""
    import analysis.adl  # noqa: PLC0415
    import analysis.ttbar  # noqa: F401, PLC0415
