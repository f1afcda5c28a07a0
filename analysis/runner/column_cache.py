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
    from collections.abc import Callable

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


class OfFile:
    """A cache for the columns of one file, by coffea's keys: those of Parquet name no file.

    Parameters
    ----------
    cache
        Of all files.
    file
        What tells the file from others, and from what had its name before.
    """

    def __init__(self, cache: ColumnCache, file: str) -> None:
        self.cache = cache
        self.file = file

    def get(self, key: str, default: Any = None) -> Any:
        """As of the cache."""
        return self.cache.get(f"{self.file} {key}", default)

    def __setitem__(self, key: str, value: np.ndarray) -> None:
        """As of the cache."""
        self.cache[f"{self.file} {key}"] = value


def of_file(cache: Callable[[], ColumnCache | None], file: str) -> OfFile | None:
    """That of one file, if there is any."""
    found = cache()
    return None if found is None else OfFile(found, file)
