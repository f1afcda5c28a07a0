"""Real file servers: XRootD and nginx, from Debian's packages (``make xrootd``).

Each runs until its context ends, on loopback and a free port unless others are named.
``python -m perf.servers.file_servers http|root FOLDER ADDRESS`` says its port, and ends with its
standard input.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import psutil

from analysis.errors import NotInstalledError
from analysis.processes import kill_family
from perf.servers.latency_proxy import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perf.servers.latency_proxy import Running

Protocol = Literal["root", "http", "https"]

TIMEOUT: Final = 30.0
"""Seconds in which a server must begin to listen."""

ATTEMPTS: Final = 5
"""Ports that are tried: another process may take one that was free."""

SERVER_USER: Final = "xrootd"
"""Of Debian's package: xrootd does not run as root."""

AS_SERVER_USER: Final = (
    "setpriv",
    f"--reuid={SERVER_USER}",
    f"--regid={SERVER_USER}",
    "--clear-groups",
    # It may still read what is root's alone, such as the temporary folders of tests.
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
)


@dataclass(frozen=True)
class Server:
    """A server of a folder, by protocol, port, process number and address."""

    protocol: Protocol
    port: int
    process: int
    host: str = HOST

    def url(self, name: str, through: Running | None = None) -> str:
        """Address of a file below the folder, directly or through a proxy."""
        # A second slash makes a path of XRootD absolute.
        slashes = "//" if self.protocol == "root" else "/"
        host = self.host if through is None else HOST
        return f"{self.protocol}://{host}:{(through or self).port}{slashes}{name}"

    def kill(self) -> None:
        """End it as a crash would."""
        with suppress(psutil.NoSuchProcess):
            kill_family(psutil.Process(self.process))


@contextmanager
def xrootd(folder: Path, port: int | None = None, host: str = HOST) -> Iterator[Server]:
    """Serve a folder with XRootD, read-only."""
    command = [_find("xrootd", "xrootd-server")]
    if os.geteuid() == 0:
        command = [*AS_SERVER_USER, *command]
    with tempfile.TemporaryDirectory(prefix="coffea-xrootd-") as own:
        home = Path(own)
        # By a name without the spaces and quotes that one of the configurations may not take.
        (home / "data").symlink_to(folder.resolve())
        if os.geteuid() == 0:
            os.chown(home, pwd.getpwnam(SERVER_USER).pw_uid, -1)

        def configure(free: int) -> list[str]:
            # It listens on all addresses, and can be told only whom to answer.
            allowed = f"xrd.allow host {HOST}\nxrd.allow host localhost\n" if host == HOST else ""
            (home / "xrootd.cfg").write_text(
                f"all.role server\n"
                f"all.export / r/o\n"
                f"all.adminpath {home}\n"
                f"all.pidpath {home}\n"
                f"oss.localroot {home}/data\n"
                f"xrd.port {free}\n"
                f"{allowed}"
                f"xrd.network nodnr\n"
            )
            return [*command, "-c", f"{home}/xrootd.cfg", "-n", "coffea"]

        with _listening(configure, "root", home / "log", port, host) as server:
            yield server


@contextmanager
def nginx(
    folder: Path,
    port: int | None = None,
    certificate: tuple[Path, Path] | None = None,
    host: str = HOST,
) -> Iterator[Server]:
    """Serve a folder with nginx; with TLS if files of a certificate and its key are given."""
    program = _find("nginx", "nginx-light")
    with tempfile.TemporaryDirectory(prefix="coffea-nginx-") as own:
        home = Path(own)
        # By a name without the spaces and quotes that one of the configurations may not take.
        (home / "data").symlink_to(folder.resolve())
        tls = ""
        if certificate:
            tls = "ssl_certificate {}; ssl_certificate_key {};".format(*certificate)
        # Its workers would be another user's, who cannot read what is root's alone.
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = "\n".join(
            f"{kind}_temp_path {home}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )

        def configure(free: int) -> list[str]:
            (home / "nginx.conf").write_text(
                f"daemon off; pid {home}/pid; error_log {home}/log; {user}\n"
                f"events {{ worker_connections 512; }}\n"
                f"http {{ access_log off; sendfile on; tcp_nodelay on; {temporary}\n"
                f"server {{ listen {host}:{free}{' ssl' if certificate else ''}; {tls}\n"
                f"root {home}/data; max_ranges 1024; }} }}\n"
            )
            return [program, "-p", own, "-e", f"{home}/log", "-c", f"{home}/nginx.conf"]

        protocol: Protocol = "https" if certificate else "http"
        with _listening(configure, protocol, home / "log", port, host) as server:
            yield server


@contextmanager
def _listening(
    configure: Callable[[int], Sequence[str]],
    protocol: Protocol,
    log: Path,
    port: int | None,
    host: str,
) -> Iterator[Server]:
    """Start a server, with another port if one was taken in the meantime."""
    said = ""
    for _ in range(1 if port else ATTEMPTS):
        chosen = port or free_port()
        with log.open("ab") as file:
            process = subprocess.Popen(
                configure(chosen),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # Ctrl-C is for this process, which then ends the server.
                start_new_session=True,
            )
        server = Server(protocol, chosen, process.pid, host)
        try:
            if _listens(process, chosen):
                yield server
                return
            said = re.sub(r"\s+", " ", log.read_text(errors="replace"))[-300:]
        finally:
            if process.poll() is None:
                server.kill()
                process.wait()
    msg = f"no server for {protocol}:// starts here: {said}"
    raise RuntimeError(msg)


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether this very process listens: another's server may have taken the port."""
    whole = psutil.Process(process.pid)
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end and process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for connection in whole.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
        time.sleep(0.02)
    return False


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _find(program: str, package: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    if executable := shutil.which(program, path=path):
        return executable
    msg = f"there is no {program} here: install it with `make xrootd` (Debian's {package})"
    raise NotInstalledError(msg)


if __name__ == "__main__":
    _serve = nginx if sys.argv[1] == "http" else xrootd
    with _serve(Path(sys.argv[2]), host=sys.argv[3]) as _server:
        sys.stdout.write(f"{_server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()
