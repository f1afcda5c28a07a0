"""uproot: entry offsets are decompressed for every branch, though the counter tells them once."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import uproot
import zstandard
from measure import nanoaod, timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "decompress nJet and 4 branches of jets, 400,000 events, zstd"
UNIT = "ms of CPU"
NAMES = ["Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"]
KEY, TAIL = struct.Struct(">ihiIhh"), struct.Struct(">Hiiii")
BLOCK = 9
"""Bytes of the header before the compressed data."""


class Basket(NamedTuple):
    """Compressed data of a basket, and its sizes."""

    data: bytes
    key: int
    whole: int
    border: int


def make(folder: Path, *, quick: bool) -> None:
    """Write one file, whose baskets are of one block each."""
    nanoaod(folder / "events.root", 20_000 if quick else 400_000, uproot.ZSTD(5))


def baskets(branch: Any) -> list[Basket]:
    """Read baskets of a branch, still compressed."""
    found = []
    for number in range(branch.num_baskets):
        chunk, cursor = branch.basket_chunk_cursor(number)
        raw = bytes(chunk.get(chunk.start, chunk.stop, cursor, {}))
        size, _, whole, _, key, _ = KEY.unpack_from(raw)
        last = TAIL.unpack_from(raw, key - TAIL.size - 1)[4]
        found.append(Basket(raw[key + BLOCK : size], key, whole, last - key))
    return found


def turns(folder: Path, side: str) -> Iterator[tuple[float, Any]]:
    """Decompress whole baskets, or up to the border between data and offsets."""
    with uproot.open(folder / "events.root", array_cache=None) as file:
        counter = baskets(file["Events"]["nJet"])
        columns = [baskets(file["Events"][name]) for name in NAMES]
    size = max(basket.whole for column in columns for basket in column)
    memory = np.zeros(size, np.uint8)
    zstd = zstandard.ZstdDecompressor()

    def decompressed(basket: Basket, stop: int) -> Any:
        with zstd.stream_reader(basket.data) as reader:
            assert reader.readinto(memory[:stop].data) == stop
        return memory[:stop]

    def read(kept: list[bytes] | None = None) -> list[Any]:
        """Give the offsets of all events, in items."""
        offsets = []
        for number, basket in enumerate(counter):
            counts = decompressed(basket, basket.border).view(">i4")
            shared = np.append(0, np.cumsum(counts))
            for column in columns:
                one = column[number]
                if side == "after":
                    data = decompressed(one, one.border)
                    assert shared[-1] * 4 == one.border
                    offsets.append(shared)
                else:
                    whole = decompressed(one, one.whole)
                    data = whole[: one.border]
                    own = whole[one.border :].view(">i4")[1:] - np.int64(one.key)
                    own[-1] = one.border
                    offsets.append(own // 4)
                if kept is not None:
                    kept.append(data.tobytes())
        return offsets

    values: list[bytes] = []
    read(values)
    while True:
        cost, offsets = timed(read)
        yield cost, [offsets, values]
