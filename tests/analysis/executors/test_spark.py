"""The Spark executor: a real Java process, and what happens when it or its workers die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import psutil
import pytest

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from analysis.executors.code import dumps
from analysis.executors.order import Order
from analysis.executors.spark import jvm
from tests.analysis.executors.conftest import GIVEN
from tests.support.faults import Hungry, KillsOnce, Plain, Raises, Slow
from tests.support.process_helpers import (
    NAME,
    PATIENCE,
    children,
    kills_at_the_second_file,
    one_sentence,
    plain,
    process,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


try:
    jvm.find_spark()
    jvm.find_java()
except NotInstalledError as missing:
    pytest.skip(str(missing), allow_module_level=True)


ENGINE = "spark"


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


def own_folders() -> set[str]:
    return {one.name for one in Path(tempfile.gettempdir()).glob("coffea-spark-*")}


def listening() -> set[int]:
    """Ports of this machine on which something listens."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    lines += Path("/proc/net/tcp6").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return {int(one[1].rpartition(":")[2], 16) for one in fields if one[3] == "0A"}


# --- results


def _count(item: int) -> dict[str, int]:
    return {"n": 1, "sum": item}


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({}, None),
        ({"batch": 1}, 40),
        ({"batch": 7}, None),
        ({"partitions": 3}, 3),
        ({"partitions": 100}, 40),
        ({"batch": 1, "fan_in": 8}, 5),
        ({"batch": 1, "fan_in": 8, "folder": None}, 5),
        ({"partitions": 6, "fan_in": 5}, 2),
    ],
)
def test_batches_and_partitions(two: Any, options: dict[str, Any], batches: int | None) -> None:
    total, problem = two.copy(**options)(set(range(40)), _count, {"n": 2})
    assert (total, problem) == ({"n": 42, "sum": 780}, 0)
    if batches is not None:
        assert two.statistics.batches == batches


def test_nothing_to_do(two: Any) -> None:
    assert two([], _count, {"n": 5}) == ({"n": 5}, 0)


def _histogram(item: int) -> dict[str, Any]:
    filled = hist.Hist.new.Reg(200_000, 0, 1, name="x").Weight()
    filled.view().value = np.random.default_rng(item).integers(1 << 40, size=200_000)
    return {"x": filled}


@pytest.mark.parametrize("options", [{}, {"folder": None}, {"fan_in": 3}, {"compression": 1}])
def test_large_histograms(two: Any, options: dict[str, Any]) -> None:
    total, _ = two.copy(batch=1, **options)(range(8), _histogram, None)
    want = sum(_histogram(item)["x"].values() for item in range(8))
    np.testing.assert_array_equal(total["x"].values(), want)
    if two.folder is not None:
        assert not list(two.folder.glob("coffea-spark-*"))


def _what_a_worker_has(item: int) -> dict[str, Any]:  # noqa: ARG001
    import gc

    time.sleep(0.05)
    names = (*GIVEN, *ALLOCATOR)
    start = time.perf_counter()
    gc.collect()
    return {
        "environment": {" ".join(f"{name}={os.environ.get(name)}" for name in names)},
        "warm": {"analysis.ttbar" in sys.modules},
        "pyspark": {str(Path(sys.modules["pyspark"].__file__ or "").parent)},
        "parents": {os.getppid()},
        "workers": {os.getpid()},
        "collecting": [time.perf_counter() - start],
    }


def test_workers_have_the_environment_and_are_warm(two: Any) -> None:
    total, _ = two.copy(batch=1)(range(20), _what_a_worker_has, None)
    values = {**GIVEN, **ALLOCATOR}
    assert total["environment"] == {" ".join(f"{key}={values[key]}" for key in values)}
    assert total["warm"] == {True}
    assert len(total["workers"]) == 2
    # Forked of one process, which has imported pyspark as installed, with bytecode.
    assert len(total["parents"]) == 1
    (source,) = total["pyspark"]
    assert ".zip" not in source


def test_progress_comes_as_batches_end(two: Any) -> None:
    """The client has the result of the first batch while the last is at work."""
    begin = time.perf_counter()
    order = Order(range(10), 2, largest=1)
    arrived = [time.perf_counter() - begin for _ in two.results(dumps(_sleep), order)]
    assert len(arrived) == 10
    assert arrived[0] < arrived[-1] - 0.3 * 3


def _sleep(_: int) -> dict[str, int]:
    time.sleep(0.3)
    return {"n": 1}


def test_context_of_the_user_is_used_and_left_alone(fileset: dict[str, Any], two: Any) -> None:
    context = two.context
    workers = children()
    with open_executor("spark") as executor:
        assert executor.context is context
        assert executor.workers == 2
        assert process(fileset, Plain(), executor).accumulated == plain(fileset)
    assert children() == workers
    assert context.parallelize([1, 2]).sum() == 3
    with open_executor("spark", tuned=False) as executor:
        assert process(fileset, Plain(), executor).accumulated == plain(fileset)
    for options, named in (
        ({"master": "local[3]"}, "master"),
        ({"memory": "2g", "environment": {"A": "b"}}, "memory and environment"),
    ):
        with (
            pytest.raises(InputError, match=f"do not give {named}$"),
            open_executor("spark", **options),
        ):
            pass


# --- faults


def test_worker_that_dies_is_made_up_for(
    fileset: dict[str, Any], two: Any, tmp_path: Path
) -> None:
    result = process(fileset, KillsOnce(tmp_path), two)
    assert result.accumulated == plain(fileset)
    assert result.events == 4000
    assert two.statistics.lost == 1
    assert process(fileset, Plain(), two).repeated == 0


def test_deadly_chunk_is_named(fileset: dict[str, Any], two: Any) -> None:
    with pytest.raises(InputError) as caught:
        process(fileset, kills_at_the_second_file(), two)
    text = one_sentence(caught.value)
    assert text.startswith(f"{list(fileset[NAME]['files'])[1]}: events 0 to 500 could not")
    assert "workers died 4 times, 4 of them at this chunk" in text
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


def test_exception_names_the_chunk_and_is_not_tried_again(
    fileset: dict[str, Any], two: Any
) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"events 1000 to 1500.*jets out of order") as caught:
        process(fileset, Raises(), two.copy(retries=0))
    one_sentence(caught.value)
    assert time.perf_counter() - start < PATIENCE
    assert process(fileset, Plain(), two).repeated == 0


@pytest.mark.usefixtures("alone")
def test_memory_limit_of_workers(fileset: dict[str, Any]) -> None:
    limit = {"spark.executor.pyspark.memory": "2g"}
    with (
        open_executor("spark", configuration=limit, retries=0) as executor,
        pytest.raises(InputError, match=r"events \d+ to \d+ could not.*MemoryError") as why,
    ):
        process(fileset, Hungry(), executor)
    one_sentence(why.value)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_java_that_dies_ends_the_run(fileset: dict[str, Any], tmp_path: Path) -> None:
    before, folders = children(), own_folders()
    others = set(psutil.Process().children(recursive=True))

    def kill() -> None:
        wait_for("work", lambda: len(list(tmp_path.iterdir())) >= 2)
        (java,) = (one for one in psutil.Process().children() if "java" in one.name())
        java.kill()

    family: set[psutil.Process] = set()
    with open_executor("spark", workers=2) as executor:
        family.update(psutil.Process().children(recursive=True))
        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(InputError, match="Spark's Java process is gone") as caught:
            process(fileset, Slow(tmp_path), executor)
        killer.join()
        one_sentence(caught.value)
    assert children() <= before
    assert not [one for one in family - others if one.is_running()]
    assert own_folders() <= folders
    # Another can be started by this process.
    with open_executor("spark") as executor:
        assert executor([1], _count, None) == ({"n": 1, "sum": 1}, 0)


# --- starting and ending


@pytest.mark.serial
@pytest.mark.usefixtures("alone")
def test_nothing_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    before, folders, ports = children(), own_folders(), listening()
    environment, path = dict(os.environ), list(sys.path)

    def fail_while_workers_are_busy() -> None:
        with open_executor("spark", workers=2) as executor:
            assert len(children() - before) >= 4  # Java, the daemon and two workers
            for payload in executor.results(_code(_sleep), Order(range(40), 2, largest=1)):
                assert payload.items == 1
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_workers_are_busy()
    assert children() <= before
    assert own_folders() <= folders
    wait_for("the end of listening", lambda: listening() <= ports)
    assert dict(os.environ) == environment
    assert sys.path == path
    assert capfd.readouterr() == ("", "")


def _code(function: Callable[[Any], Any]) -> bytes:
    code: bytes = dumps(function)
    return code


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_the_plain_way(fileset: dict[str, Any]) -> None:
    before = children()
    with open_executor("spark", workers=2, tuned=False) as executor:
        result = process(fileset, Plain(), executor)
        assert result.accumulated == plain(fileset)
        assert result.repeated == 0
        with pytest.raises(InputError, match=r"events 1000 to 1500.*jets out of order"):
            process(fileset, Raises(), executor.copy(retries=0))
        with pytest.raises(InputError, match="workers died 1 times"):
            process(fileset, kills_at_the_second_file(), executor)
    assert children() <= before


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"master": "spark://127.0.0.1:{port}"}, "there is no Spark master at spark://127.0.0.1"),
        ({"master": "spark://127.0.0.1"}, "there is no Spark master at spark://127.0.0.1"),
        ({"master": "nonsense"}, "Spark did not start with master nonsense: .*[Mm]aster"),
        ({"memory": "64m"}, "Spark did not start .*must be at least"),
    ],
)
def test_what_cannot_be_started(options: dict[str, Any], sentence: str) -> None:
    before = children()
    given: dict[str, Any] = {
        key: one.format(port=free_port()) if isinstance(one, str) else one
        for key, one in options.items()
    }
    start = time.monotonic()
    with (
        pytest.raises(InputError, match=sentence) as caught,
        open_executor("spark", **given),
    ):
        pass
    assert time.monotonic() - start < PATIENCE
    one_sentence(caught.value)
    assert children() <= before


def test_java_that_is_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(NotInstalledError, match=r"none in JAVA_HOME.*openjdk-17-jre-headless"):
        jvm.find_java()
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    with pytest.raises(NotInstalledError, match="which is version 11: install Java 17"):
        jvm.find_java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalledError, match="none on the PATH"):
        jvm.find_java()


STARTS = """
import sys
from analysis.executors import open_executor
print("begin", flush=True)
try:
    with open_executor("spark", workers=2):
        pass
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(
    "moment",
    [
        "executors.spark.daemon",
        pytest.param("spark-class", marks=pytest.mark.slow),
        pytest.param("java -cp", marks=pytest.mark.slow),
    ],
)
def test_interrupt_while_it_starts(moment: str, tmp_path: Path) -> None:
    """Ctrl-C when a process of this command line is first seen."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    family: set[psutil.Process] = set()
    try:

        def seen() -> bool:
            assert process.poll() is None
            family.update(psutil.Process(process.pid).children(recursive=True))
            return any(moment in line for line in map(_line, family))

        wait_for(moment, seen)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, stdout, stderr) == (130, "begin\n", "")
    wait_for("the end of all processes", lambda: not any(map(_line, family)))
    assert list(tmp_path.iterdir()) == []


def _line(process: psutil.Process) -> str:
    """Command line of a process; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# --- a standalone cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[], None]]]:
    """URL of a real master on this machine, and what gives it a worker."""
    import pyspark

    folder = tmp_path_factory.mktemp("cluster")
    home = Path(pyspark.__file__).parent
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    started = []

    def launch(what: str, *arguments: str) -> None:
        command = [
            *(str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{what}"),
            *("--host", "127.0.0.1", "--webui-port", "0", *arguments),
        ]
        environment = {
            **os.environ,
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }
        log = (folder / what).open("wb")
        started.append(
            subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
        )
        log.close()

    def worker() -> None:
        launch(
            "worker.Worker",
            *("--cores", "2", "--memory", "1g", "--work-dir", str(folder / "work"), url),
        )

    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    launch("master.Master", "--port", str(port))
    try:
        wait_for("the start of a master", answers)
        yield url, worker
    finally:
        for one in reversed(started):
            one.terminate()
            one.wait(PATIENCE)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_cluster(
    fileset: dict[str, Any], cluster: tuple[str, Callable[[], None]], tmp_path: Path
) -> None:
    url, add_worker = cluster
    before = children()
    with (
        pytest.raises(InputError, match="not ready within 8 seconds") as caught,
        open_executor("spark", master=url, memory="512m", timeout=8),
    ):
        pass
    one_sentence(caught.value)
    assert children() <= before
    add_worker()
    with (
        open_executor(
            "spark", workers=2, master=url, memory="512m", environment={"COFFEA_TEST": "there"}
        ) as executor,
    ):
        assert executor.folder is None
        result = process(fileset, Plain(), executor)
        assert result.accumulated == plain(fileset)
        assert result.repeated == 0
        total, _ = executor.copy(batch=1)(range(10), _what_a_worker_has, None)
        assert total["warm"] == {True}
        assert all("COFFEA_TEST=there" in one for one in total["environment"])
        assert process(fileset, KillsOnce(tmp_path), executor).accumulated == plain(fileset)
        total, _ = executor(range(4), _histogram, None)
        assert total["x"].values().sum() > 0
    wait_for("the end of executors", lambda: not _executors())


def _executors() -> list[int]:
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if "CoarseGrainedExecutorBackend" in " ".join(one.cmdline()):
                found.append(one.pid)
    return found
