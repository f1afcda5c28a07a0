"""Events as hypothesis draws them, and the layouts in which coffea may give them.

A `Sample` is a short list of events, each a dict of numbers and of lists of objects: that is
what hypothesis shrinks and prints. Its `columns` are the arrays that kernels take.

Values come from short lists of interesting ones (cuts and their neighbours in single and double
precision, ties, zero, phi at +-pi), mixed with ranges. Half of the samples are `extreme`: they
also hold NaN, infinity, and very large and very small numbers.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement, pairwise, product
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import awkward as ak
import numpy as np
from hypothesis import strategies as st

from analysis.kernels import DERIVED, Kernel, column

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

Precision = Literal["float32", "float64", "mixed"]
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
"""Of the floating-point columns of a sample; mixed is pt alone in double precision, which is
what the energy corrections make of a NanoAOD file. Not more: numba compiles for each."""

Event = dict[str, Any]

MAX_EVENTS: Final = 5
MAX_OBJECTS: Final = 6
MANY_OBJECTS: Final = 9
VARIATIONS: Final = 3

FLOAT32_MAX: Final = float(np.finfo(np.float32).max)
FLOAT64_MAX: Final = sys.float_info.max


def around(value: float) -> tuple[float, ...]:
    """A number, the float32 nearest to it, and the neighbours of both."""
    single = np.float32(value)
    return (
        value,
        float(single),
        *(float(np.nextafter(single, np.float32(side))) for side in (-math.inf, math.inf)),
        *(math.nextafter(value, side) for side in (-math.inf, math.inf)),
    )


def _both(*values: float) -> tuple[float, ...]:
    return (*values, *(-value for value in values))


@dataclass(frozen=True)
class Real:
    """A floating-point column: interesting values, and a range drawn from as often."""

    usual: tuple[float, ...]
    between: tuple[float, float]
    extreme: tuple[float, ...] = (math.nan, math.inf, -math.inf)
    dtype: type[np.floating[Any]] | None = None
    """Its type where that does not follow the precision of the sample."""

    def listed(self, dtype: type[np.generic], *, extreme: bool) -> tuple[float, ...]:
        """Interesting values that `dtype` holds exactly."""
        listed = self.usual + self.extreme * extreme
        if dtype is np.float32:
            finite = (x for x in listed if not FLOAT32_MAX < abs(x) < math.inf)
            listed = tuple(float(np.float32(x)) for x in finite)
        return tuple(dict.fromkeys(listed))

    def values(self, dtype: type[np.generic], *, extreme: bool) -> SearchStrategy[Any]:
        """Interesting values, and others of the range."""
        ends = (float(dtype(end)) for end in self.between)
        width: Literal[32, 64] = 32 if dtype is np.float32 else 64
        interesting = st.sampled_from(self.listed(dtype, extreme=extreme))
        return interesting | st.floats(*ends, width=width)


@dataclass(frozen=True)
class Listed:
    """A column of integers or booleans."""

    usual: tuple[int, ...]
    dtype: type[np.generic] = np.int32
    extreme: tuple[int, ...] = ()

    def listed(self, _: type[np.generic], *, extreme: bool) -> tuple[int, ...]:
        """All values."""
        return self.usual + self.extreme * extreme

    def values(self, dtype: type[np.generic], *, extreme: bool) -> SearchStrategy[Any]:
        """One of the values listed."""
        return st.sampled_from(self.listed(dtype, extreme=extreme))


Column = Real | Listed

_SPECIAL: Final = (math.nan, math.inf, -math.inf)
_BOOLEAN: Final = Listed((True, False), np.bool_)
_WORDS: Final = (1, 0, 297_675, 2**32 - 1)

OBJECT: Final[dict[str, Column]] = {
    "pt": Real(
        # Back to back with 50, 18 and 72 make masses of 60 and 120; three of 57.5 make 172.5.
        (50.0, *around(30.0), 0.0, 10.0, 18.0, 45.6, 57.5, 60.0, 72.0, 1e3),
        (0.0, 200.0),
        (*_SPECIAL, 1e-30, 1e30, -1.0, 1e-160, 1e-300, 1e150, 1e200, FLOAT32_MAX, FLOAT64_MAX),
    ),
    "eta": Real(
        # The difference of the last two is below 0.4, but not in single precision.
        (0.0, *_both(*around(2.1), *around(2.4), 1.0, 5.0), 0.1000000164, -0.2999999821),
        (-5.0, 5.0),
        (*_SPECIAL, *_both(40.0, 800.0), 1e-30, 1e200),
    ),
    "phi": Real(
        (0.0, *_both(*around(math.pi), math.pi / 2, *around(0.4))),
        (-math.pi, math.pi),
        (*_SPECIAL, 100.0, 1e22, 1e-30),
    ),
    "mass": Real(
        (0.0, 0.000511, 0.10566, 4.8, 172.5),
        (0.0, 50.0),
        (*_SPECIAL, -0.005, 1e-30, 1e30, 1e-160, 1e200, FLOAT64_MAX),
    ),
    "sip3d": Real((0.0, *around(4.0), -1.0), (0.0, 8.0)),
    "pfRelIso04_all": Real((0.0, *around(0.15)), (0.0, 1.0)),
    "btagCSVV2": Real((1.0, 0.0, *around(0.5), -1.0, -10.0), (0.0, 1.0)),
    "charge": Listed((1, -1), extreme=(0, 2)),
    "flavour": Listed((11, 13)),
    "cutBased": Listed((4, 0, 1, 2, 3)),
    "jetId": Listed((6, 0, 2, 4, 7), extreme=(-1,)),
    "tightId": _BOOLEAN,
    "mask": _BOOLEAN,
}
"""Columns of objects, by the part of their name after that of the collection."""

KINEMATICS: Final = ("pt", "eta", "phi", "mass")
COLLECTIONS: Final = ("Electron", "Muon", "Jet", "Lepton")

EVENT: Final[dict[str, Column]] = {
    "run": Listed(_WORDS, np.uint32),
    "luminosityBlock": Listed(_WORDS, np.uint32),
    "event": Listed((*_WORDS, 2**32, 2**63, 2**64 - 1), np.uint64),
    "MET_pt": OBJECT["pt"],
    "MET_phi": OBJECT["phi"],
    "one_lepton": _BOOLEAN,
    "category": Listed(tuple(range(3)), np.int64),
    "observable": Real(
        (100.0, *around(50.0), *around(550.0), *around(70.0), *around(530.0), 0.0),
        (0.0, 600.0),
        (*_SPECIAL, *_both(1e30, FLOAT64_MAX), 5e-324),
        np.float64,
    ),
}
"""Columns of events."""

WEIGHTS: Final = Real(
    (1.0, 0.0, 0.1, -0.5), (-2.0, 2.0), (*_SPECIAL, 1e-30, 1e30, 1e200), np.float64
)

PICKS: Final[dict[str, tuple[str, int]]] = {"Lepton_pair": ("Lepton", 2), "Jet_trijet": ("Jet", 3)}
"""Columns of indices within the event: into which collection, and how many."""


def collection_of(name: str) -> str | None:
    """The collection that a column belongs to, or None for a column of events."""
    collection, _, rest = name.partition("_")
    return collection if collection in COLLECTIONS and rest in OBJECT else None


def known(name: str) -> bool:
    """Whether columns of this name can be drawn."""
    return name in EVENT or name in PICKS or name == "weights" or collection_of(name) is not None


def _column(name: str) -> Column:
    if name == "weights":
        return WEIGHTS
    return EVENT[name] if name in EVENT else OBJECT[name.partition("_")[2]]


def dtype_of(name: str, precision: Precision) -> type[np.generic]:
    """The type of a column in a sample of this precision."""
    if name in PICKS:
        return np.int64
    if (dtype := _column(name).dtype) is not None:
        return dtype
    if precision == "mixed":
        return np.float64 if name.endswith("_pt") else np.float32
    return np.float32 if precision == "float32" else np.float64


@dataclass(frozen=True)
class Sample:
    """A few events, with the columns that one kernel needs."""

    names: tuple[str, ...] = field(repr=False)
    precision: Precision
    events: list[Event]

    @property
    def columns(self) -> dict[str, Any]:
        """Arrays by name: jagged for columns of objects, else one value an event."""
        return {name: array_of(name, self._values(name), self.precision) for name in self.names}

    def _values(self, name: str) -> list[Any]:
        if (collection := collection_of(name)) is None or name in PICKS:
            return [event[name] for event in self.events]
        rest = name.partition("_")[2]
        return [[one[rest] for one in event[collection]] for event in self.events]


def array_of(name: str, values: list[Any], precision: Precision = "float64") -> Any:
    """A column as kernels take it, of a list of events."""
    dtype = dtype_of(name, precision)
    if collection_of(name) is not None and name not in PICKS:
        return jagged(values, dtype)
    array = np.array(values, dtype=dtype)
    if name in PICKS:
        return array.reshape(-1, PICKS[name][1])
    if name == "weights":
        return array.reshape(-1, VARIATIONS)
    # What is read from files is awkward, what kernels make of it is numpy.
    return array if name in DERIVED else ak.Array(array)


def jagged(lists: Sequence[Sequence[Any]], dtype: type[np.generic]) -> ak.Array:
    """Jagged array of lists."""
    offsets = np.cumsum([0, *map(len, lists)])
    contents = np.array([value for one in lists for value in one], dtype=dtype)
    return ak.Array(
        ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(contents))
    )


class _Recorded(dict[str, Any]):
    """Columns that remember which of them were read."""

    def __init__(self, columns: dict[str, Any]) -> None:
        super().__init__(columns)
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> Any:
        self.read[name] = None
        return super().__getitem__(name)


def branches_of(kernel: Kernel) -> tuple[str, ...]:
    """The branches that a kernel's inputs are, or are derived from."""
    names = (
        *(f"{one}_{rest}" for one in COLLECTIONS for rest in OBJECT),
        *EVENT,
    )
    nothing = Sample(tuple(name for name in names if name not in DERIVED), "float32", [])
    recorded = _Recorded(nothing.columns)
    for name in kernel.inputs:
        column(recorded, name)
    return tuple(recorded.read)


def _objects(
    names: Sequence[str], precision: Precision, *, extreme: bool
) -> SearchStrategy[list[Event]]:
    """Objects of one event and collection: none to many, or several with the same kinematics."""
    one = st.fixed_dictionaries(
        {
            name.partition("_")[2]: _column(name).values(
                dtype_of(name, precision), extreme=extreme
            )
            for name in names
        }
    )
    same = st.lists(one, min_size=2, max_size=MAX_OBJECTS).map(_alike)
    many = st.lists(one, min_size=MAX_OBJECTS + 1, max_size=MANY_OBJECTS)
    few = st.lists(one, max_size=MAX_OBJECTS)
    return st.one_of(few, few, same, many)


def _alike(objects: list[Event]) -> list[Event]:
    """The objects with the first one's kinematics: exact ties, whose charges and tags differ."""
    kinematics: Event = {name: objects[0][name] for name in KINEMATICS if name in objects[0]}
    return [{**one, **kinematics} for one in objects]


@st.composite
def _picks(draw: DrawFn, n: int, size: int) -> list[int]:
    """Indices of `size` of `n` objects, or -1 for none."""
    possible = [[-1] * size, *map(list, combinations(range(n), size))]
    return draw(st.sampled_from(possible))


@st.composite
def samples(draw: DrawFn, kernel: Kernel) -> Sample:
    """Events with the columns of a kernel.

    Inputs that are derived from branches are drawn freely in half of the samples: a wider domain
    than other kernels' results.
    """
    derived = not set(kernel.inputs).isdisjoint(DERIVED)
    names = kernel.inputs
    if derived and draw(st.booleans(), label="derived from branches"):
        names = branches_of(kernel)
    precision = draw(st.sampled_from(PRECISIONS))
    extreme = draw(st.booleans())

    in_collections: dict[str, list[str]] = {}
    of_events: dict[str, SearchStrategy[Any]] = {}
    for name in names:
        collection = collection_of(name)
        if name in PICKS:
            in_collections.setdefault(PICKS[name][0], [])
        elif collection is not None:
            in_collections.setdefault(collection, []).append(name)
        else:
            values = _column(name).values(dtype_of(name, precision), extreme=extreme)
            if name == "weights":
                values = st.lists(values, min_size=VARIATIONS, max_size=VARIATIONS)
            of_events[name] = values
    parts = {
        name: _objects(columns, precision, extreme=extreme)
        for name, columns in in_collections.items()
    }
    events = draw(st.lists(st.fixed_dictionaries({**parts, **of_events}), max_size=MAX_EVENTS))
    for name in set(names) & set(PICKS):
        collection, size = PICKS[name]
        for event in events:
            event[name] = draw(_picks(len(event[collection]), size))
    return Sample(tuple(names), precision, events)


def corners(names: Sequence[str], precision: Precision) -> Sample:
    """Events in which any two interesting values meet: in one object, in two, or in an event.

    All other values are the first of their lists. Columns of events take their values in turn.
    """

    def listed(name: str) -> tuple[Any, ...]:
        return _column(name).listed(dtype_of(name, precision), extreme=True)

    columns: dict[str, list[str]] = {}
    for name in names:
        if name in PICKS:
            columns.setdefault(PICKS[name][0], [])
        elif (collection := collection_of(name)) is not None:
            columns.setdefault(collection, []).append(name)
    objects: dict[str, list[Event]] = {}
    events: list[Event] = []
    plain = {
        collection: {name.partition("_")[2]: listed(name)[0] for name in of_objects}
        for collection, of_objects in columns.items()
    }
    rest = {collection: [one] for collection, one in plain.items()}
    for collection, of_objects in columns.items():
        one = plain[collection]
        special = [
            {name.partition("_")[2]: value} for name in of_objects for value in listed(name)[1:]
        ]
        objects[collection] = [one, *({**one, **value} for value in special)]
        met = [
            ({**one, **a, **b}, one) for a, b in combinations(special, 2) if a.keys() != b.keys()
        ]
        met += combinations_with_replacement(objects[collection], 2)
        events += [{**rest, collection: [a, b, one]} for a, b in met]
    for first, second in combinations(objects, 2):
        both = product(objects[first], objects[second])
        events += [{**rest, first: [a], second: [b]} for a, b in both]
    if not objects:
        events = [{} for _ in range(1000)]
    for number, event in enumerate(events):
        for name in names:
            if name in PICKS:
                collection, size = PICKS[name]
                possible = [*combinations(range(len(event[collection])), size), (-1,) * size]
                event[name] = possible[number % len(possible)]
            elif name == "weights":
                values = listed(name)
                event[name] = [
                    values[(number * (k + 1) + k) % len(values)] for k in range(VARIATIONS)
                ]
            elif collection_of(name) is None:
                values = listed(name)
                # The lists have different lengths, so that their values meet as well.
                event[name] = values[(number + number // len(values)) % len(values)]
    return Sample(tuple(names), precision, events)


def typical(names: Sequence[str], counts: Sequence[int], *, seed: int = 0) -> Sample:
    """Events with these numbers of objects, without special values: like a file's.

    The numbers of a collection are those of the one before it, one event later.
    """
    rng = np.random.default_rng(seed)

    def value(name: str) -> Any:
        one = _column(name)
        if isinstance(one, Listed):
            return rng.choice(np.array(one.usual, dtype=one.dtype)).item()
        return float(np.float32(rng.uniform(*one.between)))

    events = []
    for number in range(len(counts)):
        event: Event = {}
        for name in names:
            collection = PICKS[name][0] if name in PICKS else collection_of(name)
            shift = COLLECTIONS.index(collection) if collection is not None else 0
            n = counts[(number - shift) % len(counts)]
            if name in PICKS:
                _, size = PICKS[name]
                event[name] = sorted(rng.permutation(n)[:size]) if n >= size else [-1] * size
            elif name == "weights":
                event[name] = [value(name) for _ in range(VARIATIONS)]
            elif collection is not None:
                objects = event.setdefault(collection, [{} for _ in range(n)])
                for one in objects:
                    one[name.partition("_")[2]] = value(name)
            else:
                event[name] = value(name)
        events.append(event)
    return Sample(tuple(names), "float32", events)


def parts(array: ak.Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Offsets from zero and contents of a jagged array that `jagged` made."""
    return array.layout.offsets.data, array.layout.content.data


def _lists(offsets: Any, content: ak.contents.Content) -> ak.Array:
    return ak.Array(ak.contents.ListOffsetArray(offsets, content))


def _with_offsets(
    index: type[ak.index.Index], dtype: type[np.generic]
) -> Callable[[ak.Array], ak.Array]:
    def relaid(array: ak.Array) -> ak.Array:
        offsets, contents = parts(array)
        return _lists(index(offsets.astype(dtype)), ak.contents.NumpyArray(contents))

    return relaid


def _reversed_lists(array: ak.Array) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Offsets and contents of the events in reverse order."""
    offsets, contents = parts(array)
    events = [contents[a:b] for a, b in pairwise(offsets)][::-1]
    return np.cumsum([0, *map(len, events)]), np.concatenate([contents[:0], *events])


def _list_array(array: ak.Array) -> ak.Array:
    offsets, contents = _reversed_lists(array)
    starts, stops = offsets[:-1][::-1], offsets[1:][::-1]
    return ak.Array(
        ak.contents.ListArray(
            ak.index.Index64(starts.copy()),
            ak.index.Index64(stops.copy()),
            ak.contents.NumpyArray(contents),
        )
    )


def _sliced(array: ak.Array) -> ak.Array:
    offsets, contents = parts(array)
    junk = np.ones(2, dtype=contents.dtype)
    stretched = np.concatenate([[0], offsets + 2, offsets[-1:] + 4])
    content = ak.contents.NumpyArray(np.concatenate([junk, contents, junk]))
    return _lists(ak.index.Index64(stretched), content)[1:-1]


def _indexed_events(array: ak.Array) -> ak.Array:
    offsets, contents = _reversed_lists(array)
    lists = _lists(ak.index.Index64(offsets), ak.contents.NumpyArray(contents))
    backwards = np.arange(len(offsets) - 1)[::-1].copy()
    return ak.Array(ak.contents.IndexedArray(ak.index.Index64(backwards), lists.layout))


def _indexed_objects(array: ak.Array) -> ak.Array:
    offsets, contents = parts(array)
    backwards = np.arange(len(contents))[::-1].copy()
    content = ak.contents.IndexedArray(
        ak.index.Index64(backwards), ak.contents.NumpyArray(contents[::-1].copy())
    )
    return _lists(ak.index.Index64(offsets), content)


def _strided(array: ak.Array) -> ak.Array:
    offsets, contents = parts(array)
    return _lists(ak.index.Index64(offsets), ak.contents.NumpyArray(np.repeat(contents, 2)[::2]))


def _longer_contents(array: ak.Array) -> ak.Array:
    offsets, contents = parts(array)
    content = np.concatenate([contents, contents[:1], np.ones(3, dtype=contents.dtype)])
    return _lists(ak.index.Index64(offsets), ak.contents.NumpyArray(content))


def _records(array: ak.Array) -> ak.Array:
    """As NanoEvents hold collections: lists of records, whose fields have descriptions."""
    offsets, contents = parts(array)
    described = ak.contents.NumpyArray(contents, parameters={"__doc__": "a branch"})
    records = ak.contents.RecordArray([described], ["x"], parameters={"__record__": "Object"})
    return _lists(ak.index.Index64(offsets), records)


def _field_of_records(array: ak.Array) -> ak.Array:
    return _records(array)["x"]


def _field_of_chosen_events(array: ak.Array) -> ak.Array:
    """As after a selection: events[mask].Jet.pt."""
    collection = _records(_sliced_back(array))
    events = ak.Array(ak.contents.RecordArray([collection.layout], ["Object"]))
    keep = np.ones(len(events), dtype=bool)
    keep[0] = False
    return events[keep]["Object", "x"]


def _sliced_back(array: ak.Array) -> ak.Array:
    offsets, contents = parts(array)
    junk = np.ones(1, dtype=contents.dtype)
    return _lists(
        ak.index.Index64(np.concatenate([[0], offsets + 1])),
        ak.contents.NumpyArray(np.concatenate([junk, contents])),
    )


def _virtual(array: ak.Array) -> ak.Array:
    """As NanoEvents make columns: buffers that are read when they are needed."""
    form, length, buffers = ak.to_buffers(array)
    lazy = {key: lambda buffer=buffer: buffer for key, buffer in buffers.items()}
    return ak.from_buffers(form, length, lazy)


def _regular(array: ak.Array) -> ak.Array:
    return ak.to_regular(array, axis=1)


LAYOUTS: Final[dict[str, Callable[[ak.Array], ak.Array]]] = {
    "int32 offsets": _with_offsets(ak.index.Index32, np.int32),
    "uint32 offsets": _with_offsets(ak.index.IndexU32, np.uint32),
    "lists in another order": _list_array,
    "offsets not from zero": _sliced,
    "indexed events": _indexed_events,
    "indexed objects": _indexed_objects,
    "strided contents": _strided,
    "contents beyond the last object": _longer_contents,
    "field of records": _field_of_records,
    "field of chosen events": _field_of_chosen_events,
    "virtual": _virtual,
    "regular": _regular,
}
"""Ways to lay out the same jagged array."""

REGULAR: Final = "regular"
"""The layout that needs the same number of objects in every event."""


def relaid_flat(array: ak.Array, layout: str) -> ak.Array:
    """A column of events in a layout like those of LAYOUTS."""
    values = np.asarray(array)
    if layout == "virtual":
        return _virtual(array)
    if layout == "strided contents":
        return ak.Array(ak.contents.NumpyArray(np.repeat(values, 2)[::2]))
    if layout.startswith(("field", "contents")):
        described = ak.contents.NumpyArray(values, parameters={"__doc__": "a branch"})
        return ak.Array(described)
    backwards = np.arange(len(values))[::-1].copy()
    return ak.Array(
        ak.contents.IndexedArray(
            ak.index.Index64(backwards), ak.contents.NumpyArray(values[::-1].copy())
        )
    )
