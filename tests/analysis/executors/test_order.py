"""Order: every item once, in batches that take less and less, the longest first once it is known."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.executors.order import (
    BATCHES_AHEAD,
    Order,
    guided,
    heaviest_first,
    mixed,
    sample,
    split,
    weight,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Chunk(NamedTuple):
    """As coffea's Runner makes them."""

    entrystart: int
    entrystop: int
    dataset: str = "ttbar"


def chunks(*events: int, of: str = "ttbar") -> list[Chunk]:
    return [Chunk(7, 7 + number, of) for number in events]


def some_chunks() -> st.SearchStrategy[list[Chunk]]:
    one = st.builds(Chunk, st.just(0), st.integers(0, 50), st.sampled_from("abcde"))
    return st.lists(one, max_size=300)


@given(
    events=st.lists(st.integers(0, 50), max_size=300),
    workers=st.integers(1, 200),
    largest=st.none() | st.integers(1, 50),
)
def test_batches_hold_every_item_once_and_the_heaviest_come_first(
    events: list[int], workers: int, largest: int | None
) -> None:
    items = heaviest_first(chunks(*events))
    weights = [*map(weight, items)]
    assert sorted(weights, reverse=True) == weights
    assert sorted(weights) == sorted(max(1, number) for number in events)
    sizes = guided(weights, workers, largest)
    batches = split(items, sizes)
    assert [item for batch in batches for item in batch] == items
    assert all(batches)
    assert largest is None or max(sizes, default=1) <= largest
    assert Order(chunks(*events), workers, largest).begin() == batches


def test_many_items_are_few_batches_and_the_last_are_single() -> None:
    sizes = guided([1] * 10_000, 2)
    assert len(sizes) < 40
    assert all(a >= b for a, b in pairwise(sizes))
    # A worker that is done while another has a batch of this size waits for no longer than that.
    assert sizes[-4:] == [1, 1, 1, 1]


@given(events=st.lists(st.integers(1, 50), max_size=300), workers=st.integers(1, 40))
def test_a_batch_of_several_is_a_small_part_of_what_is_left(
    events: list[int], workers: int
) -> None:
    items = heaviest_first(chunks(*events))
    left = sum(map(weight, items))
    for batch in split(items, guided([*map(weight, items)], workers)):
        taken = sum(map(weight, batch))
        assert len(batch) == 1 or taken * BATCHES_AHEAD * workers <= left
        left -= taken


@given(items=some_chunks(), workers=st.integers(1, 40), at_work=st.integers(0, 60))
def test_two_rounds_hold_every_item_once(items: list[Chunk], workers: int, at_work: int) -> None:
    order = Order(items, workers)
    first = order.begin()
    expected = len(first) + order.expected()
    order.learn({sample(batch[0]): [0.5] for batch in first})
    rest = order.rest(at_work)
    if at_work > workers + max(1, workers // 4):
        assert rest == []
        rest = order.rest(workers)
    handed = [item for batch in [*first, *rest] for item in batch]
    assert sorted(handed) == sorted(items)
    assert order.rest(0) == order.all() == []
    if len({*map(sample, items)}) < 2:
        assert rest == []
        assert expected == len(first)


@given(items=some_chunks())
def test_the_first_round_has_its_share_of_each_sample(items: list[Chunk]) -> None:
    order = mixed(items)
    assert sorted(order) == sorted(items)
    for name in {*map(sample, items)}:
        ones = [item for item in items if item.dataset == name]
        assert [item for item in order if item.dataset == name] == heaviest_first(ones)
        half = sum(item.dataset == name for item in order[: len(order) // 2])
        assert abs(half - len(ones) / 2) <= 2.5


def test_what_is_left_is_begun_by_the_time_that_it_takes() -> None:
    """A sample of which nothing is back is taken for slow, and one slow chunk of many is nothing."""
    order = Order(
        [*chunks(*[9] * 8, of="fast"), *chunks(*[8] * 8, of="slow"), *chunks(5, 5, of="new")]
    )
    order.begin()
    order.learn({"fast": [1.0, 1.0, 50.0]})
    order.learn({"slow": [3.0, 3.0]})
    left = order.left
    batches = order.rest(1)
    seconds = {"fast": 1.0, "slow": 3.0, "new": 6.0}
    took = [weight(item) * seconds[item.dataset] for batch in batches for item in batch]
    assert len(took) == len(left) > 0
    assert {item.dataset for item in left} == {"fast", "slow", "new"}
    assert took == sorted(took, reverse=True)


def test_a_run_knows_what_the_run_before_learned() -> None:
    known: dict[str, list[float]] = {}
    items = [*chunks(9, 9, 9, of="fast"), *chunks(8, 8, 8, of="slow")]
    before = Order(items, known=known)
    before.begin()
    before.learn({"fast": [1.0], "slow": [3.0]})
    order = Order(items, known=known)
    names = [item.dataset for batch in order.begin() for item in batch]
    assert names == ["slow"] * 3 + ["fast"] * 3
    assert order.left == []
    # What it sees itself takes the place of what was.
    order.learn({"fast": [7.0]})
    assert known == {"fast": [7.0], "slow": [3.0]}
    assert len(Order([*items, *chunks(4, 4, of="another")], known=known).begin()) > 0


def test_files_that_are_looked_at_are_of_no_sample() -> None:
    class File(NamedTuple):
        dataset: str

    assert {sample(File("a")), sample(3)} == {""}
    assert sample(Chunk(0, 1, "a")) == "a"


# --- how long workers wait, if each takes what is next


def waiting(
    order: Order,
    seconds: Callable[[Chunk], float],
    begin: Callable[[Order], Iterable[Sequence[Chunk]]] = Order.begin,
) -> float:
    """Share of the workers' time in which they wait for the last."""
    queue = list(begin(order))
    at_work: list[tuple[float, int, Sequence[Chunk]]] = []
    now, busy, number = 0.0, 0.0, 0
    while queue or at_work:
        while queue and len(at_work) < order.workers:
            batch = queue.pop(0)
            took = sum(map(seconds, batch))
            busy, number = busy + took, number + 1
            heappush(at_work, (now + took, number, batch))
        now, _, batch = heappop(at_work)
        told: dict[str, list[float]] = {}
        for item in batch:
            told.setdefault(item.dataset, []).append(seconds(item) / weight(item))
        order.learn(told)
        queue += order.rest(len(queue) + len(at_work))
    return 1 - busy / (order.workers * now)


def test_small_chunks_at_the_end_fill_the_gaps_that_large_ones_leave() -> None:
    """Files of different lengths, the longest last: as they were, in order, and as they are now."""
    items = chunks(*[50] * 40, *[250] * 40)

    def as_listed(_: Order) -> list[list[Chunk]]:
        return split(items, guided([1] * len(items), 16))

    assert waiting(Order([], 16), weight, as_listed) > 0.1
    assert waiting(Order(items, 16), weight) < 0.03


def _campaign(
    rng: np.random.Generator, workers: int, a_worker: int
) -> tuple[list[Chunk], Mapping[str, float]]:
    """Samples of different size, an event of which takes up to ten times that of another."""
    shares = rng.dirichlet([0.7] * 9) * workers * a_worker
    items = [
        one
        for n, share in enumerate(shares)
        for one in chunks(*[100] * (1 + int(share)), of=str(n))
    ]
    return items, {str(n): 10.0 ** rng.random() for n in range(9)}


@pytest.mark.parametrize(("workers", "a_worker"), [(4, 16), (16, 8), (16, 16), (64, 4), (64, 16)])
def test_workers_wait_less_if_what_takes_long_is_begun_first(workers: int, a_worker: int) -> None:
    """In a first run workers wait at most 0.7 times as long as by events alone, then half."""
    waits: dict[str, list[float]] = {"by events": [], "first run": [], "second run": []}
    for seed in range(30):
        items, rates = _campaign(np.random.default_rng(seed), workers, a_worker)

        def seconds(item: Chunk, rates: Mapping[str, float] = rates) -> float:
            return weight(item) * rates[item.dataset]

        known: dict[str, list[float]] = {}
        waits["by events"].append(waiting(Order(items, workers), seconds, Order.all))
        waits["first run"].append(waiting(Order(items, workers, known=known), seconds))
        waits["second run"].append(waiting(Order(items, workers, known=known), seconds))
    middle = {name: median(each) for name, each in waits.items()}
    assert middle["first run"] < 0.7 * middle["by events"]
    assert middle["second run"] < 0.5 * middle["by events"]
