"""The endpoint's side of its worker processes: send jobs, wait for them, end them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.servicex.selection import CODEGENS

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCADL_PYTHON: Final = "COFFEA_SCALING_DASK_AWKWARD_PYTHON"
"""Variable with the Python that runs FuncADL: dask-awkward needs an older dask."""
ROOT: Final = Path(__file__).parents[2]

CHECK_SECONDS: Final = 10
ATTEMPTS: Final = 3
"""At most, of a job whose process dies."""
START_SECONDS: Final = 120
"""For a worker to import what it needs: far above what that takes."""
POLL_SECONDS: Final = 0.1
ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "NUMBA_CACHE_DIR", "X509_USER_PROXY")


@dataclass(frozen=True)
class Limits:
    """Limits of one job."""

    seconds: int = 600
    """Of elapsed time, and of CPU time."""
    memory: int = 4 << 30
    """Bytes, beside what a worker has when the job begins."""


class JobError(Exception):
    """A job failed; one sentence, for the client."""


class WorkerDiedError(JobError):
    """The process of a job died, which need not be the job's fault."""


class JobCanceled(Exception):
    """A job was given up, because nothing needs it any more."""


def funcadl_python() -> str | None:
    """The Python that has func_adl_uproot and its dask-awkward, if there is one."""
    path = Path(os.environ.get(FUNCADL_PYTHON) or ROOT / ".venv-dask-awkward" / "bin" / "python")
    return str(path) if path.exists() else None


def codegens() -> dict[str, str]:
    """Code generators that are available here, and the Python of each."""
    pythons = {"uproot-raw": sys.executable, "uproot": funcadl_python()}
    return {name: python for name in CODEGENS if (python := pythons[name])}


class Worker:
    """One worker process for one code generator; `log` takes what it prints."""

    def __init__(self, codegen: str, python: str, log: Path) -> None:
        self._command = [python, "-P", "-m", "analysis.servicex.worker", codegen]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def start(self) -> None:
        """Start the process, unless it runs; it imports what it needs in the background."""
        if self._process is None or self._process.poll() is not None:
            self.stop()
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    # A session of its own: it ends with its child, and Ctrl-C does not reach it.
                    start_new_session=True,
                    # No secret of the environment may reach the code of a request.
                    env={key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
                )

    def run(
        self, job: dict[str, Any], limits: Limits, canceled: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Run a job of `analysis.servicex.worker`, and return its answer.

        JobError if it fails or exceeds its limits; JobCanceled if `canceled`, which is called now
        and then, returns True.
        """
        line = json.dumps({**job, "seconds": limits.seconds, "memory": limits.memory})
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._run(line, limits.seconds, canceled)
            except WorkerDiedError:
                if not left:
                    raise
        raise AssertionError

    def _run(
        self, line: str, seconds: float, canceled: Callable[[], bool] | None
    ) -> dict[str, Any]:
        try:
            self.start()
            if not self._ready:
                self._receive(START_SECONDS, canceled)
                self._ready = True
            assert self._process
            assert self._process.stdin
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            answer = self._receive(seconds, canceled)
        except BrokenPipeError:
            self.stop()
            msg = f"the worker process ended; {self._log} may say why"
            raise WorkerDiedError(msg) from None
        except BaseException:
            # It may still be working, and its answer must not pass for that of the next job.
            self.stop()
            raise
        if "error" in answer:
            raise (WorkerDiedError if answer.get("died") else JobError)(answer["error"])
        return answer

    def _receive(self, seconds: float, canceled: Callable[[], bool] | None) -> dict[str, Any]:
        assert self._process
        assert self._process.stdout
        until = time.monotonic() + seconds
        while not select.select([self._process.stdout], [], [], POLL_SECONDS)[0]:
            if canceled and canceled():
                raise JobCanceled
            if time.monotonic() > until:
                msg = f"it took more than {seconds:.0f} s, which is the limit"
                raise JobError(msg)
        line = self._process.stdout.readline()
        if not line:
            raise BrokenPipeError
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process and its child."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._process = None
        self._ready = False
