"""The endpoint stands: what clients, disks and the kernel do to it neither ends nor hangs it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sqlite3
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil
import pytest
from servicex import query

from analysis.delivery.client import Request, deliver
from analysis.servicex import server
from analysis.servicex.app import SUBMISSIONS
from analysis.servicex.endpoint import HOST, Kept, object_name
from analysis.servicex.server import serving
from tests.support.servicex import (
    MET,
    PATIENCE,
    SLOW,
    Rest,
    family,
    rest_of,
    served,
    wait_for,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from analysis.servicex.endpoint import Endpoint

NEVER: Final = "00000000-0000-0000-0000-000000000000"
SLOW_MET: Final = json.dumps([{"treename": "Events", "expressions": ["MET_pt"], "cut": SLOW}])


# --- names and digests


def test_no_two_files_have_one_name(endpoint: Endpoint, own_files: Path, tmp_path: Path) -> None:
    paths = [
        write(own_files / name / "x.root", events)
        for events, name in enumerate(("a:b", "a/b", "a_b", "a;b", "ä b", "a%2Fb"), 3)
    ]
    every = query.UprootRaw([{"treename": "Events", "expressions": ["x"]}])
    got = deliver([Request("names", paths, every)], config=endpoint.config, cache=tmp_path)
    assert sorted(got["names"].events) == [3, 4, 5, 6, 7, 8]


def test_names_of_objects() -> None:
    long = "/".join(["folder"] * 100)
    paths = [
        *("a:b", "a/b", "a_b", "a b", "a", "b", "/a", "a.root", "a.root.parquet", "ä", "a\n"),
        *(f"{long}/1/x", f"{long}/2/x", "x" * 500, "x" * 501),
    ]
    names = [object_name(path, extension) for path in paths for extension in ("", ".parquet")]
    assert len(set(names)) == 2 * len(paths)
    assert all(len(name) < 200 and not set(name) & set("/:;*?% ") for name in names)


def test_one_file_by_two_spellings_is_refused(rest: Rest, files: list[str]) -> None:
    folder, _, name = files[0].rpartition("/")
    for spelling in (files[0], f"file://{files[0]}", f"{folder}//{name}", f"{folder}/./{name}"):
        answer = rest.submit([files[0], spelling])
        assert answer.status_code == 400
        assert "is listed 2 times" in answer.json()["message"]


# --- how long results are kept


def test_results_are_kept_until_they_are_fetched(synthetic: Path, files: list[str]) -> None:
    with serving(allow=[synthetic], workers=0, kept=Kept(number=210)) as own:
        rest = Rest.of(own)

        def done(request_id: str) -> str:
            task = own.state.claim()
            assert task
            own.state.finish(task, 1.0, events=1, size=1, sha256="x")
            return request_id

        def add() -> str:
            own.state.add(
                request_id := str(uuid.uuid4()),
                *("t", [(files[0], "object")]),
                selection=MET,
                codegen="uproot-raw",
                result_format="parquet",
            )
            return request_id

        first, second, *_ = [done(add()) for _ in range(210)]
        refused = rest.submit(files[:1])
        assert refused.status_code == HTTPStatus.INSUFFICIENT_STORAGE
        assert "fetch or delete some" in refused.json()["message"]
        assert rest.results(first)
        # Room is made by what was fetched, the oldest first.
        for request_id in (second, first):
            (result,) = rest.results(request_id)
            own.sent(result["id"], 1, 1)
        assert rest.submit(files[:1]).status_code == 200
        paths = [f"/servicex/transformation/{one}" for one in (first, second)]
        assert [rest("GET", path).status_code for path in paths] == [404, 200]


def test_limits_of_size_and_age(synthetic: Path, files: list[str]) -> None:
    def submitted(own: Endpoint, size: int) -> str:
        request_id: str = Rest.of(own).submit(files[:1]).json()["request_id"]
        task = own.state.claim()
        assert task
        own.state.finish(task, 1.0, events=1, size=size, sha256="x")
        return request_id

    with serving(allow=[synthetic], workers=0, kept=Kept(size=1000)) as own:
        submitted(own, 999)
        submitted(own, 1)
        assert Rest.of(own).submit(files[:1]).status_code == HTTPStatus.INSUFFICIENT_STORAGE
    with serving(allow=[synthetic], workers=0, kept=Kept(seconds=0)) as own:
        old, new = submitted(own, 1), submitted(own, 1)
        assert [one["request_id"] for one in own.state.transforms()] == [new]
        assert own.state.transform(old) is None


def test_a_part_that_was_fetched_is_not_the_whole(
    endpoint: Endpoint, rest: Rest, files: list[str]
) -> None:
    request_id = rest.done(files[:1])["request_id"]
    (result,) = rest.results(request_id)
    url = endpoint.key.url(f"{endpoint.url}/{request_id}/{result['s3-object-name']}")
    size = result["total-bytes"]

    def unfetched() -> Any:
        found = endpoint.state.transform(request_id)
        assert found
        return found["unfetched"]

    half = httpx.get(url, headers={"Range": f"bytes=0-{size // 2}"})
    assert half.status_code == 206
    assert unfetched() == 1
    rest_of_it = httpx.get(url, headers={"Range": f"bytes={size // 2 + 1}-"})
    assert len(half.content + rest_of_it.content) == size
    wait_for(lambda: unfetched() == 0)


# --- errors of its own


def test_a_locked_database(endpoint: Endpoint, rest: Rest, files: list[str]) -> None:
    request_id = rest.submit(files[:3], SLOW_MET).json()["request_id"]
    path = f"/servicex/transformation/{request_id}"
    wait_for(lambda: rest("GET", path).json()["files-completed"])
    with closing(sqlite3.connect(endpoint.folder / "transforms.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        # The loops meet it, and say so.
        wait_for(lambda: rest("GET", "/health").status_code == 503)
        wait_for(lambda: "its work fails" in rest("GET", "/health").json()["reason"])
        answer = rest.submit(files[:1])
        assert answer.status_code == 503
        assert "GET /health" in answer.json()["message"]
        other.rollback()
    wait_for(lambda: rest("GET", path).json()["status"] == "Complete")
    assert rest("GET", path).json()["files-completed"] == 3
    wait_for(lambda: rest("GET", "/health").json() == {"status": "ok"})
    # And again, when there is nothing to do.
    with closing(sqlite3.connect(endpoint.folder / "transforms.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_for(lambda: "its work fails" in rest("GET", "/health").json().get("reason", ""))
        other.rollback()
    wait_for(lambda: rest("GET", "/health").json() == {"status": "ok"})
    assert rest.done(files[:1])["files-completed"] == 1


@pytest.mark.slow
def test_a_full_disk(synthetic: Path, files: list[str], tmp_path: Path) -> None:
    """No file of the endpoint's process can grow; then they can again."""
    with served(tmp_path / "endpoint", synthetic) as process:
        rest = rest_of(tmp_path / "endpoint")
        request_id = rest.submit(files[:3], SLOW_MET).json()["request_id"]
        path = f"/servicex/transformation/{request_id}"
        wait_for(lambda: rest("GET", path).json()["files-completed"])
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
        wait_for(lambda: "its work fails" in rest("GET", "/health").json().get("reason", ""))
        assert rest.submit(files[:1]).status_code == 503
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        wait_for(lambda: rest("GET", path).json()["status"] == "Complete")
        wait_for(lambda: rest("GET", "/health").json() == {"status": "ok"})
        assert rest.done(files[3:4])["files-completed"] == 1


def test_a_killed_worker_is_no_fault_of_the_file(rest: Rest, files: list[str]) -> None:
    request_id = rest.submit(files[:2], SLOW_MET).json()["request_id"]

    def at_work() -> list[psutil.Process]:
        """Processes that transform, each a child of a worker."""
        found = []
        for process in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):  # one of another test that has just ended
                if "analysis.servicex.worker" in process.cmdline():
                    found += process.children()
        return found

    one = wait_for(at_work)[0]
    one.kill()
    other = wait_for(lambda: [found for found in at_work() if found != one])[0]
    with suppress(psutil.NoSuchProcess):
        other.parent().kill()
    path = f"/servicex/transformation/{request_id}"
    wait_for(lambda: rest("GET", path).json()["status"] == "Complete")
    assert rest("GET", path).json()["files-completed"] == 2


def test_nothing_is_left_over(
    synthetic: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    folder = tmp_path / "endpoint"
    folder.mkdir()
    (folder / "file-of-one-that-was-killed").mkdir()
    (folder / "results" / NEVER).mkdir(parents=True)
    with serving(folder, allow=[synthetic], workers=1) as own:
        rest = Rest.of(own)
        rest.submit(files[:1], SLOW_MET)
        wait_for(lambda: any(folder.glob("file-*")))
        # What is killed now leaves nothing but in its own folder.
        assert not list(elsewhere.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == [
        *("endpoint.json", "results", "servicex.yaml", "transforms.sqlite"),
        *("worker-0.log", "worker-check.log"),
    ]
    assert not list((folder / "results").iterdir())


# --- clients


@contextmanager
def connected(url: str, *starts: bytes) -> Iterator[list[socket.socket]]:
    """Connections on which no more is said than this."""
    address = httpx.URL(url)
    with ExitStack() as stack:
        sockets = []
        for start in starts:
            one = stack.enter_context(socket.create_connection((HOST, address.port or 0)))
            one.sendall(start)
            sockets.append(one)
        yield sockets


def is_closed(one: socket.socket) -> bool:
    """Whether the server has ended a connection; waits for it."""
    one.settimeout(PATIENCE)
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


HALF_BODY: Final = b"POST /token/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
HALF_HEAD: Final = b"GET /servicex HTTP/1.1\r\nHost:"


def half_submission(rest: Rest) -> bytes:
    return (
        "POST /servicex/transformation HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
        f"Authorization: {rest.headers['Authorization']}\r\n\r\nabc"
    ).encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_whatever_clients_do(
    number: int, synthetic: Path, files: list[str], tmp_path: Path
) -> None:
    """With clients that say nothing, half of a request, and that wait for an answer."""
    folder = tmp_path / "endpoint"
    with served(folder, synthetic) as process:
        rest = rest_of(folder)
        rest.submit(files[:2], SLOW_MET)
        # A fork that is stopped before it has become a worker is nobody's, and stays.
        wait_for(lambda: all("serve" not in one.cmdline() for one in family(process)))
        # The checker too, so that those who ask for more wait for it.
        for worker in family(process):
            worker.suspend()
        with (
            connected(rest.url, b"", HALF_HEAD, HALF_BODY, half_submission(rest)),
            ThreadPoolExecutor(4) as pool,
        ):
            waiting = [pool.submit(_swallowed, lambda: rest.submit(files[:1])) for _ in range(4)]
            process.send_signal(number)
            assert process.wait(PATIENCE) == 128 + number
            assert process.stdout
            said = process.stdout.read()
            assert "the endpoint has stopped" in said
            assert "Traceback" not in said
            for one in waiting:
                one.result(PATIENCE)


def _swallowed(act: Callable[[], Any]) -> None:
    with suppress(httpx.HTTPError):
        act()


def test_slow_clients_are_closed(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RECEIVE_SECONDS", 0.3)
    with serving(allow=[synthetic], workers=0) as own:
        rest = Rest.of(own)
        starts = (b"", HALF_HEAD, HALF_BODY, half_submission(rest))
        with connected(own.url, *starts, half_submission(rest)) as sockets:
            ended = threading.Event()

            def drip() -> None:
                # A byte now and then is no progress.
                while not ended.wait(0.02):
                    try:
                        sockets[-1].sendall(b"x")
                    except OSError:
                        return

            dripping = threading.Thread(target=drip)
            dripping.start()
            try:
                for one in sockets:
                    while not is_closed(one):
                        pass
            finally:
                ended.set()
                dripping.join()
        assert rest("GET", "/health").json() == {"status": "ok"}


def test_connections_are_counted(synthetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with serving(allow=[synthetic], workers=0) as own:
        with connected(own.url, *[b""] * 8) as sockets:
            assert all(is_closed(one) for one in sockets[5:])
            # The others are not.
            sockets[0].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sockets[0].recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: Rest.of(own)("GET", "/health").json() == {"status": "ok"})


def test_a_check_that_hangs_holds_up_nobody_else(
    endpoint: Endpoint, rest: Rest, files: list[str]
) -> None:
    rest.submit(files[:1])
    checking = endpoint._checkers["uproot-raw"]._process
    assert checking
    os.kill(checking.pid, signal.SIGSTOP)
    many = SUBMISSIONS + 8
    try:
        with ThreadPoolExecutor(many) as pool:
            waiting = [pool.submit(rest.submit, files[:1]) for _ in range(many)]
            refused = wait_for(lambda: [one for one in waiting if one.done()])
            assert refused[0].result().status_code == 503
            assert "try again later" in refused[0].result().json()["message"]
            assert rest("GET", "/servicex").status_code == 200
            assert rest("GET", "/servicex/transformation").status_code == 200
            os.kill(checking.pid, signal.SIGCONT)
            codes = sorted(one.result().status_code for one in waiting)
    finally:
        os.kill(checking.pid, signal.SIGCONT)
    assert codes == [200] * SUBMISSIONS + [503] * 8
