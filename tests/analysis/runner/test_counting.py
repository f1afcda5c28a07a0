"""Counting of chunks notices what is lost, cached, or merged twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from coffea.processor import IterativeExecutor, accumulate

from analysis.errors import InputError
from analysis.runner import counting
from analysis.runner.counting import Chunk
from tests.support.faults import Plain, Raises
from tests.support.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CHUNK = Chunk("ttbar", "a.root", 0, 10)


@pytest.fixture
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {name: synthetic_fileset[name] for name in ("ttbar__nominal", "wjets__nominal")}


class Tampering(IterativeExecutor):
    """Calls the function as it should, and then changes what came of it."""

    tamper: Callable[[list[Any]], Iterable[Any]]

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        results = self.tamper([function(item) for item in items])
        return accumulate(results, accumulator), 0


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (lambda results: results[1:], "merged 7 of 8 chunks"),
        (lambda results: [*results, results[0]], "merged 9 results of 8 chunks"),
        (lambda results: [*results[1:], results[1]], "merged 7 of 8 chunks"),
    ],
    ids=["one lost", "one twice", "one for another"],
)
def test_executor_that_loses_or_doubles_is_noticed(
    fileset: dict[str, Any], tamper: Any, sentence: str
) -> None:
    executor = Tampering(status=False)
    type(executor).tamper = staticmethod(tamper)
    with pytest.raises(InputError, match=sentence):
        run(fileset, Plain(), executor, chunksize=1000)


class Remembering(IterativeExecutor):
    """Gives the results of the first run again, as an engine does that takes both for one."""

    kept: list[Any] = []  # noqa: RUF012  (shared by the copies that coffea makes)

    def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
        if not self.kept:
            self.kept.extend(function(item) for item in items)
        return accumulate(iter(self.kept), accumulator), 0


def test_results_of_an_earlier_run_are_noticed(fileset: dict[str, Any]) -> None:
    executor = Remembering(status=False)
    first = run(fileset, Plain(), executor, chunksize=1000)
    assert (first.chunks, first.repeated) == (8, 0)
    with pytest.raises(InputError, match="8 of 8 chunks were never processed"):
        run(fileset, Plain(), executor, chunksize=1000)


def test_chunks_that_were_processed_again_are_counted(fileset: dict[str, Any]) -> None:
    class Twice(IterativeExecutor):
        def __call__(self, items: Any, function: Any, accumulator: Any) -> Any:
            function(items[0])  # and lost
            return super().__call__(items, function, accumulator)

    result = run(fileset, Plain(), Twice(status=False), chunksize=1000)
    assert (result.chunks, result.repeated) == (8, 1)


def test_failing_chunk_is_named(fileset: dict[str, Any]) -> None:
    executor = IterativeExecutor(status=False, retries=0)
    with pytest.raises(InputError, match=r"\.root: events 1000 to 2000 could not.*out of order"):
        run(fileset, Raises(), executor, chunksize=1000)


def test_tally_is_of_one_run_and_is_removed(tmp_path: Path) -> None:
    with counting.tally(tmp_path) as tally, counting.tally(tmp_path) as other:
        assert tally.write("begin", CHUNK)
        assert tally.write("begin", CHUNK)
        assert tally.write("end", CHUNK)
        assert tally.unfinished() == [(CHUNK, 1)]
        assert other.unfinished() == []
        assert other.nonce != tally.nonce
    assert list(tmp_path.iterdir()) == []
    assert not tally.write("end", CHUNK), "there is no folder to write to any more"


def test_worker_that_does_not_see_the_folder_says_so(
    fileset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting.Tally, "write", lambda *_: False)
    result = run(fileset, Plain(), IterativeExecutor(status=False), chunksize=1000)
    assert result.repeated is None
    assert result.chunks == 8
