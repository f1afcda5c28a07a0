"""Ctrl-C and SIGTERM end a command line in one sentence, from its first line on.

This module imports nothing that takes long, so that it can be imported before what does.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_BEFORE: Final[dict[int, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""Python's own handlers."""

OUTCOME: Final = "what was written is whole, run it again for the rest"
"""Default of what is said after a signal."""


class Interrupted(KeyboardInterrupt):
    """A signal; libraries see Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    """State of this process, which has one main thread."""

    working = False
    """Whether there is something to take down; before that, a signal ends the process at once."""

    number: int | None = None
    """Of the signal that was received."""

    outcome = OUTCOME


class _Voice:
    """Standard error, to which only the main thread writes after a signal.

    Servers in threads, as those of Spark's client, print errors when the other end closes.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if _State.number is None or threading.current_thread() is threading.main_thread():
            self.stream.write(text)
        return len(text)


def listen() -> None:
    """Handle SIGINT and SIGTERM from now on; signals that are ignored, as by nohup, stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heed)
    sys.unraisablehook = _unraisable
    if sys.stderr is not None:  # as it is if it is closed
        sys.stderr = _Voice(sys.stderr)
    # A forked process, which multiprocessing ends by SIGTERM, is not the command line.
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is _heed:
            signal.signal(number, _BEFORE[number])


def _heed(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    if not _State.working:
        os.write(2, b"interrupted: nothing was done\n")
        os._exit(128 + number)
    if _number(sys.exception()) is not None:
        return  # A signal is already being handled, and taking down must not be disturbed.
    _State.number = number
    # Only one sentence is printed from here on. Engines log and warn as they are taken down, also
    # in their threads.
    if logging := sys.modules.get("logging"):
        logging.disable()
    warnings.simplefilter("ignore")
    threading.excepthook = lambda _: None
    raise Interrupted(number)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """Send a signal again that was received in a destructor or callback, which would lose it."""
    if isinstance(what.exc_value, Interrupted):
        threading.Timer(0.01, os.kill, (os.getpid(), what.exc_value.number)).start()
    elif _State.number is None:
        sys.__unraisablehook__(what)


def _number(error: BaseException | None) -> int | None:
    """Number of the signal that caused an exception."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return None if error is None else error.number


@contextmanager
def interruptible(outcome: str) -> Iterator[None]:
    """Print `outcome` after a signal in this context."""
    before, _State.outcome = _State.outcome, outcome
    yield
    # Not after an exception: the outcome is still to be printed.
    _State.outcome = before


@contextmanager
def postponed() -> Iterator[None]:
    """Delay Ctrl-C, and have processes that are started here ignore it for good.

    A terminal sends it to all of them, but the client ends its workers. Processes and threads
    inherit the blocked signals.
    """
    _start_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start the process that keeps account of semaphores, before signals are blocked.

    Starting it unblocks them. And it is to print nothing: it removes what a client that a signal
    ended has left, and would warn of it after the one sentence that the client has printed.
    """
    from multiprocessing import resource_tracker  # noqa: PLC0415

    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def call(application: Callable[[], object], outcome: str = OUTCOME) -> NoReturn:
    """Run a command line and exit.

    The status is 2 after an InputError, whose sentence is printed, and 128 + number after a
    signal, when `outcome` is printed unless `interruptible` says something else.
    """
    from analysis.errors import InputError  # noqa: PLC0415

    _State.working, _State.outcome = True, outcome
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # The name of a file may be any bytes, and a terminal may not know umlauts.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            application()
        finally:
            _ignore()
    except BaseException as error:
        number = _number(error)
        if number is None and _ended_by_signal(error):
            number = _State.number or signal.SIGINT
        if number is not None:
            _say(f"interrupted: {_State.outcome}")
            sys.exit(128 + number)
        if isinstance(error, InputError):
            _say(f"error: {error}")
            sys.exit(2)
        raise
    sys.exit(0)


def _ended_by_signal(error: BaseException) -> bool:
    """Whether an exception is due to a signal, whatever libraries made of it."""
    if isinstance(error, SystemExit):
        # typer makes a status of KeyboardInterrupt.
        return error.code == 128 + signal.SIGINT or (_State.number is not None and error.code != 0)
    return _State.number is not None or isinstance(error, KeyboardInterrupt)


def _ignore() -> None:
    """Ignore further signals: what is left takes no time."""
    for number in SIGNALS:
        if signal.getsignal(number) is _heed:
            signal.signal(number, signal.SIG_IGN)


def _say(sentence: str) -> None:
    # The reader of a pipe may be gone, and a closed stream is None.
    with suppress(OSError, AttributeError):
        sys.stdout.flush()
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
