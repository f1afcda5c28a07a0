"""JSON of ServiceX's protocol: what requests ask for, and how the endpoint describes its records."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import pydantic

VERSION: Final = "coffea-scaling"
TITLE_LENGTH: Final = 10240


class Submission(pydantic.BaseModel):
    """A request to transform files; fields of the protocol that are not used here are ignored."""

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


def transform_json(transform: dict[str, Any]) -> dict[str, Any]:
    """A transform, from its row in the database."""
    remaining = transform["files"] - transform["completed"] - transform["failed"]
    return {
        "request_id": transform["request_id"],
        "title": transform["title"],
        "did": transform["did"],
        "did_id": transform["dataset"],
        "selection": transform["selection"],
        "tree-name": None,
        "image": VERSION,
        "workers": 1,
        "result-destination": "object-store",
        "result-format": transform["result_format"],
        "generated-code-cm": transform["request_id"],
        "status": transform["status"],
        "failure-info": None,
        "app-version": VERSION,
        "code-gen-image": transform["codegen"],
        "files": transform["files"],
        "files-completed": transform["completed"],
        "files-failed": transform["failed"],
        "files-remaining": remaining,
        "submit-time": f"{transform['submitted']}Z",
        "finish-time": f"{transform['finished']}Z" if transform["finished"] else "None",
    }


def status_json(
    transform: dict[str, Any], results: list[dict[str, Any]], *, details: bool
) -> dict[str, Any]:
    """Progress of a transform, with statistics of its results and, if asked for, each of them."""
    whole = transform_json(transform)
    answer = {
        "status": transform["status"],
        "request-id": transform["request_id"],
        "submit-time": whole["submit-time"],
        "finish-time": None if transform["finished"] is None else whole["finish-time"],
        "files-completed": transform["completed"],
        "files-processed": transform["completed"],
        "files-failed": transform["failed"],
        "files-skipped": transform["failed"],
        "files-remaining": whole["files-remaining"],
        "stats": _statistics(results),
    }
    if details:
        answer["details"] = [
            {"did": transform["did"], **result_json(transform["request_id"], result)}
            for result in results
        ]
    return answer


def result_json(request_id: str, result: dict[str, Any]) -> dict[str, Any]:
    """What became of one file."""
    return {
        "id": result["id"],
        "request-id": request_id,
        "file-id": result["id"],
        "file-path": result["path"],
        "s3-object-name": result["object"],
        "transform_status": result["status"],
        "transform_time": result["seconds"],
        "total-events": result["events"],
        "total-bytes": result["bytes"],
        "avg-rate": _rate(result),
        "created_at": result["created"],
        # Our additions: ServiceX writes the reason only into its logs, and has no digest.
        "failure-reason": result["reason"],
        "sha256": result["sha256"],
    }


def _rate(result: dict[str, Any]) -> float:
    return result["events"] / result["seconds"] if result["seconds"] else 0.0


def _statistics(results: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not results:
        return None
    times = [result["seconds"] for result in results]
    return {
        "min-time": int(min(times)),
        "max-time": int(max(times)),
        "avg-time": sum(times) / len(times),
        "total-time": int(sum(times)),
        "avg-rate": sum(map(_rate, results)) / len(results),
        "total-bytes": sum(result["bytes"] for result in results),
        "total-events": sum(result["events"] for result in results),
    }


def dataset_json(dataset: dict[str, Any]) -> dict[str, Any]:
    """A data set, without its files."""
    return {
        "id": dataset["id"],
        "name": dataset["name"],
        "did_finder": "user",
        "n_files": dataset["files"],
        "size": 0,
        "events": 0,
        "last_used": f"{dataset['last_used']}Z",
        "last_updated": f"{dataset['last_used']}Z",
        "lookup_status": "complete",
        "is_stale": bool(dataset["stale"]),
    }


def dataset_file_json(file: dict[str, Any]) -> dict[str, Any]:
    """A file of a data set."""
    return {
        "id": file["id"],
        "adler32": None,
        "file_size": 0,
        "file_events": 0,
        "paths": file["path"],
    }
