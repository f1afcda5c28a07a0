"""Columns of synthetic events: how they are rounded and nested, and the digest of their content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Columns = dict[str, np.ndarray[Any, Any] | ak.Array]

FULL_PRECISION: Final = 23
MANTISSA_BITS: Final[dict[str, int]] = {
    # As in TTJets, where pt of leptons and missing ET are not rounded.
    "eta": 12,
    "phi": 12,
    "mass": 10,
    "sip3d": 10,
    "pt": 10,
    "btagCSVV2": 10,
}


def truncate(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """Round finite values to a mantissa of `bits` bits, as CMS does before it stores a float.

    The dropped bits are zero, which is what makes NanoAOD compress. Like
    ``MiniFloatConverter::reduceMantissaToNbitsRounding`` of CMSSW, except that a mantissa of all
    ones rounds up to the next power of two instead of staying.
    """
    dropped = FULL_PRECISION - bits
    if dropped <= 0:
        return values
    raw = values.view(np.uint32)
    half = np.uint32(1 << (dropped - 1))
    mask = np.uint32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
    return ((raw + half) & mask).view(np.float32)


def offsets_of(counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """Offsets of lists of these lengths: ``len(counts) + 1`` numbers from 0 on."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def jagged(offsets: npt.NDArray[np.int64], content: npt.NDArray[Any]) -> ak.Array:
    """Awkward array of lists from offsets and flat content, without a copy."""
    return ak.Array(
        ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(content))
    )


class Digest:
    """Digest of columns that arrive chunk by chunk.

    Every column has two hashes, one of the list lengths and one of the values, so that the result
    depends on the content alone, not on memory layout or chunks.
    """

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._counts: dict[str, Any] = {}
        self._values: dict[str, Any] = {}

    def update(self, columns: Mapping[str, np.ndarray[Any, Any] | ak.Array]) -> None:
        """Append a chunk: the same names and types every time."""
        for name, column in columns.items():
            self._counts.setdefault(name, hashlib.sha256())
            values = column
            if column.ndim > 1:
                counts = ak.to_numpy(ak.num(column, axis=1)).astype("<i4")
                self._counts[name].update(counts)
                values = ak.flatten(column, axis=1)
            if isinstance(values, ak.Array):
                values = ak.to_numpy(values)
            little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            kind = f"{little.dtype.str}{' var' if column.ndim > 1 else ''}"
            if self._types.setdefault(name, kind) != kind:
                msg = f"column {name} is {kind} in one chunk, {self._types[name]} in another"
                raise ValueError(msg)
            self._values.setdefault(name, hashlib.sha256()).update(little)

    def hexdigest(self) -> str:
        """SHA-256 over names in sorted order, types, list lengths and values."""
        total = hashlib.sha256()
        for name in sorted(self._types):
            counts, values = self._counts[name], self._values[name]
            line = f"{name} {self._types[name]} {counts.hexdigest()} {values.hexdigest()}\n"
            total.update(line.encode())
        return total.hexdigest()


def digest(columns: Mapping[str, np.ndarray[Any, Any] | ak.Array]) -> str:
    """Identity of the content of columns.

    Parameters
    ----------
    columns
        Name to numpy array or to awkward array of lists (one level).

    Returns
    -------
    str
        Hexadecimal SHA-256 over names, types, list lengths and values: the same for equal
        arrays, in whatever order, memory layout or byte order they come.
    """
    result = Digest()
    result.update(columns)
    return result.hexdigest()
