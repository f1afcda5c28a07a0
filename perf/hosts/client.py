"""The client's process on its host: it opens an executor, then answers each request with a run.

The first line of the standard input is an `Opening`, each other one a `Run`, both as JSON. The
answer to the first says that the executor is ready; to the others, what the run gave. Where that
fails, the answer is a sentence, under "error".
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import tempfile
import traceback
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import parsl
from parsl.executors import HighThroughputExecutor
from parsl.jobs.error_handlers import noop_error_handler

from analysis.errors import InputError
from analysis.executors import _parsl_kernel as kernels
from analysis.executors import open_executor
from analysis.executors.worker import environment
from analysis.runner.job import Job
from perf.hosts.agent import HostsProvider
from perf.hosts.network import traffic
from perf.measure.fresh_process import answering

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Opening:
    """An executor that is to be opened."""

    executor: str
    workers: int
    options: dict[str, Any] = field(default_factory=dict)
    address: str = ""
    """Of the client."""
    blocks: tuple[str, ...] = ()
    """Addresses of hosts with agents, for Parsl."""


@dataclass(frozen=True)
class Run:
    """A run: the ttbar analysis, or a processor of a module that only the client has."""

    fileset: dict[str, Any]
    chunksize: int
    processor: str | None = None
    modules: dict[str, str] = field(default_factory=dict)
    """Sources of modules by name."""
    implementation: str = "compiled"
    ahead: bool = True
    """Whether branches are known and read in one go."""


@dataclass(frozen=True)
class Answer:
    """What a run gave, and what it took."""

    pickled: str
    """What the processor returned, as base64."""
    events: int
    chunks: int
    wall: float
    sent: int
    """Bytes of the client while it ran, headers included; files were looked at before."""
    received: int
    results: int
    """Payloads that the client received; 0 where it is not known."""

    @property
    def accumulated(self) -> Any:
        """What the processor returned."""
        return pickle.loads(base64.b64decode(self.pickled))


def parsl_config(opening: Opening) -> Any:
    """A block on each host, with messages as of a facility without a common folder."""
    variables = {**kernels.search_variables(), **environment()}
    executor = HighThroughputExecutor(
        address=opening.address,
        max_workers_per_node=opening.workers // len(opening.blocks),
        cores_per_worker=1e-3,
        heartbeat_period=2,
        heartbeat_threshold=10,
        encrypted=False,
        # A host that is cut off may come back.
        block_error_handler=noop_error_handler,
        provider=HostsProvider(
            opening.blocks,
            "\n".join(f"export {name}='{value}'" for name, value in variables.items()),
        ),
    )
    return parsl.Config(
        executors=[executor],
        run_dir=tempfile.mkdtemp(),
        strategy_period=0.5,
    )


def main() -> None:
    """Answer until the input ends."""
    with answering() as stream, ExitStack() as stack:

        def say(answer: Mapping[str, Any]) -> None:
            stream.write(json.dumps(answer) + "\n")
            stream.flush()

        # Modules of the user stand in the working folder.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        opening = Opening(**json.loads(sys.stdin.readline()))
        options = dict(opening.options)
        if opening.blocks:
            options["config"] = parsl_config(opening)
        try:
            executor = stack.enter_context(
                open_executor(opening.executor, workers=opening.workers, **options)
            )
            if opening.executor == "dask":
                executor.client.wait_for_workers(opening.workers, timeout=60)
        except (InputError, TimeoutError) as error:
            say({"error": str(error)})
            return
        say({})
        for line in sys.stdin:
            try:
                say(asdict(run(Run(**json.loads(line)), executor, folder)))
            except InputError as error:
                say({"error": str(error)})
            except Exception as error:  # noqa: BLE001  (who asked is told)
                traceback.print_exc()
                say({"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"})


def run(asked: Run, executor: Any, folder: Path) -> Answer:
    """Run a job on the executor."""
    path = folder / "fileset.json"
    path.write_text(json.dumps(asked.fileset))
    for name, source in asked.modules.items():
        (folder / f"{name}.py").write_text(source)
    if asked.processor is None:
        job = Job.of_ttbar(path, asked.implementation)  # type: ignore[arg-type]
    else:
        job = Job.of_processor(path, asked.processor)
    if not asked.ahead:
        job = replace(job, branches=(), reader="uproot")
    inspected = job.inspect()
    statistics = getattr(executor, "statistics", None)
    batches = statistics.batches if statistics else 0
    before = traffic()
    result = inspected.run(executor, chunksize=asked.chunksize)
    used = traffic().since(before)
    return Answer(
        base64.b64encode(pickle.dumps(result.accumulated)).decode(),
        result.events,
        result.chunks,
        result.wall_seconds,
        used.sent,
        used.received,
        statistics.batches - batches if statistics else 0,
    )


if __name__ == "__main__":
    main()
