"""Claims: what there is to choose from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.errors import InputError
from perf.cases.data import Store
from perf.claims import catalogue


def test_claims_are_chosen_by_name(tmp_path: Path) -> None:
    def names(*only: str) -> set[str]:
        rng = np.random.default_rng(0)
        return {one.name for one in catalogue.every(Store(tmp_path), rng, only)}

    assert names("executor-dask*", "trijet") == {
        *("executor-dask", "executor-dask-plain", "trijet"),
    }
    assert names() >= {
        *("selection", "memory-compiled", "executor-iterative", "executor-futures"),
        "executor-independent-processes",
        *("executor-parsl", "executor-spark", "executor-spark-plain"),
    }
    with pytest.raises(InputError, match="there is no claim 'dusk': there are trijet"):
        names("dusk")
