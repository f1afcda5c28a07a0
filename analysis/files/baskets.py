"""Baskets of a TTree: where their data begin and end, and how they are decompressed into an array.

A basket is a header, the data of some entries and, for lists, the offsets of these entries behind the
data. Both are compressed together, in blocks of at most 16 MB. Layout and names are those of ROOT's
`TKey`, `TBasket` and `RZip`.
"""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cramjam
import xxhash
import zstandard

try:
    from isal import isal_zlib as zlib
except ImportError:  # on processors other than those of Intel, AMD and ARM
    import zlib  # type: ignore[no-redef]

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = struct.Struct(">ihiIhh")
"""Bytes of all, version, bytes of what was compressed, time, bytes of the header, cycle."""

TAIL: Final = struct.Struct(">Hiiii")
"""Version, size of the buffer, of an entry or of the offsets, entries, end of the data."""

BLOCK: Final = struct.Struct("<2s7B")
"""Algorithm, method, and three bytes each of the sizes with and without compression."""

CHECKSUM: Final = struct.Struct(">Q")
"""Of a block of LZ4, before what was compressed."""

_OF_THREAD: Final = threading.local()


class BasketError(ValueError):
    """A basket is damaged."""


@dataclass(frozen=True)
class Basket:
    """A basket as it was read."""

    content: memoryview
    header: int
    """Bytes before the data."""
    size: int
    """Bytes of the data and of the offsets behind them."""
    border: int
    """Bytes of the data."""
    entries: int

    @classmethod
    def of(cls, content: memoryview) -> Basket:
        """The basket whose bytes these are; BasketError if they are none."""
        try:
            every, _, size, _, header, _ = KEY.unpack_from(content)
            # A byte follows that says whether there are offsets.
            *_, entries, last = TAIL.unpack_from(content, header - TAIL.size - 1)
        except struct.error:
            msg = "a basket has no header"
            raise BasketError(msg) from None
        border = last - header
        if not (KEY.size + TAIL.size < header <= every <= len(content) and 0 <= border <= size):
            msg = "the header of a basket is damaged"
            raise BasketError(msg)
        return cls(content[:every], header, size, border, entries)

    def decompressed(self) -> Basket:
        """The same without header and compression: copying it is quick."""
        if not self.header:
            return self
        data = memoryview(bytearray(self.border))
        self.read_into(data)
        return Basket(data, 0, self.border, self.border, self.entries)

    def read_into(self, target: memoryview) -> None:
        """Decompress the data into a target of just their size."""
        if len(target) != self.border:
            msg = f"a basket has {self.border:,} bytes of data, {len(target):,} were expected"
            raise BasketError(msg)
        if len(self.content) - self.header == self.size:
            target[:] = self.content[self.header : self.header + self.border]
            return
        filled = 0
        for algorithm, block, size in self._blocks():
            wanted = min(size, self.border - filled)
            ALGORITHMS[algorithm](block, target[filled : filled + wanted], size)
            filled += wanted
            if filled == self.border:
                return
        msg = f"a basket has {filled:,} bytes of data, its header says {self.border:,}"
        raise BasketError(msg)

    def _blocks(self) -> Iterator[tuple[bytes, memoryview, int]]:
        """Algorithm, compressed bytes and size of each block."""
        at, left = self.header, self.size
        while at < len(self.content):
            try:
                algorithm, _, *sizes = BLOCK.unpack_from(self.content, at)
            except struct.error:
                msg = "a basket ends within the header of a block"
                raise BasketError(msg) from None
            compressed, size = (a + (b << 8) + (c << 16) for a, b, c in (sizes[:3], sizes[3:]))
            at += BLOCK.size
            block = self.content[at : at + compressed]
            at, left = at + compressed, left - size
            if len(block) < compressed or left < 0 or algorithm not in ALGORITHMS:
                msg = "a block of a basket is damaged"
                raise BasketError(msg)
            yield algorithm, block, size


def _zstd(block: memoryview, target: memoryview, size: int) -> None:
    """Without what lies behind the target: ROOT writes zstd without a checksum."""
    del size
    context = getattr(_OF_THREAD, "zstd", None)
    if context is None:
        context = _OF_THREAD.zstd = zstandard.ZstdDecompressor()
    filled = 0
    with context.stream_reader(block) as stream:
        while filled < len(target):
            number = stream.readinto(target[filled:])
            if not number:
                _ends_early()
            filled += number


def _zlib(block: memoryview, target: memoryview, size: int) -> None:
    """To the end, where the checksum is."""
    _copy(zlib.decompress(block, bufsize=size), target, size)


def _lzma(block: memoryview, target: memoryview, size: int) -> None:
    """To the end, where the checksum is."""
    _copy(cramjam.xz.decompress(block, output_len=size), target, size)


def _lz4(block: memoryview, target: memoryview, size: int) -> None:
    """With the checksum of the compressed bytes."""
    (checksum,), content = CHECKSUM.unpack_from(block), block[CHECKSUM.size :]
    if xxhash.xxh64_intdigest(content) != checksum:
        msg = "the checksum of a block is another one"
        raise BasketError(msg)
    if len(target) == size:
        if cramjam.lz4.decompress_block_into(content, target, output_len=size) != size:
            _ends_early()
    else:
        _copy(cramjam.lz4.decompress_block(content, output_len=size), target, size)


def _copy(content: Any, target: memoryview, size: int) -> None:
    data = memoryview(content)
    if len(data) != size:
        _ends_early()
    target[:] = data[: len(target)]


def _ends_early() -> None:
    msg = "a block of a basket ends before its data do"
    raise BasketError(msg)


ALGORITHMS: Final = {b"ZS": _zstd, b"ZL": _zlib, b"XZ": _lzma, b"L4": _lz4}
