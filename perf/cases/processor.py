"""The ttbar processor as it is measured: one call of coffea's Runner on files looked at before."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

# The analysis takes seconds to import, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from analysis.kernels import Implementation

IDIOMATIC: Final = "idiomatic"
"""In the place of an implementation: the analysis as published, without kernels."""


def process(
    fileset: Mapping[str, Any],
    executor: ExecutorBase,
    *,
    implementation: Implementation | Literal["idiomatic"],
    variations: Literal["all", "nominal"],
    chunksize: int,
    deadly: bool = False,
    column_cache: int | None = None,
    handler: type | None = None,
) -> Callable[[], Any]:
    """Make ready to process a file set.

    Parameters
    ----------
    fileset
        Of coffea's form.
    executor
        Ready, as `analysis.executors.open_executor` yields it.
    implementation, variations
        Of the processor; IDIOMATIC has nominal alone.
    chunksize
        In events.
    deadly
        Whether the worker that begins the middle one of the files is killed.
    column_cache
        As of `analysis.runner.run.run`.
    handler
        Source of uproot that reads files of servers; None for the one that `run` chooses.

    Returns
    -------
    Callable
        Processes every event and gives what the processor accumulated. Opening the files to look
        at them, and starting and ending the executor, are left out. Raises InputError if a chunk
        was not processed just once: there is no speed of more work, or of less. Where a worker
        is to be killed, one must have been.
    """
    from analysis import ttbar
    from analysis.errors import InputError
    from analysis.files.fileset import FileSet
    from analysis.idiomatic import IdiomaticProcessor
    from analysis.runner.job import Job
    from perf.cases.tasks import Deadly

    files = FileSet.of(fileset, analysis=True)
    how = "columnar" if implementation == IDIOMATIC else implementation
    job = Job.of_ttbar(files, how, variations, chunksize=chunksize)
    if implementation == IDIOMATIC:
        job = replace(job, processor=IdiomaticProcessor())
    ready = job.inspect()
    paths = [file.path for file in ready.files]
    middle = paths[len(paths) // 2]

    def act() -> Any:
        with tempfile.TemporaryDirectory(prefix="coffea-mark-") as folder:
            mark = Path(folder) / "killed"

            def wrap(processor: Any) -> Any:
                return Deadly(processor.process, middle, mark) if deadly else processor

            done = ready.run(executor, wrap=wrap, column_cache=column_cache, handler=handler)
            killed = mark.exists()
        # A chunk that was at work in the killed worker need not have been processed to its end.
        if done.repeated is None or killed != deadly or (done.repeated and not deadly):
            msg = (
                f"{done.repeated} of {done.chunks} chunks were processed again, with "
                f"{int(killed)} workers killed: no speed is reported, run it again"
            )
            raise InputError(msg)
        whole = ttbar.whole_cutflow(done.accumulated["cutflow"], files)
        return {**done.accumulated, "cutflow": whole}

    return act
