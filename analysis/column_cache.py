"""Columns that a worker keeps for the next run over the same events.

Reading takes most of the time of an analysis; one that is run again and again, as cuts are tried
out, need not read again. coffea asks for columns in a mapping that this makes (its Runner's
``cachestrategy``); its own needs Dask.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

if TYPE_CHECKING:
    import numpy as np


class ColumnCache(LRUCache[str, "np.ndarray"]):
    """Arrays by coffea's keys, of file, entries and column; the least recently used goes first.

    Parameters
    ----------
    capacity
        Bytes of the arrays together.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, getsizeof=lambda array: array.nbytes)
        # Workers may be threads.
        self._lock = threading.Lock()

    def get(self, key: str, default: Any = None) -> Any:
        """An array, or the default."""
        with self._lock:
            return super().get(key, default)

    def __setitem__(self, key: str, value: np.ndarray) -> None:
        """Keep an array, unless it alone is too large."""
        if value.nbytes <= self.maxsize:
            with self._lock:
                super().__setitem__(key, value)


@cache
def of_worker(capacity: int) -> ColumnCache:
    """The one of this process."""
    return ColumnCache(capacity)
