"""ServiceX's REST protocol, as the application of 2026 speaks it, on top of `endpoint.Endpoint`.

What was delivered is served here too, as S3 does it: objects of a bucket for each transform, to
who signs with the key that the transform's status gives.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

import pydantic
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from analysis.servicex import database
from analysis.servicex.allowed_paths import NotAllowedError
from analysis.servicex.signatures import URL_SECONDS
from analysis.servicex.worker_pool import CHECK_SECONDS, JobCanceled, JobError, Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from analysis.servicex.endpoint import Endpoint

VERSION: Final = "coffea-scaling"
CAPABILITIES: Final = (
    "poll_local_transformation_results",
    "long_sample_titles_10240",
    "post_cancel_transform",
    "generate_file_urls",
)
TITLE_LENGTH: Final = 10240
MAX_BODY: Final = 8 << 20
"""Bytes of a request: a list of 50,000 files."""
CONNECTIONS: Final = 256
"""At a time; more are closed. The official client makes up to 50."""
RECEIVE_SECONDS: Final = 10.0
"""For a request to arrive whole, from the time at which it could begin to."""
ANSWER_SECONDS: Final = 600.0
"""For its answer to be sent whole."""
SUBMISSIONS: Final = 32
"""That wait for one another at a time; more are refused."""

MALFORMED: Final = (
    "The json request was malformed: 400 Bad Request: The browser (or proxy) sent a request that "
    "this server could not understand."
)
"""As the application of ServiceX says it."""


class Submission(pydantic.BaseModel):
    """A request to transform; what the protocol has more is not needed here."""

    title: Annotated[str | None, pydantic.Field(max_length=TITLE_LENGTH)] = None
    did: str | None = None
    files: list[str] = pydantic.Field(default=[], alias="file-list")
    selection: str
    codegen: str
    destination: Literal["object-store"] = pydantic.Field(alias="result-destination")
    result_format: Literal["parquet", "root-file", "root-rntuple"] = pydantic.Field(
        alias="result-format"
    )


class UrlRequest(pydantic.BaseModel):
    """A request for URLs of delivered files."""

    request_id: str
    file_list: list[str]


class FullError(Exception):
    """The endpoint keeps as many results as it may; one sentence."""


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Protocol(H11Protocol):
    """HTTP with limits of number and time; uvicorn has them for idle connections only."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a client, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        self._give(RECEIVE_SECONDS, self._received)

    def _give(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, then)

    @property
    def _is_received(self) -> bool:
        """Whether a request is being answered that has arrived whole."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _received(self) -> None:
        if self._is_received:
            self._give(ANSWER_SECONDS, self.transport.abort)
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._give(RECEIVE_SECONDS, self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a client."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self) -> None:
        """End with a client: at once, if there is nothing to answer."""
        if self._is_received:
            super().shutdown()
        else:
            self.transport.abort()


class _Object(FileResponse):
    """A delivered file; says how much of it was sent."""

    def __init__(self, path: Path, sha256: str, sent: Callable[[int], None]) -> None:
        super().__init__(
            path, headers={"etag": f'"{sha256}"'}, media_type="application/octet-stream"
        )
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or the range of it that is asked for."""
        count = 0

        async def counted(message: Message) -> None:
            nonlocal count
            await send(message)
            count += len(message.get("body", b""))

        await super().__call__(scope, receive, counted)
        await run_in_threadpool(self._sent, count)


def application(endpoint: Endpoint) -> Starlette:
    """The web application of an endpoint."""
    submissions = asyncio.Semaphore(SUBMISSIONS)

    async def in_order(answer: Callable[[Request, bytes], Any], *arguments: Any) -> Any:
        """One after the other: their check takes time, and the other answers must not wait."""
        if submissions.locked():
            msg = f"{SUBMISSIONS} requests wait already: try again later"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, msg)
        async with submissions:
            return await asyncio.wrap_future(endpoint.in_order(answer, *arguments))

    def route(
        path: str,
        answer: Callable[[Request, bytes], Any],
        *methods: str,
        free: bool = False,
        run: Callable[..., Any] = run_in_threadpool,
    ) -> Route:
        async def respond(request: Request) -> Response:
            try:
                if not free:
                    endpoint.authorize(_bearer(request))
                # What needs no token takes no body from whom it does not know.
                body = b"" if free else await _body(request)
                found = await run(answer, request, body)
                return found if isinstance(found, Response) else JSONResponse(found)
            except Refusal as refusal:
                return JSONResponse({"message": str(refusal)}, refusal.status)
            except PermissionError as error:
                return JSONResponse({"message": str(error)}, HTTPStatus.UNAUTHORIZED)
            except ClientDisconnect:
                return Response()
            except (sqlite3.Error, OSError) as error:
                msg = f"the endpoint is not well, GET /health says why: {error}"
                return JSONResponse({"message": msg}, HTTPStatus.SERVICE_UNAVAILABLE)

        return Route(path, respond, methods=list(methods))

    answers = _Answers(endpoint)
    transformation = "/servicex/transformation"
    one = transformation + "/{request_id}"
    return Starlette(
        routes=[
            route("/health", answers.health, "GET", free=True),
            route("/token/refresh", answers.refresh, "POST", free=True),
            route("/servicex", answers.info, "GET", free=True),
            route(transformation, answers.submit, "POST", run=in_order),
            route(transformation, answers.list_all, "GET"),
            route(f"{transformation}/file-urls", answers.urls, "POST"),
            route(one, answers.status, "GET"),
            route(one, answers.delete, "DELETE"),
            route(f"{one}/status", answers.details, "GET"),
            route(f"{one}/results", answers.results, "GET"),
            route(f"{one}/cancel", answers.cancel, "GET", "POST"),
            route("/servicex/datasets", answers.datasets, "GET"),
            route("/servicex/datasets/{dataset_id:int}", answers.dataset, "GET"),
            route("/servicex/datasets/{dataset_id:int}", answers.delete_dataset, "DELETE"),
            # S3, whose signatures take the place of the token.
            route("/{bucket:uuid}/{name}", answers.fetch, "GET", free=True),
        ],
        exception_handlers={HTTPException: _http_error},
    )


def _s3_error(code: str, status: HTTPStatus) -> Response:
    text = f"<Error><Code>{code}</Code><Message>{status.phrase}</Message></Error>"
    return Response(text, status, media_type="application/xml")


def _http_error(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    return JSONResponse({"message": error.detail}, error.status_code)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


async def _body(request: Request) -> bytes:
    body = bytearray()
    length = 0
    async for part in request.stream():
        # Read to the end, so that who sends it gets the answer.
        length += len(part)
        if length <= MAX_BODY:
            body += part
    if length > MAX_BODY:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
    return bytes(body)


class _Answers:
    """One method for each route; each takes a request and its body, and gives JSON."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._state = endpoint.state

    def health(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        if trouble := self._endpoint.trouble():
            answer = {"status": "failing", "reason": trouble}
            return JSONResponse(answer, HTTPStatus.SERVICE_UNAVAILABLE)
        return {"status": "ok"}

    def fetch(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        url = f"{self._endpoint.url}{request.scope['raw_path'].decode()}"
        if query := request.scope["query_string"].decode():
            url = f"{url}?{query}"
        bucket, name = str(request.path_params["bucket"]), request.path_params["name"]
        if not self._endpoint.key.signed(request.method, url, request.headers):
            return _s3_error("AccessDenied", HTTPStatus.FORBIDDEN)
        found = self._state.object(bucket, name)
        path = self._endpoint.result(bucket, name)
        if found is None or not path.exists():
            return _s3_error("NoSuchKey", HTTPStatus.NOT_FOUND)
        sent = partial(self._endpoint.sent, found["id"], found["bytes"])
        return _Object(path, found["sha256"], sent)

    def refresh(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        return {"access_token": self._endpoint.access_token(_bearer(request))}

    def info(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        return {
            "app-version": VERSION,
            "code-gen-image": dict.fromkeys(self._endpoint.codegens, VERSION),
            "capabilities": list(CAPABILITIES),
        }

    def submit(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        try:
            asked = Submission.model_validate(json.loads(body))
        except (ValueError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST, MALFORMED) from None
        if asked.codegen not in self._endpoint.codegens:
            msg = f"Invalid Codegen Image Passed in Request: {asked.codegen}"
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, msg)
        if bool(asked.did) == bool(asked.files):
            msg = "400 Bad Request: Must provide did or file-list but not both"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        if asked.did:
            scheme, separator, _ = asked.did.partition("://")
            msg = (
                f"400 Bad Request: DID scheme is not supported: {scheme if separator else 'rucio'}"
            )
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        try:
            files = Counter(map(self._endpoint.roots.resolve, asked.files))
        except NotAllowedError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"400 Bad Request: {error}") from None
        path, times = files.most_common(1)[0]
        if times > 1:
            msg = f"400 Bad Request: {path} is listed {times} times"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        try:
            self._endpoint.check(
                asked.codegen, asked.selection, Limits(seconds=CHECK_SECONDS, memory=2 << 30)
            )
        except JobError as error:
            msg = f"Something went wrong (Failed to generate translation code: {error})"
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, msg) from None
        except JobCanceled:
            msg = "the endpoint is being stopped: try again later"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, msg) from None
        try:
            return {"request_id": self._endpoint.submit(asked)}
        except FullError as error:
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, str(error)) from None

    def _transform(self, request: Request) -> dict[str, Any]:
        request_id = request.path_params["request_id"]
        found = self._state.transform(request_id)
        if found is None:
            msg = f"Transformation request not found with id: {request_id}"
            raise Refusal(HTTPStatus.NOT_FOUND, msg)
        return found

    def status(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        return {
            **_transform_json(self._transform(request)),
            "minio-endpoint": self._endpoint.address,
            "minio-secured": False,
            "minio-access-key": self._endpoint.key.access,
            "minio-secret-key": self._endpoint.key.secret,
        }

    def list_all(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        return {"requests": [_transform_json(one) for one in self._state.transforms()]}

    def details(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        found = self._transform(request)
        results = self._state.results(found["request_id"])
        whole = _transform_json(found)
        answer = {
            "status": found["status"],
            "request-id": found["request_id"],
            "submit-time": whole["submit-time"],
            "finish-time": None if found["finished"] is None else whole["finish-time"],
            "files-completed": found["completed"],
            "files-processed": found["completed"],
            "files-failed": found["failed"],
            "files-skipped": found["failed"],
            "files-remaining": whole["files-remaining"],
            "stats": _statistics(results),
        }
        if request.query_params.get("details", "") not in {"", "0", "false"}:
            answer["details"] = [
                {"did": found["did"], **_result_json(found["request_id"], one)} for one in results
            ]
        return answer

    def results(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        found = self._transform(request)
        text = request.query_params.get("later_than")
        try:
            later_than = datetime.fromisoformat(text) if text else None
        except ValueError:
            msg = f"later_than value {text} is not an ISO 8601 compliant datetime"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg) from None
        results = self._state.results(found["request_id"], later_than)
        return {"results": [_result_json(found["request_id"], one) for one in results]}

    def cancel(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        request_id = self._transform(request)["request_id"]
        if not self._state.cancel(request_id):
            msg = f"Transform request with id {request_id} is not in progress."
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        return {"message": f"Canceled transformation request {request_id}"}

    def delete(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        found = self._transform(request)
        if found["status"] == database.RUNNING:
            msg = f"Transform request with id {found['request_id']} is still in progress."
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        self._endpoint.delete(found["request_id"])
        return {"message": f"Transform request with id {found['request_id']} has been archived."}

    def urls(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        try:
            asked = UrlRequest.model_validate(json.loads(body))
        except (ValueError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST, MALFORMED) from None
        if self._state.transform(asked.request_id) is None:
            msg = f"Transformation request not found with id: {asked.request_id}"
            raise Refusal(HTTPStatus.NOT_FOUND, msg)
        expiry = int(datetime.now(UTC).timestamp()) + URL_SECONDS
        front = f"{self._endpoint.url}/{asked.request_id}"
        return {
            "uris": {
                name: [self._endpoint.key.url(f"{front}/{quote(name, safe='')}"), {}, expiry]
                for name in asked.file_list
            }
        }

    def datasets(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        query = request.query_params
        stale = query.get("show-deleted", "").lower() in {"1", "true"}
        found = (
            self._state.datasets(stale=stale) if query.get("did-finder", "user") == "user" else []
        )
        return {"datasets": [_dataset_json(one) for one in found]}

    def _dataset(self, request: Request) -> dict[str, Any]:
        number = request.path_params["dataset_id"]
        for one in self._state.datasets(stale=True):
            if one["id"] == number:
                return one
        raise Refusal(HTTPStatus.NOT_FOUND, f"Dataset {number} not found")

    def dataset(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        found = self._dataset(request)
        files = [
            {
                "id": one["id"],
                "adler32": None,
                "file_size": 0,
                "file_events": 0,
                "paths": one["path"],
            }
            for one in self._state.dataset_files(found["id"])
        ]
        return {**_dataset_json(found), "files": files}

    def delete_dataset(self, request: Request, body: bytes) -> Any:  # noqa: ARG002
        found = self._dataset(request)
        if found["stale"]:
            msg = f"Dataset {found['id']} has already been deleted"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        self._state.delete_dataset(found["id"])
        return {"dataset-id": found["id"], "stale": True}


def _transform_json(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": one["request_id"],
        "title": one["title"],
        "did": one["did"],
        "did_id": one["dataset"],
        "selection": one["selection"],
        "tree-name": None,
        "image": VERSION,
        "workers": 1,
        "result-destination": "object-store",
        "result-format": one["result_format"],
        "generated-code-cm": one["request_id"],
        "status": one["status"],
        "failure-info": None,
        "app-version": VERSION,
        "code-gen-image": one["codegen"],
        "files": one["files"],
        "files-completed": one["completed"],
        "files-failed": one["failed"],
        "files-remaining": one["files"] - one["completed"] - one["failed"],
        "submit-time": f"{one['submitted']}Z",
        "finish-time": f"{one['finished']}Z" if one["finished"] else "None",
    }


def _result_json(request_id: str, one: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "request-id": request_id,
        "file-id": one["id"],
        "file-path": one["path"],
        "s3-object-name": one["object"],
        "transform_status": one["status"],
        "transform_time": one["seconds"],
        "total-events": one["events"],
        "total-bytes": one["bytes"],
        "avg-rate": one["events"] / one["seconds"] if one["seconds"] else 0.0,
        "created_at": one["created"],
        # Ours: ServiceX has the reason in its logs alone, and no digest.
        "failure-reason": one["reason"],
        "sha256": one["sha256"],
    }


def _statistics(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not results:
        return None
    times = [one["seconds"] for one in results]
    rates = [one["events"] / one["seconds"] if one["seconds"] else 0.0 for one in results]
    return {
        "min-time": int(min(times)),
        "max-time": int(max(times)),
        "avg-time": sum(times) / len(times),
        "total-time": int(sum(times)),
        "avg-rate": sum(rates) / len(rates),
        "total-bytes": sum(one["bytes"] for one in results),
        "total-events": sum(one["events"] for one in results),
    }


def _dataset_json(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "name": one["name"],
        "did_finder": "user",
        "n_files": one["files"],
        "size": 0,
        "events": 0,
        "last_used": f"{one['last_used']}Z",
        "last_updated": f"{one['last_used']}Z",
        "lookup_status": "complete",
        "is_stale": bool(one["stale"]),
    }


def new_request_id() -> str:
    """Identity of a transform, and name of its bucket."""
    return str(uuid.uuid4())
