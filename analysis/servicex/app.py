"""ServiceX's REST protocol, as the application of 2026 speaks it, for an `endpoint.Endpoint`.

Delivered files are served here too, as S3 serves them: each transform is a bucket, and requests
are signed with the key that the transform's status gives.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from analysis.servicex import database
from analysis.servicex.allowed_paths import NotAllowedError
from analysis.servicex.endpoint import FullError
from analysis.servicex.messages import (
    VERSION,
    Submission,
    UrlRequest,
    dataset_file_json,
    dataset_json,
    result_json,
    status_json,
    transform_json,
)
from analysis.servicex.signatures import URL_SECONDS
from analysis.servicex.worker_pool import CHECK_SECONDS, JobCanceled, JobError, Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from analysis.servicex.endpoint import Endpoint

CAPABILITIES: Final = (
    "poll_local_transformation_results",
    "long_sample_titles_10240",
    "post_cancel_transform",
    "generate_file_urls",
)
MAX_BODY: Final = 8 << 20
"""Bytes of a request: a list of 50,000 files."""
SUBMISSIONS: Final = 32
"""Submissions that may wait for one another; more are refused."""

MALFORMED: Final = (
    "The json request was malformed: 400 Bad Request: The browser (or proxy) sent a request that "
    "this server could not understand."
)
"""The words of ServiceX's application."""


class Refusal(Exception):
    """A request that is answered with an error: its HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Object(FileResponse):
    """A delivered file; reports how many bytes of it were sent."""

    def __init__(self, path: Path, sha256: str, sent: Callable[[int], None]) -> None:
        super().__init__(
            path, headers={"etag": f'"{sha256}"'}, media_type="application/octet-stream"
        )
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, or the range of it that the request asks for."""
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

    async def in_order(answer: Callable[[Request], Any], request: Request) -> Any:
        """Answer submissions one after the other: their check is slow, and others must not wait."""
        if submissions.locked():
            msg = f"{SUBMISSIONS} requests wait already: try again later"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, msg)
        async with submissions:
            return await asyncio.wrap_future(endpoint.in_order(answer, request))

    def route(
        path: str,
        answer: Callable[[Request], Any],
        *methods: str,
        free: bool = False,
        run: Callable[..., Any] = run_in_threadpool,
    ) -> Route:
        async def respond(request: Request) -> Response:
            try:
                if not free:
                    endpoint.authorize(_bearer(request))
                    # A route without a token reads no body from a stranger.
                    request.state.body = await _body(request)
                content = await run(answer, request)
                return content if isinstance(content, Response) else JSONResponse(content)
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
    transform = transformation + "/{request_id}"
    return Starlette(
        routes=[
            route("/health", answers.health, "GET", free=True),
            route("/token/refresh", answers.refresh, "POST", free=True),
            route("/servicex", answers.info, "GET", free=True),
            route(transformation, answers.submit, "POST", run=in_order),
            route(transformation, answers.list_all, "GET"),
            route(f"{transformation}/file-urls", answers.urls, "POST"),
            route(transform, answers.status, "GET"),
            route(transform, answers.delete, "DELETE"),
            route(f"{transform}/status", answers.details, "GET"),
            route(f"{transform}/results", answers.results, "GET"),
            route(f"{transform}/cancel", answers.cancel, "GET", "POST"),
            route("/servicex/datasets", answers.datasets, "GET"),
            route("/servicex/datasets/{dataset_id:int}", answers.dataset, "GET"),
            route("/servicex/datasets/{dataset_id:int}", answers.delete_dataset, "DELETE"),
            # S3: a signature takes the place of the token.
            route("/{bucket:uuid}/{name}", answers.fetch, "GET", free=True),
        ],
        exception_handlers={HTTPException: _http_error},
    )


def _s3_error(code: str, status: HTTPStatus) -> Response:
    text = f"<Error><Code>{code}</Code><Message>{status.phrase}</Message></Error>"
    return Response(text, status, media_type="application/xml")


def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"message": error.detail}, error.status_code)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


async def _body(request: Request) -> bytes:
    body = bytearray()
    length = 0
    async for part in request.stream():
        # Read to the end, so that the sender gets the answer.
        length += len(part)
        if length <= MAX_BODY:
            body += part
    if length > MAX_BODY:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request is too large")
    return bytes(body)


class _Answers:
    """One method for each route: it takes a request, and returns JSON or a response."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._state = endpoint.state

    def health(self, _: Request) -> Any:
        if trouble := self._endpoint.trouble():
            answer = {"status": "failing", "reason": trouble}
            return JSONResponse(answer, HTTPStatus.SERVICE_UNAVAILABLE)
        return {"status": "ok"}

    def fetch(self, request: Request) -> Any:
        url = f"{self._endpoint.url}{request.scope['raw_path'].decode()}"
        if query := request.scope["query_string"].decode():
            url = f"{url}?{query}"
        bucket, name = str(request.path_params["bucket"]), request.path_params["name"]
        if not self._endpoint.key.signed(request.method, url, request.headers):
            return _s3_error("AccessDenied", HTTPStatus.FORBIDDEN)
        file = self._state.object(bucket, name)
        path = self._endpoint.result(bucket, name)
        if file is None or not path.exists():
            return _s3_error("NoSuchKey", HTTPStatus.NOT_FOUND)
        sent = partial(self._endpoint.sent, file["id"], file["bytes"])
        return _Object(path, file["sha256"], sent)

    def refresh(self, request: Request) -> Any:
        return {"access_token": self._endpoint.access_token(_bearer(request))}

    def info(self, _: Request) -> Any:
        return {
            "app-version": VERSION,
            "code-gen-image": dict.fromkeys(self._endpoint.codegens, VERSION),
            "capabilities": list(CAPABILITIES),
        }

    def submit(self, request: Request) -> Any:
        try:
            asked = Submission.model_validate(json.loads(request.state.body))
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
        return self._transform_of(request.path_params["request_id"])

    def _transform_of(self, request_id: str) -> dict[str, Any]:
        transform = self._state.transform(request_id)
        if transform is None:
            msg = f"Transformation request not found with id: {request_id}"
            raise Refusal(HTTPStatus.NOT_FOUND, msg)
        return transform

    def status(self, request: Request) -> Any:
        return {
            **transform_json(self._transform(request)),
            "minio-endpoint": self._endpoint.address,
            "minio-secured": False,
            "minio-access-key": self._endpoint.key.access,
            "minio-secret-key": self._endpoint.key.secret,
        }

    def list_all(self, _: Request) -> Any:
        return {"requests": [transform_json(transform) for transform in self._state.transforms()]}

    def details(self, request: Request) -> Any:
        transform = self._transform(request)
        results = self._state.results(transform["request_id"])
        details = request.query_params.get("details", "") not in {"", "0", "false"}
        return status_json(transform, results, details=details)

    def results(self, request: Request) -> Any:
        request_id = self._transform(request)["request_id"]
        text = request.query_params.get("later_than")
        try:
            later_than = datetime.fromisoformat(text) if text else None
        except ValueError:
            msg = f"later_than value {text} is not an ISO 8601 compliant datetime"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg) from None
        results = self._state.results(request_id, later_than)
        return {"results": [result_json(request_id, result) for result in results]}

    def cancel(self, request: Request) -> Any:
        request_id = self._transform(request)["request_id"]
        if not self._state.cancel(request_id):
            msg = f"Transform request with id {request_id} is not in progress."
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        return {"message": f"Canceled transformation request {request_id}"}

    def delete(self, request: Request) -> Any:
        transform = self._transform(request)
        request_id = transform["request_id"]
        if transform["status"] == database.RUNNING:
            msg = f"Transform request with id {request_id} is still in progress."
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        self._endpoint.delete(request_id)
        return {"message": f"Transform request with id {request_id} has been archived."}

    def urls(self, request: Request) -> Any:
        try:
            asked = UrlRequest.model_validate(json.loads(request.state.body))
        except (ValueError, RecursionError):
            raise Refusal(HTTPStatus.BAD_REQUEST, MALFORMED) from None
        self._transform_of(asked.request_id)
        expiry = int(datetime.now(UTC).timestamp()) + URL_SECONDS
        front = f"{self._endpoint.url}/{asked.request_id}"
        return {
            "uris": {
                name: [self._endpoint.key.url(f"{front}/{quote(name, safe='')}"), {}, expiry]
                for name in asked.file_list
            }
        }

    def datasets(self, request: Request) -> Any:
        query = request.query_params
        stale = query.get("show-deleted", "").lower() in {"1", "true"}
        if query.get("did-finder", "user") != "user":
            return {"datasets": []}
        return {"datasets": [dataset_json(one) for one in self._state.datasets(stale=stale)]}

    def _dataset(self, request: Request) -> dict[str, Any]:
        number = request.path_params["dataset_id"]
        for dataset in self._state.datasets(stale=True):
            if dataset["id"] == number:
                return dataset
        raise Refusal(HTTPStatus.NOT_FOUND, f"Dataset {number} not found")

    def dataset(self, request: Request) -> Any:
        dataset = self._dataset(request)
        files = map(dataset_file_json, self._state.dataset_files(dataset["id"]))
        return {**dataset_json(dataset), "files": list(files)}

    def delete_dataset(self, request: Request) -> Any:
        dataset = self._dataset(request)
        if dataset["stale"]:
            msg = f"Dataset {dataset['id']} has already been deleted"
            raise Refusal(HTTPStatus.BAD_REQUEST, msg)
        self._state.delete_dataset(dataset["id"])
        return {"dataset-id": dataset["id"], "stale": True}
