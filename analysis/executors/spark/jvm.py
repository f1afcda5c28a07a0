"""Spark's Java process: start one, and leave nothing of it behind."""

from __future__ import annotations

import locale
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from analysis.errors import InputError, NotInstalledError
from analysis.executors.folders import unlisted
from analysis.processes import environment, kill, kill_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pyspark import SparkContext

JAVA: Final = 17
"""Oldest Java that Spark 4 runs on."""

PATIENCE: Final = 10.0
"""Seconds after which Spark, its Java process, and those that this started are killed. They end in
1, 0.1 and 0.1."""

SEED: Final = "spark.executorEnv.PYTHONHASHSEED"
"""Setting of the workers' hash seed."""


def find_java() -> str:
    """The Java that pyspark will start; NotInstalledError if there is none or it is too old."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin")) if home else None)
    wanted = f"install Java {JAVA} or newer (Debian: openjdk-17-jre-headless)"
    if java is None:
        where = f"in JAVA_HOME, which is {home}" if home else "on the PATH"
        msg = f"the spark executor needs Java, and there is none {where}: {wanted}"
        raise NotInstalledError(msg)
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    if found is None or int(found[1]) < JAVA:
        what = f"version {found[1]}" if found else "no Java that answers"
        msg = f"the spark executor cannot use {java}, which is {what}: {wanted}"
        raise NotInstalledError(msg)
    return java


def find_spark() -> type[SparkContext]:
    """The class SparkContext; raises NotInstalledError if pyspark is not installed."""
    try:
        with warnings.catch_warnings():
            # pyspark's optional pandas parts, which nothing here uses, warn of new pandas.
            warnings.simplefilter("ignore")
            import pyspark  # noqa: PLC0415
    except ImportError as error:
        msg = f"the spark executor needs Spark ({error}): pip install 'pyspark>=4'"
        raise NotInstalledError(msg) from error
    found: type[SparkContext] = pyspark.SparkContext
    return found


def gist(text: str) -> str:
    """The one line of Spark's long messages that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    python = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b: ", line)]
    java = [line for line in lines if re.search(r"(Error|Exception)\b: ", line)]
    chosen = python[-1:] or java[:1] or lines[:1] or ["it gave no reason"]
    line = re.sub(
        r"^(Exception in thread \S+ |[\w.$]+\.(?=\w+(Error|Exception): ))",
        "",
        chosen[0].lstrip(": "),
    )
    return line[:300].rstrip(" .")


@contextmanager
def own_context(
    master: str,
    settings: Mapping[str, str],
    folder: Path,
    *,
    launcher: str,
    timeout: float,
    warm: Callable[[SparkContext], object],
) -> Iterator[SparkContext]:
    """Start Spark in a Java process of its own, and end all of it whatever happens.

    `launcher` are flags of the short-lived Java process that composes the command line of the
    other. Spark must have started, and `warm` have used it, within `timeout` seconds; if not,
    InputError is raised, with the reason from Spark's log in `folder`.
    """
    context_class = find_spark()
    find_java()
    _reach(master, timeout)
    from pyspark import SparkConf  # noqa: PLC0415
    from pyspark.java_gateway import launch_gateway  # noqa: PLC0415

    python = os.environ.get("PYSPARK_PYTHON", sys.executable)
    name = unlisted()
    variables = {
        # Java finds no name, and Hadoop needs one.
        **({"SPARK_USER": name, "HADOOP_USER_NAME": name} if name else {}),
        "PYSPARK_PYTHON": sys.executable if master.startswith("local") else python,
        "SPARK_LAUNCHER_OPTS": launcher,
        # pyspark gives its workers the seed of this process.
        **({"PYTHONHASHSEED": seed} if (seed := settings.get(SEED)) else {}),
        # In the C locale Java does not find a folder with an umlaut.
        **({} if locale.getencoding().lower() == "utf-8" else {"LC_ALL": "C.UTF-8"}),
        # These would override spark.local.dir, and have pyspark use a running Java process.
        "SPARK_LOCAL_DIRS": None,
        "PYSPARK_GATEWAY_PORT": None,
    }
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _kill_launched()

    def failed(reason: str) -> InputError:
        if late.is_set():
            reason = (
                f"it was not ready within {timeout:.0f} seconds, see whether the cluster has "
                "workers that are free"
            )
        return InputError(f"Spark did not start with master {master}: {reason}")

    log = folder / "log"
    timer = threading.Timer(timeout, give_up)
    timer.start()
    with (
        _globals(context_class, folder),
        # pyspark adds variables of its own.
        environment(variables, prefixes=("SPARK_", "PYSPARK_")),
        log.open("wb") as output,
    ):
        conf = SparkConf().setMaster(master).setAll(list(settings.items()))
        try:
            gateway = launch_gateway(conf, {"stdout": output, "stderr": output})
        except BaseException as error:
            timer.cancel()
            _kill_launched()
            with warnings.catch_warnings():
                # A frame of pyspark holds the process's standard input open.
                warnings.simplefilter("ignore", ResourceWarning)
                traceback.clear_frames(error.__traceback__)
            if not isinstance(error, Exception):
                raise
            raise failed(gist(log.read_text("utf8", "replace"))) from error
        family: set[psutil.Process] = set()
        context = None
        try:
            try:
                with _signals(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # as in `find_spark`
                    context = context_class(conf=conf, gateway=gateway)
                warm(context)
            except Exception as error:
                raise failed(gist(str(error))) from error
            finally:
                timer.cancel()
            family = _family(gateway.proc)
            yield context
        finally:
            _end(context, gateway, gateway.proc, family)


def _reach(master: str, timeout: float) -> None:
    """Try the addresses of a standalone master; Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    addresses = master.removeprefix("spark://").split(",")
    reasons = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=min(timeout, PATIENCE)):
                return
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    msg = f"there is no Spark master at {master} ({reasons[-1]}): start one, or give another URL"
    raise InputError(msg)


@contextmanager
def _signals() -> Iterator[None]:
    """Restore the handler of Ctrl-C: pyspark's talks to Java, even amid another message."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _globals(context_class: Any, folder: Path) -> Iterator[None]:
    """Restore what pyspark changes in this process, and keep its log off the terminal.

    Its temporary files, whose names it passes to Java, go to a folder with a plain name.
    """
    temporary, tempfile.tempdir = tempfile.tempdir, str(folder)
    gateway = context_class._gateway, context_class._jvm
    context_class._gateway = context_class._jvm = None
    path = set(sys.path)
    # py4j logs a broken connection, and Ctrl-C while it waits, in the root logger and its own.
    loggers = logging.getLogger(), logging.getLogger("py4j.java_gateway")
    for logger in loggers:
        logger.addFilter(_is_not_py4j)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_not_py4j)
        tempfile.tempdir = temporary
        sys.path[:] = [one for one in sys.path if one in path or "spark" not in one]
        context_class._gateway, context_class._jvm = gateway
        context_class._active_spark_context = None


def _is_not_py4j(record: logging.LogRecord) -> bool:
    return "py4j" not in Path(record.pathname).parts


def _kill_launched() -> None:
    """Kill a Java process that pyspark has started and not returned."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if re.search(r"spark-submit|SparkSubmit", " ".join(child.cmdline())):
                kill_family(child, PATIENCE)


def _family(java: subprocess.Popen[bytes]) -> set[psutil.Process]:
    """Descendants of the Java process: Python's daemon and workers, or executors."""
    with suppress(psutil.NoSuchProcess):
        return set(psutil.Process(java.pid).children(recursive=True))
    return set()


def _stop(context: SparkContext) -> None:
    """Stop a context, of a Java process that may be dead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # If Java does not answer, the first call ends there and the second does the rest.
        for _ in range(2):
            with suppress(Exception):
                context.stop()


def _end(
    context: SparkContext | None,
    gateway: Any,
    java: subprocess.Popen[bytes],
    family: set[psutil.Process],
) -> None:
    """Stop Spark, then end its Java process, then what that had started."""
    family |= _family(java)
    try:
        if context is not None:
            # In a thread, as a Java process in trouble might never answer.
            stop = threading.Thread(target=_stop, args=(context,), daemon=True)
            stop.start()
            stop.join(PATIENCE)
    finally:
        try:
            gateway.shutdown()
            assert java.stdin is not None
            with suppress(OSError):
                java.stdin.close()  # at the end of which it exits
            java.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            java.kill()
            java.wait()
            _, alive = psutil.wait_procs(family, PATIENCE)
            kill(alive, PATIENCE)
