"""`deliver`: ServiceX's client, unmodified, made safe to rely on.

The client (3.3.1) gives a short list of files, or an empty one, when some could not be
transformed: the error that it raises is lost in a callback. It waits for ever for a transform that
never ends, needs the endpoint even for what it has, and looks for news every 5 s. Here each list
is counted, each file has the size and the digest that the endpoint says (and keeps that digest in
the cache), an error names the file and the reason, the whole has a time limit, what was delivered
before needs no endpoint, and an endpoint on this machine is asked five times a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import rich
import uproot
from rich.console import Console
from rich.progress import Progress

from analysis.errors import InputError, NotInstalledError
from analysis.files.digests import digest_of
from analysis.files.output import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

FORMATS: Final = ("parquet", "root-ttree", "root-rntuple")
TIMEOUT: Final = 3600.0
LOCAL_POLL_SECONDS: Final = 0.2
ATTEMPTS: Final = 3
"""Of what fails for want of a connection; the client itself tries each request some times too."""
RETRY_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 10.0
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
FUNCADL_CODEGEN: Final = "uproot"
DIGESTS: Final = "sha256.json"
"""Beside what was delivered: its digests, by name of the file."""


class Request(NamedTuple):
    """What to deliver of one data set.

    Attributes
    ----------
    name
        Of the data set; also the title of the transform.
    dataset
        Paths or URLs of files, or any data set of ``servicex.dataset``.
    query
        Any query of ``servicex.query``.
    """

    name: str
    dataset: Any
    query: Any


@dataclass(frozen=True)
class Delivered:
    """Files that were delivered of one data set: all of them.

    Attributes
    ----------
    files
        Files in the client's cache, by name.
    events
        Number of events in each.
    cached
        Whether they were there from an earlier delivery.
    """

    files: tuple[Path, ...]
    events: tuple[int, ...]
    cached: bool


class _DeliveryError(InputError):
    """A data set that is not delivered; trying again may help, or not."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def deliver(
    requests: Sequence[Request],
    *,
    data_format: str = "parquet",
    config: Path | None = None,
    backend: str | None = None,
    local: Callable[[], AbstractContextManager[Path]] | None = None,
    cache: Path | None = None,
    timeout: float = TIMEOUT,
    ignore_cache: bool = False,
    progress: bool | None = None,
) -> dict[str, Delivered]:
    """Have files transformed by ServiceX, and fetch them.

    Parameters
    ----------
    requests
        What to deliver, each of another name.
    data_format
        ``parquet``, ``root-ttree`` or ``root-rntuple``.
    config
        A servicex.yaml; by default the client looks for one in this folder, those above it and
        the home folder.
    backend
        Name of the deployment in it; by default the one that it says.
    local
        Starts an endpoint and yields its servicex.yaml; called only if something is not in the
        cache. Takes the place of `config`, and needs `cache`.
    cache
        Folder of delivered files; by default as the configuration says.
    timeout
        Seconds that all of it may take.
    ignore_cache
        Whether to transform anew what was delivered before.
    progress
        Whether to show progress; by default if there is a terminal.

    Returns
    -------
    dict[str, Delivered]
        By name of the request.

    Raises
    ------
    InputError
        If anything is not delivered whole: names the file and the reason.
    """
    if data_format not in FORMATS:
        msg = f"there is no format {data_format}: use one of {', '.join(FORMATS)}"
        raise InputError(msg)
    if len({one.name for one in requests}) < len(requests):
        msg = "two data sets have the same name: give each a name of its own"
        raise InputError(msg)
    _check_installed()
    if progress is None:
        progress = sys.stderr.isatty()
    with ExitStack() as stack, _quiet():
        done: dict[str, Delivered] = {}
        if cache is not None and not ignore_cache:
            with closing(_Client.offline(cache)) as offline:
                done = _from_cache(offline, requests, data_format)
        todo = [one for one in requests if one.name not in done]
        if todo:
            if local is not None:
                config = stack.enter_context(local())
            client = stack.enter_context(closing(_Client(config, backend, cache)))
            if cache is None and not ignore_cache:
                done = _from_cache(client, requests, data_format)
                todo = [one for one in requests if one.name not in done]
            if todo:
                done |= client.deliver(
                    todo, data_format, timeout, ignore_cache=ignore_cache, progress=progress
                )
    return {one.name: done[one.name] for one in requests}


def _check_installed() -> None:
    try:
        import servicex  # noqa: F401, PLC0415
    except ImportError:
        msg = "ServiceX's client is not installed: install the extra `servicex`"
        raise NotInstalledError(msg) from None


def count_events(path: Path) -> int:
    """Number of events of a delivered file, over all its trees.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        # Which it is its first bytes tell: ServiceX gives ROOT files any name.
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            return int(pq.read_metadata(path).num_rows)
        with uproot.open({path: None}) as root:
            kinds = root.classnames(cycle=False)
            trees = [name for name, kind in kinds.items() if kind in {"TTree", "ROOT::RNTuple"}]
            return sum(int(root[name].num_entries) for name in trees)
    except Exception as error:
        msg = f"the delivered file {path} cannot be read: {error}"
        raise InputError(msg) from error


def _from_cache(
    client: _Client, requests: Sequence[Request], data_format: str
) -> dict[str, Delivered]:
    """What was delivered before, and is still there whole."""
    found = {}
    begun = {one["hash"]: one["submit_time"] for one in client.cache.queries_in_state("SUBMITTED")}
    for request in requests:
        asked = client.query(request, data_format).transform_request
        identity = asked.compute_hash()
        record = client.cache.get_transform_by_hash(identity)
        if record is not None:
            since = record.submit_time
        elif identity in begun:
            since = datetime.fromisoformat(begun[identity])
        else:
            continue
        if not _changed(asked.file_list, since):
            if record is None:
                continue
            if delivered := _whole(record):
                found[request.name] = delivered
                continue
        # The client would take it as it is.
        client.cache.delete_record_by_hash(identity)
    return found


def _whole(record: Any) -> Delivered | None:
    """What the client has in its cache of a transform, if it is all there as it was delivered."""
    paths = tuple(sorted(map(Path, record.file_list)))
    try:
        kept = json.loads((Path(record.data_dir) / DIGESTS).read_text())
        if not paths or len(paths) != record.files or kept != _digests(paths):
            return None
        events = tuple(map(count_events, paths))
    except (InputError, OSError, ValueError):
        return None
    return Delivered(paths, events, cached=True)


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: digest_of(path) for path in paths}


def _damaged(
    paths: Iterable[Path], digests: Mapping[str, str], results: Sequence[Mapping[str, Any]]
) -> Path | None:
    """A file that is not what the endpoint has made."""
    made = [one for one in results if one["transform_status"] == "success"]
    # The digest our endpoint alone says, the size each.
    left = Counter((one["total-bytes"], one.get("sha256")) for one in made)
    says_digests = all(digest for _, digest in left)
    for path in paths:
        key = (path.stat().st_size, digests[path.name] if says_digests else None)
        left[key] -= 1
        if left[key] < 0:
            return path
    return None


def _changed(sources: Sequence[str] | None, since: datetime) -> bool:
    """Whether a source that is on this machine was written after a time."""
    paths = [Path(one.removeprefix("file://")) for one in sources or () if "://" not in one[5:]]
    return any(path.exists() and path.stat().st_mtime > since.timestamp() for path in paths)


class _Client:
    """The client of one deployment."""

    def __init__(self, config: Path | None, backend: str | None, cache: Path | None) -> None:
        from servicex.servicex_client import ServiceXClient  # noqa: PLC0415

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
    def offline(cls, cache: Path) -> _Client:
        """A client that can look into the cache, and nothing else."""
        from servicex.configuration import Configuration  # noqa: PLC0415
        from servicex.query_cache import QueryCache  # noqa: PLC0415

        client = cls.__new__(cls)
        client._configuration = Configuration(api_endpoints=[], cache_path=str(cache))
        client.adapter = None
        client.config_file = None
        client.cache = QueryCache(client._configuration)
        return client

    def close(self) -> None:
        """Close the client's database, which it leaves open."""
        self.cache.close()

    def query(self, request: Request, data_format: str, *, ignore_cache: bool = False) -> Any:
        """The client's own form of a request."""
        from servicex.databinder_models import General  # noqa: PLC0415
        from servicex.dataset_identifier import FileListDataset  # noqa: PLC0415
        from servicex.query_core import Query  # noqa: PLC0415

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

    def deliver(
        self,
        requests: Sequence[Request],
        data_format: str,
        timeout: float,
        *,
        ignore_cache: bool,
        progress: bool,
    ) -> dict[str, Delivered]:
        """As `deliver`, of what is not in the cache."""
        done: dict[str, Delivered] = {}
        until = time.monotonic() + timeout
        for attempt in range(ATTEMPTS):
            todo = [one for one in requests if one.name not in done]
            queries = [self.query(one, data_format, ignore_cache=ignore_cache) for one in todo]
            outcomes = self._attempt(queries, until - time.monotonic(), timeout, progress=progress)
            # What is on its way already is not to be begun anew by the next attempt.
            ignore_cache = False
            errors = [one for one in outcomes if isinstance(one, _DeliveryError)]
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
    ) -> list[Delivered | _DeliveryError]:
        from servicex.dataset_group import DatasetGroup  # noqa: PLC0415
        from servicex.minio_adapter import init_s3_config  # noqa: PLC0415

        async def run() -> list[Delivered | _DeliveryError]:
            try:
                return await attempt()
            finally:
                await _cancel_all_others()

        async def attempt() -> list[Delivered | _DeliveryError]:
            # The client raises in callbacks of tasks, where nobody catches it.
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
                # and waits on.
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
        except _DeliveryError as error:
            return [error] * len(queries)
        except Exception as error:  # noqa: BLE001  (of the client, before it begins with any query)
            return [self._explained(queries[0], error)] * len(queries)

    async def _greet(self) -> None:
        """Whether the endpoint is there: the client would take a minute to find out."""
        import httpx  # noqa: PLC0415

        try:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as http:
                await http.get(f"{self.adapter.url}/servicex")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            msg = (
                f"no ServiceX answers at {self.adapter.url}: start it, or correct the address in "
                f"{self.config_file} ({type(error).__name__}: {error})"
            )
            raise _DeliveryError(msg, transient=True) from None

    async def _checked(self, query: Any, outcome: Any) -> Delivered | _DeliveryError:
        """What a query of the client came to, looked at with distrust."""
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
            digests = _digests(paths)
            if results and (bad := _damaged(paths, digests, results)):
                # The client would take it as it is, for its size.
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
                raise _DeliveryError(msg)
            with whole(Path(outcome.data_dir) / DIGESTS) as part:
                part.write_text(json.dumps(digests))
        except _DeliveryError as error:
            return error
        except Exception as error:  # noqa: BLE001  (whatever it is, it is not delivered)
            return self._explained(query, error)
        return Delivered(paths, events, cached=False)

    def _short(self, query: Any, message: str) -> _DeliveryError:
        """Nothing failed there, so that a download did here: it may go better the next time."""
        self.cache.delete_record_by_request_id(query.request_id)
        return _DeliveryError(message, transient=True)

    async def _results(self, request_id: str) -> list[dict[str, Any]]:
        """What the endpoint says of each file, failed ones too; nothing if it is too old."""
        import httpx  # noqa: PLC0415

        capabilities = await self.adapter.get_servicex_capabilities()
        if "poll_local_transformation_results" not in capabilities:
            return []
        # The client leaves out the failed files, and has no public way to its access token.
        headers = await self.adapter._get_authorization()
        url = f"{self.adapter.url}/servicex/transformation/{request_id}/results"
        async with httpx.AsyncClient(timeout=60) as http:
            answer = await http.get(url, headers=headers)
            answer.raise_for_status()
            results: list[dict[str, Any]] = answer.json()["results"]
            return results

    async def _failed(self, query: Any, status: Any) -> _DeliveryError:
        """Names the file that failed, and the reason."""
        self.cache.delete_record_by_request_id(query.request_id)
        results = await self._results(query.request_id)
        failed = [one for one in results if one["transform_status"] != "success"]
        many = f"{status.files_failed} of {status.files} files failed"
        logs = f", its logs may say why: {status.log_url}" if status.log_url else ""
        if not failed:
            return _DeliveryError(f"{query.title} was not delivered: {many}{logs}")
        first = failed[0]
        reason = first.get("failure-reason") or f"the endpoint does not say why{logs}"
        return _DeliveryError(
            f"{query.title}: {first['file-path']} could not be delivered: {reason} ({many})"
        )

    def _explained(self, query: Any, error: BaseException) -> _DeliveryError:
        """One sentence on what the client raised."""
        from servicex.query_core import ServiceXException  # noqa: PLC0415
        from servicex.servicex_adapter import AuthorizationError  # noqa: PLC0415

        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, InputError):
            return _DeliveryError(text)
        if isinstance(error, AuthorizationError):
            return _DeliveryError(
                f"{self.adapter.url} refuses the token: correct it in {self.config_file} ({text})"
            )
        if isinstance(error, NameError):
            more = (
                "; `make dask-awkward` makes the environment that FuncADL needs here"
                if query.codegen == FUNCADL_CODEGEN
                and urlsplit(self.adapter.url).hostname in LOOPBACK
                else ""
            )
            return _DeliveryError(f"{query.title} was not delivered: {text}{more}")
        for front in ("Invalid transform request: ", "Failed to generate translation code: "):
            if front in text:
                reason = text.partition(front)[2].removeprefix("400 Bad Request: ")
                closing = reason.endswith(")") and "Something went wrong (" in text
                return _DeliveryError(
                    f"{query.title} was refused: {reason.removesuffix(')') if closing else reason}"
                )
        if isinstance(error, ServiceXException):
            return _DeliveryError(f"{query.title} was not delivered: {text}")
        if "not found" in text and query.request_id:
            # The endpoint has forgotten what this cache believes to be under way.
            self.cache.delete_record_by_request_id(query.request_id)
        return _DeliveryError(
            f"{query.title} was not delivered: {type(error).__name__}: {text}; run it again",
            transient=True,
        )


async def _cancel_all_others() -> None:
    """End what the client left running, on Ctrl-C too.

    One cancellation, which is all that `asyncio.run` tries before it waits for ever, is lost where
    it meets a connection that is just being made.
    """
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        for one in others:
            one.cancel()
        await asyncio.wait(others, timeout=LOCAL_POLL_SECONDS)


def _is_done(status: Any) -> bool:
    from servicex.query_core import DONE_STATUS  # noqa: PLC0415

    return status is not None and status.status in DONE_STATUS


def _progress_of(query: Any) -> str:
    status = query.current_status
    if status is None:
        return "it was not begun"
    return f"{status.files_completed} of {status.files} files were transformed"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the client from printing logs and tracebacks: what matters is raised."""
    logger, console = logging.getLogger("servicex"), rich.get_console()
    level, quiet = logger.level, console.quiet
    logger.setLevel(logging.CRITICAL + 1)
    console.quiet = True
    try:
        yield
    finally:
        logger.setLevel(level)
        console.quiet = quiet
