"""Worker process of the endpoint: ``python -m analysis.servicex.worker CODEGEN``.

It imports once what jobs need. Then it forks, for each line of standard input, a child with limits
of time and memory that does this one job: what a selection does to its process ends with it. The
answer is a line of standard output. `analysis.servicex.worker_pool` is the other end. A worker can
run in another environment than the endpoint, as FuncADL needs.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil

from analysis.files.digests import digest_of
from analysis.processes import die_with_parent

MESSAGE_LENGTH: Final = 500
SPARE_SECONDS: Final = 5


def main() -> None:
    """Do jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Output of libraries must not pass for an answer.
    die_with_parent()
    codegen = sys.argv[1]
    # Imported before the first job, so that no child has to.
    import pyarrow as pa  # noqa: PLC0415

    import analysis.servicex.transform  # noqa: F401, PLC0415

    pa.array([""])  # imports pandas

    if codegen == "uproot":
        import dask_awkward  # noqa: F401, PLC0415
        import func_adl_uproot.translation  # noqa: F401, PLC0415
        import vector  # noqa: F401, PLC0415
    _answer(answers, {"ready": codegen})
    for line in sys.stdin:
        _answer(answers, _in_child(json.loads(line)))


def _answer(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _in_child(job: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work(job, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not said:
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        return {"error": _cause(status, job), "died": not late}
    answer: dict[str, Any] = json.loads(said)
    return answer


def _cause(status: int, job: dict[str, Any]) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU:
            return f"it took more than {job['seconds']} s, which is the limit"
        return (
            f"the worker process died of {signal.Signals(number).name}; it may have taken more "
            f"memory than the machine has"
        )
    return f"the worker process ended with status {os.waitstatus_to_exitcode(status)}"


def _work(job: dict[str, Any], writing: int) -> NoReturn:
    """Do a job and write its outcome: the body of the child."""
    from analysis.servicex import transform  # noqa: PLC0415
    from analysis.servicex.allowed_paths import Roots  # noqa: PLC0415

    code = 1
    try:
        die_with_parent()
        # The endpoint also watches the clock; this limit holds when the endpoint is gone.
        seconds = job["seconds"] + SPARE_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + SPARE_SECONDS))
        # Libraries have reserved a gigabyte, mostly unused, before the job begins.
        memory = psutil.Process().memory_info().data + job["memory"]
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Warnings of libraries about a request do not help the client.
        warnings.simplefilter("ignore")
        answer: dict[str, Any]
        try:
            if job["kind"] == "check":
                transform.check(job["codegen"], job["selection"])
                answer = {}
            else:
                transform.confine(Roots(urls=tuple(job["urls"]), follow=job["follow"]))
                target = Path(job["target"])
                events = transform.transform(
                    job["codegen"], job["selection"], job["source"], target, job["format"]
                )
                answer = {
                    "events": events,
                    "bytes": target.stat().st_size,
                    "sha256": digest_of(target),
                }
        except MemoryError:
            answer = {"error": f"it needs more than {job['memory'] >> 20} MB of memory"}
        except Exception as error:  # noqa: BLE001  (any error is reported to the request)
            answer = {"error": _sentence(error)}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(answer))
        code = 0
    finally:
        os._exit(code)


def _sentence(error: BaseException) -> str:
    """The message of an exception, in one line."""
    from uproot import KeyInFileError  # noqa: PLC0415

    from analysis.servicex.selection import SelectionError, shortened  # noqa: PLC0415

    if isinstance(error, KeyInFileError):
        return f"there is no branch or object {error.key}"
    text = " ".join(str(error).split())
    if not isinstance(error, SelectionError):
        text = f"{type(error).__name__}: {text}"
    return shortened(text, MESSAGE_LENGTH)


if __name__ == "__main__":
    main()
