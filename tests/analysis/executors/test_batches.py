"""Batches: every item once, and the same sum whatever they are divided, packed and merged like."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.executors import code
from analysis.executors.batches import merge_payloads, process_batch
from analysis.executors.code import dumps
from analysis.executors.payload import Payload, fetch, pack, spill

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSIONS = (None, 1, "auto", "plain")


@cache
def _adding() -> bytes:
    return dumps(lambda item: {"sum": item, "items": {item}})


def _payload(compression: Any, *batches: list[int]) -> Payload:
    done = [process_batch(_adding(), one, compression) for one in batches]
    return merge_payloads(done, compression)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@given(batches=st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=5), min_size=1))
def test_merging_in_steps_is_merging_at_once(compression: Any, batches: list[list[int]]) -> None:
    merged = _payload(compression, *batches)
    flat = [item for batch in batches for item in batch]
    assert merged.unpack() == {"sum": sum(flat), "items": set(flat)}
    assert merged.items == len(flat)
    assert merged.spent.tasks == len(batches) + 1


def test_items_that_give_nothing() -> None:
    nothing = dumps(lambda _: None)
    payload = process_batch(nothing, [1, 2], "auto")
    assert payload.unpack() is None
    assert payload.items == 2
    assert merge_payloads([payload, _payload("auto", [3])]).unpack()["sum"] == 3


def test_results_are_not_changed_by_merging() -> None:
    """As with coffea's executors: a processor may return the same object for every chunk."""
    shared = {"n": 1}
    code = dumps(lambda _, out=shared: out)
    assert process_batch(code, [0, 1, 2]).unpack() == {"n": 3}
    assert process_batch(code, [0, 1, 2]).unpack() == {"n": 3}


def _filled(values: Any) -> hist.Hist:
    return hist.Hist.new.Reg(20_000, 0, 1).Weight().fill(values, weight=values)


def test_what_shrinks_is_compressed_and_what_does_not_is_not() -> None:
    rng = np.random.default_rng(1)
    empty, full = _filled([0.5]), _filled(rng.random(1_000_000))
    for accumulator, kind in ((empty, "lz4"), (full, "pickle"), ({"n": 1}, "pickle")):
        packed, data = pack(accumulator, "auto")
        assert packed == kind
        assert Payload(packed, data, 1, "", None).unpack() == accumulator  # type: ignore[arg-type]
    assert len(pack(empty, "auto")[1]) < len(pickle.dumps(empty)) / 2


def test_what_is_large_goes_by_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    code = dumps(lambda n: {"data": np.arange(n)})
    for n, files in ((10, 0), (1_000_000, 1)):
        payload = process_batch(code, [n])
        sent = pickle.loads(pickle.dumps(spill(payload, tmp_path)))
        assert len(list(tmp_path.iterdir())) == files
        assert len(pickle.dumps(sent)) < 1000
        np.testing.assert_array_equal(fetch(sent).unpack()["data"], np.arange(n))
        assert list(tmp_path.iterdir()) == []
        assert spill(payload, None) is payload


def test_accumulators_that_pickle_cannot_pack() -> None:
    counts: defaultdict[str, int] = defaultdict(lambda: 0)
    counts["x"] += 2
    kind, data = pack(counts, "auto")
    again = Payload(kind, data, 1, "", None).unpack()  # type: ignore[arg-type]
    assert again == counts
    assert again["y"] == 0


def test_threads_of_a_worker_that_are_sent_other_things_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As those of a Dask worker with several threads, and clients with other environments."""
    monkeypatch.setenv("SENT_BY", "nobody")
    monkeypatch.setattr(sys, "path", [*sys.path])
    sent = []
    for client in ("one", "other"):
        around = pickle.dumps(code.Surroundings(None, sys.path, {"SENT_BY": client}, {}, {}))
        sent.append(code.Task(b"", None, False, around, client, client))  # noqa: FBT003

    def look(number: int) -> bool:
        task = sent[number % 2]
        with code.entered(pickle.dumps(task)):
            before = os.environ["SENT_BY"]
            time.sleep(0.001)
            return before == os.environ["SENT_BY"] == task.origin

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(look, range(60)))
    code._set_client_variables({})
    assert os.environ["SENT_BY"] == "nobody"
