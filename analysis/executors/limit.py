"""A time limit for a chunk, which ends in one sentence whatever the processor is doing.

Python code is ended by an exception. Code in C that does not return to Python is ended with its
worker process, which has written down the chunk that it was at.
"""

from __future__ import annotations

import ctypes
import faulthandler
import signal
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Self

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRACE: Final = 2.0
"""Seconds that code in C has to return to Python before its worker is ended."""

AGAIN: Final = 1.0
"""Seconds after which an exception that was caught is raised again."""

ENDED: Final = "Timeout ("
"""What `faulthandler` writes when it ends a process."""


class _OverdueError(BaseException):
    """The chunk takes too long. Coffea would retry an Exception, and processors catch it."""


class Limit(NamedTuple):
    """A time limit."""

    seconds: float
    """For a chunk, with all attempts at it."""
    folder: Path
    """Where workers write down which chunk they are at."""

    def call(self, function: Callable[[Any], Any], item: Any, *, inside: bool) -> Any:
        """Call a function on an item, in the client (`inside`) or in a worker that may be ended.

        Raises InputError if it takes longer, or took longer in a worker that was ended.
        """
        sentence = (
            f"{_name(item)} took longer than {self.seconds:g} s: raise chunk_timeout, ask for "
            "smaller chunks, or look for what hangs in the processor"
        )
        if sentence in self.ended():
            raise InputError(sentence)
        soft = _Soft(self.seconds)
        try:
            with _Hard(self, sentence, ends=not inside), soft:
                result = function(item)
        except _OverdueError:
            raise InputError(sentence) from None
        if soft.struck:
            raise InputError(sentence)
        return result

    def ended(self) -> list[str]:
        """Sentences of chunks for which workers were ended."""
        found = []
        for path in self.folder.glob("*") if self.folder.exists() else ():
            with suppress(OSError):
                sentence, _, rest = path.read_text("utf8", "replace").partition("\n")
                if rest.startswith(ENDED):
                    found.append(sentence)
        return found


@contextmanager
def limit(seconds: float | None) -> Iterator[Limit | None]:
    """Limit of the chunks of one run; InputError replaces what the end of a worker raises."""
    if seconds is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="coffea-limit-") as folder:
        one = Limit(seconds, Path(folder))
        try:
            yield one
        except Exception as error:
            if sentences := one.ended():
                raise InputError(sentences[0]) from error
            raise


def _name(item: Any) -> str:
    """What a user calls an item."""
    if hasattr(item, "entrystart"):
        return f"{item.filename}: events {item.entrystart} to {item.entrystop}"
    return str(getattr(item, "filename", item))[:300]


class _Soft:
    """Raises _OverdueError in this thread, again while it is caught."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.struck = False
        self._thread = threading.get_ident()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._main = threading.current_thread() is threading.main_thread()
        self._before: Any = None

    def __enter__(self) -> Self:
        if self._main:
            # A signal also ends waiting, for a file or for another process.
            self._before = signal.signal(signal.SIGALRM, self._alarm)
            signal.setitimer(signal.ITIMER_REAL, self.seconds, AGAIN)
        else:
            threading.Thread(target=self._wait, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            return
        while not self._is_over():
            pass
        if self.struck:
            # Catch here what may be on its way. If it were cancelled, Python 3.11 and 3.12 would
            # look for it for ever: all code is slower then, and a profiler hangs.
            with suppress(_OverdueError):
                _raise_in(self._thread, _OverdueError)
                while True:
                    pass

    def _is_over(self) -> bool:
        """Have nothing more raised; whether that ended without an exception."""
        try:
            self._over.set()
            with self._lock:
                return True
        except _OverdueError:
            return False

    def _alarm(self, *_: object) -> None:
        self.struck = True
        raise _OverdueError

    def _wait(self) -> None:
        seconds = self.seconds
        while not self._over.wait(seconds):
            with self._lock:
                if not self._over.is_set():
                    self.struck = True
                    _raise_in(self._thread, _OverdueError)
            seconds = AGAIN


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Raise in a thread when it next runs Python, in place of what was to be raised."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class _Hard:
    """Ends this process by a timer in C, which needs no lock of Python's.

    Python has one such timer, which the threads of a worker share: it is set for the first.
    """

    _lock = threading.Lock()
    _set: dict[int, tuple[float, IO[str]]] = {}  # noqa: RUF012  (of all)

    def __init__(self, limit: Limit, sentence: str, *, ends: bool) -> None:
        self.limit = limit
        self.sentence = sentence
        self.ends = ends
        self._file: Any = None

    def __enter__(self) -> None:
        if not self.ends:
            return
        folder = self.limit.folder if self.limit.folder.exists() else None
        self._file = tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf8")
        self._file.write(f"{self.sentence}\n")
        self._file.flush()
        with self._lock:
            until = time.monotonic() + self.limit.seconds + GRACE
            self._set[threading.get_ident()] = until, self._file
            self._arm()

    def __exit__(self, *_: object) -> None:
        if not self.ends:
            return
        with self._lock:
            del self._set[threading.get_ident()]
            self._arm()
        self._file.close()

    def _arm(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        if self._set:
            until, file = min(self._set.values(), key=lambda one: one[0])
            left = max(0.001, until - time.monotonic())
            faulthandler.dump_traceback_later(left, exit=True, file=file)
