"""Claims: what there is to choose from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import InputError
from perf.cases.data import Store
from perf.claims import catalogue
from perf.claims.verdict import Arm, Verdict, with_claims
from perf.measure.estimate import Estimate
from perf.records.record_file import Record
from tests.support.factories import record


def test_claims_are_chosen_by_name(tmp_path: Path) -> None:
    def names(*only: str) -> set[str]:
        rng = np.random.default_rng(0)
        return {one.name for one in catalogue.every(Store(tmp_path), rng, only)}

    assert names("executor-dask*", "trijet") == {
        *("executor-dask", "executor-dask-plain", "trijet"),
    }
    assert names() >= {
        *("selection", "limit", "implementations", "held-out", "real-file"),
        *("reading-workers", "reading-default", "memory-compiled", "memory-columnar"),
        *("executor-iterative", "executor-futures"),
        "executor-independent-processes",
        *("executor-parsl", "executor-spark", "executor-spark-plain"),
    }
    with pytest.raises(InputError, match="there is no claim 'dusk': there are trijet"):
        names("dusk")


def test_a_record_keeps_the_verdict_as_it_was_given() -> None:
    made = record()
    arms = tuple(
        Arm(made.what.model_copy(update={"name": name}), made.input, (1.0,), (1.0,), 1, "c" * 64)
        for name in "AB"
    )
    measured = Estimate(0.3, 0.2, 0.6)
    verdicts = [
        Verdict("B / A: cost", "at most", 0.5, measured, "ratio", arms),
        Verdict("B / A: rate", "at least", 0.1, measured, "ratio", ()),
        Verdict("B: peak", "at most", None, Estimate.exact(math.nan), "bytes", ()),
    ]
    (first, none), (second, both) = with_claims(verdicts)
    assert (first.what.name, second.what.name, none) == ("A", "B", ())
    kept = Record.model_validate_json(
        made.model_copy(update={"claims": both}).model_dump_json()
    ).claims
    assert [(one.claim, one.verdict, one.bound) for one in kept] == [
        ("B / A: cost", "undecided", 0.5),
        ("B / A: rate", "holds", 0.1),
    ]
    assert (kept[0].value, kept[0].low, kept[0].high) == (0.3, 0.2, 0.6)
