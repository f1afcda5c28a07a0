"""The Dask executor: a real scheduler, real workers, and what happens when they die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import psutil
import pytest
from coffea.processor import DaskExecutor, accumulate
from coffea.processor.executor import ExecutorBase
from distributed import Client, Future, LocalCluster, Security, WorkerPlugin

from analysis.errors import InputError
from analysis.executors import open_executor
from tests.support.faults import Hungry, KillsAlways, KillsOnce, Plain, Raises, Slow
from tests.support.process_helpers import (
    NAME,
    PATIENCE,
    children,
    one_sentence,
    plain,
    process,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


ENGINE = "dask"


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


def pids(client: Client) -> set[int]:
    return set(client.run(os.getpid).values())


class Marked(Plain):
    """Leaves a file for every call."""

    def before(self, events: Any) -> None:  # noqa: ARG002
        assert self.marks is not None
        (self.marks / uuid.uuid4().hex).touch()


@dataclass
class Pure(ExecutorBase):
    """As an executor that tells Dask that the same call gives the same result.

    That of coffea does, by `heavy_input`. The future which it makes of that has its own number
    with newer releases of distributed, so that no two calls are the same.
    """

    client: Client | None = None
    held: list[Future] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "client": None, "held": []}

    def __call__(self, items: Any, function: Any, accumulator: Any) -> tuple[Any, int]:
        assert self.client is not None
        self.held += (futures := self.client.map(function, items, pure=True))
        return accumulate(self.client.gather(futures), accumulator), 0


def test_results_of_an_earlier_run_are_not_used(
    fileset: dict[str, Any], two: Any, tmp_path: Path
) -> None:
    """Dask hands them back where it may; the nonce of a run prevents it."""
    direct, runs = tmp_path / "direct", tmp_path / "runs"
    direct.mkdir()
    runs.mkdir()
    chunks = [(str(direct), number) for number in range(8)]
    executor = Pure(client=two.client, status=False)
    for _ in range(2):
        assert executor(chunks, _mark, None) == ({"n": 8}, 0)
        assert len(list(direct.iterdir())) == 8  # None is called a second time.
    for calls, one in enumerate(
        (executor, executor, two, two, DaskExecutor(client=two.client, status=False)), 1
    ):
        assert process(fileset, Marked(runs), one).repeated == 0
        assert len(list(runs.iterdir())) == 8 * calls


def _mark(chunk: tuple[str, int]) -> dict[str, int]:
    (Path(chunk[0]) / uuid.uuid4().hex).touch()
    return {"n": 1}


def test_killed_worker_is_made_up_for(fileset: dict[str, Any], two: Any, tmp_path: Path) -> None:
    before = pids(two.client)
    result = process(fileset, KillsOnce(tmp_path), two)
    assert result.accumulated == plain(fileset)
    assert result.events == 4000
    assert two.statistics.lost >= 1
    # The nanny starts another, which is as the first ones were.
    wait_for("another worker", lambda: len(two.client.nthreads()) == 2)
    assert len(pids(two.client) - before) == 1
    assert set(two.client.run(_profiles).values()) == {False}
    assert set(two.client.run(_is_warm).values()) == {True}


def _profiles() -> bool:
    return bool(dask.config.get("distributed.worker.profile.enabled"))


def _is_warm() -> bool:
    return "analysis.ttbar" in sys.modules


class Kills(KillsAlways):
    """For the first file of ttbar."""

    bad = "_0.root"


def test_deadly_chunk_is_named(fileset: dict[str, Any], two: Any) -> None:
    (path,) = (path for path in fileset[NAME]["files"] if Kills.bad in path)
    with pytest.raises(InputError) as caught:
        process(fileset, Kills(), two.copy(retries=1))
    text = one_sentence(caught.value)
    assert text.startswith(f"{path}: events 0 to 500 could not be processed: workers died 2 times")
    assert "memory limit" not in text
    # The cluster is none the worse for it.
    assert process(fileset, Plain(), two).accumulated == plain(fileset)


def test_exception_names_the_chunk(fileset: dict[str, Any], two: Any) -> None:
    with pytest.raises(InputError, match=r"events 1000 to 1500.*jets out of order") as caught:
        process(fileset, Raises(), two)
    one_sentence(caught.value)


def test_memory_limit(fileset: dict[str, Any]) -> None:
    with (
        open_executor("dask", memory_limit="1GB", retries=0, batch=1) as executor,
        pytest.raises(InputError, match="workers died 1 times, over their memory limit") as caught,
    ):
        process(fileset, Hungry(), executor)
    one_sentence(caught.value)


def test_many_items_are_few_tasks_and_few_payloads(two: Any) -> None:
    total, _ = two(range(10_000), _count, {"n": 5})
    assert total == {"n": 10_005}
    assert two.statistics.spent.tasks < 50
    assert two.statistics.batches <= two.fan_in
    two.statistics.clear()
    total, _ = two.copy(batch=1, fan_in=4)(range(70), _count, None)
    assert total == {"n": 70}
    assert two.statistics.batches <= 4
    # 18 of four, 5 of those, and 2 of those: one task each at most beside the batches.
    assert 70 < two.statistics.spent.tasks <= 70 + 18 + 5 + 2


def _count(_: int) -> dict[str, int]:
    return {"n": 1}


class Large:
    """A function of more bytes than Dask leaves in a task."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.content = os.urandom(150_000)

    def __call__(self, item: int) -> dict[str, int]:
        time.sleep(0.05)
        return {"sum": self.number * item}


def test_large_functions_of_runs_at_once_are_not_mixed(two: Any) -> None:
    """By keyword Dask would call each of them "code", and keep the first."""
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(two.copy(), [1, 1], Large(number), None) for number in range(4)]
        assert [run.result(timeout=PATIENCE)[0]["sum"] for run in runs] == [0, 2, 4, 6]


def test_affinity(two: Any) -> None:
    executor = two.copy(affinity=True)
    first, second = (executor(range(40), _where, None)[0] for _ in range(2))
    assert set(first) == set(range(40))
    assert len({*first.values()}) == 2
    # Not bound, so that no worker is waited for.
    assert sum(first[item] == second[item] for item in first) >= 30


def _where(item: int) -> dict[int, _Name]:
    time.sleep(0.02)  # An idle worker takes from another what that has not begun.
    return {item: _Name(os.getpid())}


class _Name(int):
    def __add__(self, other: object) -> _Name:
        raise AssertionError(other)


class Greets(WorkerPlugin):
    """A plugin of the user's."""

    def setup(self, worker: Any) -> None:
        worker.greeting = "hello"


def _greeting(dask_worker: Any) -> str:
    return str(dask_worker.greeting)


def test_start_and_end() -> None:
    """Options reach the workers, and nothing is left of them, here or there."""
    before, others, environment = children(), _ports(), _own_environment()
    configuration = json.dumps(dask.config.config, default=str)
    folders = set(Path(tempfile.gettempdir()).glob("coffea-dask-*"))
    with open_executor(
        "dask",
        threads=2,
        plugins=[Greets()],
        priority=3,
        affinity=True,
        environment={"COFFEA_TEST": "1", "MALLOC_ARENA_MAX": "3", "MALLOC_TRIM_THRESHOLD_": None},
        config={"distributed.admin.tick.interval": "2s"},
    ) as executor:
        client = executor.client
        assert (executor.priority, executor.affinity) == (3, True)
        assert list(client.nthreads().values()) == [2]
        assert set(client.run(_greeting).values()) == {"hello"}
        (held,) = client.run(_environment).values()
        assert held["COFFEA_TEST"] == "1"
        assert "MALLOC_TRIM_THRESHOLD_" not in held
        (pid,) = pids(client)
        # What glibc has read: the environment that the process began with.
        began = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"MALLOC_ARENA_MAX=3" in began
        assert b"COFFEA_TEST=1" in began
        # It is a fork of a process of this one.
        assert psutil.Process(psutil.Process(pid).ppid()).ppid() == os.getpid()
        assert _own_environment() == environment
        assert json.dumps(dask.config.config, default=str) == configuration
        ports = _ports() - others
        assert 8787 not in ports
        assert ports
    assert _own_environment() == environment
    assert json.dumps(dask.config.config, default=str) == configuration
    assert set(Path(tempfile.gettempdir()).glob("coffea-dask-*")) <= folders
    wait_for("the end of the workers", lambda: children() <= before)
    assert not _ports() & ports


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _own_environment() -> dict[str, str]:
    """Without what the first cluster of a process sets, for good."""
    return {name: one for name, one in os.environ.items() if name != "__DASK_PARENT_PID"}


def _ports() -> set[int]:
    """Ports at which this process listens."""
    connections = psutil.Process().net_connections()
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def test_no_worker_survives_an_exception() -> None:
    before = children()
    began = 0.0

    def fail_while_a_worker_is_busy() -> None:
        nonlocal began
        with open_executor("dask", workers=2) as executor:
            executor.client.submit(time.sleep, 10 * PATIENCE)
            time.sleep(0.5)
            began = time.monotonic()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_a_worker_is_busy()
    wait_for("the end of the workers", lambda: children() <= before)
    assert time.monotonic() - began < 30


SCRIPT = """
import sys, time
from pathlib import Path
from analysis.executors import open_executor

def work(item):
    Path(sys.argv[1], str(item)).touch()
    time.sleep(1)
    return {"n": 1}

if __name__ == "__main__":
    with open_executor("dask", status=False) as executor:
        try:
            executor(range(1000), work, None)
        except KeyboardInterrupt:
            print("interrupted")
"""


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all processes, while workers are at work."""
    (tmp_path / "script.py").write_text(SCRIPT)
    marks = tmp_path / "marks"
    marks.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(marks)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    try:
        wait_for("work", lambda: process.poll() is not None or any(marks.iterdir()))
        family = [one.pid for one in psutil.Process(process.pid).children(recursive=True)]
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (stdout.split(), stderr, process.returncode) == (["interrupted"], "", 0)
    wait_for("the end of all processes", lambda: not any(map(psutil.pid_exists, family)))
    assert {one.name for one in tmp_path.iterdir()} == {"script.py", "marks"}


def test_cluster_of_the_user_is_left_alone(fileset: dict[str, Any]) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        with open_executor("dask", cluster=cluster, plugins=[Greets()]) as executor:
            result = process(fileset, Plain(), executor)
            assert executor.workers == 1
        with Client(cluster, set_as_default=False) as client:
            assert len(pids(client)) == 1
            assert client.submit(abs, -3).result() == 3
            (plugins,) = client.run(_plugins).values()
    assert result.accumulated == plain(fileset)
    assert result.repeated == 0
    assert not [name for name in plugins if "coffea" in name or "Greets" in name]


def _plugins(dask_worker: Any) -> list[str]:
    return list(dask_worker.plugins)


class Remote:
    """A scheduler, and workers that are started and ended one by one, as a user does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0")
        file = folder / "scheduler.json"
        wait_for("the scheduler", file.exists)
        self.address = json.loads(file.read_text())["address"]

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        common = ("--no-dashboard", "--scheduler-file", str(self.folder / "scheduler.json"))
        started = subprocess.Popen(
            [sys.executable, "-m", "dask", *command, *common],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(started)
        return started

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker", "--nthreads", "1", "--no-nanny")

    def close(self) -> None:
        for one in self.processes:
            one.terminate()
        for one in self.processes:
            one.wait(PATIENCE)


def test_a_cluster_that_stops_loses_its_workers_and_dies(
    fileset: dict[str, Any], tmp_path: Path
) -> None:
    """Each ends the run in a sentence."""
    remote = Remote(tmp_path)
    with closing(remote):
        worker = remote.worker()
        with open_executor("dask", address=remote.address, silence=4) as executor:
            # It serves first, and again when it goes on.
            assert process(fileset, Plain(), executor).accumulated == plain(fileset)
            try:
                with _when_busy(tmp_path / "stops", remote.scheduler, signal.SIGSTOP) as slow:
                    text = _failure(fileset, slow, executor)
            finally:
                remote.scheduler.send_signal(signal.SIGCONT)
            assert "has not answered for 4 s" in text
        with open_executor("dask", address=remote.address) as executor:
            assert process(fileset, Plain(), executor).accumulated == plain(fileset)
            with _when_busy(tmp_path / "is left", worker, signal.SIGKILL) as slow:
                text = _failure(fileset, slow, executor.copy(patience=3))
            assert "had no worker for 3 s: start" in text
        remote.worker()
        with open_executor("dask", address=remote.address) as executor:
            assert process(fileset, Plain(), executor).accumulated == plain(fileset)
            with _when_busy(tmp_path / "dies", remote.scheduler, signal.SIGKILL) as slow:
                text = _failure(fileset, slow, executor)
            began = time.monotonic()
        assert time.monotonic() - began < 30
        assert "scheduler at tcp" in text
        assert "was lost" in text


@contextmanager
def _when_busy(
    marks: Path, victim: subprocess.Popen[bytes], number: signal.Signals
) -> Iterator[Slow]:
    """A processor, and a signal to a process when that is at work."""
    marks.mkdir()

    def send() -> None:
        wait_for("work", lambda: any(marks.iterdir()))
        victim.send_signal(number)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        yield Slow(marks)
        sending.result()


def _failure(fileset: dict[str, Any], processor: Any, executor: Any) -> str:
    """The sentence in which a run ends."""
    with pytest.raises(InputError) as caught:
        process(fileset, processor, executor)
    return one_sentence(caught.value)


def test_a_scheduler_that_answers_is_waited_for(two: Any) -> None:
    once = two.copy(silence=0.1)
    assert once([0.5], _sleep, None)[0] == {"slept": 1}


def _sleep(seconds: float) -> dict[str, int]:
    time.sleep(seconds)
    return {"slept": 1}


def test_what_cannot_be_reached_or_started() -> None:
    with (
        pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"),
        open_executor("dask", address="tcp://127.0.0.1:9", patience=1),
    ):
        pass
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        pytest.raises(InputError, match=r"no worker of .* did anything for 1 s"),
        open_executor("dask", cluster=cluster, patience=1),
    ):
        pass


WRONG = {
    "tcp://127.0.0.1:9": "no Dask scheduler answers at tcp://127.0.0.1:9: check its address",
    "tls://127.0.0.1:9": "at tls://127.0.0.1:9 cannot be reached (TLS expects ",
    "nonsense": "no Dask scheduler answers at nonsense: check its address",
}


def test_a_wrong_address_is_one_sentence_and_no_more() -> None:
    """To the end of the process, when clients are deleted."""
    code = (
        "import sys; from analysis.errors import InputError\n"
        "from analysis.executors import open_executor\n"
        "for address in sys.argv[1:]:\n"
        "    try:\n"
        "        with open_executor('dask', address=address, patience=1): pass\n"
        "    except InputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, *WRONG]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert len(lines) == len(WRONG)
    for line, sentence in zip(lines, WRONG.values(), strict=True):
        assert sentence in line
    assert ended.stderr == ""


def test_certificates() -> None:
    """A cluster whose connections are encrypted, with files that are named as on a command line."""
    pytest.importorskip("cryptography")
    security = Security.temporary()
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    given = {name: getattr(security, name) for name in names}
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        protocol="tls://",
        security=security,
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with open_executor("dask", address=address, security=given) as executor:
            assert executor([1, 2], _count, None) == ({"n": 2}, 0)


def test_coffea_as_it_comes(fileset: dict[str, Any]) -> None:
    before, environment = children(), _own_environment()
    with open_executor("dask", tuned=False) as executor:
        assert type(executor) is DaskExecutor
        result = process(fileset, Plain(), executor)
    assert result.accumulated == plain(fileset)
    assert _own_environment() == environment
    wait_for("the end of the workers", lambda: children() <= before)
