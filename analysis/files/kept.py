"""Files that stay open from chunk to chunk in each thread of a worker, by public options of uproot.

coffea opens the file of a chunk, reads its TTree and asks for the types of all branches, for every
chunk anew: with a thousand branches that takes longer than small chunks themselves. `options` of
``uproot.open`` give it the same source and the same TTree again. They are dropped when the file has
changed, when reading fails, and when KEPT others were read since.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import finalize

import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.fsspec import FSSpecSource
from uproot.source.futures import TrivialFuture

from analysis.files import remote
from analysis.files.bulk import BulkTrees
from analysis.files.inspection import Stamp

if TYPE_CHECKING:
    import queue

KEPT: Final = 4
"""Files that a thread keeps open. A worker reads one after the other, or a few in turn."""

DIRECTORY: Final = 2
"""Parts of a file that are read before its TTree: the directory, and the list of its content."""


class LocalSource(Source):
    """A file of this machine. It is not mapped: a mapped file that shrinks kills its process."""

    def __init__(self, file_path: str) -> None:
        super().__init__()
        self._file_path = file_path
        self._file = os.open(file_path.removeprefix("file://"), os.O_RDONLY | os.O_CLOEXEC)
        self._closed = False

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes of the file."""
        return self.chunks([(start, stop)], None)[0]

    def chunks(
        self, ranges: list[tuple[int, int]], notifications: queue.Queue[Chunk] | None
    ) -> list[Chunk]:
        """Several parts of the file."""
        if self._closed:
            msg = f"{self._file_path} is closed"
            raise OSError(msg)
        found = []
        for start, stop in ranges:
            data = os.pread(self._file, int(stop - start), int(start))
            chunk = Chunk(self, start, stop, TrivialFuture(data))
            found.append(chunk)
            if notifications is not None:
                notifications.put(chunk)
        self._num_requests += 1
        self._num_requested_chunks += len(ranges)
        self._num_requested_bytes += sum(stop - start for start, stop in ranges)
        return found

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return os.fstat(self._file).st_size

    @property
    def closed(self) -> bool:
        """Whether it can no longer be read."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._file)


class _Stays:
    """A source that stays open when a chunk was read without an error."""

    opened: tuple[str, float]
    """Path and time limit."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process has its own."""
        return KeptSource, self.opened

    def anew(self) -> None:
        """Count what the next chunk reads."""
        self._num_requests = self._num_requested_chunks = self._num_requested_bytes = 0

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            super().__exit__(*exception)  # type: ignore[misc]

    def end(self) -> None:
        """Close it."""
        super().__exit__(None, None, None)  # type: ignore[misc]


class _Local(_Stays, LocalSource):
    pass


class _Remote(_Stays, remote.RemoteSource):
    """Asks the server for the beginning of the file only, as long as that is the same."""

    def __init__(self, file_path: str, timeout: float, **options: Any) -> None:
        super().__init__(file_path, timeout, **options)
        self._beginning = b""
        self._directory: dict[tuple[int, int], bytes] = {}

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes of the file; those of its directory are kept."""
        if (known := self._directory.get((start, stop))) is not None:
            return Chunk(self, start, stop, TrivialFuture(known))
        chunk = super().chunk(start, stop)
        if start == 0:
            beginning = chunk.raw_data.tobytes()
            if beginning != self._beginning:
                self._beginning, self._directory = beginning, {}
        elif len(self._directory) < DIRECTORY and stop - start <= remote.BEGIN:
            self._directory[start, stop] = chunk.raw_data.tobytes()
        return chunk


class _File:
    """A file that is open, and the TTree that was read of it last."""

    def __init__(self, path: str, timeout: float, options: dict[str, Any]) -> None:
        # Before it is opened: what replaces it meanwhile is then another one.
        self.stamp = Stamp.of(path)
        self.source: _Local | _Remote
        if remote.protocol_of(path) in remote.PORTS:
            self.source = _Remote(path, timeout, **options)
        else:
            self.source = _Local(path)
        self.source.opened = (path, timeout)
        self.trees: dict[str, Any] = {}
        self.close = finalize(self, self.source.end)
        # Clients of servers may have ended before, and the system closes what is open.
        self.close.atexit = False

    def usable(self, path: str) -> bool:
        """Whether it is open, and the file still the one that it was."""
        return not self.source.closed and self.stamp == Stamp.of(path)


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.files: dict[tuple[str, float], _File] = {}
        """The one that was used last is at the end."""
        self.current: _File | None = None
        """The one that was opened last."""
        self.run = ""
        """Of the chunk that was begun last."""

    def open(self, path: str, timeout: float, options: dict[str, Any]) -> Source:
        """Source of a file; it was opened before, or is now."""
        self.current = None
        if remote.protocol_of(path) not in {"", "file", *remote.PORTS}:
            return FSSpecSource(path, **options)
        file = self.files.pop((path, timeout), None)
        if file is not None and not file.usable(path):
            file.close()
            file = None
        if file is None:
            file = _File(path, timeout, options)
        self.files[path, timeout] = self.current = file
        for oldest in list(self.files)[:-KEPT]:
            self.files.pop(oldest).close()
        file.source.anew()
        return file.source

    def close(self) -> None:
        """Close all files."""
        self.current = None
        while self.files:
            self.files.popitem()[1].close()


_THREAD: Final = _OfThread()
# A client of a server does not work in a process that was forked from its own.
os.register_at_fork(after_in_child=_THREAD.close)

close: Final = _THREAD.close
"""Close the files of this thread."""


def begin(run: str) -> None:
    """Begin a chunk: what an earlier run has open is closed, so that no run profits from another."""
    if run != _THREAD.run:
        _THREAD.close()
        _THREAD.run = run


class KeptSource(Source):
    """uproot's ``handler``: gives the source that this thread has open, or opens another."""

    def __new__(cls, file_path: str, timeout: float = remote.TIMEOUT, **options: Any) -> Source:
        """The source is of another class, and thus is not initialised again."""
        return _THREAD.open(file_path, timeout, options)


class KeptTrees(BulkTrees):
    """Object cache of uproot with the TTree of the file that this thread has opened last.

    It has no content of its own: a copy in another process has that of its thread.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep a TTree, and have it read its branches in bulk."""
        super().__setitem__(key, value)
        file = _THREAD.current
        if isinstance(value, uproot.TTree) and file and value.file.source is file.source:
            file.trees = {key: value}

    def __getitem__(self, key: str) -> Any:
        """A TTree that was read before."""
        if _THREAD.current is None:
            raise KeyError(key)
        return _THREAD.current.trees[key]

    def __delitem__(self, key: str) -> None:
        """Drop a TTree."""
        if _THREAD.current is not None:
            _THREAD.current.trees.pop(key, None)


def options(timeout: float) -> dict[str, Any]:
    """Options of ``uproot.open`` by which files stay open; `timeout` is of `remote.RemoteSource`."""
    return {"handler": KeptSource, "object_cache": KeptTrees(), "timeout": timeout}
