"""Every executor gives the same answer, names what is wrong, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import pytest

from analysis import ttbar
from analysis.adl import BTAGS, INPUTS, QUERIES, AdlProcessor
from analysis.errors import InputError, WorkerLostError
from analysis.executors import open_executor
from analysis.executors.worker import HASH_SEED
from analysis.runner import processors
from analysis.runner.result import Result
from perf.records.difference import agree
from tests.analysis.executors.conftest import PROCESSES, slow_but_quick
from tests.analysis.runner.test_processors import MODULE
from tests.support.faults import Plain, Raises, damage
from tests.support.jobs import run
from tests.support.process_helpers import PATIENCE, children, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import ExecutorBase


SHARED = True
"""What all executors share: see `conftest.QUICK`."""

EVERYWHERE = (
    "test_ttbar_with_all_variations",
    "test_chunk_that_raises_is_named",
    "test_sets_have_one_order_on_all_workers",
)
"""Tests that `make test`, too, does on all executors."""

UNSEEN = "unseen_by_workers"


@pytest.fixture(scope="module", autouse=True)
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A user's module, which this process can import, and the workers cannot."""
    folder = tmp_path_factory.mktemp("user")
    (folder / f"{UNSEEN}.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    processors.load(f"{UNSEEN}:Dimuons")
    sys.path.remove(str(folder))
    yield f"{UNSEEN}:Dimuons"
    del sys.modules[UNSEEN]


@pytest.fixture(scope="session")
def some(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """A sample with all variations, one without, and another process."""
    names = ("ttbar__nominal", "ttbar__ME_var", "single_top_tW__nominal")
    return {name: synthetic_fileset[name] for name in names}


def process(
    fileset: dict[str, Any],
    processor: Any,
    executor: ExecutorBase,
    *,
    branches: Any = (),
    **options: Any,
) -> Result:
    """Run, with every chunk processed once and no more."""
    result = run(fileset, processor, executor, branches, **options)
    assert result.repeated == 0
    assert result.skipped == ()
    return result


@pytest.fixture(scope="session")
def expected(some: dict[str, Any]) -> Any:
    """The ttbar processor, one chunk a file, in this process."""
    with open_executor("iterative") as one:
        return process(
            some, ttbar.TtbarProcessor("columnar"), one, branches=ttbar.branches("all")
        ).accumulated


@pytest.mark.parametrize(
    ("how", "chunksize"),
    [
        ("fused", 700),
        pytest.param("compiled", 700, marks=pytest.mark.slow),
        *(pytest.param("columnar", size, marks=pytest.mark.slow) for size in (150, 700, 2000)),
        *(pytest.param("compiled", size, marks=pytest.mark.slow) for size in (150, 2000)),
    ],
)
def test_ttbar_with_all_variations(
    executor: ExecutorBase, some: dict[str, Any], expected: Any, chunksize: int, how: Any
) -> None:
    result = process(
        some,
        ttbar.TtbarProcessor(how),
        executor,
        branches=ttbar.branches("all"),
        chunksize=chunksize,
    )
    assert result.chunks == 6 * round(2000 / chunksize)
    assert agree(result.accumulated, expected)


ADL_BRANCHES = [*INPUTS, BTAGS[1]]


@pytest.fixture(scope="session")
def adl(some: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """A file set, and the histograms of the queries, one chunk a file, in this process."""
    fileset = {"adl": {"files": some["ttbar__nominal"]["files"], "metadata": {}}}
    with open_executor("iterative") as simple:
        result = process(fileset, AdlProcessor("compiled"), simple, branches=ADL_BRANCHES)
    return fileset, result.accumulated


def test_adl(executor: ExecutorBase, adl: tuple[dict[str, Any], Any]) -> None:
    fileset, want = adl
    got = process(
        fileset, AdlProcessor("columnar"), executor, branches=ADL_BRANCHES, chunksize=500
    ).accumulated
    for name in QUERIES:
        np.testing.assert_array_equal(got[name].values(flow=True), want[name].values(flow=True))
        assert want[name].sum(flow=True) > 0


@pytest.fixture(scope="module")
def unseen_result(some: dict[str, Any], unseen: str) -> Any:
    """What the user's processor gives, one chunk a file, in this process."""
    with open_executor("iterative") as simple:
        return process(some, processors.load(unseen, {"bins": 12}), simple).accumulated


@pytest.mark.parametrize("trace", [False, True])
def test_processor_that_neither_suite_nor_workers_have_seen(
    executor: ExecutorBase,
    some: dict[str, Any],
    unseen: str,
    unseen_result: Any,
    trace: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    processor, want = processors.load(unseen, {"bins": 12}), unseen_result
    got = process(some, processor, executor, chunksize=400, trace=trace).accumulated
    assert got["pairs"] == want["pairs"]
    assert got["events"] == want["events"] == 12_000
    assert got["done"] == 1
    assert set(got["mass"].axes["dataset"]) == set(some)
    for name in some:
        one, other = (side["mass"][name, :].view(flow=True) for side in (got, want))
        np.testing.assert_array_equal(one, other)
    assert sum(want["pairs"].values()) > 10


def test_the_same_run_again_is_done_again(executor: ExecutorBase, some: dict[str, Any]) -> None:
    """The engine does not hand back what it remembers: `process` asserts that all were called."""
    results = [process(some, Plain(), executor, chunksize=500) for _ in range(3)]
    assert [result.accumulated for result in results] == [results[0].accumulated] * 3


def test_more_items_than_batches(executor: ExecutorBase) -> None:
    total, problem = executor.copy(compression=None)(list(range(2000)), _one, None)
    assert problem == 0
    assert total == {"items": 2000, "sum": 2000 * 1999 // 2}


def _one(item: int) -> dict[str, int]:
    return {"items": 1, "sum": item}


class Chunk(NamedTuple):
    """As coffea's Runner makes them."""

    dataset: str
    entrystop: int
    entrystart: int = 0


def _when(chunk: Chunk) -> dict[str, Any]:
    began = time.time()
    time.sleep(0.02 if chunk.dataset == "slow" else 0.001)
    return {"chunks": 1, "began": {(began, chunk.dataset)}}


@pytest.mark.parametrize("fan_in", [2, 100])
@pytest.mark.parametrize("engine", [*slow_but_quick(PROCESSES), "futures threads"], indirect=True)
def test_what_takes_long_is_begun_before_what_does_not(
    executor: ExecutorBase, engine: str, fan_in: int
) -> None:
    """Which sample takes long shows in the first half of a run, to Spark in the run before."""
    chunks = [Chunk(name, 1000 + n) for name in ("fast", "slow") for n in range(20)]
    fresh = executor.copy(known={}, fan_in=fan_in, status=False)
    for number in ("first", "second"):
        result, _ = fresh(chunks, _when, None)
        assert result["chunks"] == len(chunks) == len(result["began"])
        names = [name for _, name in sorted(result["began"])]
        if (engine, number) != ("spark", "first"):
            assert set(names[-5:]) == {"fast"}
        if number == "second":
            assert set(names[:5]) == {"slow"}
    assert fresh.known.keys() == {"fast", "slow"}
    assert all(len(seconds) >= 20 for seconds in fresh.known.values())


def test_chunk_that_raises_is_named(executor: ExecutorBase, some: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        process(some, Raises(), executor.copy(retries=0), chunksize=1000)
    sentence = str(caught.value)
    path = next(path for path in paths(some) if path in sentence)
    assert sentence.startswith(f"{path}: events 1000 to 2000 could not be processed: ")
    assert "jets out of order" in sentence
    assert "\n" not in sentence
    # Afterwards the executor is as good as before.
    process(some, Plain(), executor)


class TwoWords(Exception):
    """Can be pickled, and not unpickled: its arguments are not those that it is made with."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Unsayable(Exception):
    """Has no words."""

    def __str__(self) -> str:
        raise ZeroDivisionError


class Lock(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def _raise(which: str) -> None:
    one, other = "this", "that"
    if which == "two words":
        raise TwoWords(one, other)
    if which == "unsayable":
        raise Unsayable
    if which == "lock":
        raise Lock
    if which == "exit":
        sys.exit(3)
    if which == "base":
        raise asyncio.CancelledError(other)


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("two words", "this and that"),
        ("unsayable", "Unsayable"),
        ("lock", "locked"),
        ("exit", "SystemExit: 3"),
        ("base", "CancelledError: that"),
    ],
)
def test_whatever_a_task_raises_arrives(executor: ExecutorBase, which: str, words: str) -> None:
    """And is neither waited for nor taken for the death of a worker."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        executor([which], _raise, None)
    try:
        said = f"{type(caught.value).__name__}: {caught.value}"
    except ZeroDivisionError:
        said = type(caught.value).__name__
    assert words in said
    assert not isinstance(caught.value, WorkerLostError)
    # On a worker, what would end the client without a word does not.
    assert executor.inside or isinstance(caught.value, Exception)
    # The traceback comes along.
    lines = "".join(traceback.format_exception(caught.value)) if which != "unsayable" else "_raise"
    assert "_raise" in lines
    assert executor([1, 2], _one, None)[0] == {"items": 2, "sum": 3}


class OneSided:
    """An item that unpickles nowhere."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    msg = "this item is not for you"
    raise LookupError(msg)


def test_an_item_that_does_not_unpickle_is_no_dead_worker(executor: ExecutorBase) -> None:
    if executor.inside:
        pytest.skip("nothing is pickled")
    with pytest.raises(LookupError, match="not for you"):
        executor([OneSided()], _one, None)


def _order(item: int) -> dict[str, Any]:
    names = {f"up_{n}" for n in range(20)} | {f"down_{n}" for n in range(20)}
    time.sleep(0.01)
    seed = os.environ.get("PYTHONHASHSEED")
    return {"orders": {tuple(names)}, "seeds": {seed}, "items": {item}}


def test_sets_have_one_order_on_all_workers(executor: ExecutorBase) -> None:
    """Axes made from them could else not be merged."""
    found, _ = executor.copy(batch=1)(list(range(40)), _order, None)
    assert len(found["items"]) == 40
    assert len(found["orders"]) == 1
    if not executor.inside:
        assert found["seeds"] == {HASH_SEED}


def paths(fileset: dict[str, Any]) -> list[str]:
    """All files of a file set."""
    return [path for dataset in fileset.values() for path in dataset["files"]]


def test_damaged_file_among_many(
    executor: ExecutorBase, some: dict[str, Any], tmp_path: Path
) -> None:
    copies = {path: Path(shutil.copy(path, tmp_path)) for path in paths(some)}
    spoilt = {
        name: {**dataset, "files": {str(copies[path]): "Events" for path in dataset["files"]}}
        for name, dataset in some.items()
    }
    bad = next(islice(copies.values(), 3, None))
    damage(bad, basket=1)
    once = executor.copy(retries=0)
    with pytest.raises(InputError) as caught:
        run(spoilt, Plain(), once, chunksize=1000)
    assert str(caught.value).startswith(f"{bad}: events 1000 to 2000 could not be read")
    assert "\n" not in str(caught.value)
    result = run(spoilt, Plain(), once, chunksize=1000, skip_bad_files=True)
    assert [str(chunk) for chunk in result.skipped] == [f"{bad}: events 1000 to 2000"]
    assert result.events == 11_000
    whole = process(some, Plain(), executor, chunksize=1000).accumulated
    lost = whole["events"].total() - result.accumulated["events"].total()
    assert lost == 1000
    assert 0 < whole["pt"].sum(flow=True) - result.accumulated["pt"].sum(flow=True) < 20_000


# --- starting and ending


def test_no_worker_survives_an_exception() -> None:
    before = children()

    def fail_while_a_worker_is_busy() -> None:
        with open_executor("futures", workers=2) as executor:
            assert len(children() - before) >= 2
            executor.pool[0].submit(time.sleep, 10 * PATIENCE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_a_worker_is_busy()
    wait_for("the end of the workers", lambda: children() <= before)


@pytest.mark.parametrize("name", slow_but_quick(PROCESSES))
def test_interrupt_leaves_nothing_behind(name: str, synthetic: Path, tmp_path: Path) -> None:
    """Ctrl-C while workers process: the command, its processes, its files are gone."""
    marks, scratch, output = tmp_path / "marks", tmp_path / "scratch", tmp_path / "out.coffea"
    marks.mkdir()
    scratch.mkdir()
    command = [
        *(sys.executable, "-m", "analysis", "run", str(synthetic / "fileset.json")),
        *(
            "--processor",
            "tests.support.faults:SlowAndForks",
            "--arguments",
            f'{{"marks": "{marks}"}}',
        ),
        *("--executor", name, "--workers", "2", "--chunksize", "20", "--output", str(output)),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    family = {process.pid}
    try:

        def busy() -> bool:
            if process.poll() is not None:
                _, errors = process.communicate()
                if "conda install" in errors or "openjdk" in errors:
                    pytest.skip(errors)
                pytest.fail(errors)
            family.update(one.pid for one in psutil.Process(process.pid).children(recursive=True))
            return len(list(marks.iterdir())) >= 4

        wait_for("work", busy)
        # A terminal sends the signal to the whole foreground process group.
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stdout + stderr
    assert stderr.strip() == "interrupted: nothing was written"
    wait_for("the end of all processes", lambda: not any(map(_lives, family)))
    assert not output.exists()
    assert list(scratch.iterdir()) == []


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
