"""Clusters on hosts of a `network`: a file server, a Dask scheduler or Spark master, and workers."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.executors.dask import job_environment
from perf.hosts import agent
from perf.hosts.client import Answer, Opening, Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perf.hosts.network import Host
    from perf.measure.fresh_process import Process

DASK_PORT: Final = 8786
SPARK_PORT: Final = 7077

START_SECONDS: Final = 300.0
"""For an engine to start on a busy machine, on hosts where nothing is compiled."""

RUN_SECONDS: Final = 300.0
"""For a run, in the middle of which a host may be cut off."""

JAVA: Final = {
    "SPARK_DAEMON_MEMORY": "256m",
    "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "SPARK_NO_DAEMONIZE": "1",
}


SPARK_LOST: Final = {
    "spark.network.timeout": "30s",
    "spark.network.timeoutInterval": "5s",
    "spark.executor.heartbeatInterval": "5s",
}
"""After how long Spark gives up a host that it does not hear: as Dask does. By default it takes 2 to 3
minutes."""


@contextmanager
def files(host: Host, folder: Path, protocol: str = "http") -> Iterator[str]:
    """Serve a folder that the host sees; gives the address below which its files are."""
    # The host's working folder is its own.
    server = ("perf.servers.file_servers", protocol, str(folder.resolve()), host.address)
    with host.start(sys.executable, "-m", *server) as process:
        port = process.answer(START_SECONDS).strip()
        # A second slash makes a path of XRootD absolute.
        yield f"{protocol}://{host.address}:{port}/{'/' if protocol == 'root' else ''}"


def served(fileset: Mapping[str, Any], address: str) -> dict[str, Any]:
    """A file set whose files are on a server, by their names."""
    return {
        name: {
            **about,
            "files": {address + Path(file).name: tree for file, tree in about["files"].items()},
        }
        for name, about in fileset.items()
    }


@contextmanager
def dask(
    scheduler: Host, workers: Sequence[Host], environ: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """A scheduler, and a worker of one thread on each host; gives options of `open_executor`."""
    address = f"tcp://{scheduler.address}:{DASK_PORT}"
    variables = {**job_environment(), **(environ or {})}
    command = (sys.executable, "-m", "dask")
    with ExitStack() as stack:
        begin = (*command, "scheduler", "--host", scheduler.address, "--no-dashboard")
        process = stack.enter_context(scheduler.start(*begin, environ=variables))
        listening(scheduler, process, DASK_PORT)
        for host in workers:
            options = ("--nthreads", "1", "--no-dashboard", "--host", host.address)
            started = (*command, "worker", address, *options, "--local-directory", "/tmp")
            stack.enter_context(host.start(*started, environ=variables))
        yield {"address": address}


@contextmanager
def spark(master: Host, workers: Sequence[Host], client: Host) -> Iterator[dict[str, Any]]:
    """A standalone master, and a worker of one core on each host; gives options."""
    import pyspark  # noqa: PLC0415  (an optional part)

    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    deploy = "org.apache.spark.deploy"
    url = f"spark://{master.address}:{SPARK_PORT}"
    with ExitStack() as stack:

        def start(host: Host, *arguments: str) -> Process:
            common = ("--host", host.address, "--webui-port", "0")
            return stack.enter_context(
                host.start(spark_class, *arguments[:1], *common, *arguments[1:], environ=JAVA)
            )

        process = start(master, f"{deploy}.master.Master", "--port", str(SPARK_PORT))
        listening(master, process, SPARK_PORT)
        for host in workers:
            room = ("--cores", "1", "--memory", "1g", "--work-dir", "/tmp/work")
            start(host, f"{deploy}.worker.Worker", *room, url)
        yield {
            "master": url,
            "memory": "512m",
            "timeout": START_SECONDS,
            "configuration": {"spark.driver.host": client.address, **SPARK_LOST},
        }


@contextmanager
def agents(workers: Sequence[Host]) -> Iterator[tuple[str, ...]]:
    """An agent on each host, which starts blocks of Parsl; gives their addresses."""
    with ExitStack() as stack:
        for host in workers:
            process = stack.enter_context(host.start(sys.executable, "-m", "perf.hosts.agent"))
            listening(host, process, agent.PORT)
        yield tuple(host.address for host in workers)


@dataclass(frozen=True)
class Client:
    """A client with its executor, on a host."""

    process: Process

    def begin(self, run: Run) -> None:
        """Have it begin a run."""
        self.process.ask(json.dumps(asdict(run)))

    def end(self, seconds: float = RUN_SECONDS) -> Answer | str:
        """What the run gave, or the sentence in which it ended."""
        return _read(self.process.answer(seconds))

    def run(self, run: Run) -> Answer | str:
        """Both."""
        self.begin(run)
        return self.end()


def _read(line: str) -> Answer | str:
    answer = json.loads(line)
    return str(answer["error"]) if "error" in answer else Answer(**answer)


@contextmanager
def client(host: Host, opening: Opening) -> Iterator[Client]:
    """Open an executor on a host.

    Raises
    ------
    RuntimeError
        If it does not open; the message says why.
    """
    with host.start(sys.executable, "-m", "perf.hosts.client") as process:
        process.ask(json.dumps(asdict(opening)))
        answer = json.loads(process.answer(START_SECONDS))
        if "error" in answer:
            raise RuntimeError(answer["error"])
        yield Client(process)


def listening(host: Host, process: Process, port: int) -> None:
    """Wait until something listens at a port of a host, for as long as the process lives."""
    until = time.monotonic() + START_SECONDS
    while not host.listens(port):
        process.check()
        if time.monotonic() > until:
            msg = f"nothing listens at port {port} of host {host.name}"
            raise RuntimeError(msg)
        time.sleep(0.05)
