"""What coffea's own tests ask of executors, asked of each of ours.

The cases are those of coffea's tests of executors and of its Runner, written anew: kinds of
processors and of accumulators, formats, chunks, checkpoints, retries, bad files. What is expected
comes from coffea's IterativeExecutor, or is stated.
"""

from __future__ import annotations

import shutil
import warnings
from collections import Counter, defaultdict
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import hist
import numpy as np
import pytest
from coffea.nanoevents import BaseSchema
from coffea.nanoevents import trace as coffea_trace
from coffea.processor import (
    AccumulatorABC,
    IterativeExecutor,
    ProcessorABC,
    Runner,
    SimpleCheckpointer,
    accumulate,
    column_accumulator,
    defaultdict_accumulator,
    dict_accumulator,
    set_accumulator,
    value_accumulator,
)
from coffea.processor.executor import Err, Ok, WorkItem

from analysis.files.nanoevents import QuietSchema
from analysis.synthetic import write_fileset
from tests.analysis.executors.conftest import PROCESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coffea.processor.executor import ExecutorBase

SHARED = True
"""What all executors share: see `conftest.QUICK`."""

FORMATS = ("ttree", "rntuple", "parquet")
EVENTS = 600
FILES = 2
CLUSTER = 100
NAME = "ttbar__nominal"

BEFORE_THE_ENGINE = pytest.mark.parametrize(
    "engine",
    [
        *("futures", "dask", "iterative", "futures threads"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("parsl", "spark", "taskvine")),
        pytest.param("parsl threads", marks=pytest.mark.slow),
    ],
    indirect=True,
    scope="package",
)
"""For what coffea's Runner does before it calls an executor, and thus the same for all engines."""


@pytest.fixture(scope="package")
def filesets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same events in each format: two files of 300."""
    made = {}
    for kind in FORMATS:
        made[kind] = write_fileset(
            tmp_path_factory.mktemp(kind),
            events=EVENTS,
            seed=3,
            processes=["ttbar"],
            variations=["nominal"],
            format=kind,
            events_per_file=EVENTS // FILES,
            cluster=CLUSTER,
        )
    return made


@pytest.fixture
def fileset(filesets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return filesets["ttree"]


@pytest.fixture(scope="package")
def expected(filesets: dict[str, dict[str, Any]]) -> Any:
    """What `Jets` gives of each form of the events, by coffea's simplest executor."""
    return plain(filesets["ttree"], Jets())


@pytest.fixture(scope="package")
def of_kinds(filesets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What each kind of processor gives, by coffea's simplest executor."""
    return {kind: plain(filesets["ttree"], make()) for kind, make in KINDS.items()}


def runner(executor: ExecutorBase, **options: Any) -> Runner:
    """A Runner that remembers nothing of others."""
    given = {"schema": QuietSchema, "chunksize": CLUSTER, "metadata_cache": {}, **options}
    return Runner(executor=executor, **given)


def plain(fileset: dict[str, Any], processor: Any, **options: Any) -> Any:
    """As coffea's simplest executor does it."""
    iterative = IterativeExecutor(status=False)
    return runner(iterative, **options)(fileset, processor_instance=processor)


# --- processors


class Jets(ProcessorABC):
    """Counts and fills."""

    def __init__(self, minimum: float = 30.0) -> None:
        self.minimum = minimum

    def process(self, events: Any) -> dict[str, Any]:
        chosen = events.Jet.pt[events.Jet.pt > self.minimum]
        name = events.metadata["dataset"]
        mass = hist.Hist.new.StrCat([], growth=True, name="dataset").Reg(9, 0, 300).Weight()
        mass.fill(name, ak.to_numpy(ak.flatten(chosen)))
        return {"events": {name: len(events)}, "jets": int(ak.count(chosen)), "pt": mass}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        return {**accumulator, "post": True}


def function(events: Any, minimum: float = 30.0) -> dict[str, Any]:
    return Jets(minimum).process(events)


class Callable_:
    """An object that is called."""

    def __call__(self, events: Any) -> dict[str, Any]:
        return function(events)


KINDS: dict[str, Callable[[], Any]] = {
    "class": Jets,
    "function": lambda: function,
    "lambda": lambda: lambda events: function(events, 30.0),
    "partial": lambda: partial(function, minimum=30.0),
    "bound method": lambda: Jets().process,
    "callable": Callable_,
}


def same(one: Any, other: Any) -> bool:
    """Whether results are equal, histograms bin by bin."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, hist.Hist):
        return bool(np.array_equal(one.view(flow=True), other.view(flow=True)))
    return bool(one == other)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_processors(
    executor: ExecutorBase, fileset: dict[str, Any], of_kinds: dict[str, Any], kind: str
) -> None:
    want = of_kinds[kind]
    assert want["events"] == {NAME: EVENTS}
    assert want["jets"] > EVENTS
    for compression in (1, None):
        one = runner(executor, processor_compression=compression)
        assert same(one(fileset, processor_instance=KINDS[kind]()), want)


def test_compression_of_results(
    executor: ExecutorBase, fileset: dict[str, Any], expected: Any
) -> None:
    for compression in (None, 1, 9, "auto"):
        one = runner(executor.copy(compression=compression))
        assert same(one(fileset, processor_instance=Jets()), expected)


class Total(AccumulatorABC):
    """An accumulator of the user's."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def identity(self) -> Total:
        return Total()

    def add(self, other: Total) -> None:
        self.value += other.value


def accumulators(events: Any) -> dict[str, Any]:
    start, n = events.metadata["entrystart"], len(events)
    counts = defaultdict(int, {"n": n})
    return {
        "int": n,
        "set": {start},
        "counter": Counter(n=n),
        "defaultdict": counts,
        "nested": {"a": {"b": n}},
        "column": column_accumulator(np.asarray(events.event)),
        "value": value_accumulator(int, n),
        "of coffea": dict_accumulator(
            {
                "set": set_accumulator({start}),
                "defaultdict": defaultdict_accumulator(int, {"n": n}),
            }
        ),
        "own": Total(n),
    }


def test_accumulators(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    out = runner(executor)(fileset, processor_instance=accumulators)
    starts = set(range(0, EVENTS // FILES, CLUSTER))
    assert out["int"] == out["own"].value == out["value"].value == EVENTS
    assert out["nested"] == {"a": {"b": EVENTS}}
    assert out["counter"] == out["defaultdict"] == {"n": EVENTS}
    assert out["set"] == starts
    assert sorted(out["column"].value) == sorted(plain(fileset, accumulators)["column"].value)
    of_coffea = out["of coffea"]
    assert of_coffea["set"] == starts
    assert of_coffea["defaultdict"] == {"n": EVENTS}


def test_a_processor_that_returns_nothing(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    once = runner(executor.copy(retries=0))
    with pytest.raises(ValueError, match="should not be None"):
        once(fileset, processor_instance=_nothing)


def _nothing(events: Any) -> None:
    """Forgets to return."""


def test_items_of_any_kind(executor: ExecutorBase) -> None:
    """As coffea's tests call executors, without a Runner."""
    assert executor(list(range(100)), _square, {"n": 5}) == ({"n": 5 + 328350}, 0)
    assert executor([("a", 1), ("b", 2), ("a", 3)], lambda one: Counter([one[0]]), None) == (
        {"a": 2, "b": 1},
        0,
    )
    assert executor({3, 4}, _square, None)[0] == {"n": 25}
    assert executor([], _square, {"n": 5}) == ({"n": 5}, 0)


def _square(n: int) -> dict[str, int]:
    return {"n": n * n}


# --- chunks


@BEFORE_THE_ENGINE
@pytest.mark.parametrize("kind", FORMATS)
def test_formats(
    executor: ExecutorBase, filesets: dict[str, dict[str, Any]], kind: str, expected: Any
) -> None:
    of = "parquet" if kind == "parquet" else "root"
    assert same(runner(executor, format=of)(filesets[kind], processor_instance=Jets()), expected)


@BEFORE_THE_ENGINE
def test_schemas(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    one = runner(executor, schema=BaseSchema)
    out = one(fileset, processor_instance=lambda events: {"n": int(ak.sum(events.nJet))})
    assert out["n"] == plain(fileset, Jets(0.0))["jets"]


@BEFORE_THE_ENGINE
@pytest.mark.parametrize("most", [1, 2, 4])
def test_most_chunks(executor: ExecutorBase, fileset: dict[str, Any], most: int) -> None:
    out = runner(executor, maxchunks=most)(fileset, processor_instance=Jets())
    assert out["events"] == {NAME: most * CLUSTER}


@BEFORE_THE_ENGINE
def test_forms_of_file_sets(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    files, about = list(fileset[NAME]["files"]), {"year": 2018}
    named = dict.fromkeys(files, "Events")
    for year, form in (
        (None, {"a": files}),
        (None, {"a": {"files": files, "treename": "Events"}}),
        (2018, {"a": {"files": files, "metadata": about}}),
        (2018, {"a": {"files": named, "metadata": about}}),
        (None, {"a": files[:1], "b": files[1:]}),
    ):
        tree = None if form == {"a": {"files": named, "metadata": about}} else "Events"
        out = runner(executor)(form, treename=tree, processor_instance=_about)
        assert out == {name: {year: EVENTS // len(form)} for name in form}


def _about(events: Any) -> dict[str, Any]:
    about = events.metadata
    return {about["dataset"]: {about.get("year"): len(events)}}


@BEFORE_THE_ENGINE
def test_aligned_with_clusters(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    for size, starts in ((150, {0, 200}), (100, {0, 100, 200}), (1000, {0})):
        one = runner(executor, chunksize=size, align_clusters=True)
        out = one(fileset, processor_instance=accumulators)
        assert out["set"] == starts
        assert out["int"] == EVENTS


@BEFORE_THE_ENGINE
def test_chunks_made_before(
    executor: ExecutorBase, fileset: dict[str, Any], expected: Any
) -> None:
    one = runner(executor)
    chunks = list(one.preprocess(fileset))
    assert len(chunks) == EVENTS // CLUSTER
    assert all(isinstance(chunk, WorkItem) for chunk in chunks)
    assert same(one(chunks, processor_instance=Jets()), expected)
    assert same(one(one.preprocess(fileset), processor_instance=Jets()), expected)
    assert one(chunks[:2], processor_instance=Jets())["events"] == {NAME: 2 * CLUSTER}


@BEFORE_THE_ENGINE
def test_metrics(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    out, metrics = runner(executor, savemetrics=True)(fileset, processor_instance=Jets())
    assert out["events"] == {NAME: EVENTS}
    assert metrics["entries"] == EVENTS
    assert metrics["chunks"] == EVENTS // CLUSTER
    assert metrics["bytesread"] > 0
    assert "Jet_pt-data" in {*metrics["columns"]} | {
        column.replace("content", "data") for column in metrics["columns"]
    }


@BEFORE_THE_ENGINE
@pytest.mark.parametrize("traced", [False, True])
def test_columns_read_ahead(
    executor: ExecutorBase,
    fileset: dict[str, Any],
    expected: Any,
    traced: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    ahead = {NAME: {**fileset[NAME], "preload": ["nJet", "Jet_pt"]}}
    more = {"trace": _trace} if traced else {}
    out = runner(executor)(fileset if traced else ahead, processor_instance=Jets(), **more)
    assert same(out, expected)


def _trace(function: Any, events: Any) -> Iterable[str]:
    with warnings.catch_warnings():
        # coffea tries arrays without content first.
        warnings.filterwarnings("ignore", message="Exception during")
        found: Iterable[str] = coffea_trace.trace(function, events)
    return found


@BEFORE_THE_ENGINE
def test_metadata_is_remembered(
    executor: ExecutorBase, fileset: dict[str, Any], expected: Any
) -> None:
    cache: dict[Any, Any] = {}
    one = runner(executor, metadata_cache=cache)
    assert same(one(fileset, processor_instance=Jets()), expected)
    assert sorted(about["numentries"] for about in cache.values()) == [EVENTS // FILES] * FILES
    # Of a file that is known this many events are asked for, which it does not have.
    for about in cache.values():
        about["numentries"] = CLUSTER
    assert one(fileset, processor_instance=Jets())["events"] == {NAME: FILES * CLUSTER}


@BEFORE_THE_ENGINE
def test_columns_are_remembered(
    executor: ExecutorBase, fileset: dict[str, Any], expected: Any
) -> None:
    one = runner(executor, cachestrategy=dict)
    assert same(one(fileset, processor_instance=Jets()), expected)


# --- checkpoints, retries, bad files


class Marks(Jets):
    """Leaves a file for each call; fails the first time that a chunk comes, if it is to."""

    def __init__(self, folder: Path, *, fails: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.fails = fails

    def process(self, events: Any) -> dict[str, Any]:
        about = events.metadata
        mark = self.folder / f"{Path(about['filename']).name}-{about['entrystart']}"
        first = not mark.exists()
        with mark.open("a") as file:
            file.write("x")
        if self.fails and first:
            msg = "not the first time"
            raise RuntimeError(msg)
        return super().process(events)

    def calls(self) -> list[int]:
        return sorted(len(mark.read_text()) for mark in self.folder.iterdir())


@BEFORE_THE_ENGINE
def test_checkpoints(
    executor: ExecutorBase, fileset: dict[str, Any], tmp_path: Path, expected: Any
) -> None:
    marks, kept = tmp_path / "marks", tmp_path / "kept"
    marks.mkdir()
    processor = Marks(marks)
    few = runner(executor, checkpointer=SimpleCheckpointer(str(kept)), maxchunks=2)
    assert few(fileset, processor_instance=processor)["events"] == {NAME: 2 * CLUSTER}
    assert len(list(kept.rglob("*.coffea"))) == 2
    for _ in range(2):
        again = runner(executor, checkpointer=SimpleCheckpointer(str(kept)))
        assert same(again(fileset, processor_instance=processor), expected)
    assert processor.calls() == [1] * (EVENTS // CLUSTER)


def test_retries(
    executor: ExecutorBase, fileset: dict[str, Any], tmp_path: Path, expected: Any
) -> None:
    once, twice = (Marks(tmp_path / name, fails=True) for name in ("once", "twice"))
    for one in (once, twice):
        one.folder.mkdir()
    quiet = partial(runner(executor.copy(retries=1)), processor_instance=twice)
    if executor.inside:
        with pytest.warns(UserWarning, match="Performed attempt 1 out of 2"):
            out = quiet(fileset)
    else:
        out = quiet(fileset)
    assert same(out, expected)
    assert twice.calls() == [2] * (EVENTS // CLUSTER)
    # Last: threads that go on after the failure would put back filters of warnings meanwhile.
    with pytest.raises(Exception, match=r"Failed processing file.*not the first time"):
        runner(executor.copy(retries=0))(fileset, processor_instance=once)


@pytest.fixture(params=["missing", "not ROOT", "cut off"])
def spoilt(request: pytest.FixtureRequest, fileset: dict[str, Any], tmp_path: Path) -> Any:
    """A file set one of whose three files is bad."""
    good = list(fileset[NAME]["files"])
    bad = tmp_path / "bad.root"
    if request.param == "not ROOT":
        bad.write_bytes(b"this is no ROOT file" * 100)
    elif request.param == "cut off":
        shutil.copy(good[0], bad)
        with bad.open("r+b") as file:
            file.truncate(3000)
    return {NAME: {"files": dict.fromkeys([good[0], str(bad), good[1]], "Events")}}


@pytest.mark.filterwarnings("ignore:Skipping bad file")
def test_bad_files(executor: ExecutorBase, spoilt: Any, expected: Any) -> None:
    once = executor.copy(retries=0)
    with pytest.raises(Exception, match=r"bad\.root|not recognized|not a ROOT|Expected|start"):
        runner(once)(spoilt, processor_instance=Jets())
    for errors in ((Exception,), (OSError, ValueError, KeyError, RuntimeError, EOFError)):
        out = runner(once, skipbadfiles=errors)(spoilt, processor_instance=Jets())
        assert same(out, expected)


def test_a_tree_that_is_not_there(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    wrong = {NAME: {"files": dict.fromkeys(fileset[NAME]["files"], "Evts")}}
    with pytest.raises(KeyError, match="Evts"):
        runner(executor.copy(retries=0))(wrong, processor_instance=Jets())


class Unlucky(Jets):
    """The second chunk of each file raises."""

    def process(self, events: Any) -> dict[str, Any]:
        if events.metadata["entrystart"] == CLUSTER:
            msg = "bad luck"
            raise OSError(msg)
        return super().process(events)


@pytest.mark.filterwarnings("ignore:Skipping bad file")
def test_results_as_values(executor: ExecutorBase, fileset: dict[str, Any], expected: Any) -> None:
    once = executor.copy(retries=0)
    options: dict[str, Any] = {"use_result_type": True, "skipbadfiles": True}
    good = runner(once, **options)(fileset, processor_instance=Jets())
    assert isinstance(good, Ok)
    assert same(good.unwrap(), expected)
    bad = runner(once, **options)(fileset, processor_instance=Unlucky())
    assert isinstance(bad, Err)
    assert "bad luck" in str(bad.exception)
    partly = runner(once.copy(recoverable=True), **options)(fileset, processor_instance=Unlucky())
    assert isinstance(partly, Err)
    assert partly.value["events"] == {NAME: EVENTS - FILES * CLUSTER}
    skipped = runner(once, skipbadfiles=True)(fileset, processor_instance=Unlucky())
    assert skipped["events"] == {NAME: EVENTS - FILES * CLUSTER}


# --- all together


CHOICES: Final = tuple(
    product((CLUSTER, 250), (None, 1), (None, 1), (False, True), (None, 1), KINDS)
)
"""Chunk size, number of chunks, compression, bad files, compression of the processor, and its kind."""


def quarter(number: int) -> Iterator[tuple[Any, ...]]:
    """A quarter of CHOICES, in which any three choices meet; four numbers in turn have all."""
    kinds = list(KINDS)
    for choice in CHOICES:
        *levels, kind = choice
        size, most, compressed, skip, sent = (level in {250, 1} for level in levels)
        low, high = kinds.index(kind) & 1, kinds.index(kind) >> 1 & 1
        first = (compressed + skip + size + low + number) % 2
        second = (sent + most + compressed + high + number // 2) % 2
        if first == second == 0:
            yield choice


def test_any_three_choices_meet_in_a_quarter_and_all_in_four() -> None:
    quarters = [set(quarter(number)) for number in range(4)]
    assert set().union(*quarters) == set(CHOICES)
    assert sum(map(len, quarters)) == len(CHOICES)
    for three in combinations(range(6), 3):
        met = {tuple(choice[place] for place in three) for choice in CHOICES}
        for some in quarters:
            assert {tuple(choice[place] for place in three) for choice in some} == met


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Skipping bad file")
@pytest.mark.parametrize("kind", FORMATS)
def test_combinations(
    executor: ExecutorBase, engine: str, filesets: dict[str, dict[str, Any]], kind: str
) -> None:
    """Any three of formats, processors, chunks, compression and bad files, with each engine."""
    fileset = filesets[kind]
    of = "parquet" if kind == "parquet" else "root"
    wants: dict[tuple[Any, ...], Any] = {}
    number = (*PROCESSES, "iterative", "futures threads", "parsl threads").index(engine)
    for size, most, compression, skip, sent, name in quarter(number + FORMATS.index(kind)):
        chunks: dict[str, Any] = {"chunksize": size, "maxchunks": most, "format": of}
        if (key := (size, most, name)) not in wants:
            wants[key] = plain(fileset, KINDS[name](), **chunks)
        options = {**chunks, "skipbadfiles": skip, "processor_compression": sent}
        one = runner(executor.copy(compression=compression), **options)
        out = one(fileset, processor_instance=KINDS[name]())
        assert same(out, wants[key]), (name, compression, options)


@pytest.mark.slow
def test_every_size_of_batches(executor: ExecutorBase, fileset: dict[str, Any]) -> None:
    want = plain(fileset, Jets(), chunksize=20)
    for batch, fan_in, recoverable in product((None, 1, 3, 100), (2, 3, 16), (False, True)):
        one = executor.copy(batch=batch, fan_in=fan_in, recoverable=recoverable)
        assert same(runner(one, chunksize=20)(fileset, processor_instance=Jets()), want)
    assert accumulate([want["events"]]) == {NAME: EVENTS}
