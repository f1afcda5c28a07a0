"""The endpoint stands: what clients, disks and the kernel do to it neither ends nor hangs it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx
import psutil
import pytest
import uproot
import uvicorn
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from servicex import query
from starlette.applications import Starlette
from starlette.responses import FileResponse, RedirectResponse
from starlette.routing import Route

from analysis.delivery.client import Request, deliver
from analysis.servicex import server
from analysis.servicex.app import SUBMISSIONS
from analysis.servicex.endpoint import HOST, Kept, object_name
from analysis.servicex.server import serving
from analysis.servicex.signatures import Key
from tests.support.servicex import MET, PATIENCE, SLOW, Rest, family, rest_of, served, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from analysis.servicex.endpoint import Endpoint

NEVER: Final = "00000000-0000-0000-0000-000000000000"
SLOW_MET: Final = json.dumps([{"treename": "Events", "expressions": ["MET_pt"], "cut": SLOW}])


def write(path: Path, events: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "int32"}).extend({"x": list(range(events))})
    return str(path)


# --- names and digests


def test_no_two_files_have_one_name(endpoint: Endpoint, synthetic: Path, tmp_path: Path) -> None:
    folder = synthetic / "names"
    paths = [
        write(folder / name / "x.root", events)
        for events, name in enumerate(("a:b", "a/b", "a_b", "a;b", "ä b", "a%2Fb"), 3)
    ]
    try:
        every = query.UprootRaw([{"treename": "Events", "expressions": ["x"]}])
        got = deliver([Request("names", paths, every)], config=endpoint.config, cache=tmp_path)
        assert sorted(got["names"].events) == [3, 4, 5, 6, 7, 8]
    finally:
        shutil.rmtree(folder)


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


# --- side doors


def test_nothing_is_written_from_outside(endpoint: Endpoint, rest: Rest, files: list[str]) -> None:
    """By any method, with no token or the token that is for reading."""
    request_id = rest.done(files[:1])["request_id"]
    (result,) = rest.results(request_id)
    name = result["s3-object-name"]
    path = endpoint.result(request_id, name)
    before = path.read_bytes()
    url = f"{endpoint.url}/{request_id}/{name}"
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        for headers in ({}, rest.headers):
            for target in (url, f"{endpoint.url}/{request_id}", f"{endpoint.url}/new/{name}"):
                answer = httpx.request(method, target, headers=headers, content=b"other")
                assert answer.status_code in {401, 403, 404, 405}
    assert path.read_bytes() == before


def test_only_what_is_signed_is_read(endpoint: Endpoint, rest: Rest, files: list[str]) -> None:
    request_id = rest.done(files[:2])["request_id"]
    one, other = (
        f"{endpoint.url}/{request_id}/{result['s3-object-name']}"
        for result in rest.results(request_id)
    )
    signed = endpoint.key.url(one)
    assert httpx.get(signed).status_code == 200
    signature = signed.partition("?")[2]
    stranger = Key(endpoint.key.access, "other").url(one)
    for url in (one, f"{other}?{signature}", stranger, signed[:-1], f"{one}?Expires=9"):
        assert httpx.get(url).status_code == 403
    assert httpx.get(one, headers=rest.headers).status_code == 403
    for none in (f"{endpoint.url}/{NEVER}/x", f"{endpoint.url}/{request_id}/x"):
        assert httpx.get(endpoint.key.url(none)).status_code == 404
    for outside in ("..%2f..%2fendpoint.json", "%2e%2e", ".."):
        front = f"{endpoint.url}/{request_id}/"
        assert httpx.get(endpoint.key.url(front + outside)).status_code in {403, 404}


def test_what_counts_as_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As botocore signs: by headers, in a URL, and in a URL by the version of 2006."""
    key = Key("access", "secret")
    url = f"http://{HOST}:1/bucket/x.parquet"
    host = {"host": f"{HOST}:1"}

    def by_headers(method: str = "GET", **more: str) -> bool:
        request = AWSRequest(method, url, headers={"Host": host["host"], "Range": "bytes=0-9"})
        S3SigV4Auth(Credentials(*key), "s3", "eu-west-1").add_auth(request)
        sent = {name.lower(): value for name, value in request.headers.items()}
        return key.signed("GET", url, sent | more)

    def in_2006(expires: int) -> bool:
        signer = HmacV1QueryAuth(Credentials(*key), expires=expires)
        signer.add_auth(request := AWSRequest("GET", url))
        return key.signed("GET", request.url, host)

    signed = key.url(url)
    assert key.signed("GET", signed, host)
    assert by_headers()
    assert in_2006(9)
    assert not key.signed("HEAD", signed, host)
    assert not key.signed("GET", signed.replace("604800", "604801"), host)
    assert not key.signed("GET", signed, {"host": "other"})
    assert not by_headers("PUT")
    assert not by_headers(range="bytes=0-")
    assert not by_headers(authorization="AWS4-HMAC-SHA256 \xe9")
    assert not in_2006(-9)
    for seconds, headers_too, url_too in ((800, True, True), (1000, False, True), (1e6, *2 * [0])):
        past = datetime.now(UTC) - timedelta(seconds=seconds)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda past=past: past)
        assert by_headers() == headers_too
        assert key.signed("GET", key.url(url), host) == url_too


@contextmanager
def site(answer: Callable[[HttpRequest], Response]) -> Iterator[str]:
    """A web server; its URL."""
    own = socket.create_server((HOST, 0))
    application = Starlette(routes=[Route("/{path:path}", answer)])
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([own],))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://{HOST}:{own.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        own.close()


@pytest.mark.parametrize("codegen", ["uproot-raw", "uproot"])
def test_no_server_leads_outside(
    codegen: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if codegen == "uproot":
        request.getfixturevalue("funcadl")
    write(tmp_path / "x.root", 20)
    selection = {
        "uproot-raw": json.dumps([{"treename": "Events", "expressions": ["x"]}]),
        "uproot": "(call Select (call EventDataset 'x' 'Events') (lambda (list e) "
        "(dict (list 'x') (list (attr e 'x')))))",
    }[codegen]

    def served(asked: HttpRequest) -> Response:
        leads = {"/out": f"{elsewhere}x.root", "/in/here": "/in/there"}
        if to := leads.get(asked.url.path):
            return RedirectResponse(to)
        return FileResponse(tmp_path / "x.root")

    with (
        site(lambda _: FileResponse(tmp_path / "x.root")) as elsewhere,
        site(served) as allowed,
        serving(allow=[allowed], workers=1) as own,
    ):
        rest = Rest.of(own)
        done = rest.done([f"{allowed}in/here", f"{allowed}out"], selection, codegen=codegen)
        inside, outside = sorted(
            rest.results(done["request_id"]), key=lambda one: str(one["file-path"])
        )
        assert outside["transform_status"] == "failure"
        assert f"{elsewhere}x.root is not in the folders" in outside["failure-reason"]
        assert inside["total-events"] == 20


@pytest.mark.parametrize("follow", [False, True])
def test_servers_are_followed_where_it_is_asked_for(*, follow: bool, tmp_path: Path) -> None:
    """XRootD's client tells how often it would let itself be led on."""
    pytest.importorskip("XRootD")
    with serving(allow=[tmp_path], workers=0, follow=follow) as own:
        assert own.roots.follow == follow
    code = (
        "from analysis.servicex import allowed_paths, transform; import fsspec; "
        f"transform.confine(allowed_paths.Roots(urls=('root://a//',), follow={follow})); "
        "from XRootD import client; "
        "print(client.EnvGetInt('RedirectLimit'), 'https' in fsspec.config.conf)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == (["16", "False"] if follow else ["0", "True"])
