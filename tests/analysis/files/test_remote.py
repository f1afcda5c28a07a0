"""Files of servers: the same answer as from local ones, and one sentence where a server fails.

The servers are real ones of Debian's packages (``make xrootd``), on loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uproot

from analysis import ttbar
from analysis.errors import InputError, NotInstalledError
from analysis.executors import open_executor
from analysis.files import remote
from analysis.runner.result import Result
from perf.records.difference import agree
from perf.servers import file_servers
from tests.analysis.test_bad_input import assert_one_sentence
from tests.support.cli import Outcome, analysis
from tests.support.faults import Plain
from tests.support.jobs import inspected, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from coffea.processor.executor import ExecutorBase

    from perf.servers.file_servers import Server

    Opener = Callable[..., AbstractContextManager[Server]]

SERVERS: dict[str, Opener] = {"root": file_servers.xrootd, "http": file_servers.nginx}

EXECUTORS = ("iterative", "futures", "dask")
METADATA = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}


@pytest.fixture(params=list(SERVERS), scope="module")
def opener(request: pytest.FixtureRequest) -> Opener:
    """Each kind of server; skips where it is not installed."""
    return SERVERS[request.param]


def serve(opener: Opener, folder: Path, **options: Any) -> AbstractContextManager[Server]:
    """A server of a folder; skips where it is not installed."""
    context = opener(folder, **options)
    try:
        server = context.__enter__()
    except NotInstalledError as error:
        pytest.skip(str(error))

    class Entered:
        def __enter__(self) -> Server:
            return server

        def __exit__(self, *what: object) -> None:
            context.__exit__(*what)  # type: ignore[arg-type]

    return Entered()


@pytest.fixture(scope="module")
def server(opener: Opener, synthetic: Path) -> Iterator[Server]:
    """A server of the synthetic files."""
    with serve(opener, synthetic) as one:
        yield one


def at(server: Server, fileset: dict[str, Any]) -> dict[str, Any]:
    """A file set as it is read from a server."""
    return {
        name: {
            **dataset,
            "files": {
                server.url(Path(path).name): tree for path, tree in dataset["files"].items()
            },
        }
        for name, dataset in fileset.items()
    }


@pytest.fixture(scope="module")
def some(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """Two samples, four files."""
    return {name: synthetic_fileset[name] for name in ("ttbar__nominal", "wjets__nominal")}


@pytest.fixture(scope="module", params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[ExecutorBase]:
    """Executors in this process, in others, and in others that are reached by TCP."""
    workers = 1 if request.param == "iterative" else 2
    with open_executor(request.param, workers=workers) as ready:
        yield ready


def process(fileset: dict[str, Any], executor: ExecutorBase) -> Result:
    """The ttbar analysis, in chunks of half a file."""
    return run(
        fileset, ttbar.TtbarProcessor("columnar"), executor, ttbar.branches("all"), chunksize=1000
    )


@pytest.fixture(scope="module")
def local(some: dict[str, Any]) -> Result:
    """What local files give."""
    with open_executor("iterative") as executor:
        return process(some, executor)


def test_every_executor_gives_what_it_gives_of_local_files(
    executor: ExecutorBase, server: Server, some: dict[str, Any], local: Result
) -> None:
    distant = process(at(server, some), executor)
    assert agree(distant.accumulated, local.accumulated)
    assert distant.repeated == 0
    assert distant.chunks == local.chunks == 8


def test_local_and_remote_files_in_one_set(
    server: Server, synthetic: Path, some: dict[str, Any], tmp_path: Path
) -> None:
    mixed = {**some, "ttbar__nominal": at(server, some)["ttbar__nominal"]}
    found = []
    for name, fileset in (("local", some), ("mixed", mixed)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(fileset))
        outcome = analysis("run", path, "-o", tmp_path / "out.json", "--chunksize", 1500)
        assert outcome.exit_code == 0, outcome.error
        found.append(json.loads((tmp_path / "out.json").read_text())["histograms"])
    assert found[0] == found[1]
    del synthetic


def test_a_file_smaller_than_what_is_read_of_it_at_once(opener: Opener, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "small.root") as file:
        file.mktree("Events", {"x": "f8"}).extend({"x": np.arange(5.0)})
    assert (tmp_path / "small.root").stat().st_size < remote.BEGIN
    with serve(opener, tmp_path) as server:
        url = server.url("small.root")
        with uproot.open({url: "Events"}, **remote.options([url], 60)) as tree:
            np.testing.assert_array_equal(tree["x"].array(library="np"), np.arange(5.0))


def test_a_processor_whose_branches_are_unknown(server: Server, some: dict[str, Any]) -> None:
    """Each branch is then read by itself, when it is asked for."""
    results = []
    for fileset in (some, at(server, some)):
        with open_executor("iterative") as executor:
            results.append(run(fileset, Plain(), executor, chunksize=1000))
    assert results[0].accumulated == results[1].accumulated


def test_iterate(server: Server, synthetic: Path) -> None:
    """Entry offsets are then numpy's integers, which XRootD's client does not take for offsets."""
    name = min(synthetic.glob("ttbar__nominal*.root")).name
    options = remote.options([server.url(name)], 60)
    counted = 0
    with uproot.open({server.url(name): "Events"}, **options) as tree:
        for part in tree.iterate(["Jet_pt", "event"], step_size="20 kB"):
            assert len(part) < tree.num_entries
            counted += len(part)
        assert counted == tree.num_entries


def run_at(url: str, tmp_path: Path, *options: Any, tree: str = "Events") -> Outcome:
    """Run the analysis on one file; if it fails, it leaves nothing."""
    fileset, output = tmp_path / "fileset.json", tmp_path / "out.json"
    fileset.write_text(json.dumps({"one": {"files": {url: tree}, "metadata": METADATA}}))
    outcome = analysis("run", fileset, "-o", output, "--timeout", 3, *options)
    assert output.exists() == (outcome.exit_code == 0)
    return outcome


def test_missing_file(server: Server, tmp_path: Path) -> None:
    url = server.url("none.root")
    assert_one_sentence(run_at(url, tmp_path), url, f"127.0.0.1:{server.port} has no such file")


def test_wrong_tree(server: Server, synthetic: Path, tmp_path: Path) -> None:
    name = min(synthetic.glob("ttbar__nominal*.root")).name
    outcome = run_at(server.url(name), tmp_path, tree="Event")
    assert_one_sentence(outcome, server.url(name), "no tree Event", "it has Events")


@pytest.mark.parametrize("protocol", list(SERVERS))
def test_no_server(protocol: str, tmp_path: Path) -> None:
    url = f"{protocol}://127.0.0.1:{file_servers.free_port()}//events.root"
    assert_one_sentence(run_at(url, tmp_path), url, "no server answers", "Connection refused")


@pytest.mark.parametrize("protocol", list(SERVERS))
def test_no_host(protocol: str, tmp_path: Path) -> None:
    url = f"{protocol}://no-such-host.invalid//events.root"
    assert_one_sentence(run_at(url, tmp_path), url, "no server answers at no-such-host.invalid")


@pytest.mark.parametrize("protocol", list(SERVERS))
def test_server_that_does_not_answer(protocol: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}//events.root"
        outcome = run_at(url, tmp_path)
    assert_one_sentence(outcome, url, "did not answer in time", "--timeout")


@pytest.mark.parametrize("share", [0.999, 0.6, 0.01, 0.0])
def test_truncated_file(opener: Opener, synthetic: Path, tmp_path: Path, share: float) -> None:
    content = min(synthetic.glob("ttbar__nominal*.root")).read_bytes()
    (tmp_path / "short.root").write_bytes(content[: int(share * len(content))])
    with serve(opener, tmp_path) as server:
        url = server.url("short.root")
        assert_one_sentence(run_at(url, tmp_path), url, "fetch it again or leave it out")


def test_files_of_a_server_that_is_down_can_be_left_out(
    server: Server, synthetic: Path, tmp_path: Path
) -> None:
    name = min(synthetic.glob("ttbar__nominal*.root")).name
    gone = server.url(name).replace(str(server.port), str(file_servers.free_port()))
    files = dict.fromkeys([gone, server.url("none.root"), server.url(name)], "Events")
    fileset = tmp_path / "fileset.json"
    fileset.write_text(json.dumps({"one": {"files": files, "metadata": METADATA}}))
    outcome = analysis("run", fileset, "-o", tmp_path / "out.json", "--skip-bad-files")
    assert outcome.exit_code == 0, outcome.error
    first, second = outcome.error.strip().splitlines()
    assert first.startswith(f"left out: {gone}: no server answers")
    assert "has no such file" in second


class Kills(Plain):
    """Kills the server while the first chunk is processed, before or after it read its branch."""

    def __init__(self, server: Server, *, after: bool) -> None:
        super().__init__()
        self.server = server
        self.after = after

    def process(self, events: Any) -> Any:
        if not self.after:
            self.server.kill()
        result = super().process(events)
        self.server.kill()
        return result


@pytest.mark.parametrize(
    ("name", "after"),
    [
        *(("iterative", False), ("futures", True)),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in (("iterative", True), ("futures", False))
        ),
    ],
)
def test_server_killed_and_started_again(
    opener: Opener, synthetic: Path, some: dict[str, Any], name: str, *, after: bool
) -> None:
    """Before a chunk was read, and between two chunks."""
    retries: dict[str, Any] = {"retries": 0} if name == "iterative" else {}
    with (
        serve(opener, synthetic) as server,
        open_executor(name, workers=1, **retries) as executor,
    ):
        fileset = at(server, some)
        killing = inspected(fileset, Kills(server, after=after), chunksize=1000, timeout=3)
        plain = inspected(fileset, Plain(), chunksize=1000, timeout=3)
        with pytest.raises(InputError) as caught:
            killing.run(executor)
        said = str(caught.value)
        assert said.startswith("events ")
        assert f"no server answers at 127.0.0.1:{server.port}" in said
        assert "\n" not in said
        # Its processes have seen it fail, and read of it again none the less.
        with serve(opener, synthetic, port=server.port):
            assert plain.run(executor).events == 8000


def test_tls(synthetic: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    name = min(synthetic.glob("ttbar__nominal*.root")).name
    with serve(file_servers.nginx, synthetic, certificate=(certificate, key)) as server:
        outcome = run_at(server.url(name), tmp_path)
        assert_one_sentence(outcome, server.url(name), "is not trusted", "SSL_CERT_FILE")
        command = ("run", tmp_path / "fileset.json", "-o", tmp_path / "out.json")
        trusting = subprocess.run(
            [sys.executable, "-m", "analysis", *command],
            env=os.environ | {"SSL_CERT_FILE": str(certificate)},
            capture_output=True,
            check=False,
        )
        assert trusting.returncode == 0, trusting.stderr


@pytest.mark.parametrize("protocol", ["root", "http", "https"])
def test_client_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda name: None)  # noqa: ARG005
    outcome = run_at(f"{protocol}://127.0.0.1:1//events.root", tmp_path)
    assert_one_sentence(
        outcome, f"what reads {protocol}:// is not installed", "'coffea-scaling[remote]'"
    )


def test_remote_parquet(server: Server, tmp_path: Path) -> None:
    outcome = run_at(server.url("events.parquet"), tmp_path)
    assert_one_sentence(outcome, "Parquet is read from local files only", "fetch it first")


def test_what_a_processor_raises_is_not_blamed_on_the_server(
    server: Server, some: dict[str, Any]
) -> None:
    class Fails(Plain):
        def before(self, events: Any) -> None:  # noqa: ARG002
            msg = "no such file of 404 jets, connection refused"
            raise ZeroDivisionError(msg)

    fileset = at(server, some)
    with open_executor("iterative") as executor, pytest.raises(InputError, match="404 jets") as e:
        run(fileset, Fails(), executor)
    assert "could not be processed: ZeroDivisionError" in str(e.value)


@pytest.mark.parametrize(
    ("path", "protocol"),
    [("a/b.root", ""), ("/a", ""), ("root://h//a", "root"), ("HTTPS://h/a", "https")],
)
def test_protocol(path: str, protocol: str) -> None:
    assert remote.protocol_of(path) == protocol
    assert bool(remote.options([path, "x"], 5)) == bool(protocol)
    np.testing.assert_equal(remote.options(["local.root"], 5), {})


def test_what_a_processor_reads_is_found_on_servers(
    server: Server, some: dict[str, Any], local: Result
) -> None:
    fileset = at(server, some)
    with open_executor("iterative", status=False) as executor:
        result = run(fileset, Plain(), executor, trace=True, chunksize=1000)
    assert {name for one in result.traced.values() for name in one.branches} >= {"Jet_pt"}
    assert result.events == local.events


class _Whole(SimpleHTTPRequestHandler):
    """A server without ranges, as Python's own is."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    """Says nothing of clients that have read enough."""

    def handle_error(self, *_: object) -> None:
        """Nothing."""


def test_a_server_without_ranges_is_told(synthetic: Path, tmp_path: Path) -> None:
    handler = partial(_Whole, directory=str(synthetic))
    with _Server(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/ttbar__nominal_0.root"
        outcome = analysis("adl", url, "-o", tmp_path / "adl.json")
        http.shutdown()
    assert_one_sentence(outcome, url, "sends whole files only", "fetch it first")
