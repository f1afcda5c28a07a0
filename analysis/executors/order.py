"""In which order and in what batches items are begun: by their events, and by what chunks took."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Took = Mapping[str, Sequence[float]]
    """Seconds an event of the chunks of each sample."""

BATCHES_AHEAD: Final = 2
"""Each batch takes one part in BATCHES_AHEAD x workers of the time that is left: the first are
large, which spares tasks, the last are single chunks and short ones, so that no worker is waited
for (guided self-scheduling; Polychronopoulos and Kuck, IEEE Trans. Comput. C-36 (1987) 1425)."""

FIRST_ROUND: Final = 0.5
"""Share of the events that is begun before it is known how long those of each sample take."""

UNKNOWN: Final = 2.0
"""Times the slowest sample that is known: one of which no chunk is back yet is likely slow."""


def weight(item: Any) -> int:
    """Events of a chunk; 1 of anything else, and of a chunk without events."""
    return max(1, int(getattr(item, "entrystop", 1)) - int(getattr(item, "entrystart", 0)))


def sample(item: Any) -> str:
    """Data set of a chunk; nothing of anything else, such as a file that is looked at."""
    return str(getattr(item, "dataset", "")) if hasattr(item, "entrystop") else ""


def guided(weights: Sequence[float], workers: int, largest: int | None = None) -> list[int]:
    """Numbers of items in batches, so that these take less and less, none above `largest`."""
    sizes = []
    left, begin = sum(weights), 0
    while begin < len(weights):
        share = left / (BATCHES_AHEAD * workers)
        size, taken = 1, weights[begin]
        while (
            begin + size < len(weights)
            and size != largest
            and taken + weights[begin + size] <= share
        ):
            taken += weights[begin + size]
            size += 1
        sizes.append(size)
        left -= taken
        begin += size
    return sizes


def heaviest_first(items: Iterable[Any]) -> list[Any]:
    """Items by their events; those of a weight stay as they are."""
    return sorted(items, key=weight, reverse=True)


def split(items: Sequence[Any], sizes: Iterable[int]) -> list[list[Any]]:
    """Consecutive items in lists of these sizes."""
    batches, begin = [], 0
    for size in sizes:
        batches.append(list(items[begin : begin + size]))
        begin += size
    return batches


def mixed(items: Iterable[Any]) -> list[Any]:
    """Items so that each part has its share of every sample, whose heaviest are first."""
    placed = []
    for _, group in groupby(sorted(heaviest_first(items), key=sample), key=sample):
        ones = list(group)
        placed += [((n + 0.5) / len(ones), one) for n, one in enumerate(ones)]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


class Order:
    """The items of a run in batches, which are handed out once, in one or two rounds.

    An event of one sample may take ten times as long as one of another, which shows only when
    chunks come back. So half of every sample is begun first, and what is `left` when workers soon
    have nothing more is put into order by what the chunks took. A run that knows that of the run
    before, or has one sample, has one round.
    """

    def __init__(
        self,
        items: Iterable[Any],
        workers: int = 1,
        largest: int | None = None,
        known: dict[str, list[float]] | None = None,
    ) -> None:
        """Take items, and what those of earlier runs took, which `learn` replaces."""
        self.items = heaviest_first(items)
        self.names = {*map(sample, self.items)}
        self.workers = workers
        self.largest = largest
        self.known = {} if known is None else known
        self.seen: set[str] = set()
        self.left: list[Any] = []

    def begin(self) -> list[list[Any]]:
        """Batches of the first round, which may be all."""
        if len(self.names) < 2 or self.names <= self.known.keys():
            return self.all()
        items, self.items = mixed(self.items), []
        weights = [*map(weight, items)]
        most = FIRST_ROUND * sum(weights)
        taken, begun, sizes = 0, 0, []
        for size in guided(weights, self.workers, self.largest):
            if taken >= most:
                break
            taken += sum(weights[begun : begun + size])
            begun += size
            sizes.append(size)
        self.left = items[begun:]
        return split(items, sizes)

    def rest(self, at_work: int) -> list[list[Any]]:
        """Batches of what is left, if so few batches are `at_work` that workers soon have none."""
        if at_work > self.workers + max(1, self.workers // 4):
            return []
        items, self.left = self.left, []
        return self._divided(items)

    def all(self) -> list[list[Any]]:
        """Batches of all items, for engines that take them at once."""
        items, self.items = self.items, []
        return self._divided(items)

    def expected(self) -> int:
        """About how many batches are still to be handed out."""
        return len(guided([*map(weight, self.items or self.left)], self.workers, self.largest))

    def learn(self, took: Took) -> None:
        """Have what chunks took; from any thread, so that no list is seen empty."""
        for name, seconds in took.items():
            before = self.known[name] if name in self.seen else []
            self.known[name] = [*before, *seconds]
            self.seen.add(name)

    def _divided(self, items: Sequence[Any]) -> list[list[Any]]:
        # Not the mean: the first chunk of a worker takes longer.
        known = {name: median(self.known[name]) for name in self.names & self.known.keys()}
        unknown = UNKNOWN * max(known.values(), default=1.0)

        def seconds(item: Any) -> float:
            return weight(item) * known.get(sample(item), unknown)

        if len(self.names) > 1:
            items = sorted(items, key=seconds, reverse=True)
        sizes = guided([*map(seconds, items)], self.workers, self.largest)
        return split(items, sizes)
