"""Results are compared so that what differs is found, and rounding is not taken for it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import awkward as ak
import hist
import numpy as np
import pytest
from coffea.processor import column_accumulator, value_accumulator

from perf.equal import difference

NEARLY = 1 + 1e-12
FAR = 1 + 1e-8


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
    (object(), object(), "is <object object at"),
]


@pytest.mark.parametrize(("got", "want"), EQUAL)
def test_equal(got: Any, want: Any) -> None:
    assert difference(got, want) is None
    assert difference({"deep": [got]}, {"deep": [want]}) is None


@pytest.mark.parametrize(("got", "want", "clause"), UNEQUAL)
def test_unequal(got: Any, want: Any, clause: str) -> None:
    found = difference(got, want, "it")
    assert found is not None
    assert found.startswith("it")
    assert re.search(clause, found), found
    assert difference({"deep": (got,)}, {"deep": (want,)}) is not None
