"""The strategies of tests/support draw what matters, and shrink to readable events."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import Phase, find, settings

from analysis.kernels import (
    KERNELS,
)
from tests.support.strategies import (
    Event,
    Sample,
    samples,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_samples_shrink_to_readable_events() -> None:
    def two_equal_jets(sample: Sample) -> bool:
        return any(
            a["pt"] == b["pt"]
            for event in sample.events
            for a, b in zip(event["Jet"], event["Jet"][1:], strict=False)
        )

    shrunk = find(
        samples(KERNELS["jets"]),
        two_equal_jets,
        settings=settings(max_examples=2000, database=None, derandomize=True),
    )
    jet = {"pt": 50.0, "eta": 0.0, "jetId": 6}
    assert shrunk == Sample(shrunk.names, "float32", [{"Jet": [jet, jet]}])


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(lambda events: not events, id="no events"),
        pytest.param(lambda events: any(not one["Jet"] for one in events), id="no objects"),
        pytest.param(lambda events: any(len(one["Jet"]) > 6 for one in events), id="many objects"),
        *(
            pytest.param(
                lambda events, holds=holds: any(
                    holds(jet) for one in events for jet in one["Jet"]
                ),
                id=name,
            )
            for name, holds in {
                "NaN": lambda jet: math.isnan(jet["pt"]),
                "infinity": lambda jet: math.isinf(jet["eta"]),
                "phi at pi": lambda jet: abs(jet["phi"]) == math.pi,
                "mass of zero": lambda jet: jet["mass"] == 0,
                "very large": lambda jet: 1e29 < jet["pt"] < math.inf,
                "very small": lambda jet: 0 < jet["pt"] < 1e-29,
            }.items()
        ),
    ],
)
def test_samples_hold_what_matters(holds: Callable[[list[Event]], bool]) -> None:
    find(
        samples(KERNELS["trijet_mass"]),
        lambda sample: holds(sample.events),
        settings=settings(
            max_examples=5000, database=None, derandomize=True, phases=[Phase.generate]
        ),
    )
