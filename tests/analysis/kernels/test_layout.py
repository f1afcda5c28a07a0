"""What lies between awkward arrays and compiled loops."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

from analysis.kernels._four_vectors import scratch
from analysis.kernels._layout import flat, split
from tests.support.strategies import jagged


def test_columns_of_one_collection_have_the_same_objects() -> None:
    one = jagged([[1.0, 2.0], [], [3.0]], np.float64)
    other = jagged([[4.0], [5.0], [6.0]], np.float64)
    with pytest.raises(ValueError, match="same number of objects"):
        split(one, other)
    with pytest.raises(ValueError, match="same number of objects"):
        split(one, jagged([[1.0, 2.0], [3.0]], np.float64))
    offsets, contents = split(one, jagged([[7.0, 8.0], [], [9.0]], np.float64))
    assert offsets.tolist() == [0, 2, 2, 3]
    assert [column.tolist() for column in contents] == [[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]]


def test_columns_without_events_or_objects_are_empty() -> None:
    assert flat(ak.Array([])).shape == (0,)
    offsets, (contents,) = split(ak.Array([[], []]))
    assert offsets.tolist() == [0, 0, 0]
    assert contents.shape == (0,)


@pytest.mark.parametrize("events", [1, 256, 257, 513])
def test_scratch_holds_the_objects_of_any_block(events: int) -> None:
    offsets = np.zeros(events + 1, dtype=np.int64)
    offsets[-1] = 7
    assert all(len(column) >= 7 for column in scratch(offsets))
    assert all(len(column) >= 3 for column in scratch(np.array([0, 3, 4])))
