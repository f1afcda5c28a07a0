"""The endpoint speaks as ServiceX's own application does, of which requests were recorded."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import httpx
import jwt
import psutil
import pytest

from analysis.servicex.database import State, Task
from analysis.servicex.endpoint import HOST, object_name
from tests.support.servicex import MET, Rest, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from analysis.servicex.endpoint import Endpoint

RECORDED: Final = "servicex/servicex_app_2024-10.json"
NEVER: Final = "00000000-0000-0000-0000-000000000000"
REFUSED: Final = (
    *("404", "no_did_no_files", "did_and_files", "bad_scheme", "bad_codegen", "bad_selection"),
    *("bad_format", "missing_dest"),
)


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> dict[str, Any]:
    """Requests to the real application, and what it answered."""
    exchanges: dict[str, Any] = json.loads((shared_data / RECORDED).read_text())
    return exchanges


@pytest.fixture
def two_files(files: list[str]) -> list[str]:
    """A good file and one that is not there, as in the recording."""
    return [files[0], f"{files[0]}.none"]


def again(
    rest: Rest, exchange: dict[str, Any], files: list[str], request_id: str
) -> httpx.Response:
    """Send a recorded request to the endpoint, with files and a transform that it has."""
    request = exchange["request"]
    recorded_id = next((part for part in request["url"].split("/") if part.count("-") == 4), "")
    url = request["url"].replace(recorded_id.partition("?")[0] or "\0", request_id or NEVER)
    body = request["json"]
    if body and body.get("file-list"):
        body = {**body, "file-list": files}
    return rest(request["method"], url, json=body)


def assert_like(got: Any, want: Any, where: str = "body") -> None:
    """Whatever the real application says is there, and of the same kind."""
    if isinstance(want, dict):
        assert want.keys() <= got.keys(), where
        for key, value in want.items():
            assert_like(got[key], value, f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) >= len(want), where
        for one, other in zip(got, want, strict=False):
            assert_like(one, other, where)
    elif isinstance(want, str) and want.endswith("Z"):
        assert datetime.fromisoformat(got).tzinfo is not None, where
    elif isinstance(want, (int, float)) and not isinstance(want, bool):
        assert isinstance(got, (int, float)), where
    else:
        assert type(got) is type(want), where


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_those_of_the_application(
    name: str, recorded: dict[str, Any], rest: Rest, two_files: list[str]
) -> None:
    exchange = recorded[name]
    answer = again(rest, exchange, two_files, "")
    assert answer.status_code == exchange["status"]
    assert answer.headers["content-type"] == exchange["content_type"]
    assert answer.json() == exchange["body"]


def test_a_transform_goes_as_with_the_application(
    recorded: dict[str, Any], rest: Rest, two_files: list[str]
) -> None:
    answer = again(rest, recorded["submit"], two_files, "")
    assert answer.status_code == 200
    request_id = answer.json()["request_id"]
    assert answer.json().keys() == recorded["submit"]["body"].keys()
    assert str(uuid.UUID(request_id)) == request_id

    running = recorded["get_one:Running:0:0"]
    assert_like(again(rest, running, two_files, request_id).json(), running["body"])

    complete = recorded["get_one:Complete:1:1"]

    def get() -> Any:
        one = again(rest, complete, two_files, request_id).json()
        return one if one["status"] == "Complete" else None

    got = wait_for(get)
    assert_like(got, complete["body"])
    same = (
        *("title", "selection", "tree-name", "workers", "result-destination", "result-format"),
        *("status", "failure-info", "files", "files-completed", "files-failed"),
        *("files-remaining", "minio-secured"),
    )
    assert {key: got[key] for key in same} == {key: complete["body"][key] for key in same}
    assert got["did"] == name_of(two_files)

    for name in ("status_details", "get_all", "info"):
        answer = again(rest, recorded[name], two_files, request_id)
        assert answer.status_code == recorded[name]["status"]
        assert_like(
            answer.json(),
            {**recorded[name]["body"], **({"code-gen-image": {}} if name == "info" else {})},
        )

    cancel = recorded["cancel_complete"]
    answer = again(rest, cancel, two_files, request_id)
    assert answer.status_code == cancel["status"]
    message = cancel["body"]["message"].split()
    message[4] = request_id
    assert answer.json() == {"message": " ".join(message)}


def name_of(files: list[str]) -> str:
    """Name of the data set of a file list, as the application computes it."""
    return hashlib.sha256(" ".join(files).encode()).hexdigest()


def test_capabilities(rest: Rest, endpoint: Endpoint) -> None:
    info = httpx.get(f"{rest.url}/servicex").json()
    assert set(info["capabilities"]) >= {
        "poll_local_transformation_results",
        "long_sample_titles_10240",
        "post_cancel_transform",
        "generate_file_urls",
    }
    assert set(info["code-gen-image"]) == set(endpoint.codegens)


def test_results_come_once(rest: Rest, files: list[str]) -> None:
    """Polling with the time of the last result gives each file once, whatever the pace."""
    done = rest.done(files[:4])
    everything = rest.results(done["request_id"])
    assert len(everything) == 4
    times = [one["created_at"] for one in everything]
    assert sorted(set(times)) == times
    seen, last = [], "0001-01-01T00:00:00+00:00"
    for _ in range(5):
        new = rest.results(done["request_id"], later_than=last)[:1]
        seen += [one["file-path"] for one in new]
        last = f"{new[0]['created_at']}+00:00" if new else last
    assert sorted(seen) == files[:4]
    answer = rest("GET", f"/servicex/transformation/{done['request_id']}/results?later_than=x")
    assert answer.status_code == 400
    assert "ISO 8601" in answer.json()["message"]


def test_results_of_a_moment(tmp_path: Path) -> None:
    """Files that are done in the same microsecond still have times of their own."""
    state = State(tmp_path / "state")
    names = [f"f{i}" for i in range(200)]
    pairs = [(name, name) for name in names]
    state.add("id", None, pairs, selection="", codegen="", result_format="")
    tasks = [task for _ in names if (task := state.claim())]
    threads = [threading.Thread(target=state.finish, args=(task, 1.0)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = [one["created"] for one in state.results("id")]
    assert len(set(times)) == len(names)
    found = state.transform("id")
    assert found
    assert found["status"] == "Complete"
    assert state.claim() is None
    state.close()


def test_nobody_else_is_given_a_file(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    pairs = [(str(i), str(i)) for i in range(50)]
    state.add("id", None, pairs, selection="", codegen="", result_format="")
    claimed: list[Task] = []

    def claim() -> None:
        while task := state.claim():
            claimed.append(task)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(task.path) for task in claimed) == list(range(50))
    state.close()
    # One that was at work when the process ended is done by the next.
    state = State(tmp_path / "state")
    assert state.claim()
    state.close()


def test_urls_of_files(rest: Rest, files: list[str]) -> None:
    """The way of the next client: plain HTTP, without a secret of the S3 server."""
    done = rest.done(files[:1])
    name = rest.results(done["request_id"])[0]["s3-object-name"]
    assert name == object_name(files[0], ".parquet")
    body = {"request_id": done["request_id"], "file_list": [name]}
    uris = rest("POST", "/servicex/transformation/file-urls", json=body).json()["uris"]
    url, headers, expiry = uris[name]
    answer = httpx.get(url, headers=headers)
    assert answer.status_code == 200
    assert answer.content[:4] == b"PAR1"
    assert expiry > datetime.now().timestamp()  # noqa: DTZ005
    assert httpx.get(url.partition("?")[0]).status_code == 403
    body["request_id"] = NEVER
    assert rest("POST", "/servicex/transformation/file-urls", json=body).status_code == 404
    assert rest("POST", "/servicex/transformation/file-urls", content=b"{").status_code == 400


def test_cancel_and_delete(rest: Rest, files: list[str]) -> None:
    slow = json.dumps(
        [{"treename": "Events", "expressions": ["MET_pt"], "cut": "MET_pt > 9**9**9"}]
    )
    request_id = rest.submit(files[:1], slow).json()["request_id"]
    path = f"/servicex/transformation/{request_id}"
    assert rest("DELETE", path).status_code == 400
    assert rest("POST", f"{path}/cancel").status_code == 200
    assert rest("GET", path).json()["status"] == "Canceled"
    assert rest("GET", f"{path}/cancel").status_code == 400
    assert rest("DELETE", path).status_code == 200
    assert rest("GET", path).status_code == 404
    # The workers are free for others.
    assert rest.done(files[:3])["files-completed"] == 3


def test_data_sets(rest: Rest, files: list[str]) -> None:
    done = rest.done(files[:2])
    number = done["did_id"]
    path = f"/servicex/datasets/{number}"
    one = rest("GET", path).json()
    assert one["name"] == done["did"]
    assert [file["paths"] for file in one["files"]] == files[:2]
    listed = rest("GET", "/servicex/datasets").json()["datasets"]
    assert number in [other["id"] for other in listed]
    assert rest("DELETE", path).json() == {"dataset-id": number, "stale": True}
    assert rest("DELETE", path).status_code == 400
    listed = rest("GET", "/servicex/datasets").json()["datasets"]
    assert number not in [other["id"] for other in listed]
    assert rest("GET", "/servicex/datasets/987654").status_code == 404


# --- who may

ROUTES: Final = (
    ("POST", "/servicex/transformation"),
    ("GET", "/servicex/transformation"),
    ("GET", f"/servicex/transformation/{NEVER}"),
    ("DELETE", f"/servicex/transformation/{NEVER}"),
    ("GET", f"/servicex/transformation/{NEVER}/status"),
    ("GET", f"/servicex/transformation/{NEVER}/results"),
    ("GET", f"/servicex/transformation/{NEVER}/cancel"),
    ("POST", "/servicex/transformation/file-urls"),
    ("GET", "/servicex/datasets"),
    ("GET", "/servicex/datasets/1"),
    ("DELETE", "/servicex/datasets/1"),
)


def wrong_tokens(endpoint: Endpoint) -> Iterator[str]:
    """Access tokens that are none, or no longer."""
    yield "x"
    yield endpoint.token
    yield jwt.encode({"exp": 4102444800}, "x" * 32, algorithm="HS256")
    yield jwt.encode({"exp": 4102444800}, "", algorithm="none")
    yield jwt.encode({"exp": 1}, endpoint._signing, algorithm="HS256")
    yield jwt.encode({"sub": "no end"}, endpoint._signing, algorithm="HS256")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_without_a_token(method: str, path: str, rest: Rest, endpoint: Endpoint) -> None:
    for token in wrong_tokens(endpoint):
        answer = rest(method, path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        assert "Not Authorized" in answer.json()["message"]
    assert rest(method, path, headers={}).status_code == 401


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer x", b"Bearer \xe9", b"Basic x"])
def test_no_access_without_the_refresh_token(header: bytes, rest: Rest) -> None:
    answer = rest("POST", "/token/refresh", headers={"Authorization": header})
    assert answer.status_code == 401


def test_requests_are_bounded(rest: Rest) -> None:
    answer = rest("POST", "/servicex/transformation", content=b"[" * (9 << 20))
    assert answer.status_code == 413
    for body in (b"", b"[]", b"[" * 100_000, b'{"selection": 1}', b"\xff"):
        assert rest("POST", "/servicex/transformation", content=body).status_code == 400
    assert rest("GET", "/servicex/nothing").status_code == 404


def test_one_port_of_loopback_is_listened_on(endpoint: Endpoint) -> None:
    """Of all processes of the endpoint."""
    own = psutil.Process()
    port = int(endpoint.url.rpartition(":")[2])
    # Other tests may have children of their own, and some that just end.
    listening = []
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if process == own or any("analysis.servicex" in part for part in process.cmdline()):
                listening += [
                    connection.laddr
                    for connection in process.net_connections("inet")
                    if connection.status == psutil.CONN_LISTEN
                    and (process != own or connection.laddr.port == port)
                ]
    assert listening == [(HOST, port)]


def test_secrets_and_results_are_for_the_user_alone(
    endpoint: Endpoint, rest: Rest, files: list[str]
) -> None:
    rest.done(files[:1])
    names = ("endpoint.json", "servicex.yaml", "transforms.sqlite", "results")
    for path in (endpoint.folder / name for name in names):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{0}/../{1}", "relative.root", "http://127.0.0.1/x", "root://a//b"]
)
def test_files_outside_are_refused(
    path: str, rest: Rest, files: list[str], endpoint: Endpoint
) -> None:
    outside = path.format(files[0].rpartition("/")[0], endpoint.folder.name)
    answer = rest.submit([files[0], outside])
    assert answer.status_code == 400
    assert outside in answer.json()["message"]
    assert "not in the folders" in answer.json()["message"]


def test_a_link_that_is_changed_later(
    rest: Rest, files: list[str], own_files: Path, tmp_path: Path
) -> None:
    """A file that leads outside only when its turn comes."""
    target = tmp_path / "outside.root"
    target.touch()
    first, link = files[0], own_files / "link.root"
    link.symlink_to(first)
    slow = json.dumps(
        [{"treename": "Events", "expressions": ["MET_pt"], "cut": "MET_pt > 9**9**9"}]
    )
    blockers = [rest.submit([first], slow).json()["request_id"] for _ in range(2)]
    request_id = rest.submit([str(link)]).json()["request_id"]
    link.unlink()
    link.symlink_to(target)
    for blocker in blockers:
        rest("GET", f"/servicex/transformation/{blocker}/cancel")
    (result,) = wait_for(lambda: rest.results(request_id))
    assert result["transform_status"] == "failure"
    assert "not in the folders" in result["failure-reason"]


@pytest.mark.parametrize("result_format", ["parquet", "root-file", "root-rntuple"])
def test_no_events_are_a_file_too(result_format: str, rest: Rest, files: list[str]) -> None:
    none = json.dumps(
        [{"treename": "Events", "expressions": ["MET_pt", "Jet_pt"], "cut": "MET_pt < 0"}]
    )
    done = rest.done(files[:1], none, result_format=result_format)
    assert done["files-completed"] == 1
    (result,) = rest.results(done["request_id"])
    assert result["total-events"] == 0
    assert result["total-bytes"] > 0


def test_selection_default(rest: Rest, files: list[str]) -> None:
    (result,) = rest.results(rest.done(files[:1], MET)["request_id"])
    assert result["transform_status"] == "success"
    assert result["avg-rate"] > 0
