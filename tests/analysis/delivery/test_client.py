"""`deliver`, and the official client as it is, against a real endpoint."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from servicex import General, OutputFormat, Sample, ServiceXSpec, dataset, query
from servicex.servicex_client import deliver_async

from analysis.delivery import session
from analysis.delivery.client import Request, deliver
from analysis.errors import InputError
from analysis.servicex.endpoint import HOST, SETTINGS
from analysis.servicex.server import serving
from analysis.servicex.worker_pool import Limits
from tests.support.servicex import (
    COLUMNS,
    PATIENCE,
    PER_FILE,
    SLOW,
    Background,
    Rest,
    family,
    raw,
    rest_of,
    served,
    wait_for,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from analysis.servicex.endpoint import Endpoint


def funcadl() -> Any:
    """The same in FuncADL."""
    fields = ", ".join(f"'{name}': e.{name}" for name in COLUMNS)
    return query.FuncADL_Uproot().FromTree("Events").Select(f"lambda e: {{{fields}}}")


def columns_of(path: str | Path) -> tuple[int, set[str]]:
    """Events and columns of a delivered file, without counters and the name of the tree."""
    if str(path).endswith(".parquet"):
        schema = pq.read_schema(path)
        return pq.read_metadata(path).num_rows, set(schema.names) - {"treename"}
    with uproot.open({str(path): None}) as file:
        (tree,) = file.values()
        return int(tree.num_entries), set(tree.keys(recursive=False)) - {"nJet_pt"}


def nothing_is_begun() -> AbstractContextManager[Path]:
    """In the place of a local endpoint, where none must be needed."""
    pytest.fail("an endpoint was started")


# --- the official client alone


# It leaves its database open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("funcadl")
def test_the_client_as_it_is(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    """Both kinds of query in each format; and what the client makes of a file that failed."""
    formats = [OutputFormat.parquet, OutputFormat.root_ttree, OutputFormat.root_rntuple]
    good = [
        ServiceXSpec(
            General=General(OutputFormat=one),
            Sample=[
                Sample(Name="raw", Dataset=dataset.FileList(files[:2]), Query=raw()),
                Sample(Name="adl", Dataset=dataset.FileList(files[:1]), Query=funcadl()),
            ],
        )
        for one in formats
    ]
    missing = [*files[:2], f"{files[0]}.none"]
    bad = ServiceXSpec(
        General=General(OutputFormat=OutputFormat.parquet),
        Sample=[Sample(Name="bad", Dataset=dataset.FileList(missing), Query=raw())],
    )

    async def all_at_once() -> list[Any]:
        # Side by side, because the client looks for news every 5 s only.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await asyncio.gather(
            *(
                deliver_async(
                    spec,
                    config_path=str(endpoint.config),
                    cache_dir=str(tmp_path / str(i)),
                    progress_bar="none",
                )
                for i, spec in enumerate([*good, bad])
            )
        )

    *delivered, short = asyncio.run(all_at_once())
    gc.collect()  # What it left open is closed in this test, not in any other.
    for result in delivered:
        for name, many in (("raw", 2), ("adl", 1)):
            assert len(result[name]) == many
            for path in result[name]:
                assert columns_of(path) == (PER_FILE, set(COLUMNS))
    # The reason for which `deliver` counts: two files of three, and no error.
    assert len(short["bad"]) == 2


# --- ours


@pytest.mark.parametrize("data_format", ["parquet", "root-ttree", "root-rntuple"])
def test_delivered_whole(
    data_format: str, endpoint: Endpoint, files: list[str], tmp_path: Path
) -> None:
    requests = [
        Request("one", files[:1], raw()),
        Request("three", files[1:4], raw()),
        Request("list", dataset.FileList(files[4:6]), raw("nJet >= 0")),
    ]
    got = deliver(requests, config=endpoint.config, cache=tmp_path, data_format=data_format)
    assert list(got) == ["one", "three", "list"]
    assert [one.events for one in got.values()] == [(PER_FILE,), (PER_FILE,) * 3, (PER_FILE,) * 2]
    for one in got.values():
        for path in one.files:
            assert columns_of(path) == (PER_FILE, set(COLUMNS))
    # A second time it needs no endpoint, and can be had with none.
    again = deliver(requests, local=nothing_is_begun, cache=tmp_path, data_format=data_format)
    assert all(one.cached for one in again.values())
    assert {k: one.files for k, one in again.items()} == {k: one.files for k, one in got.items()}


def test_many_files_and_calls(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    """More files than the client fetches at a time, in one event loop after another."""
    for some in (files, files[:1]):
        got = deliver(
            [Request("all", some, raw("MET_pt >= -3"))], config=endpoint.config, cache=tmp_path
        )
        assert got["all"].events == (PER_FILE,) * len(some)
        assert not got["all"].cached


@pytest.mark.usefixtures("funcadl")
def test_functional_query(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    adl = funcadl().Where("lambda e: e.nJet > 4")
    jets = uproot.concatenate([f"{one}:Events" for one in files[:2]], ["nJet"], library="np")
    want = int((jets["nJet"] > 4).sum())
    assert 0 < want < 2 * PER_FILE
    got = deliver([Request("adl", files[:2], adl)], config=endpoint.config, cache=tmp_path)
    assert sum(got["adl"].events) == want


def one_failing(files: list[str], bad: str) -> list[Request]:
    return [Request("good", files[2:4], raw()), Request("bad", [*files[:2], bad], raw())]


def test_one_failing_file_of_three(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    missing = f"{files[0]}.none"
    with pytest.raises(InputError) as caught:
        deliver(one_failing(files, missing), config=endpoint.config, cache=tmp_path)
    assert f"bad: {missing} could not be delivered: " in str(caught.value)
    assert "FileNotFoundError" in str(caught.value)
    assert "1 of 3 files failed" in str(caught.value)
    # What was good is kept, and the bad one is not believed to be under way.
    with pytest.raises(InputError, match="1 of 3 files failed"):
        deliver(one_failing(files, missing), config=endpoint.config, cache=tmp_path)
    whole = deliver(one_failing(files, files[5]), config=endpoint.config, cache=tmp_path)
    assert whole["good"].cached
    assert len(whole["bad"].files) == 3


def test_every_file_failing(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    """The client gives an empty list here, and calls it valid."""
    bad = [f"{one}.none" for one in files[:2]]
    with pytest.raises(InputError, match="2 of 2 files failed"):
        deliver([Request("bad", bad, raw())], config=endpoint.config, cache=tmp_path)


def test_a_damaged_file(
    endpoint: Endpoint, own_files: Path, files: list[str], tmp_path: Path
) -> None:
    damaged = own_files / "damaged.root"
    content = Path(files[0]).read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"damaged.root could not be delivered"):
        deliver(one_failing(files, str(damaged)), config=endpoint.config, cache=tmp_path)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (query.UprootRaw([{"treename": "Events", "expressions": ["Jet_none"]}]), "Jet_none"),
        (query.UprootRaw([{"treename": "Events", "filter_name": ["Jet_none"]}]), "Jet_none"),
        (raw("Jet_none > 1"), "Jet_none"),
        (raw("MET_pt >"), "not an expression"),
        (raw("().__class__"), "which no selection may hold"),
        (
            query.UprootRaw([{"treename": "None", "fail_on_missing_trees": True}]),
            "there is no tree None",
        ),
        (raw("Jet_pt > 30"), "could not be delivered"),
    ],
)
def test_wrong_queries(
    wrong: Any, reason: str, endpoint: Endpoint, files: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="wrong") as caught:
        deliver([Request("wrong", files[:1], wrong)], config=endpoint.config, cache=tmp_path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("funcadl")
def test_wrong_functional_queries(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    malformed = query.FuncADL_Uproot()
    malformed.set_provided_qastle("(call Select")
    none = query.FuncADL_Uproot().FromTree("Events").Select("lambda e: {'x': e.Jet_none}")
    tree = query.FuncADL_Uproot().FromTree("None").Select("lambda e: {'x': e.Jet_pt}")
    for wrong, reason in ((malformed, "not qastle"), (none, "Jet_none"), (tree, "None")):
        with pytest.raises(InputError) as caught:
            deliver([Request("wrong", files[:1], wrong)], config=endpoint.config, cache=tmp_path)
        assert reason in str(caught.value)


def test_wrong_places(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    for path in ("/etc/hostname", f"{files[0]}/../../x.root"):
        with pytest.raises(InputError, match="not in the folders that this endpoint may read"):
            deliver([Request("out", [path], raw())], config=endpoint.config, cache=tmp_path)
    for did in (dataset.Rucio("a:b"), dataset.CERNOpenData(1507), dataset.XRootD("root://a//*")):
        with pytest.raises(InputError, match="DID scheme is not supported"):
            deliver([Request("did", did, raw())], config=endpoint.config, cache=tmp_path)


def configured(running: Endpoint, path: Path, **changes: str) -> Path:
    """A servicex.yaml with something wrong in it."""
    config = yaml.safe_load(running.config.read_text())
    config["api_endpoints"][0] |= changes
    path.write_text(yaml.safe_dump(config))
    return path


def test_wrong_configurations(endpoint: Endpoint, files: list[str], tmp_path: Path) -> None:
    request = [Request("one", files[:1], raw())]
    cache = tmp_path / "cache"
    config = tmp_path / "servicex.yaml"
    with pytest.raises(InputError, match="refuses the token: correct it in"):
        deliver(request, config=configured(endpoint, config, token="x"), cache=cache)
    with pytest.raises(InputError, match="refuses the token"):
        deliver(request, config=configured(endpoint, config, token=""), cache=cache)
    nowhere = configured(endpoint, config, endpoint="http://127.0.0.1:9")
    with pytest.raises(InputError, match="no ServiceX answers at http://127"):
        deliver(request, config=nowhere, cache=cache)
    with pytest.raises(InputError, match="Backend other not defined"):
        deliver(request, config=endpoint.config, backend="other", cache=cache)
    with pytest.raises(InputError, match="configuration of ServiceX cannot be used"):
        deliver(request, config=tmp_path / "none.yaml", cache=cache)
    config.write_text("api_endpoints: 1")
    with pytest.raises(InputError, match="configuration of ServiceX cannot be used"):
        deliver(request, config=config, cache=cache)
    with pytest.raises(InputError, match="no format csv"):
        deliver(request, config=endpoint.config, data_format="csv")
    with pytest.raises(InputError, match="same name"):
        deliver(request * 2, config=endpoint.config)


def test_time_limit(endpoint: Endpoint, rest: Rest, files: list[str], tmp_path: Path) -> None:
    forever = [Request("slow", files[:1], raw("MET_pt > 9**9**9"))]
    with pytest.raises(InputError, match=r"slow was not delivered within 3 s, 0 of 1 files"):
        deliver(forever, config=endpoint.config, cache=tmp_path, timeout=3)
    running = [
        one["request_id"]
        for one in rest("GET", "/servicex/transformation").json()["requests"]
        if one["status"] == "Running"
    ]
    assert len(running) == 1
    # The next call waits for the same transform; somebody cancels it.
    second = Background(lambda: deliver(forever, config=endpoint.config, cache=tmp_path))
    rest("GET", f"/servicex/transformation/{running[0]}/cancel")
    with pytest.raises(InputError, match="canceled"):
        second.wait()


def test_a_transform_that_the_endpoint_forgot(
    endpoint: Endpoint, rest: Rest, files: list[str], tmp_path: Path
) -> None:
    forever = [Request("slow", files[:1], raw("MET_pt > 9**9**9 * 0"))]
    with pytest.raises(InputError, match="within 1 s"):
        deliver(forever, config=endpoint.config, cache=tmp_path, timeout=1)
    for one in rest("GET", "/servicex/transformation").json()["requests"]:
        if one["status"] == "Running":
            rest("GET", f"/servicex/transformation/{one['request_id']}/cancel")
            rest("DELETE", f"/servicex/transformation/{one['request_id']}")
    again = Background(
        lambda: deliver(forever, config=endpoint.config, cache=tmp_path, timeout=20)
    )

    def begun_anew() -> Any:
        requests = rest("GET", "/servicex/transformation").json()["requests"]
        return [one["request_id"] for one in requests if one["status"] == "Running"]

    (request_id,) = wait_for(begun_anew)
    rest("GET", f"/servicex/transformation/{request_id}/cancel")
    with pytest.raises(InputError, match="canceled"):
        again.wait()


# --- the cache


def test_a_cached_file_that_is_broken(
    endpoint: Endpoint, files: list[str], tmp_path: Path
) -> None:
    request = [Request("two", files[:2], raw())]
    first = deliver(request, config=endpoint.config, cache=tmp_path)["two"]
    first.files[0].write_bytes(first.files[0].read_bytes()[:100])
    second = deliver(request, config=endpoint.config, cache=tmp_path)["two"]
    assert not second.cached
    assert second.events == (PER_FILE, PER_FILE)
    second.files[1].unlink()
    third = deliver(request, config=endpoint.config, cache=tmp_path)["two"]
    assert third.events == (PER_FILE, PER_FILE)


def test_what_is_damaged_on_the_way_is_fetched_anew(
    endpoint: Endpoint, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time the endpoint says another digest than that of the file."""
    monkeypatch.setattr(session, "RETRY_SECONDS", 0)
    selection = raw("MET_pt >= -1")
    with closing(sqlite3.connect(endpoint.folder / "transforms.sqlite")) as database:
        database.execute(
            "CREATE TRIGGER damage AFTER UPDATE OF sha256 ON files WHEN NOT EXISTS "
            "(SELECT * FROM files WHERE sha256 = 'other') "
            "BEGIN UPDATE files SET sha256 = 'other' WHERE id = NEW.id; END"
        )
        try:
            got = deliver(
                [Request("one", files[:1], selection)], config=endpoint.config, cache=tmp_path
            )
            assert got["one"].events == (PER_FILE,)
            asked = [one["selection"] for one in endpoint.state.transforms()]
            assert sum("MET_pt >= -1" in one for one in asked) == 2
        finally:
            database.execute("DROP TRIGGER damage")


def test_what_is_damaged_in_the_cache_is_fetched_anew(
    endpoint: Endpoint, files: list[str], tmp_path: Path
) -> None:
    """Where neither the size nor the number of events tells."""
    request = [Request("one", files[:1], raw("MET_pt >= -2"))]
    (path,) = deliver(request, config=endpoint.config, cache=tmp_path)["one"].files
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    again = deliver(request, config=endpoint.config, cache=tmp_path)["one"]
    assert not again.cached
    assert deliver(request, config=endpoint.config, cache=tmp_path)["one"].cached


def test_a_source_that_changed(
    endpoint: Endpoint, own_files: Path, files: list[str], tmp_path: Path
) -> None:
    source = own_files / "changing.root"
    request = [Request("one", [str(source)], raw())]
    source.write_bytes(Path(files[0]).read_bytes())
    assert not deliver(request, config=endpoint.config, cache=tmp_path)["one"].cached
    assert deliver(request, config=endpoint.config, cache=tmp_path)["one"].cached
    source.write_bytes(Path(files[1]).read_bytes())
    assert not deliver(request, config=endpoint.config, cache=tmp_path)["one"].cached
    anew = deliver(request, config=endpoint.config, cache=tmp_path, ignore_cache=True)
    assert not anew["one"].cached


# --- what is interrupted


def test_a_port_that_is_taken_since(synthetic: Path, tmp_path: Path) -> None:
    """The next endpoint of a folder has another, and says so to clients."""
    folder = tmp_path / "endpoint"
    with serving(folder, allow=[synthetic]) as first:
        before = int(first.url.rpartition(":")[2])
    with socket.create_server((HOST, before)), serving(folder, allow=[synthetic]) as second:
        (one,) = yaml.safe_load(second.config.read_text())["api_endpoints"]
        assert one["endpoint"] == second.url != first.url
        assert one["token"] == first.token


def test_the_endpoint_is_killed_and_started(
    synthetic: Path, files: list[str], tmp_path: Path
) -> None:
    """Killed in mid-transform, the next endpoint of the folder goes on; the client waits."""
    folder = tmp_path / "endpoint"
    requests = [Request("all", files[:3], raw(SLOW))]
    with served(folder, synthetic) as first:
        config = folder / "servicex.yaml"
        rest = rest_of(folder)
        work = Background(lambda: deliver(requests, config=config, cache=tmp_path / "cache"))

        def begun() -> Any:
            found = rest("GET", "/servicex/transformation").json()["requests"]
            return [one for one in found if one["files-completed"]]

        (transform,) = wait_for(begun)
        children = family(first)
        assert children
        first.kill()
        first.wait()
    assert transform["files-remaining"]
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive, "the worker ends with the endpoint"
    with served(folder, synthetic) as second:
        assert work.wait()["all"].events == (PER_FILE,) * 3
        (after,) = rest("GET", "/servicex/transformation").json()["requests"]
        assert after["request_id"] == transform["request_id"]
        assert after["files-completed"] == 3
        children = family(second)
        second.send_signal(signal.SIGINT)
        assert second.stdout
        assert "the endpoint has stopped" in second.stdout.read()
        assert second.wait(PATIENCE) == 130
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert not alive


def test_a_file_that_takes_too_much(synthetic: Path, files: list[str], tmp_path: Path) -> None:
    with serving(allow=[synthetic], limits=Limits(seconds=2)) as own:
        slow = [Request("slow", files[:1], raw("MET_pt > 9**9**9"))]
        with pytest.raises(InputError, match=r"took more than 2 s, which is the limit"):
            deliver(slow, config=own.config, cache=tmp_path)


def test_an_endpoint_that_cannot_start(tmp_path: Path, endpoint: Endpoint) -> None:
    def refused(reason: str, folder: Path | None = None, **options: Any) -> None:
        with pytest.raises(InputError, match=reason), serving(folder, **options):
            pass

    refused("no folder", allow=[tmp_path / "none"])
    refused("cannot be listened on", port=int(endpoint.url.rpartition(":")[2]))
    refused("another process is at work in", endpoint.folder)
    (tmp_path / "file").write_text("")
    refused("cannot be written to", tmp_path / "file")
    (tmp_path / SETTINGS).write_text("{")
    refused("cannot be read", tmp_path)
    (tmp_path / SETTINGS).unlink()
    (tmp_path / "transforms.sqlite").write_text("no database" * 100)
    refused("no state to go on with", tmp_path)
    opened = {file.path for file in psutil.Process().open_files()}
    assert str(tmp_path / "transforms.sqlite") not in opened


def test_what_json_says_of_the_query() -> None:
    (one,) = json.loads(raw().generate_selection_string())
    assert one["treename"] == "Events"
