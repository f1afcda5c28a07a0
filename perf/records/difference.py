"""Whether two results of a processor are equal, within rounding.

======================================  ==========================================================
values                                  are equal
======================================  ==========================================================
whole numbers, text, keys, members of   if they are the same; so are whole numbers that histograms
sets                                    add up in double precision
floating-point numbers and arrays       within the rounding of sums over events: one by one in
                                        double precision, pairwise in that of the data, and chunk
                                        by chunk in that of the number; relative to the sums of
                                        chunks
contents of histograms                  within the rounding of sums over events in double
                                        precision, relative to the terms; means and spreads
                                        relative to the values that are averaged
entries of lists, columns and tables    in any order, as chunks arrive in any; each within a few
                                        last places of the data, because it is of one event
anything else                           by its own ``==``, or by the values in it
======================================  ==========================================================

NaN is equal to NaN everywhere. `Arithmetic` has the bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from perf.records.plain import Histogram, Rows, State, awkward_parts, is_a, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Each kind of result differs in its own way, and returns its difference.
# ruff: noqa: PLR0911

RESULT: Final = "the result"

SHOWN: Final = 60
"""Characters of a value that a difference shows."""

DOUBLE: Final = float(np.finfo(np.float64).eps)
SINGLE: Final = float(np.finfo(np.float32).eps)

PAIRWISE: Final = 32
"""Roundings of a pairwise sum besides one for each halving: numpy and awkward add blocks of 128
numbers in eight partial sums of sixteen; as many again for the calculation of a term."""

PLACES: Final = 4
"""Last places in which the value of one event may differ: numpy calculates a function differently
at the end of an array than inside it."""

COUNTED: Final = 2.0**32
"""A whole number below it, in double precision, is a count: a sum of other numbers is whole by
chance once in a million times."""


@dataclass(frozen=True)
class Arithmetic:
    """How much rounding may change sums over other chunks in another order.

    Attributes
    ----------
    events
        Terms of a sum, about.
    chunks
        Parts that are merged.
    single
        Whether the data are of single precision, as NanoAOD is: a sum may have been made in it,
        whatever the type of the result.
    """

    events: int = 1_000_000
    chunks: int = 10
    single: bool = False

    @property
    def filled(self) -> float:
        """Relative bound of sums in double precision, added one by one."""
        return DOUBLE * (PAIRWISE + self.events)

    def sums(self, dtype: np.dtype[Any]) -> float:
        """Relative bound of sums that have this type."""
        own, data = float(np.finfo(dtype).eps), self._data(dtype)
        pairwise = data * (PAIRWISE + math.log2(max(1, self.events))) if data > DOUBLE else 0.0
        return self.filled + pairwise + own * self.chunks

    def values(self, dtype: np.dtype[Any]) -> float:
        """Relative bound of values of one event."""
        return PLACES * self._data(dtype)

    def _data(self, dtype: np.dtype[Any]) -> float:
        return max(float(np.finfo(dtype).eps), SINGLE if self.single else DOUBLE)


def agree(got: Any, want: Any) -> bool:
    """Whether two results are equal: `difference` says where they are not."""
    return difference(got, want) is None


def difference(
    got: Any,
    want: Any,
    at: str = RESULT,
    arithmetic: Arithmetic | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> str | None:
    """The first difference of two results, such as "result['m3']: 3 of 50 numbers differ".

    None if they are equal. Results are any objects that can be pickled. `at` names them; their
    `arithmetic` is by default that of a million numbers in double precision. `sizes` are those of
    the terms of sums, as of `Sizes`: a sum of numbers of both signs is rounded like its terms, not
    like what is left of them.
    """
    return _Comparison(arithmetic or Arithmetic(), "sums", sizes or {}).difference(got, want, at)


class Sizes:
    """Sizes of the terms of sums: the sums of chunks and of their squares, by place in a result."""

    def __init__(self) -> None:
        self.total: dict[str, Any] = {}
        self.squares: dict[str, Any] = {}

    def add(self, result: Any) -> None:
        """Add the result of a chunk."""
        for at, value in _sums(result, RESULT):
            if np.shape(self.total.get(at, value)) == value.shape:
                self.total[at] = self.total.get(at, 0.0) + value
                self.squares[at] = self.squares.get(at, 0.0) + np.abs(value) ** 2

    def of(self, merged: Any, arithmetic: Arithmetic) -> dict[str, Any]:
        """Root of the sum of squares, of the numbers of a merged result that are sums of chunks.

        Numbers that `postprocess` makes have another size.
        """
        sizes = {}
        for at, value in _sums(merged, RESULT):
            total, size = self.total.get(at), np.sqrt(self.squares.get(at, 0.0))
            if total is not None and total.shape == value.shape:
                bound = arithmetic.sums(value.dtype) * np.maximum(np.abs(value), size)
                if (np.abs(total - value) <= bound).all():
                    sizes[at] = size
        return sizes


def _sums(value: Any, at: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Places and values of floating-point numbers and arrays that are summed over chunks."""
    match plain(value):
        case dict() as content:
            for key, entry in content.items():
                yield from _sums(entry, f"{at}[{key!r}]")
        case Rows(columns, True):
            for name, column in columns.items():
                yield from _sums(column, f"{at}, {name}")
        case float() | complex() | np.inexact() | np.ndarray() as number:
            array = np.asarray(number)
            if array.dtype.kind in "fc":
                yield at, array


@dataclass(frozen=True)
class _Comparison:
    """Compares numbers that are sums, contents of histograms, or of one event."""

    arithmetic: Arithmetic
    of: Literal["sums", "filled", "events"]
    sizes: Mapping[str, Any] = field(default_factory=dict)

    def difference(self, got: Any, want: Any, at: str) -> str | None:  # noqa: PLR0912  (kinds)
        if got is want:
            return None
        try:
            ours, theirs = plain(got), plain(want)
        except TypeError:
            return _unlike(got, want, at)
        if _kind(ours) != _kind(theirs):
            return _unlike(got, want, at)
        match theirs:
            case dict():
                return self._mappings(ours, theirs, at)
            case Histogram():
                return self._histograms(ours, theirs, at)
            case Rows():
                by = replace(self, of="sums" if theirs.summed else "events")
                return by._rows(ours.columns, theirs.columns, at)
            case State():
                return self._states(got, want, at)
            case set():
                same = self._unordered(list(ours), list(theirs), at) is None
                return None if same else _unlike(got, want, at)
            case list() if self.of != "events":
                return self._unordered(ours, theirs, at)
            case list() | tuple():
                return self._sequences(ours, theirs, at)
            case np.ndarray() if theirs.ndim:
                return self._arrays(ours, theirs, at)
            case _ if is_a(theirs, "awkward", "Array"):
                return self.difference(awkward_parts(ours), awkward_parts(theirs), at)
            case _:
                same = bool(self._close(ours, theirs, self._size(at, theirs)).all())
                return None if same else _unlike(got, want, at)

    def _mappings(self, got: dict[Any, Any], want: dict[Any, Any], at: str) -> str | None:
        if missing := want.keys() - got.keys():
            return f"{at} has no {min(missing, key=repr)!r}"
        if more := got.keys() - want.keys():
            return f"{at} has {min(more, key=repr)!r} beside"
        for key, entry in want.items():
            if clause := self.difference(got[key], entry, f"{at}[{key!r}]"):
                return clause
        return None

    def _sequences(self, got: Sequence[Any], want: Sequence[Any], at: str) -> str | None:
        if len(got) != len(want):
            return f"{at} has {len(got)} entries, not {len(want)}"
        for number, (ours, theirs) in enumerate(zip(got, want, strict=True)):
            if clause := self.difference(ours, theirs, f"{at}[{number}]"):
                return clause
        return None

    def _unordered(self, got: list[Any], want: list[Any], at: str) -> str | None:
        by = _Comparison(self.arithmetic, "events")
        if len(got) == len(want) and all(map(_is_number, (*got, *want))):
            ours, theirs = np.sort(got), np.sort(want)
            if by._close(ours, theirs).all():
                return None
            return by._sequences(ours.tolist(), theirs.tolist(), at)
        if by._sequences(got, want, at) is None:
            return None
        return by._sequences(sorted(got, key=_order), sorted(want, key=_order), at)

    def _rows(self, got: dict[str, Any], want: dict[str, Any], at: str) -> str | None:
        if got.keys() != want.keys():
            return self._mappings(got, want, at)
        for name, column in want.items():
            if len(got[name]) != len(column):
                return f"{at} has {len(got[name])} entries, not {len(column)}"

        def compared(got: dict[str, Any], want: dict[str, Any]) -> str | None:
            for name, column in want.items():
                both = got[name], column
                ours, theirs = (tuple(c) if isinstance(c, list) else c for c in both)
                if clause := self.difference(ours, theirs, f"{at}, {name}"):
                    return clause
            return None

        return compared(got, want) and compared(_sorted_rows(got), _sorted_rows(want))

    def _states(self, got: Any, want: Any, at: str) -> str | None:
        ours, theirs = plain(got), plain(want)
        if ours.kind != theirs.kind:
            return f"{at} is a {ours.kind}, not a {theirs.kind}"
        if ours is not got:
            same = got == want
            if isinstance(same, bool | np.bool_) and same:
                return None
        return self.difference(ours.holds, theirs.holds, at)

    def _histograms(self, got: Histogram, want: Histogram, at: str) -> str | None:
        if got.storage != want.storage:
            return f"{at} has the storage {got.storage}, not {want.storage}"
        edges = _Comparison(self.arithmetic, "events")
        if clause := edges.difference(got.axes, want.axes, f"{at}.axes"):
            return clause
        return _Comparison(self.arithmetic, "filled").difference(got.view, want.view, at)

    def _arrays(
        self, got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], at: str
    ) -> str | None:
        if got.shape != want.shape:
            return f"{at} has the shape {got.shape}, not {want.shape}"
        if got.dtype.names != want.dtype.names:
            return f"{at} is of {got.dtype}, not {want.dtype}"
        if want.dtype.hasobject:
            return self._sequences(tuple(got.ravel()), tuple(want.ravel()), at)
        for (name, ours, our_size), (_, theirs, their_size) in zip(
            _fields(got), _fields(want), strict=True
        ):
            size = np.maximum(our_size, their_size) if name else self._size(at, theirs)
            close = self._close(ours, theirs, size)
            if not close.all():
                where = f" in {name}" if name else ""
                return f"{at}: {(~close).sum()} of {close.size} numbers differ{where}"
        return None

    def _size(self, at: str, value: Any) -> Any:
        size = self.sizes.get(at, 0.0) if self.of == "sums" else 0.0
        return size if np.shape(size) == np.shape(value) else 0.0

    def _close(self, got: Any, want: Any, scale: Any = 0.0) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which numbers are equal; rounding is relative to `scale` where that is larger."""
        ours, theirs = np.asarray(got), np.asarray(want)
        same = np.asarray((ours == theirs) | ((ours != ours) & (theirs != theirs)))  # noqa: PLR0124  (NaN)
        types = [array.dtype for array in (ours, theirs) if array.dtype.kind in "fc"]
        if not types:
            return same.astype(bool)
        coarse = max(types, key=lambda dtype: np.finfo(dtype).eps)
        match self.of:
            case "filled":
                bound = self.arithmetic.filled
            case "sums":
                bound = self.arithmetic.sums(coarse)
            case "events":
                bound = self.arithmetic.values(coarse)
        with np.errstate(invalid="ignore"):
            near = np.abs(ours - theirs) <= bound * np.maximum(np.abs(theirs), scale)
            if self.of == "filled":
                near &= ~(_whole(ours) & _whole(theirs))
        return np.asarray(near | same)


def _kind(value: Any) -> str:
    """Values of the same kind can be compared."""
    if isinstance(value, str):
        return "str"
    if _is_number(value) or (isinstance(value, np.ndarray) and not value.ndim):
        return "number"
    return type(value).__name__


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | complex | np.number | np.bool_)


def _whole(values: np.ndarray[Any, Any]) -> Any:
    return (values == np.round(values)) & (np.abs(values) < COUNTED)


def _fields(values: np.ndarray[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, numbers and the scale of their rounding, for each field of an array."""
    names = values.dtype.names or ()
    if not names:
        yield "", values, 0.0
    elif {"value", "variance"} == set(names):
        # A sum of weights of both signs is rounded like its terms, not like what is left of them.
        yield "value", values["value"], np.sqrt(np.abs(values["variance"]))
        yield "variance", values["variance"], 0.0
    elif "value" in names and names[-1].endswith("deltas_squared"):
        weight, squares = values[names[0]], values[names[-1]]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(np.abs(np.where(weight == 0, squares, squares / weight)))
        size = np.hypot(values["value"], spread)
        yield "value", values["value"], size
        yield "the spread", spread, size
        for name in names[:-1]:
            if name != "value":
                yield name, values[name], np.sqrt(np.abs(values[names[-3]]))
    else:
        for name in names:
            yield name, values[name], 0.0


def _order(entry: Any) -> tuple[Any, ...]:
    """Sort key of entries: numbers by size, NaN last, so that rounding moves few."""
    if type(entry) is float and entry == entry:  # noqa: PLR0124  (most, and not NaN)
        return (1, entry)
    if type(entry) is not list:
        entry = plain(entry)
    match entry:
        case None:
            return (0,)
        case bool() | int() | float() | np.number() | np.bool_():
            return (2,) if np.isnan(entry) else (1, entry)
        case str() | bytes():
            return (3, str(entry))
        case list() | tuple():
            return (4, *map(_order, entry))
        case dict():
            return (5, *((repr(key), _order(entry[key])) for key in sorted(entry, key=repr)))
        case np.ndarray():
            return (6, _order(entry.tolist()))
        case _:
            return (7, repr(entry))


def _sorted_rows(columns: dict[str, Any]) -> dict[str, Any]:
    rows = len(next(iter(columns.values()), ()))
    arrays = [column for column in columns.values() if isinstance(column, np.ndarray)]
    if len(arrays) == len(columns) and all(array.dtype.kind in "biuf" for array in arrays):
        keys = [
            key for array in arrays for key in array.reshape(rows, math.prod(array.shape[1:])).T
        ]
        order = np.lexsort(keys[::-1]) if keys else np.arange(rows)
    else:
        lists = [
            entry if isinstance(entry, list) else entry.tolist() for entry in columns.values()
        ]
        ranks = [_order(row) for row in zip(*lists, strict=True)]
        order = np.array(sorted(range(rows), key=ranks.__getitem__), np.int64)
    return {
        name: [column[i] for i in order] if isinstance(column, list) else column[order]
        for name, column in columns.items()
    }


def _unlike(got: Any, want: Any, at: str) -> str:
    kinds = type(got).__name__, type(want).__name__
    if _is_number(got) and _is_number(want):
        got, want = np.asarray(got).item(), np.asarray(want).item()
    elif kinds[0] != kinds[1]:
        return f"{at} is a {kinds[0]}, not a {kinds[1]}"
    ours, theirs = repr(got), repr(want)
    if max(len(ours), len(theirs)) > SHOWN:
        return f"{at}: two of type {kinds[0]} differ"
    return f"{at} is {ours}, not {theirs}"
