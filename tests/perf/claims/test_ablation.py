"""Settings: each disables something that there is, and is measured as a claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors import options_of
from perf.cases.data import Store
from perf.claims import ablation
from perf.claims import executors as claims
from perf.claims.ablation import SETTINGS, TUNED, Setting

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: f"{one.executor}, {one.without}")
def test_options_are_those_of_the_executor(setting: Setting) -> None:
    known = options_of(setting.executor)
    options = setting.options()
    assert set(options) <= set(known)
    # What takes nothing away is there once, to compare with.
    assert (setting.without == TUNED) == (not options and not setting.column_cache)


def test_dask_gets_its_own_defaults_back() -> None:
    import dask

    from analysis.executors._dask_cluster import CONFIGURATION

    config = next(one for one in SETTINGS if one.without == "all of Dask's configuration")
    given = config.options()["config"]
    assert given == {key: dask.config.get(key) for key in CONFIGURATION}
    assert all(given[key] != CONFIGURATION[key] for key in given)


def test_settings_are_chosen_by_executor() -> None:
    assert {one.executor for one in ablation.of(["dask", "spark"])} == {"dask", "spark"}
    with pytest.raises(InputError, match="'ray' has no settings to disable: use dask, "):
        ablation.of(["dask", "ray"])
    one = ablation.of(["dask"], ["a task*"])
    assert [each.without for each in one] == [TUNED, "a task a chunk"]
    with pytest.raises(InputError, match=r"there is no setting 'nosuch': there are as it comes, "):
        ablation.of(["dask"], ["nosuch"])


@pytest.mark.slow
def test_without_allocator_settings_workers_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = next(one for one in SETTINGS if one.without == "without allocator settings")
    monkeypatch.setattr(claims, "EVENTS", 2_000)
    monkeypatch.setattr(claims, "PROCESSOR_CHUNK", 500)
    monkeypatch.setattr(claims, "EMPTY_TASKS", 50)
    monkeypatch.setattr(claims, "MERGED_BYTES", 100_000)
    monkeypatch.setattr(claims, "IDLE_SECONDS", 0.1)
    assert set(setting.options()["environment"]) == set(ALLOCATOR)
    found = claims.executor(
        Store(tmp_path, 1_000),
        np.random.default_rng(0),
        setting.executor,
        setting.without,
        2,
        setting.options(),
    )
    assert tuple(one.quantity for one in found) == claims.QUANTITIES
    # Nothing is claimed of what is taken apart.
    assert all(one.bound is None for one in found)
    names = [arm.what.name for one in found for arm in one.arms]
    assert "claim-executor-futures-without-allocator-settings-idle" in names
