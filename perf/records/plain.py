"""What a processor may return, taken apart into what has an equality and can be written down.

For environments that have coffea, awkward and numba of any version and nothing of this project:
this imports nothing, and knows classes by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

# What is taken apart was made with these, which need not be imported for anything else.
# ruff: noqa: PLC0415

# A kind of value, a way to take it apart.
# ruff: noqa: PLR0911


class Histogram(NamedTuple):
    """A histogram, whatever class of hist or boost-histogram, categories sorted.

    Attributes
    ----------
    storage
        Name of it.
    axes
        ``name`` and ``bins`` of each: edges, or what is counted.
    view
        Contents with underflow and overflow: an array, or what a class of its own gives.
    """

    storage: str
    axes: tuple[dict[str, Any], ...]
    view: Any


class Rows(NamedTuple):
    """Entries whose order has no meaning, as that of chunks has none.

    Attributes
    ----------
    columns
        Of as many entries each: arrays of numpy or awkward, or lists.
    summed
        Whether entries are sums over events, rather than of one event each.
    """

    columns: dict[str, Any]
    summed: bool


class State(NamedTuple):
    """Any other object.

    Attributes
    ----------
    kind
        Its class.
    holds
        What it is made of, as pickle has it; None for nothing.
    """

    kind: str
    holds: Any


def plain(value: Any) -> Any:
    """Take a value apart, but not what it holds.

    Returns
    -------
    Any
        A dict, set, list or tuple of whatever; number, text, array of numpy or awkward, None; or
        one of the classes of this module.

    Raises
    ------
    TypeError
        If it cannot be pickled either.
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
    """Whether a value is of a class of that name of a package, or of one derived from it."""
    return any(
        one.__name__ == name and one.__module__.partition(".")[0] == package
        for one in type(value).__mro__
    )


def _histogram(histogram: Any) -> Histogram:
    """Categories are sorted: a growing axis has them in the order in which it met them."""
    import numpy as np

    view: Any = histogram.view(flow=True)
    # A class of its own may give something else: by what it names then, not by position.
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
    """Rows of a table with their labels, unless these only count the rows."""
    columns = {f"column {name!r}": _column(frame.iloc[:, at]) for at, name in enumerate(frame)}
    if not is_a(frame.index, "pandas", "RangeIndex"):
        columns["index"] = frame.index.tolist()
    return Rows(columns, summed=True)


def _column(series: Any) -> Any:
    import numpy as np

    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biufc":
        return series.to_numpy()
    return [None if gone else one for one, gone in zip(series, series.isna(), strict=True)]


def _state(value: Any) -> Any:
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    made = value.__reduce_ex__(4)
    if isinstance(made, str):
        return made
    _, arguments, state, *items = (*made, None, None, None)[:5]
    given = tuple(one for one in arguments if one is not type(value))
    listed = [list(one) for one in items if one is not None]
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
