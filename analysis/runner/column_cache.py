"""Cache of columns in each worker, for the next run over the same events.

Reading takes most of the time of an analysis, and an analysis whose cuts are being tuned need not
read again. coffea's Runner takes such a mapping as its ``cachestrategy``; coffea's own needs Dask.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


class ColumnCache(LRUCache[str, "np.ndarray"]):
    """Arrays by coffea's keys, up to `capacity` bytes; the least recently used is dropped first."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, getsizeof=lambda array: array.nbytes)
        # Workers may be threads.
        self._lock = threading.Lock()

    def get(self, key: str, default: Any = None) -> Any:
        """Array, or the default."""
        with self._lock:
            return super().get(key, default)

    def __setitem__(self, key: str, value: np.ndarray) -> None:
        """Keep an array, unless it alone exceeds the capacity."""
        if value.nbytes <= self.maxsize:
            with self._lock:
                super().__setitem__(key, value)


@cache
def of_worker(capacity: int) -> ColumnCache:
    """The cache of this process."""
    return ColumnCache(capacity)


class OfFile:
    """View of a cache for one file: coffea's keys do not name the file if it is Parquet.

    `file` identifies the file, also from an earlier one of the same name.
    """

    def __init__(self, cache: ColumnCache, file: str) -> None:
        self.cache = cache
        self.file = file

    def get(self, key: str, default: Any = None) -> Any:
        """Array, or the default."""
        return self.cache.get(f"{self.file} {key}", default)

    def __setitem__(self, key: str, value: np.ndarray) -> None:
        """Keep an array."""
        self.cache[f"{self.file} {key}"] = value


def of_file(cache: Callable[[], ColumnCache | None], file: str) -> OfFile | None:
    """The cache of one file; None without a cache."""
    columns = cache()
    return None if columns is None else OfFile(columns, file)
