"""Causes of changes stand beside the changes that they explain, and beside no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from perf.publish.causes import CAUSES, Cause, causes, why
from perf.publish.page import Material

if TYPE_CHECKING:
    from pathlib import Path

    from tests.perf.publish.conftest import Kept


def test_every_cause_explains_a_judged_change(kept: Kept) -> None:
    changes = Material.of(kept.records).changes
    known = causes(kept.root)
    assert known
    for cause in known:
        assert any(cause.explains(change) for change in changes), f"{cause} explains nothing"


def test_the_overview_says_why_futures_are_slower(kept: Kept) -> None:
    (cause,) = [cause for cause in causes(kept.root) if "futures" in cause.case]
    page = (kept.html / "index.html").read_text()
    # CPU and wall time of one case.
    assert page.count(cause.reason.replace("'", "&#39;")) == 2


def test_another_point_benchmark_or_case_is_not_explained(kept: Kept) -> None:
    (change, *_) = Material.of(kept.records).changes
    cause = Cause(
        at=change.after.name, benchmark=change.benchmark, case=change.case, reason="Because."
    )
    assert why(change, [cause]).startswith("Because. Also changed: coffea ")
    for field in ("at", "benchmark", "case"):
        other = cause.model_copy(update={field: "another"})
        assert why(change, [other]) == why(change, [])


@pytest.mark.parametrize("text", ["[[cause]]\nat = 'v1'", "[[cause]", "[[cause]]\nwhen = 1"])
def test_a_file_that_says_nothing_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "perf").mkdir()
    assert causes(tmp_path) == []
    (tmp_path / "perf" / CAUSES).write_text(text)
    with pytest.raises(InputError, match=r"causes\.toml cannot be read"):
        causes(tmp_path)
