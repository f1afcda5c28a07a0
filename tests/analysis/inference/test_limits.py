"""Limits and significances."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pyhf
import pytest

from analysis.errors import InputError
from analysis.inference import (
    Model,
    Templates,
    fit,
    from_workspace,
    open_backend,
    significance,
    upper_limit,
)
from analysis.inference.backends import profiling
from analysis.inference.model import tensor
from perf.cases.inference import synthetic_templates

if TYPE_CHECKING:
    from collections.abc import Callable


from tests.analysis.inference.conftest import fast


@fast
@pytest.mark.usefixtures("combination")
def test_limits_are_where_pyhf_finds_cls_of_five_percent(models: Callable[..., Model]) -> None:
    model = models(synthetic_templates(), "single_top_tW")
    tested: list[float] = []
    limit = upper_limit(model, tick=tested.append)
    assert limit.poi == "single_top_tW_norm"
    assert list(limit.expected) == sorted(limit.expected)
    assert len(tested) == len(set(tested))
    # With pyhf's test as it comes, from the start.
    data = tensor(model.data)
    for strength, which in ((limit.observed, None), (limit.expected[2], 2)):
        observed, expected = pyhf.infer.hypotest(
            strength, data, model.pdf, test_stat="qtilde", return_expected_set=True
        )
        cls = observed if which is None else expected[which]
        assert float(cls) == pytest.approx(0.05, abs=2e-3)


@fast
@pytest.mark.usefixtures("combination")
def test_significance_is_that_of_pyhf(models: Callable[..., Model]) -> None:
    model = models(synthetic_templates(), "single_top_tW")
    found = significance(model)
    p_value, expected = pyhf.infer.hypotest(
        0.0, tensor(model.data), model.pdf, test_stat="q0", return_expected=True
    )
    assert found.observed_p == pytest.approx(float(p_value), abs=1e-3)
    assert found.expected_p == pytest.approx(float(expected), abs=1e-3)
    # ttbar is there beyond what a p-value can say.
    ttbar = significance(models(synthetic_templates()))
    assert ttbar.observed > 38
    assert ttbar.observed_p == pytest.approx(0, abs=1e-300)


@fast
@pytest.mark.usefixtures("combination")
def test_limit_of_a_signal_that_is_there(models: Callable[..., Model]) -> None:
    # pyhf's own fits end in another minimum of the data without ttbar and divide by zero.
    model = models(synthetic_templates())
    limit = upper_limit(model)
    best = fit(model).parameters["ttbar_norm"]
    assert best.value + best.uncertainty < limit.observed < best.value + 3 * best.uncertainty
    assert 0 < limit.expected[0] < limit.expected[4] < 0.1


def test_profiling_finds_the_lower_of_two_minima(
    reference: Templates, models: Callable[..., Model]
) -> None:
    with open_backend("numpy"):
        model = models(reference)
        without = pyhf.infer.mle.fixed_poi_fit(0.0, tensor(model.data), model.pdf)
        data = model.pdf.expected_data(without)
        start = model.nominal
        start[model.poi] = 3.0
        _, alone = pyhf.infer.mle.fit(data, model.pdf, start.tolist(), return_fitted_val=True)
        with profiling():
            pars, found = pyhf.infer.mle.fit(
                data, model.pdf, start.tolist(), return_fitted_val=True
            )
            again, _ = pyhf.infer.mle.fit(data, model.pdf, start.tolist(), return_fitted_val=True)
    assert float(found) < float(alone) - 100
    assert pars[model.poi] == pytest.approx(0, abs=1e-3)
    assert again is pars


def test_what_no_limit_can_be_found_for(models: Callable[..., Model]) -> None:
    with open_backend("numpy"):
        model = models(synthetic_templates())
        with pytest.raises(InputError, match="lies between 0 and 1, and 95 does not"):
            upper_limit(model, 95)
        spec = copy.deepcopy(model.spec)
        spec["measurements"][0]["config"]["parameters"][0]["bounds"] = [[0.0, 1.0]]
        with pytest.raises(InputError, match="lies above 1, where the model ends"):
            upper_limit(from_workspace(spec, model.edges))
        for channel in spec["channels"]:
            for sample in channel["samples"]:
                if sample["name"] != "ttbar":
                    sample["data"][2] = 0.0
                    for modifier in sample["modifiers"]:
                        if modifier["type"] == "staterror":
                            modifier["data"][2] = 0.0
                        if modifier["type"] == "histosys":
                            modifier["data"]["hi_data"][2] = modifier["data"]["lo_data"][2] = 0.0
        with pytest.raises(InputError, match="nothing but signal is expected in 4j1b from 190"):
            significance(from_workspace(spec, model.edges))
