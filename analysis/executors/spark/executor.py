"""Apache Spark: batches are the partitions of an RDD.

coffea has had no Spark executor since 2023. Spark balances, retries and collects; it is slow with
each Python task (a few ms, tuned) and with large results (through the JVM), so there are few
partitions, each merged on its worker.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Final

from coffea.processor import accumulate
from coffea.processor.executor import ExecutorBase

from analysis.errors import InputError, WorkerLostError
from analysis.executors.batches import BatchedExecutor
from analysis.executors.folders import plain_folder, unlisted
from analysis.executors.order import split
from analysis.executors.payload import RaisedError, fetch
from analysis.executors.spark import jvm
from analysis.executors.worker import environment as worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pyspark import RDD, SparkContext

    from analysis.executors.options import SparkOptions
    from analysis.executors.order import Order
    from analysis.executors.payload import Payload

FLAGS: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
"""Of Java. It computes nothing that takes long, so it need not optimise what it compiles: the start
takes 7 s of CPU time instead of 10, and a task 6 ms instead of 13. One thread collects garbage, not
one for each core, and nothing is left in /tmp/hsperfdata. (The rest of the start is Python's
imports, 3 s, and Java's loading of classes. An archive by -XX:ArchiveClassesAtExit, 70 MB, saves
1.5 s of that; add -XX:SharedArchiveFile by `configuration`.)"""

CONFIGURATION: Final = {
    # Workers are forked with all imports done and frozen (see `worker.warm`). Compared with
    # workers that import, a task takes 6 ms of CPU time instead of 12, and a start 2 s less.
    "spark.python.daemon.module": "analysis.executors.spark.daemon",
    # Over TCP each task waits for a delayed acknowledgement, 26 ms instead of 4.
    "spark.python.unix.domain.socket.enabled": "true",
    # Results of 1 MB and more would go through the block manager: 16 MB take 200 ms of CPU time
    # instead of 85.
    "spark.task.maxDirectResultSize": "128m",
    # No limit on the sum of results: they are merged as they come, not kept.
    "spark.driver.maxResultSize": "0",
    # Results are compressed already, if that pays.
    "spark.broadcast.compress": "false",
    "spark.shuffle.compress": "false",
    "spark.shuffle.spill.compress": "false",
    # After a failure, chunks that are still at work are ended after 0.2 s, not 2.
    "spark.python.task.killTimeout": "200ms",
    # No web server and its port; no measurable difference in speed.
    "spark.ui.enabled": "false",
    "spark.eventLog.enabled": "false",
    "spark.executor.extraJavaOptions": FLAGS,
}
"""Settings, where the user gives no other. Each was measured by leaving it out."""


@dataclass
class SparkExecutor(BatchedExecutor):
    """Batches on a running SparkContext, which gives them to idle cores in their order."""

    unpickled: ClassVar[tuple[str, ...]] = ("context",)

    fan_in: int = 128
    """If there are more batches, so many at a time are merged by workers. That starts when the
    last batch is done, whereas the client merges at once: for two workers a histogram of 16 MB a
    batch takes 60 ms of CPU time so, and 30 otherwise. It is for many workers."""
    context: SparkContext | None = None
    partitions: int | None = None
    folder: Path | None = None
    """That the client and all workers share, for large payloads."""

    def results(self, code: bytes, order: Order) -> Iterator[Payload]:
        """Spark itself gives what a dead worker had to another."""
        if self.partitions:
            batches = split(order.items, _equal(len(order.items), self.partitions))
        else:
            batches = order.all()
        if not batches:
            return
        with ExitStack() as stack:
            folder = None
            if self.folder is not None:
                own = tempfile.TemporaryDirectory(
                    prefix="coffea-spark-", dir=self.folder, ignore_cleanup_errors=True
                )
                folder = Path(stack.enter_context(own))
            yield from self._run(code, batches, folder)

    def _run(
        self, code: bytes, batches: Sequence[Sequence[Any]], folder: Path | None
    ) -> Iterator[Payload]:
        from analysis.executors.spark import task  # noqa: PLC0415

        context = self.context
        assert context is not None
        queue: SimpleQueue[Any] = SimpleQueue()
        channel = context.accumulator([], task.ToQueue(queue))
        pack = {"compression": self.compression, "folder": folder}
        process = partial(task.process, failures=channel, **pack)  # type: ignore[arg-type]
        merge = partial(task.merge, **pack)  # type: ignore[arg-type]
        pickled = [self.packed(batch) for batch in batches]
        try:
            rdd: RDD[Any] = context.parallelize(pickled, len(pickled))
            # pyspark broadcasts more than 1 MB, which takes 6 ms more.
            rdd = rdd.mapPartitions(partial(process, code=code))
            if len(batches) > self.fan_in:
                groups = -(-len(batches) // self.fan_in)
                rdd = rdd.mapPartitionsWithIndex(_numbered).partitionBy(groups, int).values()
                rdd = rdd.mapPartitions(partial(merge, code=code))
            rdd = rdd.mapPartitions(partial(task.deliver, results=channel))
        except Exception as error:
            raise _lost(error, context) from error
        group = uuid.uuid4().hex
        job = threading.Thread(target=_job, args=(context, group, rdd, queue), daemon=True)
        job.start()
        ended = False
        try:
            while (message := queue.get()) is not None:
                match message:
                    case task.Sent():
                        self.statistics.lost += message.lost
                        yield fetch(message.payload)
                    case RaisedError():
                        raise message
                    case _:
                        ended = True
                        raise message
            ended = True
        finally:
            if not ended:
                _cancel(context, group)
            job.join(jvm.PATIENCE)


def _equal(items: int, batches: int) -> list[int]:
    """Sizes of batches of about the same size."""
    batches = min(items, batches)
    return [(i + 1) * items // batches - i * items // batches for i in range(batches)]


def _numbered(partition: int, sent: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    return ((partition, one) for one in sent)


def _job(context: SparkContext, group: str, rdd: RDD[Any], queue: SimpleQueue[Any]) -> None:
    """Run a job, and put None or an exception at the end of the queue."""
    try:
        context.setJobGroup(group, "coffea", interruptOnCancel=True)
        # In Java: results came already, and rdd.count() would have Python count, and collect the
        # counts over a socket: 10 ms.
        rdd._jrdd.count()
    except Exception as error:  # noqa: BLE001
        queue.put(_lost(error, context))
    else:
        queue.put(None)


def _cancel(context: SparkContext, group: str) -> None:
    """Cancel a job, in a thread, as a Java process in trouble might never answer."""

    def cancel() -> None:
        with suppress(Exception):
            context.cancelJobGroup(group)

    thread = threading.Thread(target=cancel, daemon=True)
    thread.start()
    thread.join(jvm.PATIENCE)


def _lost(error: Exception, context: SparkContext) -> Exception:
    """The error of a job in words."""
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415

    try:
        text = str(error)
        stopped = context._jsc.sc().isStopped()
    except Exception:  # noqa: BLE001
        stopped = True
    if stopped:
        msg = "Spark's Java process is gone: run it again, with fewer workers if memory is short"
        return RuntimeError(msg)
    if not isinstance(error, Py4JJavaError):
        return error
    if "Python worker exited unexpectedly" in text or "ExecutorLostFailure" in text:
        times = re.search(r"failed (\d+) times", text)
        return WorkerLostError(f"workers died {times[1] if times else 'several'} times")
    if "The error was: " in text:
        return RuntimeError(text)  # of coffea, which `analysis.runner.failures` understands
    if "OutOfMemoryError" in text:
        return RuntimeError("Spark's Java process is short of memory: ask for more by memory")
    return RuntimeError(f"Spark gave up: {jvm.gist(text)}")


@dataclass
class PlainSpark(ExecutorBase):
    """Plain Spark, to compare with: an item is a partition, and all results are collected."""

    workers: int = 1
    retries: int = 3
    context: SparkContext | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the context, which stays here."""
        return {**self.__dict__, "context": None}

    def __call__(
        self, items: Iterable[Any], function: Callable[[Any], Any], accumulator: Any
    ) -> tuple[Any, int]:
        """Collect all results, then merge them."""
        assert self.context is not None
        todo = list(items)
        try:
            results = self.context.parallelize(todo, len(todo) or 1).map(function).collect()
        except Exception as error:
            raise _lost(error, self.context) from error
        return accumulate(results, accumulator), 0


@contextmanager
def start(options: SparkOptions, workers: int) -> Iterator[ExecutorBase]:
    """Start Spark, yield the executor that uses it, and end all its processes.

    A SparkContext that runs in this process already is used, and left running. Spark retries:
    a worker's death costs a retry of the whole batch.
    """
    tuned = options.tuned
    context_class = jvm.find_spark()
    active = context_class._active_spark_context
    with ExitStack() as stack:
        folder = stack.enter_context(plain_folder("coffea-spark-"))
        if active is not None:
            of_new = ("master", "memory", "configuration", "environment")
            if given := [name for name in of_new if name in options.model_fields_set]:
                msg = (
                    "a SparkContext runs in this process and is used as it is: stop it first, or "
                    f"do not give {' and '.join(given)}"
                )
                raise InputError(msg)
            context = active
        else:
            failures = options.retries + 1
            master = _master(options.master, workers, failures if tuned else None)
            settings = _hygiene(master, folder, FLAGS if tuned else "")
            if tuned:
                settings |= CONFIGURATION | _placement(master, workers, failures, folder)
                variables = worker_environment(options.environment)
            else:
                variables = {k: v for k, v in options.environment.items() if v is not None}
            settings |= {f"spark.executorEnv.{key}": value for key, value in variables.items()}
            if options.memory is not None:
                settings["spark.driver.memory"] = options.memory
                settings["spark.executor.memory"] = options.memory
            settings |= options.configuration
            context = stack.enter_context(
                jvm.own_context(
                    master,
                    settings,
                    folder,
                    launcher=FLAGS if tuned else "",
                    timeout=options.timeout,
                    warm=partial(_warm, workers=workers),
                )
            )
        here = context.master.startswith("local")
        if here or active is not None:
            workers = context.defaultParallelism
        if tuned:
            yield SparkExecutor(
                workers=workers,
                context=context,
                partitions=options.partitions,
                folder=folder if here else None,
                **options.batched(),
            )
        else:
            yield PlainSpark(workers=workers, context=context, **options.of_coffea())


def _warm(context: SparkContext, workers: int) -> None:
    """Start all workers: here, as many as Spark has threads."""
    from analysis.executors.spark.task import ready  # noqa: PLC0415

    work = ready
    if context.master.startswith("local"):
        workers = context.defaultParallelism
    else:
        from analysis.executors.rehearsal import compiled  # noqa: PLC0415

        work = partial(ready, compiled=compiled())
    context.parallelize(range(workers), workers).mapPartitions(work).collect()


def _master(master: str | None, workers: int, failures: int | None) -> str:
    """URL of the master; that of a local one says how often a task may fail."""
    local = re.fullmatch(r"local(?:\[(\d+|\*)\])?", master or f"local[{workers}]")
    if local is None:
        assert master is not None
        return master
    threads = local[1] or "1"
    return f"local[{threads}]" if failures is None else f"local[{threads},{failures}]"


def _hygiene(master: str, folder: Path, flags: str) -> dict[str, str]:
    """Settings without which Spark would leave files behind, or not find our modules."""
    path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109
    home = f"-Duser.home={folder}" if unlisted() else ""
    settings = {
        "spark.app.name": "coffea",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={folder} {home} {flags}",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
    }
    if re.match(r"local|spark://(127\.0\.0\.1|localhost):", master):
        # Not reachable from the network, and no host name has to be resolved.
        settings["spark.driver.bindAddress"] = settings["spark.driver.host"] = "127.0.0.1"
    if master.startswith("local"):
        settings["spark.local.dir"] = str(folder)
    return settings


def _placement(master: str, workers: int, failures: int, folder: Path) -> dict[str, str]:
    """Settings that depend on where Spark runs."""
    settings = {"spark.task.maxFailures": str(failures)}
    if master.startswith("local"):
        # Whoever can open the socket can use it, so its folder is the user's alone.
        settings["spark.python.unix.domain.socket.dir"] = str(folder)
    elif master.startswith("spark:"):
        settings["spark.cores.max"] = str(workers)
    else:
        settings["spark.executor.instances"] = str(workers)
    return settings
