"""Hosts on one machine that share a network and nothing else: Linux's namespaces, as root.

A host has its own network, process numbers, host name, and mounts: /tmp, /var/tmp, /run, /dev/shm
and the home folder are its own and empty, and the rest of the disk is read-only. Python with its
packages and this project are seen there by all hosts, as they would be in an image; numba's cache
is in the home folder, and so each host's own. Hosts share the cores and memory of the machine.

Each host hangs on a switch (a bridge, in a network of its own), by a pair of devices (veth), or,
if its link is to have delay or loss, by two that `perf.hosts.link` connects. Of the machine's own
network nothing is changed. Namespaces have no names: they end with the first process of the host,
which the kernel ends with this process, whatever ends that, and with it all others of the host.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil

from analysis.errors import NotInstalledError
from analysis.processes import die_with_parent
from perf.hosts.link import TUN, TapLink
from perf.measure.fresh_process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
"""Of this project."""

SUBNET: Final = "10.211.0."
"""Addresses of hosts; nothing of the machine's own network is reached from there."""

PROGRAMS: Final = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
"""That are needed, and Debian's packages of them."""

NAMESPACES: Final = ("--mount", "--uts", "--ipc", "--net", "--pid")

OWN_FOLDERS: Final = ("/tmp", "/var/tmp", "/run", "/dev/shm")
"""Of each host, besides the home folder."""

SEARCHED: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

CONGESTION: Final = "reno"
"""Control of TCP's congestion, which every network may choose. BBR, the default of some machines,
believes for ten seconds in the shortest delay that it saw: a link that becomes longer would crawl."""

BURST: Final = 256_000
"""Bytes that a link of a limited rate sends at once: a segment of 64 kB is one."""


@cache
def why_not() -> str:
    """Why there can be no hosts here, empty if there can."""
    if sys.platform != "linux":
        return "hosts need namespaces, which only Linux has"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]:
        packages = " and ".join(sorted({PROGRAMS[name] for name in missing}))
        return f"{' and '.join(missing)} not installed: make hosts (Debian's {packages})"
    if os.geteuid() != 0:
        return "only root can make hosts of namespaces"
    if not TUN.exists():
        return f"the kernel has no {TUN}, of which links with delay are made"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"namespaces are not allowed: {tried.stderr.strip()}"


DEVICE: Final = "eth0"
"""Of each host."""

LISTEN: Final = "0A"
"""State of a socket in /proc/net/tcp."""


class Link(NamedTuple):
    """How a host is connected."""

    rate: float | None = None
    """Bits a second, in each direction; None for as fast as the machine is."""
    delayed: bool = False
    """Whether `Host.shape` can give it delay and loss. Its frames then go through a process."""


class Traffic(NamedTuple):
    """What a host has received and sent, in bytes and in packets."""

    received: int
    sent: int
    packets_received: int
    packets_sent: int

    def since(self, before: Traffic) -> Traffic:
        """What was added to an earlier one."""
        return Traffic(*(now - then for now, then in zip(self, before, strict=True)))


def traffic(pid: int | str = "self") -> Traffic:
    """What the device of a host counted; `pid` is a process of it."""
    lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()
    (line,) = (one for one in lines if one.split(":")[0].strip() == DEVICE)
    counts = [int(text) for text in line.split(":")[1].split()]
    return Traffic(counts[0], counts[8], counts[1], counts[9])


@dataclass(frozen=True)
class Host:
    """A host of a `network`."""

    name: str
    address: str
    pid: int
    """Of its first process, as this process sees it."""
    switch: int
    """Of the first process of the switch."""
    port: str
    """Device of the switch on which it hangs."""
    tap: TapLink | None = None

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Command of this machine that runs a program on the host, in its home folder."""
        home = f"--chdir={Path.home()}"
        return [
            *_entering(self.pid, *NAMESPACES),
            "env",
            home,
            f"TMPDIR={OWN_FOLDERS[0]}",
            *arguments,
        ]

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Process:
        """Start a program; it ends with the context, and at the latest with the host."""
        return Process(self.command(arguments), {"PYTHONPATH": str(ROOT), **(environ or {})})

    def cut_off(self) -> None:
        """Pull the cable out: what is sent is lost, and nobody is told."""
        _ip(self.switch, "link", "set", self.port, "down")

    def connect(self) -> None:
        """Plug the cable in again."""
        _ip(self.switch, "link", "set", self.port, "up")

    def shape(self, *, delay: float = 0.0, loss: float = 0.0) -> None:
        """Have frames take `delay` seconds more in each direction, and lose a share of them."""
        assert self.tap is not None, "a host whose link is delayed"
        self.tap.shape(delay, loss)

    @property
    def traffic(self) -> Traffic:
        """What its device counted, headers included."""
        return traffic(self.pid)

    @contextmanager
    def slowed(self, share: float) -> Iterator[None]:
        """Have the host's programs run for this share of the time: they are stopped ten times a second."""
        run, stop = share / 10, (1 - share) / 10
        loop = f"while :; do kill -STOP -1; sleep {stop}; kill -CONT -1; sleep {run}; done"
        try:
            # Of -1 are all processes of the host but the first and the shell.
            with Process(self.command(["bash", "-c", loop])):
                yield
        finally:
            _run(self.command(["bash", "-c", "kill -CONT -1"]))

    @property
    def root(self) -> Path:
        """Its folders, as this process sees them."""
        return Path(f"/proc/{self.pid}/root")

    def listens(self, port: int) -> bool:
        """Whether a program of the host listens at a port."""
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                _, local, _, state, *_ = line.split()
                if state == LISTEN and int(local.rpartition(":")[2], 16) == port:
                    return True
        return False


@dataclass(frozen=True)
class _Plan:
    """A host that is to be."""

    name: str
    address: str
    link: Link
    visible: Sequence[Path] = field(default=())


@contextmanager
def network(
    links: Mapping[str, Link], visible: Mapping[str, Sequence[Path]] | None = None
) -> Iterator[dict[str, Host]]:
    """Hosts by name, for as long as the context.

    Parameters
    ----------
    links
        The link of each host, by its name.
    visible
        Folders of this machine that a host sees (read-only) though they are below a folder that
        is its own, such as data on a server.

    Raises
    ------
    NotInstalledError
        If there can be no hosts here; the message says why.
    """
    if reason := why_not():
        raise NotInstalledError(reason)
    plans = [
        _Plan(name, f"{SUBNET}{number}", link, tuple((visible or {}).get(name, ())))
        for number, (name, link) in enumerate(links.items(), start=1)
    ]
    names = "127.0.0.1 localhost\n" + "".join(f"{one.address} {one.name}\n" for one in plans)
    with ExitStack() as stack:
        switch = stack.enter_context(_first_process("ip link add bridge up type bridge"))
        hosts = {}
        for number, plan in enumerate(plans):
            pid = stack.enter_context(_first_process(_script(plan, names)))
            port, tap = f"port{number}", None
            if plan.link.delayed:
                tap = stack.enter_context(TapLink(pid, DEVICE, switch, port))
            else:
                peer = ("peer", "name", DEVICE, "netns", str(pid))
                _ip(switch, "link", "add", port, "type", "veth", *peer)
            _ip(switch, "link", "set", port, "master", "bridge", "up")
            _ip(pid, "address", "add", f"{plan.address}/24", "dev", DEVICE)
            _ip(pid, "link", "set", DEVICE, "up")
            if plan.link.rate is not None:
                for one, device in ((pid, DEVICE), (switch, port)):
                    _limit(one, device, plan.link.rate)
            hosts[plan.name] = Host(plan.name, plan.address, pid, switch, port, tap)
        yield hosts


def _script(plan: _Plan, names: str) -> str:
    """Commands by which the first process of a host gives it its name and folders."""
    home = str(Path.home())
    own = [*OWN_FOLDERS, home]
    python = {Path(sys.prefix), Path(sys.base_prefix), ROOT, *plan.visible}
    # Below a folder that is about to be hidden; the outer ones first.
    kept = sorted(
        path.resolve() for path in python if any(map(path.resolve().is_relative_to, own))
    )
    lines = [
        f"hostname {shlex.quote(plan.name)}",
        f"echo {CONGESTION} > /proc/sys/net/ipv4/tcp_congestion_control",
        "mount --make-rprivate /",
        # Held open, they are found when they are hidden.
        *(f"exec {n}<{shlex.quote(str(path))}" for n, path in enumerate(kept, start=10)),
        "mount -o remount,bind,ro /",
        *(f"mount -t tmpfs -o mode=1777 own {shlex.quote(folder)}" for folder in own),
    ]
    for n, path in enumerate(kept, start=10):
        there = shlex.quote(str(path))
        lines += [
            f"mkdir -p {there}",
            f"mount --no-canonicalize --bind /proc/self/fd/{n} {there}",
            f"mount -o remount,bind,ro {there}",
            f"exec {n}<&-",
        ]
    lines += [
        f"printf %s {shlex.quote(names)} > /run/hosts",
        "mount --bind /run/hosts /etc/hosts",
    ]
    return "\n".join(lines)


@contextmanager
def _first_process(script: str) -> Iterator[int]:
    """A process in namespaces of its own, all of which end with it; gives its number."""
    text = f"set -e\nip link set lo up\n{script}\necho ready\nexec sleep infinity"
    process = subprocess.Popen(
        # /bin/sh may know only descriptors of one digit.
        ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c", text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": SEARCHED},
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509  (no lock is taken in it)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if process.stdout.readline() != "ready\n":
            msg = f"a host could not be made: {' '.join(process.stderr.read().split())[-300:]}"
            raise RuntimeError(msg)
        (child,) = psutil.Process(process.pid).children()
        yield child.pid
    finally:
        # With `unshare` its child ends, and with that, the first of its number space, all others.
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _entering(pid: int, *namespaces: str) -> list[str]:
    return ["nsenter", f"--target={pid}", *namespaces, "--"]


def _ip(pid: int, *arguments: str) -> None:
    """Call ``ip`` in the network of a process."""
    _run([*_entering(pid, "--net"), "ip", *arguments])


def _limit(pid: int, device: str, rate: float) -> None:
    queue = ("root", "tbf", "rate", f"{rate:.0f}bit", "burst", str(BURST), "latency", "50ms")
    _run([*_entering(pid, "--net"), "tc", "qdisc", "add", "dev", device, *queue])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": SEARCHED}
    )
    if done.returncode:
        msg = f"{shlex.join(command)}: {' '.join(done.stderr.split())}"
        raise RuntimeError(msg)
