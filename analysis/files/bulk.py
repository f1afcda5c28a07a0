"""Branches of a TTree read in bulk: what uproot reads, for any processor, in less time.

uproot decompresses each basket with its offsets into memory of its own, and then joins the data of
all. Here the baskets of all branches come in one call, their data alone are decompressed, to where
they stay, and the lists of a collection share the offsets that its counter gives. What is not a
number or a list of numbers with a counter is left to uproot.

`BulkTrees` is how it comes into play: ``uproot.open(object_cache=BulkTrees())`` gives it each TTree
that is read, of which it replaces ``arrays``. This is what coffea's Runner calls to preload branches.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import awkward as ak
import numpy as np
import uproot
from awkward.contents import ListOffsetArray, NumpyArray
from awkward.index import Index64
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

from analysis.files.baskets import Basket, BasketError
from analysis.kernels._compile import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

Reader = Literal["bulk", "uproot"]

NUMBERS: Final = frozenset("biuf")
"""Kinds of numpy's types that are read."""


Cut = dict[tuple[str, int], Basket]
"""By branch and number, baskets in which a chunk ended, decompressed: the next one begins in them."""


@dataclass(frozen=True)
class Branch:
    """Where the baskets of a branch are, and what they have."""

    branch: Any
    """uproot's."""
    dtype: np.dtype[Any]
    """In the file, where most numbers are big-endian."""
    counter: str | None
    """Branch with the numbers of objects in the lists; None if an entry has one number."""
    starts: NDArray[np.int64]
    """First entry of each basket, and the end of the last."""
    places: tuple[tuple[int, int], ...]
    """Where each basket begins and ends in the file."""

    def baskets(self, start: int, stop: int) -> range:
        """Baskets with the entries from `start` to `stop`."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        return range(max(first, 0), int(np.searchsorted(self.starts, stop, side="left")))

    def covered(self, start: int, stop: int) -> tuple[int, int]:
        """Entries of these baskets."""
        baskets = self.baskets(start, stop)
        return int(self.starts[baskets.start]), int(self.starts[baskets.stop])


def find(tree: Any, name: str) -> Branch | None:
    """A branch as it can be read here; None if it is uproot's to read."""
    branch = tree[name]
    interpretation = branch.interpretation
    counter = None
    if type(interpretation) is AsJagged:
        counter = branch.count_branch
        if counter is None or interpretation.header_bytes:
            return None
        interpretation = interpretation.content
    elif branch.count_branch is not None:
        return None
    if type(interpretation) is not AsDtype or branch.embedded_baskets:
        return None
    dtype, native = interpretation.from_dtype, interpretation.to_dtype
    if dtype.kind not in NUMBERS or dtype.shape or native != dtype.newbyteorder("="):
        return None
    starts = np.asarray(branch.entry_offsets, dtype=np.int64)
    seeks, sizes = branch.member("fBasketSeek"), branch.member("fBasketBytes")
    places = tuple((int(seeks[i]), int(seeks[i]) + int(sizes[i])) for i in range(len(starts) - 1))
    return Branch(branch, dtype, None if counter is None else counter.name, starts, places)


def read(
    tree: Any, branches: Mapping[str, Branch], start: int, stop: int, cut: Cut | None = None
) -> dict[str, ak.Array]:
    """Columns of branches, from entry `start` to `stop`.

    `branches` has the counters of those that have one. `cut` has what the last call left in it.
    Raises BasketError if a basket is damaged.
    """
    entries = dict.fromkeys(branches, (start, stop))
    # Where the first basket of a list begins before `start`, objects before it have to be counted.
    for branch in branches.values():
        if branch.counter is not None:
            (low, high), (first, last) = branch.covered(start, stop), entries[branch.counter]
            entries[branch.counter] = min(first, low), max(last, high)
    baskets = _baskets(tree, branches, entries, stop, {} if cut is None else cut)
    columns, counts = {}, {}
    for name, branch in branches.items():
        if branch.counter is None:
            first, last = entries[name]
            numbers = _joined(branch, baskets[name], first, last, lambda entry: entry)
            columns[name] = ak.Array(NumpyArray(numbers[start - first : stop - first]))
            counts[name] = numbers
    lists = {name: one for name, one in branches.items() if one.counter is not None}
    counters = {str(branch.counter) for branch in lists.values()}
    collections = {name: _Lists(counts[name], entries[name][0]) for name in counters}
    for name, branch in lists.items():
        of = collections[str(branch.counter)]
        objects = _joined(branch, baskets[name], start, stop, of.before)
        columns[name] = ak.Array(ListOffsetArray(of.offsets(start, stop), NumpyArray(objects)))
    return columns


class _Shared(Index64):
    """Offsets of a collection, which coffea would copy for each of its branches."""

    def to64(self) -> Index64:
        """Itself: these have 64 bits."""
        return self


@loop
def _sum_up(counts, ends) -> Any:  # type: ignore[no-untyped-def]
    """Write numbers of objects before each entry, and before the end."""
    total = np.int64(0)
    for i in range(len(counts)):
        ends[i] = total
        total += np.int64(counts[i])  # of unsigned and signed numba makes floats
    ends[len(counts)] = total


class _Lists:
    """The lists of a collection, from an entry on."""

    def __init__(self, counts: NDArray[Any], first: int) -> None:
        if len(counts) and counts.min() < 0:
            msg = "a list has fewer than no objects"
            raise BasketError(msg)
        self._first = first
        self._ends = np.empty(len(counts) + 1, dtype=np.int64)
        _sum_up(counts, self._ends)
        self._offsets: Index64 | None = None

    def before(self, entry: int) -> int:
        """Objects before an entry."""
        return int(self._ends[entry - self._first])

    def offsets(self, start: int, stop: int) -> Index64:
        """Of the lists from an entry to another: the same for all branches of a collection."""
        if self._offsets is None:
            ends = self._ends[start - self._first : stop - self._first + 1]
            self._offsets = _Shared(ends - ends[0])
        return self._offsets


def _baskets(
    tree: Any,
    branches: Mapping[str, Branch],
    entries: Mapping[str, tuple[int, int]],
    stop: int,
    cut: Cut,
) -> dict[str, list[Basket]]:
    """Baskets of each branch with its entries, read in one call.

    Those that go on after `stop`, where the next chunk begins, are left in `cut`.
    """
    wanted = {name: branch.baskets(*entries[name]) for name, branch in branches.items()}
    places = sorted(
        branches[name].places[i]
        for name, numbers in wanted.items()
        for i in numbers
        if (name, i) not in cut
    )
    chunks = tree.file.source.chunks(places, queue.Queue()) if places else []
    read = {chunk.start: np.ascontiguousarray(chunk.raw_data).data for chunk in chunks}
    found = {
        name: [cut.get((name, i)) or Basket.of(read[branches[name].places[i][0]]) for i in numbers]
        for name, numbers in wanted.items()
    }
    cut.clear()
    for name, numbers in wanted.items():
        if numbers and branches[name].starts[numbers.stop] > stop:
            found[name][-1] = cut[name, numbers[-1]] = found[name][-1].decompressed()
    return found


def _joined(
    branch: Branch,
    baskets: Sequence[Basket],
    start: int,
    stop: int,
    before: Callable[[int], int],
) -> NDArray[Any]:
    """Numbers of the entries from `start` to `stop`, of which baskets have these and others.

    `before` tells how many numbers there are before an entry.
    """
    numbers = branch.baskets(start, stop)
    edges = [before(int(branch.starts[i])) for i in (*numbers, numbers.stop)]
    size = branch.dtype.itemsize
    for i, basket, low, high in zip(numbers, baskets, edges, edges[1:], strict=False):
        if basket.entries != branch.starts[i + 1] - branch.starts[i]:
            msg = f"a basket of {branch.branch.name} has another number of entries than the tree says"
            raise BasketError(msg)
        if basket.border != (high - low) * size:
            msg = f"a basket of {branch.branch.name} has {basket.border:,} bytes of data, not {(high - low) * size:,}"
            raise BasketError(msg)
    first, last = before(start), before(stop)
    found = np.empty(last - first, dtype=branch.dtype.newbyteorder("="))
    for basket, low, high in zip(baskets, edges, edges[1:], strict=False):
        begin, end = max(low, first), min(high, last)
        if branch.dtype.isnative and (begin, end) == (low, high):
            basket.read_into(found[begin - first : end - first].view(np.uint8).data)
            continue
        # By memory that the cache still has when the numbers are turned into the machine's order.
        data = _scratch(basket.border)
        basket.read_into(data.data)
        ours = data.view(branch.dtype)[begin - low : end - low]
        _copy(ours, found[begin - first : end - first])
    return found


def _copy(numbers: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy numbers in the byte order of a file to ones in that of the machine."""
    size = numbers.dtype.itemsize
    if numbers.dtype.isnative or size not in (4, 8):
        target[:] = numbers
    else:
        unsigned = np.dtype(f"u{size}")
        (_swap_4 if size == 4 else _swap_8)(numbers.view(unsigned), target.view(unsigned))


@loop
def _swap_4(source, target) -> None:  # type: ignore[no-untyped-def]
    """Copy numbers of four bytes, their bytes the other way round: numpy takes three times as long."""
    for i in range(len(source)):
        x = source[i]
        inner = ((x >> np.uint32(8)) & np.uint32(0xFF00)) | (
            (x & np.uint32(0xFF00)) << np.uint32(8)
        )
        target[i] = (x >> np.uint32(24)) | inner | (x << np.uint32(24))


@loop
def _swap_8(source, target) -> None:  # type: ignore[no-untyped-def]
    """Copy numbers of eight bytes, their bytes the other way round."""
    for i in range(len(source)):
        x = source[i]
        x = (x >> np.uint64(32)) | (x << np.uint64(32))
        low = np.uint64(0x0000FFFF0000FFFF)
        x = ((x >> np.uint64(16)) & low) | ((x & low) << np.uint64(16))
        low = np.uint64(0x00FF00FF00FF00FF)
        target[i] = ((x >> np.uint64(8)) & low) | ((x & low) << np.uint64(8))


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.branches: Counter[str] = Counter()
        self.columns: dict[str, ak.Array] = {}
        self.scratch = np.empty(0, np.uint8)


_THREAD: Final = _OfThread()


def _scratch(size: int) -> NDArray[np.uint8]:
    """Memory of this thread, whatever is in it; the next call gives the same."""
    if len(_THREAD.scratch) < size:
        _THREAD.scratch = np.empty(size, np.uint8)
    return _THREAD.scratch[:size]


class BulkTrees(MutableMapping[str, Any]):
    """Object cache of uproot that keeps nothing: TTrees that it is given read their branches in bulk."""

    def __setitem__(self, key: str, value: Any) -> None:
        """Replace methods of a TTree."""
        if isinstance(value, uproot.TTree):
            tree = BulkTree(value)
            value.arrays = tree.arrays
            value.iteritems, value.typenames = tree.iteritems, tree.typenames

    def __getitem__(self, key: str) -> Any:
        """Nothing is kept."""
        raise KeyError(key)

    def __delitem__(self, key: str) -> None:
        """Nothing is kept."""

    def __iter__(self) -> Iterator[str]:
        """Over nothing."""
        return iter(())

    def __len__(self) -> int:
        """Nothing is kept."""
        return 0


class BulkTree:
    """A TTree of uproot, whose branches are read in bulk where that is possible."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self._found: dict[str, dict[str, Branch]] = {}
        self._items: dict[tuple[str, ...] | None, list[tuple[str, Any]]] = {}
        self._typenames: dict[str, str] | None = None
        self._cut: Cut = {}

    def find(self, name: str) -> dict[str, Branch]:
        """A branch and its counter, by name; empty if one of them cannot be read in bulk."""
        if name not in self._found:
            self._found[name] = self._with_counter(name)
        return self._found[name]

    def _with_counter(self, name: str) -> dict[str, Branch]:
        branch = find(self._tree, name)
        if branch is None or branch.counter is None:
            return {} if branch is None else {name: branch}
        counter = find(self._tree, branch.counter)
        if counter is None or counter.counter is not None or counter.dtype.kind not in "iu":
            return {}
        return {name: branch, branch.counter: counter}

    def iteritems(self, **options: Any) -> Iterator[tuple[str, Any]]:
        """As of uproot, which compares all names with each of a list; here once for a list."""
        names = options.get("filter_name")
        if options.keys() - {"filter_name"} or not (names is None or isinstance(names, list)):
            return type(self._tree).iteritems(self._tree, **options)  # type: ignore[no-any-return]
        key = None if names is None else tuple(names)
        if key not in self._items:
            self._items[key] = list(type(self._tree).iteritems(self._tree, **options))
        return iter(self._items[key])

    def typenames(self, **options: Any) -> dict[str, str]:
        """As of uproot, which looks at all branches whenever coffea makes events."""
        if options:
            return type(self._tree).typenames(self._tree, **options)  # type: ignore[no-any-return]
        if self._typenames is None:
            self._typenames = type(self._tree).typenames(self._tree)
        return dict(self._typenames)

    def arrays(
        self,
        *expressions: Any,
        filter_branch: Callable[[Any], Any] | None = None,
        entry_start: int | None = None,
        entry_stop: int | None = None,
        how: Any = None,
        **options: Any,
    ) -> Any:
        """As of uproot, which reads whatever cannot be read in bulk."""
        theirs = partial(type(self._tree).arrays, self._tree, *expressions)
        limits = {"entry_start": entry_start, "entry_stop": entry_stop, "how": how}
        asked = {
            "filter_name",
            "filter_typename",
            "cut",
            "library",
            "expressions",
        } & options.keys()
        if how is not dict or filter_branch is None or expressions or asked:
            return theirs(filter_branch=filter_branch, **limits, **options)
        names = [name for name, branch in self.iteritems() if filter_branch(branch)]
        # Branches in branches, whose names have a slash, and two of one name are uproot's.
        plain = len(set(names)) == len(names) and not any("/" in name for name in names)
        bulk = {name: found for name in names if plain and (found := self.find(name))}
        every = {key: one for found in bulk.values() for key, one in found.items()}
        start, stop, _ = slice(entry_start, entry_stop).indices(self._tree.num_entries)
        columns = read(self._tree, every, start, max(start, stop), self._cut)
        # NanoAODSchema makes lists of a collection by the counter of this name, whatever theirs is.
        _THREAD.columns = {
            name: column
            for name, column in columns.items()
            if every[name].counter in {None, f"n{name.partition('_')[0]}"}
        }
        rest = set(names) - bulk.keys()
        if rest:
            columns |= theirs(
                filter_branch=lambda branch: branch.name not in bulk and filter_branch(branch),
                **limits,
                **options,
            )
        _THREAD.branches = Counter(bulk=len(bulk), uproot=len(rest)) + counted()
        return {name: columns[name] for name in names}


def counted() -> Counter[str]:
    """Branches that this thread read in bulk for a chunk, and those that it left to uproot."""
    return _THREAD.branches


def taken() -> Mapping[str, ak.Array]:
    """What this thread read in bulk last for a chunk, by the names of branches; then it has it no more."""
    columns, _THREAD.columns = _THREAD.columns, {}
    return columns


def begin() -> None:
    """Begin a chunk: nothing is read of it."""
    _THREAD.branches, _THREAD.columns = Counter(), {}
