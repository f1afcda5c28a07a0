"""Hosts share a network and no folder, their links are as was asked for, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from analysis.errors import NotInstalledError
from perf.hosts import network as hosts
from perf.hosts.network import Host, Link, network
from perf.measure.fresh_process import Process, python_call
from tests.support.process_helpers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE: Final = 2_000_000

SINK: Final = """
import socket, sys
listener = socket.create_server(("", 9000))
print("listens", flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        size = 0
        while data := connection.recv(1 << 20):
            size += len(data)
        connection.sendall(b"%d" % size)
"""

SENDER: Final = """
import socket, sys, time
begin = time.perf_counter()
with socket.create_connection((sys.argv[1], 9000), timeout=float(sys.argv[3])) as connection:
    opened = time.perf_counter() - begin
    connection.sendall(bytes(int(sys.argv[2])))
    connection.shutdown(socket.SHUT_WR)
    print(connection.recv(100).decode(), opened)
"""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Two hosts, and one whose link is delayed, which sees a folder and serves a port."""
    if reason := hosts.why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("visible", numbered=False)
    (folder / "file").write_text("seen")
    links = {"one": Link(), "two": Link(rate=1e9), "far": Link(delayed=True)}
    with network(links, {"far": [folder]}) as made:
        yield made


def on(host: Host, *arguments: str) -> str:
    """What a program says on a host."""
    done = subprocess.run(host.command(arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(host: Host, code: str) -> str:
    return on(host, sys.executable, "-c", code).strip()


def test_a_host_has_its_own_name_folders_and_processes(three: dict[str, Host]) -> None:
    one, two, far = three["one"], three["two"], three["far"]
    assert on(one, "hostname").strip() == "one"
    on(one, "touch", "/tmp/mine", "/dev/shm/mine")
    assert (one.root / "tmp" / "mine").exists()
    for folder in ("/tmp", "/dev/shm"):
        assert "mine" not in on(two, "ls", folder)
        assert "mine" not in {path.name for path in Path(folder).iterdir()}
    alone = "import os, psutil; print(sorted(psutil.pids()) == [1, os.getpid()])"
    # What ran before may take a moment to be gone.
    wait_for("the end of other processes", lambda: python(two, alone) == "True")
    assert python(one, "import analysis, numpy, os; print(os.getcwd())") == str(Path.home())
    # What is of the machine can only be read.
    assert python(one, f"import os; print(os.access({str(hosts.ROOT)!r}, os.W_OK))") == "False"
    assert python(far, "import socket; print(socket.gethostbyname('one'))") == one.address


def test_a_host_sees_the_folders_that_it_was_promised(
    three: dict[str, Host], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "visible"
    assert on(three["far"], "cat", str(folder / "file")) == "seen"
    seen = on(
        three["one"], sys.executable, "-c", f"import os; print(os.path.exists({str(folder)!r}))"
    )
    assert seen.strip() == "False"


@pytest.fixture(scope="module")
def sinks(three: dict[str, Host]) -> Iterator[None]:
    """Programs on all hosts that say how many bytes they were sent."""
    processes: list[Any] = []
    try:
        for host in three.values():
            processes.append(host.start(sys.executable, "-c", SINK))
            processes[-1].__enter__()
            assert processes[-1].answer(30).strip() == "listens"
        yield
    finally:
        for process in processes:
            process.__exit__(None, None, None)


def send(here: Host, there: Host, size: int = SIZE, patience: float = 60) -> tuple[int, float]:
    """Bytes that arrived, and seconds until the connection was open."""
    arrived, opened = on(
        here, sys.executable, "-c", SENDER, there.address, str(size), str(patience)
    ).split()
    return int(arrived), float(opened)


@pytest.mark.usefixtures("sinks")
def test_bytes_are_counted_and_delay_is_added_and_frames_are_lost(three: dict[str, Host]) -> None:
    one, two, far = three["one"], three["two"], three["far"]
    before = two.traffic
    assert send(one, two)[0] == SIZE
    counted = two.traffic.since(before)
    assert SIZE < counted.received < 1.2 * SIZE
    assert counted.sent < SIZE / 10
    before = far.traffic
    assert send(one, far)[0] == SIZE
    assert SIZE < far.traffic.since(before).received < 1.2 * SIZE
    # A round trip, by the clock of the sender; what is later may have many reasons.
    far.shape(delay=0.05)
    assert send(one, far, size=1)[1] >= 0.1
    far.shape(loss=0.1)
    before, sender = far.traffic, one.traffic
    assert send(one, far)[0] == SIZE
    sent, arrived = one.traffic.since(sender).sent, far.traffic.since(before).received
    far.shape()
    assert sent > 1.03 * arrived > 1.03 * SIZE


@pytest.mark.usefixtures("sinks")
def test_a_host_that_is_cut_off_is_not_reached_until_it_is_back(three: dict[str, Host]) -> None:
    for name in ("two", "far"):
        three[name].cut_off()
        with pytest.raises(AssertionError, match=r"[Tt]ime"):
            send(three["one"], three[name], size=1, patience=1)
        three[name].connect()
        assert send(three["one"], three[name])[0] == SIZE


def test_a_slowed_host_is_stopped_in_turn_and_then_goes_on(three: dict[str, Host]) -> None:
    one = three["one"]
    with one.start("sleep", "600") as sleeping:

        def stopped() -> bool:
            family = psutil.Process(sleeping.pid).children(recursive=True)
            return psutil.STATUS_STOPPED in {each.status() for each in family}

        wait_for("a start", lambda: len(psutil.Process(sleeping.pid).children()) == 1)
        with one.slowed(0.5):
            wait_for("a stop", stopped)
            wait_for("that it goes on", lambda: not stopped())
        assert not stopped()


# --- nothing is left


def serve_hosts() -> None:
    """Make hosts on which programs run, say the numbers of first processes, and wait."""
    with (
        network({"one": Link(), "far": Link(delayed=True)}) as made,
        made["one"].start("sleep", "600"),
    ):
        sys.stdout.write(f"{made['one'].pid} {made['far'].pid} {made['one'].switch}\n")
        sys.stdout.flush()
        sys.stdin.read()


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(None, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_hosts_end_with_the_process_that_made_them(number: signal.Signals | None) -> None:
    if reason := hosts.why_not():
        pytest.skip(reason)
    call = python_call("tests.perf.hosts.test_network.serve_hosts")
    with Process(call, {"PYTHONPATH": str(hosts.ROOT)}, grace=30) as process:
        pids = [int(pid) for pid in process.answer(60).split()]
        spaces = {network_of(pid) for pid in pids}
        assert len(spaces - {None, network_of(os.getpid())}) == 3
        family = psutil.Process(process.pid).children(recursive=True)
        if number is not None:
            os.kill(process.pid, number)
        else:
            process.finish(timeout=60)
        wait_for("the end of all processes", lambda: not any(map(running, family)))
    # No process is left in the networks, so that the kernel has removed them.
    assert not spaces & {network_of(pid) for pid in psutil.pids()}


def running(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def network_of(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return None


# --- where there can be none


def test_why_there_can_be_no_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    why_not = hosts.why_not.__wrapped__
    monkeypatch.setattr(hosts, "why_not", why_not)
    monkeypatch.setattr(hosts, "SEARCHED", str(tmp_path))
    with pytest.raises(NotInstalledError, match="ip and tc and unshare and nsenter not installed"):
        network({"one": Link()}).__enter__()
