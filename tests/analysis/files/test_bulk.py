"""The bulk reader gives what uproot gives, to the last bit, and says where a file is damaged."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from analysis.files import baskets, bulk
from analysis.files.baskets import Basket, BasketError
from analysis.files.bulk import BulkTrees
from tests.support.cli import analysis

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
CODECS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lzma": uproot.LZMA(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
}


def write(path: Path, codec: str, pieces: Sequence[dict[str, Any]]) -> None:
    """A TTree, each branch of which has a basket for each piece."""
    with uproot.recreate(path, compression=CODECS[codec]) as file:
        types = {
            name: one.type.content if isinstance(one, ak.Array) else one.dtype
            for name, one in pieces[0].items()
        }
        tree = file.mktree("Events", types, counter_name=lambda name: f"n{name}")
        for piece in pieces:
            tree.extend(piece)


def both(
    path: Path,
    start: int | None = None,
    stop: int | None = None,
    names: Collection[str] | None = None,
) -> tuple[dict[str, ak.Array], dict[str, ak.Array]]:
    """Branches of all names, or of these, by the bulk reader and by uproot."""
    found = []
    for options in ({"object_cache": BulkTrees()}, {}):
        with uproot.open({path: "Events"}, **options) as tree:
            found.append(
                tree.arrays(
                    filter_branch=lambda branch: names is None or branch.name in names,
                    entry_start=start,
                    entry_stop=stop,
                    how=dict,
                )
            )
    return found[0], found[1]


def assert_equal(got: dict[str, ak.Array], want: dict[str, ak.Array]) -> None:
    """The same names in the same order, types, lists and numbers, to the last bit."""
    assert list(got) == list(want)
    for name, column in got.items():
        assert column.type == want[name].type, name
        if column.ndim > 1:
            assert ak.num(column).to_list() == ak.num(want[name]).to_list(), name
        one, other = (ak.to_numpy(ak.flatten(each, axis=None)) for each in (column, want[name]))
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes(), name


@st.composite
def trees(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], tuple[int, int]]:
    """Codec, pieces of a tree of one flat branch and one of lists of each of some types, a range."""
    codec = draw(st.sampled_from(list(CODECS)))
    types = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True))
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Baskets of few distinct numbers shrink, others are written as they are.
    most = draw(st.sampled_from([1, 2, 128]))
    pieces = []
    for size in sizes:
        counts = rng.integers(0, draw(st.sampled_from([1, 4, 60])), size)
        piece: dict[str, Any] = {}
        for name in types:
            numbers = rng.integers(0, most, size + counts.sum()).astype(name)
            piece[f"one_{name.strip('?') or 'b'}"] = numbers[:size]
            piece[f"Many_{name.strip('?') or 'b'}"] = ak.unflatten(numbers[size:], counts)
        pieces.append(piece)
    ends = sorted((draw(st.integers(0, sum(sizes))), draw(st.integers(0, sum(sizes)))))
    return codec, pieces, (ends[0], ends[1])


@given(tree=trees())
def test_made_up_trees(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    codec, pieces, (start, stop) = tree
    path = tmp_path_factory.mktemp("trees") / "tree.root"
    write(path, codec, pieces)
    bulk.begin()
    got, want = both(path, start, stop)
    assert_equal(got, want)
    assert bulk.counted() == Counter(bulk=len(want))


def test_branches_of_a_collection_share_their_offsets(tmp_path: Path) -> None:
    """Also where coffea takes a column: it makes 64 bits of offsets that have them."""
    path = tmp_path / "lists.root"
    lists = ak.Array([[1.0, 2.0], [], [3.0]])
    write(path, "none", [{"Jet": ak.zip({"pt": lists, "eta": -lists})}])
    read, _ = both(path)
    pt, eta = (read[f"Jet_{name}"].layout.to_ListOffsetArray64(True) for name in ("pt", "eta"))  # noqa: FBT003
    assert pt.offsets.data is eta.offsets.data


@given(tree=trees(), data=st.data())
def test_chunks_of_one_tree(
    tree: Any, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One after the other and in any order: a basket in which a chunk ended is not read again."""
    codec, pieces, _ = tree
    path = tmp_path_factory.mktemp("trees") / "tree.root"
    write(path, codec, pieces)
    entries = sum(len(next(iter(piece.values()))) for piece in pieces)
    edges = sorted({0, entries, *data.draw(st.lists(st.integers(0, entries), max_size=4))})
    chunks = list(itertools.pairwise(edges))
    more = data.draw(st.lists(st.sampled_from(chunks), max_size=3))
    with uproot.open({path: "Events"}, object_cache=BulkTrees()) as one:
        places = [found(one, name).places for name in one.keys()]  # noqa: SIM118
        every = sum(stop - start for each in places for start, stop in each)
        for rest in (chunks, more):
            before = one.file.source.num_requested_bytes
            for start, stop in rest:
                got = one.arrays(
                    filter_branch=lambda _: True, entry_start=start, entry_stop=stop, how=dict
                )
                assert_equal(got, both(path, start, stop)[1])
                for column in got.values():
                    # What is read is its reader's.
                    np.asarray(ak.flatten(column, axis=None).layout.data)[:] = 0
            if rest is chunks:
                assert one.file.source.num_requested_bytes - before == every


@pytest.mark.parametrize("codec", CODECS)
def test_a_basket_of_several_blocks(codec: str, tmp_path: Path) -> None:
    """ROOT compresses 16 MB at a time."""
    numbers = np.tile(np.arange(1000, dtype="f4"), 5000)
    lists = ak.unflatten(numbers, np.full(5000, 1000))
    path = tmp_path / "large.root"
    write(path, codec, [{"Many": lists}])
    assert (path.stat().st_size > numbers.nbytes) == (codec == "none")
    got, want = both(path, 10, 4990)
    assert_equal(got, want)


def test_what_uproot_reads(tmp_path: Path) -> None:
    """Numbers of fixed shape, strings, and lists whose counter is not asked for."""
    path = tmp_path / "odd.root"
    columns = {
        "shaped": np.arange(12.0).reshape(4, 3),
        "plain": np.arange(4),
        "text": ak.Array(["a", "bc", "", "def"]),
        "Many": ak.Array([[1.0], [], [2.0, 3.0], [4.0]]),
    }
    with uproot.recreate(path) as file:
        types = {
            "shaped": "3 * float64",
            "plain": "int64",
            "text": "string",
            "Many": "var * float64",
        }
        file.mktree("Events", types).extend(columns)
    bulk.begin()
    got, want = both(path, 1, 4, {"shaped", "plain", "text", "Many"})
    assert got["text"].to_list() == want.pop("text").to_list() == ["bc", "", "def"]
    del got["text"]
    assert_equal(got, want)
    assert bulk.counted() == Counter(bulk=2, uproot=2)


def test_other_calls_are_those_of_uproot(tmp_path: Path) -> None:
    path = tmp_path / "tree.root"
    write(path, "zstd", [{"x": np.arange(4.0), "y": np.arange(4)}])
    with uproot.open({path: "Events"}, object_cache=BulkTrees()) as tree:
        assert tree.arrays().fields == ["x", "y"]
        assert tree.arrays(["x"], "y > 1", how=dict)["x"].to_list() == [2, 3]
        assert tree.arrays(filter_name="y", library="np")["y"].tolist() == [0, 1, 2, 3]
    again = uproot.open({path: "Events"}, object_cache=BulkTrees())
    assert again.arrays(filter_branch=lambda _: True, how=dict).keys() == {"x", "y"}


def found(tree: Any, name: str) -> bulk.Branch:
    """A branch that is read in bulk."""
    branch = bulk.find(tree, name)
    assert branch is not None
    return branch


def nanoaod(folder: Path) -> list[Path]:
    """NanoAOD files."""
    found = []
    for path in sorted(folder.rglob("*.root")):
        with uproot.open(path) as file:
            if isinstance(file.get("Events"), uproot.TTree):
                found.append(path)
    return found


def test_real_files(shared_data: Path) -> None:
    """All branches, between entries that cut baskets."""
    for path in nanoaod(shared_data):
        with uproot.open({path: "Events"}) as tree:
            entries = tree.num_entries
        bulk.begin()
        assert_equal(*both(path, entries // 3, 2 * entries // 3 + 1))
        assert bulk.counted()["bulk"] > bulk.counted()["uproot"]


@pytest.mark.parametrize("cuts", [[], [4], [1, 5, 6]], ids=str)
@pytest.mark.parametrize("of_counter", [[], [4], [2, 3]], ids=str)
def test_baskets_that_end_elsewhere_than_their_counters(
    cuts: list[int], of_counter: list[int], tmp_path: Path
) -> None:
    """As in files of CMS: here counter and lists are of two trees with the same content."""
    path = tmp_path / "two.root"
    lists = ak.unflatten(np.arange(20, dtype="f4"), [3, 0, 2, 5, 1, 0, 4, 5])
    with uproot.recreate(path) as file:
        for name, ends in (("Events", cuts), ("Others", of_counter)):
            tree = file.mktree(name, {"Many": lists.type.content}, counter_name="n{}".format)
            for low, high in itertools.pairwise([0, *ends, len(lists)]):
                tree.extend({"Many": lists[low:high]})
    with uproot.open(path) as file:
        branches = {
            "Many": found(file["Events"], "Many"),
            "nMany": found(file["Others"], "nMany"),
        }
        for start, stop in itertools.combinations_with_replacement(range(len(lists) + 1), 2):
            got = bulk.read(file["Events"], branches, start, stop)
            assert got["Many"].to_list() == lists[start:stop].to_list()
            assert got["nMany"].to_list() == ak.num(lists)[start:stop].to_list()


def column(path: Path, **options: Any) -> dict[str, ak.Array] | None:
    """The branch `Many`; None if it cannot be read."""
    with uproot.open({path: "Events"}, **options) as tree:
        try:
            found: dict[str, ak.Array] = tree.arrays(
                filter_branch=lambda branch: branch.name == "Many", how=dict
            )
        except Exception:  # noqa: BLE001  (of damaged files, any)
            return None
    return found


def same(one: ak.Array, other: ak.Array) -> bool:
    """Whether lists are equal, of which damaged offsets may say that they are huge."""
    return bool(ak.num(one).to_list() == ak.num(other).to_list()) and bool(ak.all(one == other))


@pytest.mark.parametrize("codec", CODECS)
def test_damage_is_seen_where_uproot_sees_it(codec: str, tmp_path: Path) -> None:
    """Of any byte of a basket, but where there is no checksum: bulk does not look behind the data."""
    path = tmp_path / "tree.root"
    lists = ak.unflatten(np.repeat(np.arange(40, dtype="f4"), 5), np.full(50, 4))
    write(path, codec, [{"Many": lists}])
    with uproot.open({path: "Events"}) as tree:
        (place,) = found(tree, "Many").places
        header = tree["Many"].basket(0).member("fKeylen")
    content = path.read_bytes()
    good = column(path)
    assert good is not None
    seen = Counter[str]()
    for at in range(place[0] + header, place[1]):
        spoilt = bytearray(content)
        spoilt[at] ^= 0x10
        path.write_bytes(spoilt)
        got, want = column(path, object_cache=BulkTrees()), column(path)
        if got is None:
            seen["errors"] += 1
        elif want is not None and same(got["Many"], want["Many"]):
            seen["as uproot"] += 1
        else:
            assert codec in {"none", "zstd"}
            assert codec == "zstd" or same(got["Many"], good["Many"])
            seen["not read"] += 1
    assert (seen["errors"] > 0) == (codec != "none")


def test_baskets_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tree.root"
    write(path, "zstd", [{"x": np.zeros(100)}])
    with uproot.open({path: "Events"}) as tree:
        (place,) = found(tree, "x").places
    content = path.read_bytes()[slice(*place)]
    good = Basket.of(memoryview(content))
    target = bytearray(800)
    good.read_into(memoryview(target))
    assert not any(target)
    with pytest.raises(BasketError, match="800 bytes of data, 799 were expected"):
        good.read_into(memoryview(target)[1:])
    for damaged in (content[:10], b"\0" * 70, content[:-1]):
        with pytest.raises(BasketError):
            Basket.of(memoryview(damaged)).read_into(memoryview(target))
    unknown = content.replace(b"ZS", b"CS", 1)
    with pytest.raises(BasketError, match="block of a basket is damaged"):
        Basket.of(memoryview(unknown)).read_into(memoryview(target))


def test_every_algorithm_of_the_writer_is_known() -> None:
    assert set(baskets.ALGORITHMS) == {b"ZS", b"ZL", b"XZ", b"L4"}


def test_both_readers_give_the_same_histograms(synthetic: Path, tmp_path: Path) -> None:
    """To the last bit; tests of executors compare what each gives with the reference."""
    results = []
    for reader in ("bulk", "uproot"):
        output = tmp_path / f"{reader}.json"
        outcome = analysis(
            "run",
            synthetic / "fileset.json",
            "--chunksize",
            "700",
            "--reader",
            reader,
            "-o",
            output,
        )
        assert outcome.exit_code == 0, outcome.error
        results.append(output)
    bulk_result, uproot_result = (json.loads(path.read_text()) for path in results)
    for part in ("histograms", "cutflow"):
        assert bulk_result[part] == uproot_result[part]
    assert bulk_result["provenance"]["read_ahead"].keys() == {"bulk"}
    assert bulk_result["provenance"]["read_ahead"]["bulk"] > 0
    assert uproot_result["provenance"]["read_ahead"] == {}
