"""Conversion between awkward arrays and the contents and offsets that compiled kernels loop over.

A jagged array of *n* events is ``offsets`` (int64, *n* + 1 entries, starting at 0) and flat
``contents``: the objects of event *i* are ``contents[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import awkward as ak
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

quiet: Final = np.errstate(over="ignore", invalid="ignore")
"""Decorator of columnar kernels: overflow to infinity, and infinity minus infinity as NaN, belong to
their definitions, so numpy must not warn."""


class Jagged(NamedTuple):
    """Offsets that several columns of one collection share, and their contents."""

    offsets: NDArray[np.int64]
    contents: tuple[NDArray[Any], ...]


def split(*columns: ak.Array) -> Jagged:
    """Offsets and flat contents of the columns of one collection, without a copy.

    Columns of coffea's NanoEvents are accepted: virtual ones are read here, and nowhere else in a
    compiled kernel.

    Parameters
    ----------
    *columns
        Jagged arrays (events x objects) with the same number of objects in each event.

    Returns
    -------
    Jagged
        The common offsets, and one flat array for each column.

    Raises
    ------
    ValueError
        If the columns do not have the same objects.
    """
    first, *others = map(_split_one, columns)
    for offsets, _ in others:
        # Columns of one NanoAOD collection share their offsets: the comparison is rare.
        if not (_same_memory(offsets, first[0]) or np.array_equal(offsets, first[0])):
            msg = "the columns of one collection must have the same number of objects"
            raise ValueError(msg)
    return Jagged(first[0], tuple(contents for _, contents in (first, *others)))


def _split_one(column: ak.Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
    layout = column.layout
    # Arrays of NanoEvents and of `join` need no conversion, which would cost more than many kernels
    # do on a small chunk.
    if isinstance(layout, ak.contents.ListOffsetArray) and isinstance(
        layout.content, ak.contents.NumpyArray
    ):
        offsets, values = layout.offsets.data, layout.content.data
        if (
            type(offsets) is type(values) is np.ndarray
            and offsets.dtype == np.int64
            and offsets[0] == 0
            and values.flags.c_contiguous
        ):
            return offsets, values[: offsets[-1]]
    layout = ak.to_layout(ak.materialize(column))
    if layout.is_indexed:  # events were selected before the column was taken
        layout = layout.project()
    layout = layout.to_ListOffsetArray64(start_at_zero=True)
    offsets = layout.offsets.data
    return offsets, _flat(layout.content)[: offsets[-1]]


def _same_memory(one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    return one is other or (len(one) == len(other) and one.ctypes.data == other.ctypes.data)


def _flat(content: ak.contents.Content) -> NDArray[Any]:
    """One-dimensional array of a content of numbers, or of an empty one of unknown type."""
    if content.is_unknown:  # of ak.Array([[], []])
        return np.empty(0, dtype=np.float64)
    if content.is_indexed and not content.is_option:
        content = content.project()
    return np.ascontiguousarray(content.data)


def join(offsets: NDArray[np.int64], contents: NDArray[Any]) -> ak.Array:
    """Jagged array of offsets and flat contents, without a copy."""
    return ak.Array(
        ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(contents))
    )


def flat(column: Any) -> NDArray[Any]:
    """Contiguous array of a column that has one value per event."""
    if isinstance(column, ak.Array):
        layout = ak.to_layout(ak.materialize(column))
        return np.empty(0, dtype=np.float64) if layout.is_unknown else _flat(layout)
    return np.ascontiguousarray(column)


def rows(*columns: Any) -> list[tuple[Any, ...]]:
    """Events as plain Python lists and numbers, one tuple an event, for reference kernels.

    float32 values become the Python floats (double precision) of the same value.
    """
    return list(zip(*(_plain(column) for column in columns), strict=True))


def _plain(column: Any) -> list[Any]:
    plain: list[Any] = (column if isinstance(column, ak.Array) else np.asarray(column)).tolist()
    return plain


def from_lists(lists: list[list[Any]], dtype: type[np.generic]) -> ak.Array:
    """Jagged array of lists; its type does not depend on whether lists are empty."""
    counts = np.fromiter((len(values) for values in lists), np.int64, len(lists))
    contents = np.array([value for values in lists for value in values], dtype=dtype)
    return join(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), contents)
