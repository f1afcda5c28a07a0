"""Servers of files start on free ports, serve their folder alone, and end with their context."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from analysis.errors import NotInstalledError
from perf.servers import file_servers
from perf.servers.latency_proxy import HOST
from tests.analysis.files.test_remote import SERVERS, serve

if TYPE_CHECKING:
    from pathlib import Path

    from tests.analysis.files.test_remote import Opener


@pytest.fixture(params=list(SERVERS))
def opener(request: pytest.FixtureRequest) -> Opener:
    """Each kind of server."""
    return SERVERS[request.param]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name is hard on configuration files, with a file."""
    folder = tmp_path / "of many; {words} # and 'quotes'"
    folder.mkdir()
    (folder / "file.txt").write_bytes(b"0123456789")
    (tmp_path / "secret.txt").write_text("not served")
    return folder


def test_they_end_with_their_context(opener: Opener, folder: Path) -> None:
    with serve(opener, folder) as server:
        process = psutil.Process(server.process)
        family = [process, *process.children(recursive=True)]
        socket.create_connection((HOST, server.port)).close()
        assert all(one.is_running() for one in family)
    for one in family:
        # Killed, if not yet taken off the list by whoever adopted it.
        assert not one.is_running() or one.status() == psutil.STATUS_ZOMBIE
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, server.port))


def test_a_port_that_is_taken(opener: Opener, folder: Path) -> None:
    with serve(opener, folder) as server:
        context = opener(folder, port=server.port)
        with pytest.raises(RuntimeError, match=r"no server for .* starts here"):
            context.__enter__()


def test_what_is_not_installed(
    opener: Opener, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_servers.shutil, "which", lambda *_, **__: None)  # type: ignore[attr-defined]
    with pytest.raises(NotInstalledError, match="make xrootd"), opener(folder):
        pass


def test_ranges_of_http(folder: Path) -> None:
    def get(name: str, **headers: str) -> tuple[int, bytes]:
        with urlopen(Request(server.url(name), headers=headers)) as answer:
            return answer.status, answer.read()

    with serve(file_servers.nginx, folder) as server:
        assert get("file.txt") == (200, b"0123456789")
        assert get("file.txt", Range="bytes=2-4") == (206, b"234")
        status, several = get("file.txt", Range="bytes=0-0, 7-8")
        assert status == 206
        assert b"78" in several
        with pytest.raises(HTTPError, match=r"40[04]") as refused:
            get("../secret.txt")
        refused.value.close()


def test_xrootd_serves_its_folder_to_read(folder: Path) -> None:
    client: Any = pytest.importorskip("XRootD.client")
    flags: Any = pytest.importorskip("XRootD.client.flags")
    with serve(file_servers.xrootd, folder) as server:
        with client.File() as file:
            assert file.open(server.url("file.txt"), timeout=30)[0].ok
            assert file.read(3, 4)[1] == b"3456"
        assert not client.File().open(server.url("../secret.txt"), timeout=30)[0].ok
        new = client.File().open(server.url("new.txt"), flags.OpenFlags.NEW, timeout=30)
        assert not new[0].ok
