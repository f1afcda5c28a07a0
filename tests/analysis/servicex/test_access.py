"""Nothing is read or written but by its token, its signature and its allowed places."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import httpx
import pytest
import uvicorn
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.applications import Starlette
from starlette.responses import FileResponse, RedirectResponse
from starlette.routing import Route

from analysis.servicex.endpoint import HOST
from analysis.servicex.server import serving
from analysis.servicex.signatures import Key
from tests.support.servicex import (
    Rest,
    wait_for,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from analysis.servicex.endpoint import Endpoint

NEVER: Final = "00000000-0000-0000-0000-000000000000"


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
