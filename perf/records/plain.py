"""Results of processors taken apart into values that can be compared and written.

This module runs in environments with any version of coffea, awkward and numba and without this
project: it imports nothing, and knows classes by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

# numpy and awkward are imported only if a value is theirs.
# ruff: noqa: PLC0415

# Each kind of value is taken apart in its own way.
# ruff: noqa: PLR0911


class Histogram(NamedTuple):
    """A histogram of any class of hist or boost-histogram, categories sorted.

    Attributes
    ----------
    storage
        Name of the storage.
    axes
        ``name`` and ``bins`` of each axis: edges, or categories.
    view
        Contents with underflow and overflow: an array, or what a class of the user's gives.
    """

    storage: str
    axes: tuple[dict[str, Any], ...]
    view: Any


class Rows(NamedTuple):
    """Entries in any order, as chunks arrive in any order.

    Attributes
    ----------
    columns
        Arrays of numpy or awkward, or lists, all of the same length.
    summed
        Whether an entry is a sum over events; otherwise it is of one event.
    """

    columns: dict[str, Any]
    summed: bool


class State(NamedTuple):
    """Any other object: its class, and what pickle stores of it (None for nothing)."""

    kind: str
    holds: Any


def plain(value: Any) -> Any:
    """Take a value apart, but not the values in it.

    Gives a dict, set, list or tuple; a number, text, None or array of numpy or awkward; or an
    instance of a class of this module. TypeError for a value that cannot even be pickled.
    """
    import numpy as np

    if isinstance(value, np.ma.MaskedArray):
        return {"missing": np.ma.getmaskarray(value), "present": value.compressed()}
    if value is None or isinstance(
        value,
        bool | int | float | complex | str | bytes | np.generic | np.ndarray | Histogram,
    ):
        return value
    if isinstance(value, Rows | State) or is_a(value, "awkward", "Array"):
        return value
    if is_a(value, "boost_histogram", "Histogram"):
        return _histogram(value)
    if is_a(value, "coffea", "column_accumulator"):
        return Rows({"column": value.value}, summed=False)
    if is_a(value, "pandas", "DataFrame"):
        return _frame(value)
    if is_a(value, "pandas", "Series"):
        return _frame(value.to_frame("values"))
    if is_a(value, "awkward", "Record"):
        return {name: value[name] for name in value.fields}
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, AbstractSet):
        return set(value)
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(value)
    return State(type(value).__qualname__, _state(value))


def is_a(value: Any, package: str, name: str) -> bool:
    """Whether a value is an instance of a class of a package, given by names."""
    return any(
        base.__name__ == name and base.__module__.partition(".")[0] == package
        for base in type(value).__mro__
    )


def _histogram(histogram: Any) -> Histogram:
    """Categories are sorted: a growing axis has them in the order of their first entries."""
    import numpy as np

    view: Any = histogram.view(flow=True)
    # A class of the user's may give a mapping, whose entries have names and no positions.
    by_position = not isinstance(view, Mapping)
    view = np.asarray(view) if by_position else dict(view)
    axes = []
    for number, axis in enumerate(histogram.axes):
        # Regular and variable axes have edges that are numbers, the others list their bins.
        bins = list(axis) if axis.traits.discrete else np.asarray(axis.edges)
        if isinstance(bins, list):
            order = sorted(range(len(bins)), key=lambda i, bins=bins: repr(bins[i]))  # type: ignore[misc]
            if by_position:
                flow = range(len(bins), view.shape[number])
                view = np.take(view, [*order, *flow], axis=number)
            bins = [bins[i] for i in order]
        axes.append({"name": getattr(axis, "name", ""), "bins": bins})
    storage = getattr(histogram, "storage_type", None) or histogram._storage_type
    return Histogram(storage.__name__, tuple(axes), view)


def _frame(frame: Any) -> Rows:
    """Rows of a table, with their labels unless these only count the rows."""
    columns = {f"column {name!r}": _column(frame.iloc[:, at]) for at, name in enumerate(frame)}
    if not is_a(frame.index, "pandas", "RangeIndex"):
        columns["index"] = frame.index.tolist()
    return Rows(columns, summed=True)


def _column(series: Any) -> Any:
    import numpy as np

    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biufc":
        return series.to_numpy()
    return [
        None if missing else entry for entry, missing in zip(series, series.isna(), strict=True)
    ]


def _state(value: Any) -> Any:
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    made = value.__reduce_ex__(4)
    if isinstance(made, str):
        return made
    _, arguments, state, *items = (*made, None, None, None)[:5]
    given = tuple(argument for argument in arguments if argument is not type(value))
    listed = [list(entries) for entries in items if entries is not None]
    # Most have attributes and nothing else.
    return (given, state, *listed) if given or listed else state


def awkward_parts(array: Any) -> Any:
    """Lengths and values of an awkward array, the same for every layout of equal content."""
    import awkward as ak

    return _layout(ak.to_packed(array).layout)


def _layout(layout: Any) -> Any:
    import awkward as ak
    import numpy as np

    if layout.is_numpy:
        return np.asarray(layout.data)
    if layout.is_unknown:
        return ["unknown", layout.length]
    if layout.is_list:
        lists = layout.to_ListOffsetArray64(True)  # noqa: FBT003  (positional in awkward)
        offsets = np.asarray(lists.offsets.data)
        content = lists.content[: int(offsets[-1])]
        return {"lengths": np.diff(offsets), "content": _layout(content)}
    if layout.is_record:
        return {name: _layout(layout.content(name)) for name in layout.fields}
    if layout.is_option:
        missing = np.asarray(ak.is_none(ak.Array(layout)))
        present = ak.to_packed(ak.drop_none(ak.Array(layout), axis=0)).layout
        return {"missing": missing, "present": _layout(present)}
    if layout.is_indexed:
        return _layout(ak.to_packed(layout.project()))
    # A union: each entry by itself.
    return tuple(layout.to_list())
