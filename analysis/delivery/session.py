"""A session with ServiceX's official client, whose every outcome is checked."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress

from analysis.delivery.delivered import (
    DIGESTS,
    Delivered,
    DeliveryError,
    changed,
    count_events,
    damaged,
    digests_of,
    from_record,
)
from analysis.errors import InputError
from analysis.files.output import whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.delivery.delivered import Request

# The client takes a second to import, and need not be installed.
# ruff: noqa: PLC0415

LOCAL_POLL_SECONDS: Final = 0.2
ATTEMPTS: Final = 3
"""At most, where a connection failed; the client itself also retries each HTTP request."""
RETRY_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 10.0
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
FUNCADL_CODEGEN: Final = "uproot"


class Session:
    """The official client of one deployment, or of the cache alone."""

    def __init__(self, config: Path | None, backend: str | None, cache: Path | None) -> None:
        from servicex.servicex_client import ServiceXClient

        try:
            client = ServiceXClient(
                backend=backend,
                config_path=None if config is None else str(config),
                cache_dir=None if cache is None else str(cache),
            )
        except Exception as error:  # a NameError, pydantic's, yaml's ...
            reason = " ".join(str(error).split())
            msg = f"the configuration of ServiceX cannot be used: {reason}"
            raise InputError(msg) from error
        self.config_file = client.config.config_file
        self.adapter = client.servicex
        self.cache = client.query_cache
        self._configuration = client.config

    @classmethod
    def offline(cls, cache: Path) -> Session:
        """A session that only reads the cache."""
        from servicex.configuration import Configuration
        from servicex.query_cache import QueryCache

        client = cls.__new__(cls)
        client._configuration = Configuration(api_endpoints=[], cache_path=str(cache))
        client.adapter = None
        client.config_file = None
        client.cache = QueryCache(client._configuration)
        return client

    def close(self) -> None:
        """Close the database of the cache, which the client leaves open."""
        self.cache.close()

    def query(self, request: Request, data_format: str, *, ignore_cache: bool = False) -> Any:
        """The official client's form of a request."""
        from servicex.databinder_models import General
        from servicex.dataset_identifier import FileListDataset
        from servicex.query_core import Query

        dataset = request.dataset
        if isinstance(dataset, (list, tuple)):
            dataset = FileListDataset([str(one) for one in dataset])
        query = Query(
            dataset_identifier=dataset,
            title=request.name,
            codegen=request.query.default_codegen,
            sx_adapter=self.adapter,
            config=self._configuration,
            query_cache=self.cache,
            result_format=General.OutputFormatEnum(data_format).to_ResultFormat(),
            ignore_cache=ignore_cache,
            query_string_generator=request.query,
            fail_if_incomplete=True,
        )
        if self.adapter is not None and urlsplit(self.adapter.url).hostname in LOOPBACK:
            query.servicex_polling_interval = LOCAL_POLL_SECONDS
            query.minio_polling_interval = LOCAL_POLL_SECONDS
        return query

    def cached(self, requests: Sequence[Request], data_format: str) -> dict[str, Delivered]:
        """Earlier deliveries that are still whole and no older than their sources."""
        found = {}
        begun = {
            one["hash"]: one["submit_time"] for one in self.cache.queries_in_state("SUBMITTED")
        }
        for request in requests:
            asked = self.query(request, data_format).transform_request
            identity = asked.compute_hash()
            record = self.cache.get_transform_by_hash(identity)
            if record is not None:
                since = record.submit_time
            elif identity in begun:
                since = datetime.fromisoformat(begun[identity])
            else:
                continue
            if not changed(asked.file_list, since):
                if record is None:
                    continue
                if delivered := from_record(record):
                    found[request.name] = delivered
                    continue
            # The client would use it as it is.
            self.cache.delete_record_by_hash(identity)
        return found

    def deliver(
        self,
        requests: Sequence[Request],
        data_format: str,
        timeout: float,
        *,
        ignore_cache: bool,
        progress: bool,
    ) -> dict[str, Delivered]:
        """Deliver requests that are not in the cache, in up to ATTEMPTS attempts."""
        done: dict[str, Delivered] = {}
        until = time.monotonic() + timeout
        for attempt in range(ATTEMPTS):
            todo = [request for request in requests if request.name not in done]
            queries = [
                self.query(request, data_format, ignore_cache=ignore_cache) for request in todo
            ]
            outcomes = self._attempt(queries, until - time.monotonic(), timeout, progress=progress)
            # The next attempt must continue transforms, not start them anew.
            ignore_cache = False
            errors = [one for one in outcomes if isinstance(one, DeliveryError)]
            done |= {
                request.name: one
                for request, one in zip(todo, outcomes, strict=True)
                if isinstance(one, Delivered)
            }
            if not errors:
                break
            final = [one for one in errors if not one.transient]
            if final or attempt + 1 == ATTEMPTS:
                raise InputError(str((final or errors)[0]))
            time.sleep(RETRY_SECONDS)
        return done

    def _attempt(
        self, queries: list[Any], seconds: float, timeout: float, *, progress: bool
    ) -> list[Delivered | DeliveryError]:
        from servicex.dataset_group import DatasetGroup
        from servicex.minio_adapter import init_s3_config

        async def run() -> list[Delivered | DeliveryError]:
            try:
                return await attempt()
            finally:
                await _cancel_all_others()

        async def attempt() -> list[Delivered | DeliveryError]:
            # The client raises in callbacks of tasks, where nothing catches it.
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            await self._greet()
            init_s3_config()  # Its locks belong to the loop of an earlier call.
            with Progress(console=Console(stderr=True), disable=not progress) as bars:
                work = asyncio.ensure_future(
                    DatasetGroup(queries).as_files_async(
                        display_progress=progress,
                        provided_progress=bars if progress else None,
                        return_exceptions=True,
                    )
                )
                # Not `asyncio.timeout`: the client takes its cancellation for a failed transform
                # and continues to wait.
                await asyncio.wait([work], timeout=max(seconds, 0))
                if not work.done():
                    raise TimeoutError
            return [
                await self._checked(query, outcome)
                for query, outcome in zip(queries, work.result(), strict=True)
            ]

        try:
            return asyncio.run(run())
        except TimeoutError:
            late = [one for one in queries if not _is_done(one.current_status)]
            first = (late or queries)[0]
            msg = (
                f"{first.title} was not delivered within {timeout:.0f} s, {_progress_of(first)}; "
                "run it again to go on, or give it more time"
            )
            raise InputError(msg) from None
        except DeliveryError as error:
            return [error] * len(queries)
        except Exception as error:  # noqa: BLE001  (the client's, before it begins any query)
            return [self._explained(queries[0], error)] * len(queries)

    async def _greet(self) -> None:
        """Raise at once if no endpoint answers; the client would take a minute to find out."""
        import httpx

        try:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as http:
                await http.get(f"{self.adapter.url}/servicex")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            msg = (
                f"no ServiceX answers at {self.adapter.url}: start it, or correct the address in "
                f"{self.config_file} ({type(error).__name__}: {error})"
            )
            raise DeliveryError(msg, transient=True) from None

    async def _checked(self, query: Any, outcome: Any) -> Delivered | DeliveryError:
        """The outcome of a query: checked files, or the error of a query that failed."""
        try:
            if query.request_id is not None:
                status = await self.adapter.get_transform_status(query.request_id)
                if status.files_failed:
                    raise await self._failed(query, status)
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is None:
                msg = f"{query.title} was not delivered, {_progress_of(query)}: run it again"
                raise self._short(query, msg)
            paths = tuple(sorted(map(Path, outcome.file_list)))
            if not status.files or len(set(paths)) != status.files:
                many = f"{len(paths)} of {status.files} files"
                msg = f"{query.title} was delivered short, {many}: run it again"
                raise self._short(query, msg)
            results = await self._results(query.request_id)
            digests = digests_of(paths)
            if results and (bad := damaged(paths, digests, results)):
                # The client would accept it, because its size is right.
                bad.unlink(missing_ok=True)
                msg = (
                    f"{query.title} was delivered damaged, {bad} has another digest: run it again"
                )
                raise self._short(query, msg)
            events = tuple(map(count_events, paths))
            told = sum(one.get("total-events") or 0 for one in results)
            if results and told != sum(events):
                msg = (
                    f"{query.title} was delivered short, {sum(events)} of {told} events: "
                    f"delete {outcome.data_dir} and run it again"
                )
                raise DeliveryError(msg)
            with whole(Path(outcome.data_dir) / DIGESTS) as part:
                part.write_text(json.dumps(digests))
        except DeliveryError as error:
            return error
        except Exception as error:  # noqa: BLE001  (any error means not delivered)
            return self._explained(query, error)
        return Delivered(paths, events, cached=False)

    def _short(self, query: Any, message: str) -> DeliveryError:
        """No transform failed, so a download did: the next attempt may succeed."""
        self.cache.delete_record_by_request_id(query.request_id)
        return DeliveryError(message, transient=True)

    async def _results(self, request_id: str) -> list[dict[str, Any]]:
        """What the endpoint reports of each file, failed or not; nothing if it is too old."""
        import httpx

        capabilities = await self.adapter.get_servicex_capabilities()
        if "poll_local_transformation_results" not in capabilities:
            return []
        # The client leaves out failed files, and its access token is not public.
        headers = await self.adapter._get_authorization()
        url = f"{self.adapter.url}/servicex/transformation/{request_id}/results"
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.get(url, headers=headers)
            answer.raise_for_status()
            results: list[dict[str, Any]] = answer.json()["results"]
            return results

    async def _failed(self, query: Any, status: Any) -> DeliveryError:
        """Error that names the failed file and the reason."""
        self.cache.delete_record_by_request_id(query.request_id)
        results = await self._results(query.request_id)
        failed = [result for result in results if result["transform_status"] != "success"]
        many = f"{status.files_failed} of {status.files} files failed"
        logs = f", its logs may say why: {status.log_url}" if status.log_url else ""
        if not failed:
            return DeliveryError(f"{query.title} was not delivered: {many}{logs}")
        first = failed[0]
        reason = first.get("failure-reason") or f"the endpoint does not say why{logs}"
        return DeliveryError(
            f"{query.title}: {first['file-path']} could not be delivered: {reason} ({many})"
        )

    def _explained(self, query: Any, error: BaseException) -> DeliveryError:
        """One sentence for what the client raised."""
        from servicex.query_core import ServiceXException
        from servicex.servicex_adapter import AuthorizationError

        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, InputError):
            return DeliveryError(text)
        if isinstance(error, AuthorizationError):
            return DeliveryError(
                f"{self.adapter.url} refuses the token: correct it in {self.config_file} ({text})"
            )
        if isinstance(error, NameError):
            more = (
                "; `make dask-awkward` makes the environment that FuncADL needs here"
                if query.codegen == FUNCADL_CODEGEN
                and urlsplit(self.adapter.url).hostname in LOOPBACK
                else ""
            )
            return DeliveryError(f"{query.title} was not delivered: {text}{more}")
        for front in ("Invalid transform request: ", "Failed to generate translation code: "):
            if front in text:
                reason = text.partition(front)[2].removeprefix("400 Bad Request: ")
                closing = reason.endswith(")") and "Something went wrong (" in text
                return DeliveryError(
                    f"{query.title} was refused: {reason.removesuffix(')') if closing else reason}"
                )
        if isinstance(error, ServiceXException):
            return DeliveryError(f"{query.title} was not delivered: {text}")
        if "not found" in text and query.request_id:
            # The endpoint does not know a transform that this cache believes to be running.
            self.cache.delete_record_by_request_id(query.request_id)
        return DeliveryError(
            f"{query.title} was not delivered: {type(error).__name__}: {text}; run it again",
            transient=True,
        )


async def _cancel_all_others() -> None:
    """End tasks that the client left running, on Ctrl-C too.

    `asyncio.run` cancels each task once and then waits for ever; a connection that is just being
    made loses that cancellation.
    """
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=LOCAL_POLL_SECONDS)


def _is_done(status: Any) -> bool:
    from servicex.query_core import DONE_STATUS

    return status is not None and status.status in DONE_STATUS


def _progress_of(query: Any) -> str:
    status = query.current_status
    if status is None:
        return "it was not begun"
    return f"{status.files_completed} of {status.files} files were transformed"
