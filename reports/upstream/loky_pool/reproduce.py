"""coffea: every call of `FuturesExecutor` starts processes, each of which imports coffea."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
from coffea.processor import FuturesExecutor
from coffea.processor.accumulator import accumulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "FuturesExecutor(workers=2) of 4 items"
UNIT = "ms of CPU"


def count(item: int) -> dict[str, int]:
    """Give an accumulator, as a processor does."""
    accumulate([{"items": 1}])  # A processor needs coffea in the worker.
    return {"items": item}


def cpu() -> float:
    """CPU seconds of this process and its children, ended or not."""
    own = psutil.Process()
    used = own.cpu_times()
    total = used.user + used.system + used.children_user + used.children_system
    for child in own.children(recursive=True):
        used = child.cpu_times()
        total += used.user + used.system
    return float(total)


def turns(_folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Call an executor as the Runner does, at least twice a job."""
    while True:
        begin = cpu()
        result, _ = FuturesExecutor(workers=2, status=False)([1, 2, 3, 4], count, {"items": 0})
        yield (cpu() - begin) * 1e3, result
