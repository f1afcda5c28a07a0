"""Whether two accumulated results are equal, whatever a processor accumulates.

Counts are equal to the last one. Floating-point sums depend on the order in which chunks are
merged, and are equal to the rounding of that. Lists and columns are what the chunks gave one after
the other, in the order in which they came: they are equal if they are in some order.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from perf import measure
from perf.processor import RELATIVE_ROUNDING

if TYPE_CHECKING:
    from collections.abc import Sequence

# coffea and hist take seconds, and were imported if there is a result of theirs.
# ruff: noqa: PLC0415

# A kind of result, a way to differ: each returns what it found.
# ruff: noqa: PLR0911

SHOWN: Final = 60
"""Characters of a value that a difference shows."""


def difference(got: Any, want: Any, at: str = "the result") -> str | None:
    """Where two results differ first.

    Parameters
    ----------
    got, want
        Mappings, sets, lists, numbers, text, numpy and awkward arrays, histograms, coffea's
        accumulators, objects with attributes of these or with an equality of their own.
    at
        What they are.

    Returns
    -------
    str or None
        A clause, such as "result['m3']: 3 of 50 numbers differ"; None if they are equal.
    """
    match want:
        case Mapping():
            return _mappings(got, want, at)
        case AbstractSet():
            return None if isinstance(got, AbstractSet) and got == want else _unlike(got, want, at)
        case list() | tuple():
            return _sequences(got, want, at)
        case bool() | int() | float() | complex() | np.generic():
            return _numbers(got, want, at)
        case np.ndarray():
            return _arrays(got, want, at)
        case str() | bytes() | None:
            return None if got == want else _unlike(got, want, at)
        case _:
            return _objects(got, want, at)


def _mappings(got: Any, want: Mapping[Any, Any], at: str) -> str | None:
    if not isinstance(got, Mapping):
        return _unlike(got, want, at)
    if missing := want.keys() - got.keys():
        return f"{at} has no {min(missing, key=repr)!r}"
    if more := got.keys() - want.keys():
        return f"{at} has {min(more, key=repr)!r} beside"
    # All keys are looked at, so that the first difference is found whatever the order.
    for key, one in want.items():
        if found := difference(got[key], one, f"{at}[{key!r}]"):
            return found
    return None


def _sequences(got: Any, want: Sequence[Any], at: str) -> str | None:
    if not isinstance(got, list | tuple):
        return _unlike(got, want, at)
    if len(got) != len(want):
        return f"{at} has {len(got)} entries, not {len(want)}"
    if isinstance(want, list):
        got, want = sorted(got, key=_order), sorted(want, key=_order)
    for number, (one, other) in enumerate(zip(got, want, strict=True)):
        if found := difference(one, other, f"{at}[{number}]"):
            return found
    return None


def _order(entry: Any) -> tuple[Any, ...]:
    """Numbers by size, so that rounding does not change their order by much; the rest as text."""
    return (0, entry) if isinstance(entry, int | float | np.number) else (1, repr(entry))


def _numbers(got: Any, want: Any, at: str) -> str | None:
    if not isinstance(got, bool | int | float | complex | np.generic | np.ndarray):
        return _unlike(got, want, at)
    if np.shape(got) != np.shape(want):
        return _unlike(got, want, at)
    return None if _close(got, want).all() else _unlike(got, want, at)


def _arrays(
    got: Any, want: np.ndarray[Any, Any], at: str, scale: Mapping[str, Any] | None = None
) -> str | None:
    """`scale`: of fields whose rounding is that of larger numbers than what they hold."""
    if not isinstance(got, np.ndarray):
        return _unlike(got, want, at)
    if got.shape != want.shape:
        return f"{at} has the shape {got.shape}, not {want.shape}"
    if got.dtype.names != want.dtype.names:
        return f"{at} is of {got.dtype}, not {want.dtype}"
    if want.dtype.hasobject:
        return _sequences(tuple(got.ravel()), tuple(want.ravel()), at)
    for name in want.dtype.names or ():
        ok = _close(got[name], want[name], (scale or {}).get(name, 0.0))
        if not ok.all():
            return f"{at}: {(~ok).sum()} of {ok.size} numbers differ in {name}"
    if want.dtype.names is None:
        ok = _close(got, want)
        if not ok.all():
            return f"{at}: {(~ok).sum()} of {ok.size} numbers differ"
    return None


def _close(got: Any, want: Any, scale: Any = 0.0) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Exactly equal if both are whole numbers, else to rounding."""
    ours, theirs = np.asarray(got), np.asarray(want)
    if not {ours.dtype.kind, theirs.dtype.kind} & set("fc"):
        return np.asarray(ours == theirs)
    allowed = RELATIVE_ROUNDING * np.maximum(np.abs(theirs), scale)
    with np.errstate(invalid="ignore"):
        near = np.abs(ours - theirs) <= allowed
    both = np.isnan(ours) & np.isnan(theirs)
    return np.asarray(near | (ours == theirs) | both)


def _objects(got: Any, want: Any, at: str) -> str | None:
    import awkward as ak
    import hist
    from coffea.processor import column_accumulator

    if got is want:
        return None
    if type(got) is not type(want):
        return _unlike(got, want, at)
    if isinstance(want, hist.BaseHist):
        return _histograms(got, want, at)
    if isinstance(want, ak.Array):
        plain = measure._plain_awkward
        return difference(plain(ak.to_packed(got).layout), plain(ak.to_packed(want).layout), at)
    if isinstance(want, column_accumulator):
        return _arrays(np.sort(got.value, axis=0), np.sort(want.value, axis=0), at)
    same = got == want
    if isinstance(same, bool) and same:
        return None
    if getattr(want, "__dict__", None):
        return difference(vars(got), vars(want), at)
    return _unlike(got, want, at)


def _histograms(got: Any, want: Any, at: str) -> str | None:
    """Axes, whatever order their categories came in, and contents."""
    ours, theirs = (measure._plain_histogram(one) for one in (got, want))
    if ours["storage"] != theirs["storage"]:
        return f"{at} has the storage {ours['storage']}, not {theirs['storage']}"
    if found := difference(tuple(ours["axes"]), tuple(theirs["axes"]), f"{at}.axes"):
        return found
    view = theirs["view"]
    # The sum of weights of both signs is rounded as its terms are, not as what is left of it.
    weighted = view.dtype.names is not None and {"value", "variance"} == set(view.dtype.names)
    scale = {"value": np.sqrt(np.abs(view["variance"]))} if weighted else None
    return _arrays(ours["view"], view, at, scale)


def _unlike(got: Any, want: Any, at: str) -> str:
    kinds = type(got).__name__, type(want).__name__
    if kinds[0] != kinds[1]:
        return f"{at} is a {kinds[0]}, not a {kinds[1]}"
    ours, theirs = repr(got), repr(want)
    if max(len(ours), len(theirs)) > SHOWN:
        return f"{at}: two of type {kinds[0]} differ"
    return f"{at} is {ours}, not {theirs}"
