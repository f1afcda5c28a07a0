"""Dask: nannies have workers give each freed array back to the kernel, which clears the next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from distributed import Client, LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "a task of 1,000 sums and products of columns of 1 MB"
UNIT = "ms of CPU"
TRIM = "distributed.nanny.pre-spawn-environ"


def columns(count: int) -> tuple[float, float]:
    """Give the CPU milliseconds of arithmetic on columns, in the worker, and a sum."""
    column = np.arange(125_000.0)
    total = 0.0
    begin = time.process_time()
    for number in range(count):
        total += float((column * number + column)[-1])
    return (time.process_time() - begin) * 1e3, total


def turns(_folder: Path, side: str) -> Iterator[tuple[float, Any]]:
    """Run it on a cluster with a nanny, with Dask's settings and without the threshold."""
    kept = {} if side == "before" else {TRIM: {"MALLOC_TRIM_THRESHOLD_": None}}
    with (
        dask.config.set(kept),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        while True:
            yield client.submit(columns, 1_000, pure=False).result()
