"""What the stage timer says adds up, and the result is as without it."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from coffea.processor import IterativeExecutor

from analysis.executors import open_executor
from analysis.executors.batches import Statistics
from analysis.executors.payload import Spent
from analysis.files.fileset import read_fileset
from analysis.synthetic import write_fileset
from perf.records.difference import difference
from perf.scaling import stages as scaling_stages
from tests.support.faults import Plain
from tests.support.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from analysis.runner.result import Result

CHUNK = 500
SLEEP = 0.02
BRANCHES = ("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "nJet")


class Sleeps(Plain):
    """Takes a known time beside reading."""

    def before(self, events: Any) -> None:  # noqa: ARG002
        time.sleep(SLEEP)


class Fails(Plain):
    """Reads, and then fails."""

    def process(self, events: Any) -> dict[str, Any]:
        super().process(events)
        msg = "no result"
        raise ValueError(msg)


@pytest.fixture
def ttbar(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """Two files of one sample."""
    return {"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}


def patched() -> list[Any]:
    """The functions that the stage timer exchanges, as they are now."""
    return [getattr(*one) for one in (*scaling_stages.READERS, *scaling_stages.DECOMPRESSORS)]


def measured(
    fileset: Mapping[str, Any],
    executor: Any,
    workers: int,
    processor: Any,
    branches: tuple[str, ...] = (),
) -> tuple[Result, scaling_stages.ChunkTimes, scaling_stages.Stages]:
    """A run with the stage timer."""
    timing, timer = scaling_stages.with_stage_timer(executor)
    begin = time.perf_counter()
    result = run(
        fileset,
        scaling_stages.StagedProcessor(processor),
        timing,
        branches,
        chunksize=CHUNK,
    )
    wall = time.perf_counter() - begin
    statistics = getattr(executor, "statistics", None)
    return result, timer.times, scaling_stages.split(timer.times, statistics, workers * wall)


@pytest.mark.parametrize("branches", [(), BRANCHES], ids=["one by one", "in one go"])
@pytest.mark.parametrize(
    ("name", "workers", "options"),
    [
        ("coffea's own", 1, {}),
        ("iterative", 1, {}),
        ("futures", 2, {"pool": "threads"}),
        ("futures", 2, {}),
    ],
    ids=["coffea", "iterative", "threads", "processes"],
)
def test_stages_add_up_and_the_result_is_the_same(
    name: str,
    workers: int,
    options: dict[str, Any],
    branches: tuple[str, ...],
    ttbar: dict[str, Any],
) -> None:
    before = patched()
    opened = (
        nullcontext(IterativeExecutor(status=False))
        if name == "coffea's own"
        else open_executor(name, workers=workers, **options)
    )
    with opened as executor:
        want = run(ttbar, Sleeps(), executor, chunksize=CHUNK).accumulated
        if hasattr(executor, "statistics"):
            executor.statistics.clear()
        result, seen, stages = measured(ttbar, executor, workers, Sleeps(), branches)
    assert patched() == before
    assert difference(result.accumulated, want) is None
    assert result.repeated == 0

    known = (stages.opening, stages.reading, stages.decompressing, stages.processing)
    assert min(known) > 0
    # The same readings of one clock: nothing is lost and nothing is counted twice.
    assert sum(known) == pytest.approx(seen.total, rel=1e-12)
    assert seen.chunks == result.chunks == 8
    assert stages.processing >= 8 * SLEEP
    assert stages.reading + stages.decompressing < seen.total - 8 * SLEEP
    assert 0 < stages.chunk_cpu <= seen.total * 1.01
    assert 1 <= len(seen.peaks) <= (1 if options or workers == 1 else workers)
    assert all(peak and peak > 1e7 for peak in seen.peaks.values())

    beside = (stages.serialising, stages.merging, stages.between, stages.waiting)
    if name == "coffea's own":
        assert beside == (None,) * 4
        assert (stages.unpacking, stages.adding) == (None, None)
        assert stages.unknown is not None
        assert stages.unknown > 0
        assert sum(known) + stages.unknown == pytest.approx(stages.budget, rel=1e-12)
    else:
        assert stages.unknown is None
        assert all(one is not None and one >= 0 for one in beside)
        total = sum(known) + sum(one for one in beside if one is not None)
        assert total == pytest.approx(stages.budget, rel=1e-12)


def test_arrow_decompresses_unseen(tmp_path: Path) -> None:
    write_fileset(
        tmp_path,
        events=1000,
        seed=3,
        processes=["ttbar"],
        variations=["nominal"],
        format="parquet",
    )
    fileset = read_fileset(tmp_path / "fileset.json")
    with open_executor("iterative") as executor:
        result, seen, _ = measured(fileset, executor, 1, Plain())
    assert result.bytes_read is None
    assert seen.reading > 0
    assert seen.decompressing == 0


def test_a_failure_leaves_nothing_behind(ttbar: dict[str, Any]) -> None:
    before = patched()
    with open_executor("iterative", retries=0) as executor:
        with pytest.raises(Exception, match="no result"):
            measured(ttbar, executor, 1, Fails())
        # The next run is not told of it.
        _, seen, _ = measured(ttbar, executor, 1, Plain())
    assert patched() == before
    assert scaling_stages._local.watch is None
    assert seen.chunks == 8


def test_threads_share_what_is_installed() -> None:
    """The functions are exchanged from the first chunk's begin to the last one's end."""
    before = patched()
    inside, leave = threading.Barrier(3), threading.Event()

    def chunk(_: Any) -> dict[str, int]:
        inside.wait(30)
        leave.wait(30)
        return {}

    threads = [
        threading.Thread(target=scaling_stages.Timed(chunk), args=(one,)) for one in range(2)
    ]
    for thread in threads:
        thread.start()
    inside.wait(30)
    assert all(now is not then for now, then in zip(patched(), before, strict=True))
    leave.set()
    for thread in threads:
        thread.join(30)
    assert patched() == before


def test_innermost_stage_has_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a made-up clock: opening 1, reading 2 + 8, decompressing 4, processing 16 + 32, 64."""
    now = [0.0]
    monkeypatch.setattr("perf.scaling.stages.time.perf_counter", lambda: now[0])

    def takes(seconds: float, then: Callable[[], Any] = lambda: None, more: float = 0) -> Any:
        def act() -> None:
            now[0] += seconds
            then()
            now[0] += more

        return act

    decompress = scaling_stages._during(
        scaling_stages.DECOMPRESSING, takes(4), only=scaling_stages.READING
    )
    read = scaling_stages._during(scaling_stages.READING, takes(2, decompress, 8))
    process = scaling_stages._during(scaling_stages.PROCESSING, takes(16, read, 32))

    def chunk(_: Any) -> dict[str, Any]:
        takes(1)()
        decompress()  # of the file's own tables: part of opening it
        process()
        takes(64)()
        return {}

    seen = scaling_stages.Timed(chunk)(None)[scaling_stages.KEY]
    assert (seen.opening, seen.reading, seen.decompressing, seen.processing) == (69, 10, 4, 48)
    assert seen.total == 131
    # Outside of a chunk they do what they do, and nobody is told.
    read()
    assert scaling_stages._local.watch is None


def test_chunks_that_were_skipped_are_left_out() -> None:
    assert scaling_stages.Timed(lambda _: None)(1) is None


def test_merging_keeps_the_largest_peak_of_each_worker() -> None:
    one = scaling_stages.ChunkTimes(1, 2, 3, 4, 10, 9, 1, {"a": 10, "b": None})
    other = scaling_stages.ChunkTimes(1, 1, 1, 1, 4, 3, 2, {"a": 5, "c": 7})
    both = one + other
    assert both == scaling_stages.ChunkTimes(2, 3, 4, 5, 14, 12, 3, {"a": 10, "b": None, "c": 7})
    assert one.peaks == {"a": 10, "b": None}


def test_statistics_tell_the_rest() -> None:
    seen = scaling_stages.ChunkTimes(1, 2, 3, 4, 10, 9, 1)
    statistics = Statistics(
        Spent(processing=10.5, merging=1, packing=2), unpacking=0.1, merging=0.2
    )
    found = scaling_stages.split(seen, statistics, 20)
    assert (found.between, found.waiting, found.unknown) == (0.5, 6.5, None)
    assert (found.serialising, found.merging, found.unpacking, found.adding) == (2, 1, 0.1, 0.2)
    found = scaling_stages.split(seen, None, 20)
    assert (found.between, found.waiting, found.unknown) == (None, None, 10)
