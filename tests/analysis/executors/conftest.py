"""Engines that all tests of this folder share: one runs at a time, and each is started once."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.errors import NotInstalledError
from analysis.executors import open_executor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coffea.processor.executor import ExecutorBase

PROCESSES: Final = ("futures", "dask", "parsl", "spark", "taskvine")
"""Engines whose workers are processes."""

ENGINES: Final = (
    *PROCESSES,
    *("iterative", "futures threads"),
    # Threads of another pool: tests of Parsl have a few of them as well.
    pytest.param("parsl threads", marks=pytest.mark.slow),
)

QUICK: Final = ("futures", "dask", "iterative", "futures threads")
"""Engines on which `make test` tries what our executors share. It tries the others on their own
tests and on those that a module names, and `make test-all` tries all on all."""


def slow_but_quick(names: Iterable[Any]) -> list[Any]:
    """The engines, those that are not of QUICK marked as slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow)
        if name in PROCESSES and name not in QUICK
        else name
        for name in names
    ]


GIVEN: Final = {"COFFEA_TEST": "a b'c"}
"""Environment of workers that are processes."""

RESTARTING: Final = 30.0
"""Seconds in which a worker that a test has killed is there again."""

MARK: Final = "COFFEA_TEST_OF"
"""Environment variable of all that this process starts, directly or not: its number."""


class Engines:
    """The engine that runs."""

    def __init__(self) -> None:
        self.name = ""
        self.executor: Any = None
        self.stack = ExitStack()

    def open(self, name: str) -> Any:
        """Executor with two workers, if it can have two; another engine is ended for it."""
        if name != self.name or (name == "dask" and not self._complete()):
            self.close()
            executor, _, pool = name.partition(" ")
            options: dict[str, Any] = {"pool": pool} if pool else {"environment": GIVEN}
            if name == "iterative":
                options = {}
            workers = 1 if name == "iterative" else 2
            try:
                context = open_executor(executor, workers=workers, status=False, **options)
                self.executor = self.stack.enter_context(context)
            except NotInstalledError as error:
                pytest.skip(str(error))
            self.name = name
        return self.executor

    def _complete(self) -> bool:
        """Whether Dask has both workers; a nanny whose worker is killed as it starts gives up."""
        with suppress(TimeoutError):
            self.executor.client.wait_for_workers(2, timeout=RESTARTING)
            return True
        return False

    def close(self) -> None:
        self.name = ""
        self.executor = None
        self.stack.close()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    # While Spark runs, temporary files go to its folder: pytest's must be there before.
    tmp_path_factory.getbasetemp()
    shared = Engines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(os.getpid()))
        yield shared
        shared.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose engines: that of the module, `ENGINE`, for `two`; what a test says; or all."""
    marks = metafunc.definition.iter_markers("parametrize")
    if "engine" in metafunc.fixturenames and all(mark.args[0] != "engine" for mark in marks):
        names: Sequence[Any] = ENGINES
        if "two" in metafunc.fixturenames:
            names = [metafunc.module.ENGINE]
        elif getattr(
            metafunc.module, "SHARED", False
        ) and metafunc.definition.originalname not in getattr(metafunc.module, "EVERYWHERE", ()):
            names = slow_but_quick(ENGINES)
        metafunc.parametrize("engine", names, indirect=True, scope="package")


@pytest.fixture(scope="package")
def engine(request: pytest.FixtureRequest) -> str:
    """Name of an engine; pytest groups tests by it."""
    name: str = request.param
    return name


@pytest.fixture
def executor(engine: str, engines: Engines) -> ExecutorBase:
    """Executor on each engine."""
    ready: ExecutorBase = engines.open(engine)
    return ready


@pytest.fixture
def two(executor: ExecutorBase) -> Any:
    """Executor with two workers on the engine that a module is about."""
    executor.statistics.clear()
    return executor


@pytest.fixture
def alone(engines: Engines) -> None:
    """No engine runs in this process."""
    engines.close()


def total(executor: Any, function: Any, items: int = 40) -> Any:
    """Sum over some numbers, one a task, so that both workers have some."""
    single = executor.copy(compression=None, batch=1, status=False)
    result, problem = single(list(range(items)), function, None)
    assert problem == 0
    return result
