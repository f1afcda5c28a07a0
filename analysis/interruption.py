"""Ctrl-C and SIGTERM end a command line in one sentence, from the first line that it runs.

It imports nothing that takes long, so that signals are heeded before what does.
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
"""What Python does of itself."""

OUTCOME: Final = "what was written is whole, run it again for the rest"
"""What is said of commands, and of parts of them, that say nothing of their own."""


class Interrupted(KeyboardInterrupt):
    """A signal; libraries know it as Ctrl-C.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _State:
    """Of this process, which has one main thread."""

    working = False
    """Whether there is something to take down; before, the process ends at once."""

    number: int | None = None
    """Of the signal that came."""

    outcome = OUTCOME


class _Voice:
    """Standard error, on which after a signal only the main thread has anything to say.

    Servers in threads, as those of Spark's client, print what is cut off at their other end.
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
    """Heed SIGINT and SIGTERM from now on; what is ignored, as by nohup, stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _heed)
    sys.unraisablehook = _unraisable
    if sys.stderr is not None:  # as it is where it is closed
        sys.stderr = _Voice(sys.stderr)
    # What is forked, as multiprocessing ends by SIGTERM, is not the command line.
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
        return  # It is being obeyed, and taking down is not to be disturbed.
    _State.number = number
    # From here on there is one sentence to say. Engines that are taken down log and warn, also
    # in their threads.
    if logging := sys.modules.get("logging"):
        logging.disable()
    warnings.simplefilter("ignore")
    threading.excepthook = lambda _: None
    raise Interrupted(number)


def _unraisable(what: sys.UnraisableHookArgs) -> None:
    """A signal that came in a destructor or callback would be lost there: send it again."""
    if isinstance(what.exc_value, Interrupted):
        threading.Timer(0.01, os.kill, (os.getpid(), what.exc_value.number)).start()
    elif _State.number is None:
        sys.__unraisablehook__(what)


def _number(error: BaseException | None) -> int | None:
    """Number of the signal that an exception came of."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return None if error is None else error.number


@contextmanager
def interruptible(outcome: str) -> Iterator[None]:
    """Say `outcome` of a signal that comes in this context."""
    before, _State.outcome = _State.outcome, outcome
    yield
    # Not if it was left by an exception, when it is yet to be said.
    _State.outcome = before


@contextmanager
def postponed() -> Iterator[None]:
    """Let Ctrl-C wait, and have processes that are started here ignore it for good.

    A terminal sends it to all of them, and it is for the client to end its workers. Processes and
    threads inherit which signals are blocked.
    """
    from multiprocessing import resource_tracker  # noqa: PLC0415

    # It unblocks the signal in the thread that starts it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def call(application: Callable[[], object], outcome: str = OUTCOME) -> NoReturn:
    """Run a command line and exit.

    Parameters
    ----------
    application
        The command line; it exits, or raises.
    outcome
        What is said of a signal, unless `interruptible` says something else.

    Raises
    ------
    SystemExit
        Always. The status is 2 after an InputError, whose sentence is printed, and 128 and the
        number of the signal after a signal.
    """
    from analysis.errors import InputError  # noqa: PLC0415

    _State.working, _State.outcome = True, outcome
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may be any bytes, and a terminal know no umlauts.
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
    """Whether what came out, of whatever was made of a signal on the way, is an end by one."""
    if isinstance(error, SystemExit):
        # Of KeyboardInterrupt typer leaves no more than the status.
        return error.code == 128 + signal.SIGINT or (_State.number is not None and error.code != 0)
    return _State.number is not None or isinstance(error, KeyboardInterrupt)


def _ignore() -> None:
    """What is left to do takes no time, and ends better without another signal."""
    for number in SIGNALS:
        if signal.getsignal(number) is _heed:
            signal.signal(number, signal.SIG_IGN)


def _say(sentence: str) -> None:
    # Whoever reads may have gone, and what is closed is None.
    with suppress(OSError, AttributeError):
        sys.stdout.flush()
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()
