"""Dask: `as_completed` goes to sleep beside a result that has come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from distributed import Client, LocalCluster, as_completed, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "sleeps beside a result, 20 times as_completed([finished])"
UNIT = "sleeps"
PAUSE = 0.005
"""Seconds for which the thread is stopped where a busy machine may stop it."""


def turns(_folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Count how often it waits for its condition to the end while its queue has a result."""
    slept = 0

    def watch(done: Any) -> None:
        sleep = done.thread_condition.wait

        def waits(timeout: float) -> bool:
            nonlocal slept
            ready = not done.queue.empty()
            notified = bool(sleep(timeout=timeout))
            slept += ready and not notified
            return notified

        empty = done.is_empty

        def pauses() -> bool:
            found = bool(empty())
            time.sleep(PAUSE)
            return found

        done.thread_condition.wait = waits
        done.is_empty = pauses

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        finished = client.submit(abs, -1)
        wait(finished)
        while True:
            slept = 0
            result = 0
            for _ in range(20):
                done = as_completed([finished])
                watch(done)
                result += sum(one.result() for one in done)
            yield slept, result
