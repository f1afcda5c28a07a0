"""The fused pass: what the kernels fill one after the other, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import fused, histograms, ttbar
from analysis.kernels import bind
from analysis.kernels.regions import FOUR_JETS_ONE_B, FOUR_JETS_TWO_B
from tests.support.strategies import (
    EVENT,
    LAYOUTS,
    OBJECT,
    PRECISIONS,
    REGULAR,
    Precision,
    Sample,
    array_of,
    collection_of,
    dtype_of,
    jagged,
    relaid_flat,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypothesis.strategies import DrawFn, SearchStrategy

SCALES: Final = (1.025, 0.975)
MOST_JETS: Final = 14


def assert_same(columns: Mapping[str, Any], *, every_variation: bool, bins: bool = True) -> Any:
    """By the pass and by kernels; the reference rounds trijets otherwise: `bins` counts them too."""
    scales = SCALES if every_variation else ()
    got, regions = fused.fill(columns, scales, every_variation=every_variation)
    for implementation in ("compiled", "reference"):
        kernels = bind(implementation)
        want = ttbar.fill_by_kernels(kernels, columns, scales, every_variation=every_variation)
        np.testing.assert_array_equal(regions, want[1])
        if implementation == "compiled" or bins:
            np.testing.assert_array_equal(got, want[0])
        else:
            one_b = slice(None, None, len(histograms.REGIONS))
            np.testing.assert_array_equal(got[:, one_b], want[0][:, one_b])
    return got, regions


# Any events.


def _values(name: str, precision: Precision, *, extreme: bool) -> SearchStrategy[Any]:
    """Values of a column of objects, of which most are selected."""
    column = OBJECT[name.partition("_")[2]]
    any_value = column.values(dtype_of(name, precision), extreme=extreme)
    return any_value if name.endswith("_phi") else st.just(column.usual[0]) | any_value


@st.composite
def samples(draw: DrawFn) -> Sample:
    """Events with the columns of the analysis, of which many have a lepton and some four jets."""
    precision = draw(st.sampled_from(PRECISIONS))
    extreme = draw(st.booleans())
    objects: dict[str, dict[str, Any]] = {}
    for name in ttbar.INPUTS:
        if (collection := collection_of(name)) is not None:
            values = _values(name, precision, extreme=extreme)
            objects.setdefault(collection, {})[name.partition("_")[2]] = values
    most = {"Electron": 2, "Muon": 2, "Jet": MOST_JETS}
    parts = {
        name: st.lists(st.fixed_dictionaries(columns), max_size=most[name])
        for name, columns in objects.items()
    }
    identity = {
        name: EVENT[name].values(dtype_of(name, precision), extreme=extreme)
        for name in fused.IDENTITY
    }
    event = st.fixed_dictionaries({**parts, **identity})
    return Sample(ttbar.INPUTS, precision, draw(st.lists(event, max_size=5)))


@given(sample=samples(), every_variation=st.booleans())
def test_any_events_are_filled_as_by_kernels(sample: Sample, every_variation: bool) -> None:  # noqa: FBT001
    assert_same(sample.columns, every_variation=every_variation, bins=False)


# Many events.


def chunk(
    n: int, types: Mapping[str, type[np.generic]] | None = None, *, regular: bool = False
) -> dict[str, Any]:
    """Events of which a third have one lepton, and jets up to many; some numbers are NaN."""
    rng = np.random.default_rng(5)
    most = {"Electron": 2, "Muon": 2, "Jet": MOST_JETS}
    counts = {
        name: rng.integers(number if regular else 0, number, n, endpoint=True)
        for name, number in most.items()
    }
    between = {
        "pt": (20.0, 120.0),
        "eta": (-2.6, 2.6),
        "phi": (-np.pi, np.pi),
        "mass": (0.0, 20.0),
        "sip3d": (0.0, 5.0),
        "pfRelIso04_all": (0.0, 0.2),
        "btagCSVV2": (-0.2, 0.7),
    }
    listed = {"cutBased": (4, 4, 3), "jetId": (6, 6, 2), "tightId": (True, True, False)}
    columns: dict[str, Any] = {
        "run": array_of("run", rng.integers(0, 2**32, n).tolist()),
        "luminosityBlock": array_of("luminosityBlock", rng.integers(0, 2**32, n).tolist()),
        "event": array_of("event", rng.integers(0, 2**63, n).tolist()),
    }
    for name in ttbar.INPUTS:
        collection, _, field = name.partition("_")
        if collection in counts:
            total = counts[collection].sum()
            dtype = (types or {}).get(name) or dtype_of(name, "float32")
            if field in listed:
                values = rng.choice(listed[field], total).astype(dtype)
            else:
                values = rng.uniform(*between[field], total).astype(dtype)
                values[rng.random(total) < 0.002] = np.nan
            lists = np.split(values, counts[collection].cumsum()[:-1])
            columns[name] = jagged([one.tolist() for one in lists], dtype)
    return columns


@pytest.mark.parametrize("every_variation", [False, True])
def test_many_events_are_filled_as_by_kernels(*, every_variation: bool) -> None:
    sums, regions = assert_same(chunk(400), every_variation=every_variation)
    # The check is worth something: each category and region has some, and not all are the same.
    assert (regions > 10).all()
    assert (sums[0].sum(axis=(1, 2)) > 5).all()
    assert (regions[0] != regions[-1]).any() == every_variation
    in_regions = regions[:, [FOUR_JETS_ONE_B, FOUR_JETS_TWO_B]].sum(axis=1)
    assert sums[0, ..., 0].sum() == in_regions[0]
    assert sums[0, ..., -1].sum() == in_regions[-1]


@pytest.mark.slow
def test_identifiers_of_other_types_give_the_same() -> None:
    """As newer NanoAOD has them."""
    types = {"Jet_jetId": np.uint8, "Electron_cutBased": np.uint8}
    got, _ = assert_same(chunk(200, types), every_variation=True)
    want, _ = fused.fill(chunk(200), SCALES, every_variation=True)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [0, 1])
def test_few_events(n: int) -> None:
    columns = {name: column[:n] for name, column in chunk(2).items()}
    sums, regions = assert_same(columns, every_variation=True)
    assert sums.sum() == 0
    assert regions[:, FOUR_JETS_ONE_B:].sum() == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_columns_of_any_layout_are_filled_as_by_kernels(layout: str) -> None:
    columns = chunk(60, regular=layout == REGULAR)
    want, _ = fused.fill(columns, SCALES, every_variation=True)
    assert want.any()
    relaid = {
        name: LAYOUTS[layout](column) if column.ndim > 1 else relaid_flat(column, layout)
        for name, column in columns.items()
    }
    got, _ = fused.fill(relaid, SCALES, every_variation=True)
    np.testing.assert_array_equal(got, want)


def test_columns_of_one_collection_need_the_same_objects() -> None:
    columns = chunk(10)
    columns["Jet_eta"] = columns["Jet_eta"][::-1]
    with pytest.raises(ValueError, match="the same number of objects"):
        fused.fill(columns, (), every_variation=False)
