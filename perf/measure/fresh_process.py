"""A fresh process that measures: what earlier work left in memory and caches is not in it.

Parent and child talk in lines of JSON: requests by the child's standard input, answers by its
standard output. The parent's side is `Process`; the child's is `answers`, or `answering` where the
child starts processes of its own. The child may run in an old environment: nothing here imports
pydantic.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from select import select
from typing import TYPE_CHECKING, Any, Final, TextIO

import psutil

from analysis.processes import adopt_orphans, die_with_parent, halted, kill_family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

LONGEST_MESSAGE: Final = 300
"""Characters of the child's last line that an error repeats."""


def python_call(
    function: str, *arguments: object, python: str | Path = sys.executable
) -> list[str]:
    """Command that calls ``package.module.function`` in a new interpreter."""
    module, _, name = function.rpartition(".")
    # Not -m: worker processes import what they find as the main module once more.
    code = f"from {module} import {name}; {name}()"
    if "PYTHONSAFEPATH" in os.environ:
        # As in `coffea-perf`: the user's modules in the working folder come after all others.
        code = f"import os, sys; sys.path.append(os.getcwd()); {code}"
    return [str(python), "-c", code, *map(str, arguments)]


class ProcessError(Exception):
    """A process failed."""


class ProcessTimeoutError(ProcessError):
    """A process did not answer or end in time."""


class Process:
    """A child process for as long as the ``with`` block; its descendants end with it.

    At the end of the block its input ends, and it has `grace` seconds to end by itself. If the
    block raises, it has `interrupt` seconds after a SIGINT instead. What then still runs is killed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        grace: float = 0.0,
        interrupt: float = 0.0,
    ) -> None:
        self._grace, self._interrupt = grace, interrupt
        # A file, because a pipe that nobody reads would stop a child that writes much.
        self._messages = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (see __exit__)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env={**os.environ, **(environ or {})},
            # A session of its own: a terminal's Ctrl-C reaches it through this process only.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        if kind is not None and self._interrupt:
            process.send_signal(signal.SIGINT)
        # Not communicate: a descendant that must be killed may hold its pipe open.
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(self._grace if kind is None else self._interrupt)
        if process.returncode != 0:
            _kill(process)
        process.stdout.close()
        self._messages.close()

    def ask(self, request: str) -> None:
        """Send a request of one line; `answer` tells if that failed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()

    def answer(self, timeout: float | None = None) -> str:
        """The next answer; a ProcessError if it ends without one, or not within `timeout` seconds.

        With a timeout it must give one answer for each request: what it gives before it is asked
        is in a buffer, where it cannot be waited for.
        """
        stdout = self._process.stdout
        assert stdout is not None
        if timeout is not None and not select([stdout], [], [], max(timeout, 0.0))[0]:
            msg = f"the process did not answer within {timeout:g} s"
            raise ProcessTimeoutError(msg)
        line = stdout.readline()
        if not line:
            self._process.wait()
            raise ProcessError(self._end())
        return line

    def check(self) -> None:
        """Raise a ProcessError if it has ended."""
        if self._process.poll() is not None:
            raise ProcessError(self._end())

    def finish(self, request: str = "", timeout: float | None = None) -> str:
        """Send the last request, end the input, and wait: everything that it answered.

        A ProcessError if it ends with a status other than 0, or not within `timeout` seconds.
        """
        try:
            answers, _ = self._process.communicate(request, timeout)
        except subprocess.TimeoutExpired:
            msg = f"the process did not end within {timeout:g} s"
            raise ProcessTimeoutError(msg) from None
        if self._process.returncode != 0:
            raise ProcessError(self._end())
        return answers

    def _end(self) -> str:
        """Exit status and the last line of what it wrote to standard error."""
        self._messages.seek(0)
        lines = [line.strip() for line in self._messages if line.strip()] or ["it said nothing"]
        status = self._process.returncode
        return f"the process ended with status {status}: {lines[-1][:LONGEST_MESSAGE]}"


def _kill(process: subprocess.Popen[Any]) -> None:
    """Kill a process, its descendants, and what is left of its process group."""
    if process.poll() is None:
        with suppress(psutil.Error):
            kill_family(psutil.Process(process.pid))
        process.kill()
        process.wait()
    # The group outlives the process while it has members: workers that lost their parent.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# --- the child's side


def answers() -> TextIO:
    """Standard output, for answers only: what is printed from now on goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return stream


@contextmanager
def answering() -> Iterator[TextIO]:
    """`answers` of a child that starts processes: they end with it, and it ends with its parent.

    It adopts descendants that lose their parent: their CPU time is counted, and they are found
    when everything is to end (on Linux).
    """
    die_with_parent(signal.SIGINT)
    adopt_orphans()
    try:
        with answers() as stream:
            yield stream
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _kill_descendants()


def _kill_descendants() -> None:
    """Kill what an executor left behind, but for resource trackers, which end by themselves."""
    for child in halted(psutil.Process()):
        with suppress(psutil.Error):
            if "resource_tracker" in " ".join(child.cmdline()):
                child.resume()
            else:
                child.kill()
