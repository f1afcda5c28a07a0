"""Executors that all tests of this folder share, each started once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.errors import NotInstalledError
from analysis.executors import open_executor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import ExecutorBase

PROCESSES: Final = ("futures", "dask", "parsl", "spark", "taskvine")
"""Those whose workers are processes; the first of ENGINES, so that pytest groups by them."""

ENGINES: Final = (
    *PROCESSES,
    *("iterative", "futures threads"),
    # Threads of another pool: tests of Parsl have a few of them as well.
    pytest.param("parsl threads", marks=pytest.mark.slow),
)

GIVEN: Final = {"OF_WORKERS": "given"}
"""Environment of workers that are processes."""


@pytest.fixture(scope="package", params=ENGINES)
def executor(request: pytest.FixtureRequest) -> Iterator[ExecutorBase]:
    """Each executor with two workers, if it has any."""
    name, _, pool = request.param.partition(" ")
    options: dict[str, Any] = {"pool": pool} if pool else {"environment": GIVEN}
    if name == "iterative":
        options = {}
    try:
        context = open_executor(name, workers=1 if name == "iterative" else 2, **options)
        ready = context.__enter__()
    except NotInstalledError as error:
        pytest.skip(str(error))
    try:
        yield ready
    finally:
        context.__exit__(None, None, None)


def total(executor: Any, function: Any, items: int = 40) -> Any:
    """Sum over some numbers, one a task, so that both workers have some."""
    one = executor.copy(compression=None, batch=1, status=False)
    result, problem = one(list(range(items)), function, None)
    assert problem == 0
    return result
