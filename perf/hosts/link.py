"""A cable between two networks on one machine, with delay and loss: two TAP devices and a process.

Linux's own ``netem`` is not in every kernel. What one device sends, the process reads, holds for the
delay, and writes to the other, in order. Segments are up to 64 kB, as they are between network and
device of a real machine, so that Python forwards gigabits a second; with loss they are frames of
1,500 bytes, each of which may be lost. What a full queue drops is not imitated: give a rate for that.

``python -m perf.hosts.link PID DEVICE PID DEVICE`` makes the devices in the networks of two processes
and says so; each line of its standard input is a delay in seconds and a share that is lost, which
it answers; it ends with that input.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Final, NamedTuple

from perf.measure.fresh_process import Process

if TYPE_CHECKING:
    from typing import Self

TUN: Final = Path("/dev/net/tun")

# <linux/if_tun.h>
TUNSETIFF: Final = 0x400454CA
TUNSETOFFLOAD: Final = 0x400454D0
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
"""Before each frame stands a header that says how to divide it."""
OFFLOADS: Final = 0x01 | 0x02 | 0x04
"""Checksums and segments of TCP (4 and 6) may be left to who receives them."""

LARGEST: Final = 1 << 17
"""Bytes of a frame, with room to spare."""

SEED: Final = 6640
"""Of what is lost."""

START_SECONDS: Final = 20.0


class TapLink:
    """The process, from the parent's side, for as long as the ``with`` block."""

    def __init__(self, first: int, device: str, second: int, other: str) -> None:
        ends = (str(first), device, str(second), other)
        self._process = Process([sys.executable, "-m", "perf.hosts.link", *ends])

    def __enter__(self) -> Self:
        self._process.__enter__()
        try:
            self._process.answer(START_SECONDS)
        except BaseException:
            self._process.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.__exit__(*error)  # type: ignore[arg-type]

    def shape(self, delay: float, loss: float) -> None:
        """Set delay in seconds each way, and share of frames that is lost."""
        self._process.ask(f"{delay!r} {loss!r}")
        self._process.answer(START_SECONDS)


class _Held(NamedTuple):
    """A frame on its way."""

    due: float
    to: int
    frame: bytes


def tap(pid: int, device: str) -> int:
    """Make a TAP device in the network of a process; its descriptor."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH22x", device.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
    fcntl.ioctl(descriptor, TUNSETIFF, request)
    return descriptor


def forward(first: int, second: int) -> None:
    """Pass frames on between two devices until the standard input ends."""
    delay = loss = 0.0
    held: deque[_Held] = deque()
    chance = random.Random(SEED)
    other = {first: second, second: first}
    offload(other, OFFLOADS)
    with DefaultSelector() as ready:
        for one in (0, first, second):
            ready.register(one, EVENT_READ)
        while True:
            wait = None if not held else max(0.0, held[0].due - time.monotonic())
            for key, _ in ready.select(wait):
                if key.fd == 0:
                    if not (line := sys.stdin.readline()):
                        return
                    delay, loss = map(float, line.split())
                    offload(other, 0 if loss else OFFLOADS)
                    say("shaped")
                    continue
                with suppress(BlockingIOError):
                    frame = os.read(key.fd, LARGEST)
                    if chance.random() >= loss:
                        held.append(_Held(time.monotonic() + delay, other[key.fd], frame))
            while held and held[0].due <= time.monotonic():
                _, to, frame = held.popleft()
                # A device that is down takes nothing: the cable is out.
                with suppress(OSError):
                    os.write(to, frame)


def offload(devices: dict[int, int], which: int) -> None:
    """Have devices send segments of many frames, or single frames."""
    for one in devices:
        fcntl.ioctl(one, TUNSETOFFLOAD, which)


def say(word: str) -> None:
    """Answer the parent."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _ends = tap(int(sys.argv[1]), sys.argv[2]), tap(int(sys.argv[3]), sys.argv[4])
    say("linked")
    forward(*_ends)
