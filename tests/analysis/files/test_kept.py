"""Files stay open from chunk to chunk: each chunk counts what it reads, and nothing stale is read."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import zstandard

from analysis.errors import ChangedError, InputError
from analysis.executors import open_executor
from analysis.files import bulk, kept
from analysis.files.nanoevents import counters
from analysis.files.remote import TIMEOUT
from tests.support.faults import damage
from tests.support.jobs import inspected, run

CHUNK = 500
OPTIONS = kept.options(TIMEOUT)
BRANCHES = ("Jet_pt", "MET_pt")


@pytest.fixture(autouse=True)
def closed() -> Any:
    """Nothing is open before and after."""
    kept.close()
    yield
    kept.close()


@pytest.fixture
def files(synthetic: Path, tmp_path: Path) -> list[Path]:
    """Copies of some files."""
    found = sorted(synthetic.glob("*__nominal_*.root"))[: kept.KEPT + 2]
    assert len(found) == kept.KEPT + 2
    return [Path(shutil.copy(one, tmp_path)) for one in found]


def opened(path: Path) -> tuple[Any, Any]:
    """Source and tree, as a chunk has them; the file is closed as coffea does it."""
    with uproot.open({path: None}, **OPTIONS) as file:
        return file.file.source, file["Events"]


def descriptors(paths: list[Path]) -> int:
    """How often this process has any of the files open."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        try:
            found += one.resolve() in paths
        except OSError:
            continue
    return found


def test_file_and_tree_are_the_same_for_the_next_chunk(files: list[Path]) -> None:
    source, tree = opened(files[0])
    whole = source.num_requested_bytes
    again, same = opened(files[0])
    assert again is source
    assert same is tree
    assert 0 < source.num_requested_bytes < whole
    assert tree["MET_pt"].array(library="np").size == tree.num_entries
    assert tree.typenames() == uproot.open({files[0]: "Events"}).typenames()


def test_few_files_stay_open(files: list[Path]) -> None:
    """The least recently used is closed."""
    sources = []
    for path in files:
        sources.append(opened(path)[0])
        opened(files[0])
        assert descriptors(files) <= kept.KEPT
    assert [source.closed for source in sources] == [False, True, True, *[False] * (kept.KEPT - 1)]
    with pytest.raises(OSError, match="is closed"):
        sources[1].chunk(0, 4)
    kept.close()
    assert all(source.closed for source in sources)
    assert descriptors(files) == 0


@pytest.mark.parametrize("how", ["replaced", "rewritten", "touched", "shortened"])
def test_a_file_that_has_changed_is_opened_anew(files: list[Path], how: str) -> None:
    source, tree = opened(files[0])
    if how == "replaced":
        files[1].replace(files[0])
    elif how == "rewritten":
        files[0].write_bytes(files[1].read_bytes())
    elif how == "touched":
        os.utime(files[0], (1, 1))
    else:
        os.truncate(files[0], files[0].stat().st_size // 2)
        # A map of the file would end this process here.
        with pytest.raises(OSError, match="expected Chunk of length"):
            tree.arrays(filter_branch=lambda _: True, how=dict)
    again, other = opened(files[0])
    assert source.closed
    assert again is not source
    assert other is not tree
    assert (other.file.uuid == tree.file.uuid) == (how in {"touched", "shortened"})


class Changes:
    """Counts events, and changes the file while its first chunk is processed."""

    def __init__(self, path: Path, other: Path, how: str) -> None:
        self.path, self.other, self.how = path, other, how

    def __call__(self, events: Any) -> dict[str, int]:
        if events.metadata["entrystart"] == 0:
            if self.how == "replaced":
                self.other.replace(self.path)
            else:
                os.truncate(self.path, 1000)
        return {"events": len(events)}


@pytest.mark.parametrize("name", ["iterative", "futures"])
@pytest.mark.parametrize("how", ["replaced", "shortened"])
def test_a_file_that_changes_between_its_chunks(files: list[Path], how: str, name: str) -> None:
    changes = Changes(files[0], files[1], how)
    with (
        open_executor(name, workers=1) as executor,
        pytest.raises(ChangedError, match="was replaced or written to during the run"),
    ):
        run({"d": [str(files[0])]}, changes, executor, BRANCHES, chunksize=CHUNK)


def test_an_error_closes_the_file(files: list[Path]) -> None:
    source = opened(files[0])[0]
    with pytest.raises(uproot.KeyInFileError), uproot.open({files[0]: None}, **OPTIONS) as file:
        file["Other"]
    assert source.closed
    assert opened(files[0])[0] is not source


def test_a_copy_is_another_file(files: list[Path], tmp_path: Path) -> None:
    """It has the same identity, and is read from its own place: here it is damaged."""
    copy = Path(shutil.copy(files[0], tmp_path / "copy.root"))
    damage(copy)
    first, second = opened(files[0]), opened(copy)
    assert first[1].file.uuid == second[1].file.uuid
    assert first[1] is not second[1]
    only = {"filter_branch": lambda branch: branch.name == "Jet_pt", "how": dict}
    assert first[1].arrays(**only)
    with pytest.raises(zstandard.ZstdError):
        second[1].arrays(**only)


def test_each_thread_has_its_own_and_closes_it_at_its_end(files: list[Path]) -> None:
    mine = opened(files[0])
    theirs = []

    def work() -> None:
        theirs.append(opened(files[0])[0])
        assert descriptors(files) == 2

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert theirs[0] is not mine[0]
    gc.collect()
    assert theirs[0].closed
    assert not mine[0].closed
    assert descriptors(files) == 1


def test_a_forked_process_opens_its_own(files: list[Path]) -> None:
    source, tree = opened(files[0])
    if (pid := os.fork()) == 0:
        try:
            os._exit(int(opened(files[0])[0] is source))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert opened(files[0]) == (source, tree)
    assert len(tree["MET_pt"].array(library="np"))


def test_nothing_open_is_sent(files: list[Path]) -> None:
    opened(files[0])
    options = pickle.loads(pickle.dumps(kept.options(5)))
    assert len(pickle.dumps(options)) < 200
    assert options["handler"] is kept.KeptSource
    assert options["timeout"] == 5
    source = opened(files[0])[0]
    assert pickle.loads(pickle.dumps(source)) is source


def test_the_client_closes_what_a_run_opened(files: list[Path]) -> None:
    with open_executor("iterative") as executor:
        result = run({"d": [str(files[0])]}, count, executor, BRANCHES, chunksize=CHUNK)
    assert result.chunks > 1
    assert descriptors(files) == 0


def count(events: Any) -> dict[str, int]:
    return {"events": len(events)}


# --- bytes of each chunk


def read(events: Any) -> dict[str, Any]:
    """By chunk, bytes that were read for it."""
    about = events.metadata
    source = events.attrs["@events_factory"].file_handle.file.source
    chunk = (about["filename"], about["entrystart"])
    return {"bytes": {chunk: source.num_requested_bytes}, "sum": float(np.sum(events.MET.pt))}


def read_anew(events: Any) -> dict[str, Any]:
    """The same, of files that stay open for one chunk."""
    found = read(events)
    kept.close()
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("iterative", {}),
        ("futures", {}),
        ("futures", {"pool": "threads"}),
        pytest.param("dask", {}, marks=pytest.mark.slow),
    ],
)
def test_each_chunk_counts_what_it_reads(
    files: list[Path], name: str, options: dict[str, Any]
) -> None:
    """The first of a file that a thread reads counts the tree, the others what is new to them."""
    fileset = {"d": [str(path) for path in files[:2]]}
    looked = inspected(fileset, read, BRANCHES, chunksize=CHUNK)
    with open_executor("iterative") as executor:
        alone = inspected(fileset, read_anew, BRANCHES, chunksize=CHUNK).run(executor)
    trees = {str(path): size(path) for path in files}
    shared = {chunk: shares(*chunk) for chunk in alone.accumulated["bytes"]}
    assert all(bool(begun) == bool(chunk[1] % 1000) for chunk, (begun, _) in shared.items())
    with open_executor(name, workers=1 if name == "iterative" else 2, **options) as executor:
        for _ in range(2):
            got = looked.run(executor)
            counted, whole = (each.accumulated["bytes"] for each in (got, alone))
            assert counted.keys() == whole.keys()
            assert len(counted) >= 8
            assert got.bytes_read == sum(counted.values())
            spared = {chunk: whole[chunk] - counted[chunk] for chunk in whole}
            for chunk, spare in spared.items():
                tree = trees[chunk[0]]
                assert spare in {0, tree, *(tree + one for one in shared[chunk])}
            assert list(spared.values()).count(0) <= 2 * len(fileset["d"])
            if name == "iterative":
                assert [chunk[1] for chunk in whole if not spared[chunk]] == [0, 0]
                assert all(
                    spare == trees[chunk[0]] + shared[chunk][0]
                    for chunk, spare in spared.items()
                    if chunk[1]
                )


def size(path: Path) -> int:
    """Bytes that describe the tree of a file."""
    with uproot.open(path) as file:
        before = file.file.source.num_requested_bytes
        file["Events"]
        return int(file.file.source.num_requested_bytes - before)


def shares(path: str, start: int) -> tuple[int, int]:
    """Bytes of baskets with an entry: of those that the chunk before has begun, and of all."""
    begun = every = 0
    with uproot.open({path: "Events"}) as tree:
        for name in {*BRANCHES, *counters(BRANCHES)} & {*tree.keys(recursive=False)}:
            branch = bulk.find(tree, name)
            assert branch is not None
            for i in branch.baskets(start, start + 1):
                size = branch.places[i][1] - branch.places[i][0]
                every += size
                begun += size * int(branch.starts[i] < start)
    return begun, every


def test_uproot_alone_keeps_nothing(files: list[Path]) -> None:
    looked = inspected({"d": [str(files[0])]}, read, BRANCHES, chunksize=CHUNK, reader="uproot")
    with open_executor("iterative") as executor:
        found = looked.run(executor).accumulated["bytes"]
    assert min(found.values()) > size(files[0])


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened(tmp_path / "none.root")
    with pytest.raises(InputError, match="there is no such file"):
        inspected({"d": [str(tmp_path / "none.root")]}, count)


def test_a_run_has_nothing_of_an_earlier_one(files: list[Path]) -> None:
    kept.begin("first")
    source, _ = opened(files[0])
    kept.begin("first")
    assert not source.closed
    kept.begin("second")
    assert source.closed
