"""Jobs on any file set, for tests of what runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.files.fileset import FileSet
from analysis.runner.job import Job

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from analysis.runner.job import Inspected
    from analysis.runner.result import Result


def inspected(
    fileset: Mapping[str, Any], processor: Any, branches: Collection[Any] = (), **how: Any
) -> Inspected:
    """A job whose files were looked at."""
    return Job(FileSet.of(fileset), processor, branches, **how).inspect()


def run(
    fileset: Mapping[str, Any],
    processor: Any,
    executor: Any,
    branches: Collection[Any] = (),
    *,
    column_cache: int | None = None,
    **how: Any,
) -> Result:
    """What a job gives."""
    return inspected(fileset, processor, branches, **how).run(executor, column_cache=column_cache)
