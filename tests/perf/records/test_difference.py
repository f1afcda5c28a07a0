"""Results are compared so that what differs is found, and rounding is not taken for it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import awkward as ak
import hist
import numpy as np
import pandas as pd
import pytest
from coffea.processor import column_accumulator, value_accumulator

from perf.records.difference import Arithmetic, Sizes, difference
from perf.records.digest import result_digest

NEARLY = 1 + 1e-12
FAR = 1 + 1e-8
NAN = float("nan")


def filled(
    values: Any = (0.1, 0.5), weight: float = 1.0, storage: Any = None, **axis: Any
) -> hist.Hist:
    made = hist.Hist(
        hist.axis.Regular(3, 0, axis.get("stop", 1), name=axis.get("name", "x")),
        storage=storage or hist.storage.Weight(),
    )
    return made.fill(np.array(values), weight=weight)


def by_category(names: list[str]) -> hist.Hist:
    made = hist.Hist(hist.axis.StrCategory([], growth=True, name="c"), storage="int64")
    for name in names:
        made.fill([name] * len(name))
    return made


def cancelling(rest: float) -> hist.Hist:
    """A bin of which next to nothing is left, as weights of both signs leave it."""
    made = filled(())
    made.view()[0] = (rest, 1e6)
    return made


class Total:
    """What a user may accumulate: adds up, has no equality of its own."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __add__(self, other: Total) -> Total:
        return Total(self.value + other.value)


@dataclass
class Pair:
    """The same with an equality."""

    a: int
    b: float


class Slots:
    """The same without a dictionary of attributes."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value


class Sparse(hist.Hist, family=hist):  # type: ignore[call-arg]
    """A histogram for each category, as topcoffea's are: its view is a dictionary of them."""

    def __init__(self, **entries: int) -> None:
        super().__init__(hist.axis.StrCategory(list(entries), growth=True, name="c"))
        self.parts = {name: by_category([name] * n) for name, n in entries.items()}

    def view(self, flow: bool = False) -> Any:  # noqa: FBT001, FBT002  (as of hist)
        return {name: np.array([1, *one.view(flow), 5]) for name, one in self.parts.items()}


def columns(values: Any) -> column_accumulator:
    return column_accumulator(values if isinstance(values, ak.Array) else np.array(values))


def averaged(values: list[float], weight: float | None = None) -> hist.Hist:
    """A profile of one bin."""
    storage = hist.storage.Mean() if weight is None else hist.storage.WeightedMean()
    made = hist.Hist(hist.axis.Regular(1, 0, 1, name="x"), storage=storage)
    return made.fill([0.5] * len(values), sample=values, weight=weight)


def filled_to(count: float) -> hist.Hist:
    """A bin that was filled so often."""
    made = filled((), storage=hist.storage.Double())
    made.view()[0] = count
    return made


EQUAL = [
    (1, np.int64(1)),
    (True, np.bool_(True)),  # noqa: FBT003
    (1.0, NEARLY),
    (float("nan"), np.float32("nan")),
    (np.inf, np.inf),
    (1j, 1j * NEARLY),
    ("a", "a"),
    (None, None),
    ({1, 2}, {2, 1}),
    ([1, 2.0], [2.0, 1]),
    ([{"a": 1}, {"b": 2}], [{"b": 2}, {"a": 1}]),
    ((1, 2), (1, 2)),
    ({"a": 1, "b": {"c": 2.0}}, {"b": {"c": 2.0 * NEARLY}, "a": 1}),
    (Counter(a=1), {"a": 1}),
    (defaultdict(int, a=1), {"a": 1}),
    (np.array([1.0, np.nan]), np.array([NEARLY, np.nan])),
    (np.array([1, 2]), np.array([1, 2], np.int8)),
    (np.array([{"a": 1.0}]), np.array([{"a": NEARLY}])),
    (filled(), filled(weight=NEARLY)),
    (cancelling(1e-9), cancelling(-1e-9)),
    (by_category(["a", "bb"]), by_category(["bb", "a"])),
    (filled(storage=hist.storage.Double()), filled(storage=hist.storage.Double())),
    (ak.Array([[1.0], []]), ak.Array([[1.0, 2.0], []])[:, :1]),
    (column_accumulator(np.array([1.0, 2.0])), column_accumulator(np.array([2.0, 1.0]))),
    (value_accumulator(float, 1.0), value_accumulator(float, NEARLY)),
    (Total(1.0), Total(NEARLY)),
    ([NAN, 1.0, 3], [3, np.float64("nan"), 1.0]),
    ([{"a": NAN}, (1, NAN)], [(1, float("nan")), {"a": float("nan")}]),
    ({float("nan"), 1.0}, {1.0, float("nan")}),
    (np.datetime64("NaT"), np.datetime64("NaT")),
    (np.ma.array([1, 2], mask=[False, True]), np.ma.array([1, 3], mask=[False, True])),
    (columns([[1, 2], [3, 4]]), columns([[3, 4], [1, 2]])),
    (columns(ak.Array([[1], [2, 3]])), columns(ak.Array([[1], [2, 3]]))),
    (columns(ak.Array([[1], [2, 3]])), columns(ak.Array([[2, 3], [1]]))),
    (columns(ak.Array([{"x": [NAN]}, {"x": []}])), columns(ak.Array([{"x": []}, {"x": [NAN]}]))),
    (pd.DataFrame({"a": [1.0, NAN]}), pd.DataFrame({"a": [NEARLY, NAN]})),
    (pd.DataFrame({"a": [1, 2], "b": "xy"}), pd.DataFrame({"b": "xy", "a": [1, 2]})),
    (pd.DataFrame({"a": [1, 2]}, ["x", "y"]), pd.DataFrame({"a": [2, 1]}, ["y", "x"])),
    (pd.DataFrame({"a": ["x", None]}, dtype="string"), pd.DataFrame({"a": ["x", None]})),
    (pd.Series([1, 2]), pd.Series([1, 2])),
    (averaged([0.1]) + averaged([0.1]), averaged([0.1, 0.1])),
    (averaged([0.1] * 3, weight=0.3), averaged([0.1], weight=0.3) + averaged([0.1] * 2, 0.3)),
    (averaged([1.0, -1.0]), averaged([1.0 * NEARLY, -1.0])),
    (Sparse(a=2, b=3), Sparse(b=3, a=2)),
    (filled().sum(), filled(weight=NEARLY).sum()),
    (value_accumulator(lambda: 0.0, 1.0), value_accumulator(lambda: 0.0, 1.0)),
    (Slots(1.0), Slots(NEARLY)),
    (ak.Array([1, "a"]), ak.Array([1, "a"])),
    (ak.Record({"x": [1.0]}), ak.Record({"x": [NEARLY]})),
    (Pair(1, 2.0), Pair(1, 2.0 * NEARLY)),
]

UNEQUAL = [
    (1, 2, "is 1, not 2"),
    (10**15, 10**15 + 1, "is 1000000000000000"),
    (1.0, FAR, "is 1.0, not"),
    (1.0, float("nan"), "not nan"),
    (0.0, 1e-300, "is 0.0"),
    ("a", "b", "is 'a', not 'b'"),
    ("a", 1, "is a str, not a int"),
    (1, "a", "is a int, not a str"),
    (None, 1, "is a NoneType"),
    ({1}, {2}, r"is \{1\}, not \{2\}"),
    ({1}, [1], "is a set, not a list"),
    ([1], [1, 1], "has 1 entries, not 2"),
    ([1, 2], [1, 3], r"\[1\] is 2, not 3"),
    ((1, 2), (2, 1), r"\[0\] is 1"),
    ({"a": 1}, {"a": 1, "b": 2}, "has no 'b'"),
    ({"a": 1, "b": 2}, {"a": 1}, "has 'b' beside"),
    ({"a": {"b": 1}}, {"a": {"b": 2}}, r"\['a'\]\['b'\] is 1, not 2"),
    ([1], {"a": 1}, "is a list, not a dict"),
    (np.zeros(2), np.zeros(3), r"has the shape \(2,\), not \(3,\)"),
    (np.array([1.0, 1.0]), np.array([1.0, FAR]), "1 of 2 numbers differ"),
    (np.array([1, 2]), np.array([2, 1]), "2 of 2 numbers differ"),
    (1.0, np.zeros(1), "is a float, not a ndarray"),
    (np.array([{"a": 1}]), np.array([{"a": 2}]), "is 1, not 2"),
    (np.zeros(1, [("a", "f8")]), np.zeros(1, [("b", "f8")]), "is of"),
    (filled(), filled(weight=FAR), "numbers differ in value"),
    (filled((0.1,)), filled((0.5,)), "numbers differ in value"),
    (filled((2.0,)), filled((3.0, 4.0)), "numbers differ in value"),  # overflow
    (filled(), filled(stop=2), r"axes\[0\]"),
    (filled(), filled(name="y"), r"\['name'\] is 'x', not 'y'"),
    (filled(), filled(storage=hist.storage.Double()), "has the storage Weight, not Double"),
    (cancelling(1e-9), cancelling(1e-3), "numbers differ in value"),
    (by_category(["a", "bb"]), by_category(["a", "cc"]), "bins"),
    (by_category(["a", "bb"]), by_category(["a", "bb", "bb"]), "1 of 2 numbers differ"),
    (ak.Array([[1.0], []]), ak.Array([[], [1.0]]), "numbers differ"),
    (
        column_accumulator(np.array([1.0])),
        column_accumulator(np.array([2.0])),
        "1 of 1 numbers differ",
    ),
    (Total(1.0), Total(2.0), "is 1.0, not 2.0"),
    (Pair(1, 2.0), Pair(2, 2.0), r"\['a'\] is 1, not 2"),
    (Lock(), Lock(), "is <unlocked"),
    ([NAN, 1.0], [NAN, 2.0], r"\[0\] is 1.0, not 2.0"),
    ([NAN, 1.0], [NAN, NAN], "is 1.0, not nan"),
    ([[1, 2]], [[2, 1]], "is 1, not 2"),  # within a chunk the order is the processor's
    (columns([1.0, 2.0]), columns([1.0, 2.0 * FAR]), "1 of 2 numbers differ"),
    (columns([[1, 2], [3, 4]]), columns([[1, 4], [3, 2]]), "2 of 4 numbers differ"),
    (columns(ak.Array([[1], [2, 3]])), columns(ak.Array([[1, 2], [3]])), "numbers differ"),
    (columns([1, 2]), columns([1, 2, 2]), "has 2 entries, not 3"),
    (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]}), "column 'a': 1 of 2"),
    (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), "has no \"column 'b'\""),
    (pd.DataFrame({"a": [1, 2], "b": [1, 2]}), pd.DataFrame({"a": [1, 2], "b": [2, 1]}), "'b'"),
    (pd.Series([1, 2], ["x", "y"]), pd.Series([1, 2], ["x", "z"]), "is 'y', not 'z'"),
    (averaged([0.1] * 3), averaged([0.1] * 4), "numbers differ in count"),
    (averaged([0.1, 0.2]), averaged([0.1, 0.2 * FAR]), "numbers differ in value"),
    (averaged([0.1, 0.3]), averaged([0.15, 0.25]), "numbers differ in the spread"),
    (Sparse(a=2), Sparse(a=3), r"\['a'\]: 1 of 3 numbers differ"),
    (Sparse(a=2), Sparse(b=2), "axes"),
    (filled_to(4e8), filled_to(4e8 + 1), "1 of 5 numbers differ"),
    (Slots(1.0), Slots(2.0), "is 1.0, not 2.0"),
    (ak.Array([1, "a"]), ak.Array([1, "b"]), "is 'a', not 'b'"),
]

NANO = Arithmetic(events=4000, chunks=14, single=True)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        # Seen: jets' momenta of 4000 events, in chunks of 300 and 5000.
        (940463.5, 940463.4921875),
        (np.float32(940463.5), np.float32(940463.4)),
        ({"a": np.array([940463.5])}, {"a": np.array([940463.4921875])}),
        (pd.DataFrame({"a": [940463.5]}), pd.DataFrame({"a": [940463.4921875]})),
        (Total(940463.5), Total(940463.4921875)),
        (columns(np.array([0.1], np.float32)), columns(np.array([0.1 + 1e-8], np.float32))),
    ],
)
def test_sums_of_single_precision_are_as_equal_as_it_can_say(got: Any, want: Any) -> None:
    assert difference(got, want, arithmetic=NANO) is None
    assert difference(want, got, arithmetic=NANO) is None


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (940463.5, 940463.5 * (1 + 1e-5)),
        (940463, 940464),
        (np.float32(4000), np.float32(4001)),
        # Histograms add in double precision whatever they are given.
        (filled(), filled(weight=FAR)),
        (filled_to(1e5), filled_to(1e5 + 1)),
        (averaged([0.1, 0.2]), averaged([0.1, 0.2 * FAR])),
        (columns([1.0, 2.0]), columns([1.0, 2.0 * (1 + 1e-6)])),
        ([1.0, 2.0], [1.0, 2.0 * (1 + 1e-6)]),
    ],
)
def test_single_precision_excuses_nothing_else(got: Any, want: Any) -> None:
    assert difference(got, want, arithmetic=NANO) is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", [2, 7, 300])
def test_bound_holds_of_sums_that_are_really_made(dtype: type, chunks: int) -> None:
    values: Any = np.random.default_rng(chunks).exponential(40, 100_000).astype(dtype)
    by = Arithmetic(len(values), chunks, single=dtype is np.float32)
    parts = np.array_split(values, chunks)
    summed = sum((ak.sum(ak.Array(part)) for part in parts[1:]), ak.sum(ak.Array(parts[0])))
    as_float = sum(float(np.sum(part)) for part in parts)
    for got in (summed, as_float):
        assert difference(got, ak.sum(ak.Array(values)), arithmetic=by) is None
        # A thousandth of an event's share is seen in double precision, half a chunk's in single.
        less = 1 - (1e-8 if dtype is np.float64 else 1e-4)
        assert difference(got * less, ak.sum(ak.Array(values)), arithmetic=by) is not None


def test_sums_of_both_signs_are_rounded_as_what_they_are_made_of() -> None:
    rng, alone = np.random.default_rng(1), 0
    for _ in range(300):
        values = rng.normal(size=10_000).astype(np.float32)
        parts = np.array_split(values, 14)
        sizes, got = Sizes(), {"eta": float(np.sum(values)), "n": len(values)}
        for part in parts:
            sizes.add({"eta": float(np.sum(part)), "n": len(part)})
        want = {"eta": sum(float(np.sum(part)) for part in parts), "n": len(values)}
        of_chunks = sizes.of(want, NANO)
        assert list(of_chunks) == ["the result['eta']"]
        assert difference(got, want, arithmetic=NANO, sizes=of_chunks) is None
        alone += difference(got, want, arithmetic=NANO) is not None
        # One event of ten thousand is seen.
        less = {**got, "eta": got["eta"] - float(np.max(values))}
        assert difference(less, want, arithmetic=NANO, sizes=of_chunks) is not None
        # What is made of a sum in the end has another size.
        assert sizes.of({"eta": want["eta"] / 1e4}, NANO) == {}
    assert alone


def test_digest_of_what_is_filled_apart() -> None:
    assert (
        result_digest(Sparse(a=2, b=3))
        == result_digest(Sparse(b=3, a=2))
        != result_digest(Sparse(a=2, b=4))
    )


@pytest.mark.parametrize(("got", "want"), EQUAL)
def test_equal(got: Any, want: Any) -> None:
    assert difference(got, want) is None
    assert difference({"deep": {"er": got}}, {"deep": {"er": want}}) is None


@pytest.mark.parametrize(("got", "want", "clause"), UNEQUAL)
def test_unequal(got: Any, want: Any, clause: str) -> None:
    found = difference(got, want, "it")
    assert found is not None
    assert found.startswith("it")
    assert re.search(clause, found), found
    assert difference({"deep": (got,)}, {"deep": (want,)}) is not None


# --- identity of results

JAGGED = ak.Array([[1.0, 2.0], [], [3.0]])


def by_process(categories: list[str], *, growth: bool = True, weight: float = 1.0) -> hist.Hist:
    histogram = hist.Hist(
        hist.axis.StrCategory([], growth=True, name="process")
        if growth
        else hist.axis.StrCategory(categories, name="process"),
        hist.axis.Regular(3, 0, 1, name="x"),
        storage=hist.storage.Weight(),
    )
    for category in categories:
        # Each category another content, so that a wrong order would show.
        histogram.fill(category, [0.1, 0.5, 2.0], weight=weight * (1 + len(category)))
    return histogram


@pytest.mark.parametrize("growth", [True, False])
def test_digest_ignores_the_order_in_which_categories_came(growth: bool) -> None:  # noqa: FBT001
    one, other = (by_process(names, growth=growth) for names in (["a", "bb"], ["bb", "a"]))
    assert result_digest(one) == result_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (JAGGED, JAGGED[[0, 1, 2]]),
        (JAGGED, ak.concatenate([JAGGED, JAGGED])[3:]),
        (JAGGED, ak.from_iter(ak.to_list(JAGGED))),
        (np.arange(6.0)[::2], np.array([0.0, 2.0, 4.0])),
        (np.arange(3, dtype=">i4"), np.arange(3, dtype="<i4")),
        ({"a": 1, "b": JAGGED}, {"b": JAGGED, "a": 1}),
        ((1, 2), [1, 2]),
        (ak.Array([{"x": 1, "y": 2}]), ak.Array([{"y": 2, "x": 1}])),
    ],
)
def test_digest_is_of_the_content_alone(one: Any, other: Any) -> None:
    assert result_digest(one) == result_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, np.nextafter(2.0, 3)])),
        (np.array([1.0]), np.array([1.0], np.float32)),
        (np.zeros(2), np.zeros((2, 1))),
        (np.array([0, 1]), np.array([1, 0])),
        (JAGGED, ak.Array([[1.0], [2.0], [3.0]])),
        (JAGGED, ak.Array([[1.0, 2.0], [], [4.0]])),
        (ak.Array([[1], None]), ak.Array([[1], []])),
        (ak.Array([]), ak.Array([[]])),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1.0}),
        ([1, [2]], [[1], 2]),
        (by_process(["a", "bb"]), by_process(["a", "bb"], weight=2)),
        (by_process(["a", "bb"]), by_process(["a", "bc"])),
        (True, 1),
        (None, "None"),
    ],
)
def test_digest_differs_where_the_content_does(one: Any, other: Any) -> None:
    assert result_digest(one) != result_digest(other)


def test_digest_of_what_has_none() -> None:
    with pytest.raises(TypeError, match="a object has no digest"):
        result_digest([object()])
