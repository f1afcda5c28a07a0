"""Decompression of baskets by the libraries that there are: CPU time a byte.

uproot uses cramjam, which is archived, and the standard library's zlib. The first library of each
codec is what uproot uses; the others are over it.
"""

from __future__ import annotations

import struct
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import uproot
from measure import nanoaod, ratio, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAMES = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_quality", "MET_pt"]
KEY = struct.Struct(">ihiIhh")
SECONDS = 12.0
"""Of a codec, after which no round begins but the first five."""
HEADER = {"zstd": 9, "zlib": 9, "lzma": 9, "lz4": 17}
"""Bytes of ROOT's header of a block, with the checksum of lz4."""
COMPRESSION = {
    "zstd": uproot.ZSTD(5),
    "zlib": uproot.ZLIB(1),
    "lz4": uproot.LZ4(4),
    "lzma": uproot.LZMA(1),
}


class Library(NamedTuple):
    """How a library decompresses."""

    fresh: Callable[[Any, int], Any]
    """Into memory of its own, of bytes and their size decompressed."""
    into: Callable[[Any, Any], Any] | None = None
    """Into a numpy array of that size, if it can."""


Libraries = dict[str, Library]
"""By codec."""


def _standard() -> Libraries:
    import lzma
    import zlib

    found = {
        "zlib": Library(lambda data, size: zlib.decompress(data, bufsize=size)),
        "lzma": Library(lambda data, _: lzma.decompress(data)),
    }
    if sys.version_info >= (3, 14):
        from compression import zstd

        found["zstd"] = Library(lambda data, _: zstd.decompress(data))
    return found


def _cramjam() -> Libraries:
    import cramjam

    def plain(codec: Any) -> Library:
        return Library(
            lambda data, size: codec.decompress(data, output_len=size), codec.decompress_into
        )

    block = cramjam.lz4
    return {
        "zstd": plain(cramjam.zstd),
        "zlib": plain(cramjam.zlib),
        "lz4": Library(
            lambda data, size: block.decompress_block(data, output_len=size),
            lambda data, memory: block.decompress_block_into(data, memory, output_len=len(memory)),
        ),
        "lzma": plain(cramjam.xz),
    }


def _zstandard() -> Libraries:
    import zstandard

    kept = zstandard.ZstdDecompressor()

    def into(data: Any, memory: Any) -> None:
        with kept.stream_reader(data) as reader:
            assert reader.readinto(memory.data) == len(memory)

    return {"zstd": Library(lambda data, size: kept.decompress(data, max_output_size=size), into)}


def _backports() -> Libraries:
    from backports import zstd

    return {"zstd": Library(lambda data, _: zstd.decompress(data))}


def _isal() -> Libraries:
    from isal import isal_zlib

    return {"zlib": Library(lambda data, size: isal_zlib.decompress(data, bufsize=size))}


def _deflate() -> Libraries:
    import deflate

    return {"zlib": Library(deflate.zlib_decompress)}


def _zlib_ng() -> Libraries:
    from zlib_ng import zlib_ng

    return {"zlib": Library(lambda data, size: zlib_ng.decompress(data, bufsize=size))}


def _lz4() -> Libraries:
    import lz4.block

    return {"lz4": Library(lambda data, size: lz4.block.decompress(data, uncompressed_size=size))}


def _pyarrow() -> Libraries:
    import pyarrow as pa

    return {
        "zstd": Library(pa.Codec("zstd").decompress),
        "lz4": Library(pa.Codec("lz4_raw").decompress),
    }


LIBRARIES = {
    "zstd": {"cramjam": _cramjam, "zstandard": _zstandard, "pyarrow": _pyarrow}
    | (
        {"compression.zstd": _standard}
        if sys.version_info >= (3, 14)
        else {"backports.zstd": _backports}
    ),
    "zlib": {"zlib": _standard, "isal": _isal, "deflate": _deflate, "zlib-ng": _zlib_ng}
    | {"cramjam": _cramjam},
    "lz4": {"cramjam": _cramjam, "lz4": _lz4, "pyarrow": _pyarrow},
    "lzma": {"cramjam": _cramjam, "lzma": _standard},
}


def blocks(path: Path, codec: str) -> list[tuple[bytes, int]]:
    """Compressed blocks of baskets, one each, and their sizes decompressed."""
    found = []
    with uproot.open(path, array_cache=None) as file:
        for name in NAMES:
            branch = file["Events"][name]
            for number in range(branch.num_baskets):
                chunk, cursor = branch.basket_chunk_cursor(number)
                raw = bytes(chunk.get(chunk.start, chunk.stop, cursor, {}))
                size, _, whole, _, key, _ = KEY.unpack_from(raw)
                if size - key < whole:
                    found.append((raw[key + HEADER[codec] : size], whole))
    return found


def ways(library: Library, data: list[tuple[bytes, int]]) -> dict[str, Callable[[], Any]]:
    """Decompress all blocks: into one memory, or into fresh memory that is dropped or kept."""
    memory = np.ones(max(size for _, size in data), np.uint8)
    into = library.into

    def reused() -> None:
        assert into is not None
        for one, size in data:
            into(one, memory[:size])

    def fresh() -> None:
        for one, size in data:
            library.fresh(one, size)

    def kept() -> list[Any]:
        return [library.fresh(one, size) for one, size in data]

    found: dict[str, Callable[[], Any]] = {"fresh": fresh, "fresh, kept": kept}
    return found if into is None else {"reused": reused, **found}


def table(folder: Path, *, quick: bool) -> Iterator[str]:
    """Give a line for each codec, library and way."""
    yield f"codec_table  {'codec':<6} {'library':<18} {'memory':<12} {'ns a byte':>9}  over uproot's (99 % interval)"
    for codec, makers in LIBRARIES.items():
        path = folder / f"{codec}.root"
        nanoaod(path, 4_000 if quick else 120_000, COMPRESSION[codec], baskets=4)
        data = blocks(path, codec)
        expected = [bytes(next(iter(makers.values()))()[codec].fresh(*one)) for one in data]
        todo: dict[tuple[str, str], Callable[[], Any]] = {}
        for name, maker in makers.items():
            try:
                library = maker()[codec]
            except ModuleNotFoundError:
                yield f"codec_table  {codec:<6} {name:<18} not installed"
                continue
            todo |= {(name, way): call for way, call in ways(library, data).items()}
            for (one, size), right in zip(data, expected, strict=True):
                memory = np.zeros(size, np.uint8)
                results = [library.fresh(one, size)]
                if library.into:
                    library.into(one, memory)
                    results.append(memory)
                assert all(bytes(result) == right for result in results), (codec, name)
        costs: dict[tuple[str, str], list[float]] = {key: [] for key in todo}
        rng = np.random.default_rng(1)
        begin = time.monotonic()
        for number in range(3 if quick else 25):
            if number >= 5 and time.monotonic() - begin > SECONDS:
                break
            for key in rng.permutation(np.array(list(todo), dtype=object)):
                costs[tuple(key)].append(timed(todo[tuple(key)])[0])
        size = sum(size for _, size in data)
        first = next(iter(makers))
        for (name, way), cost in costs.items():
            # zlib cannot reuse memory: who can is over its fresh memory that is dropped.
            base = costs.get((first, way), costs[first, "fresh"])
            over = "{:.3f} ({:.3f} to {:.3f})".format(*ratio(base, cost))
            yield f"codec_table  {codec:<6} {name:<18} {way:<12} {np.median(cost) * 1e6 / size:>9.2f}  {over}"
