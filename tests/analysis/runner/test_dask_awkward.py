"""The dask-awkward way of running gives what the executors give. It runs in its own environment."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import uproot

from analysis import adl, ttbar
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.files.fileset import FileSet
from analysis.runner import dask_awkward
from analysis.runner.job import Inspected, Job
from tests.analysis.test_ttbar import assert_same
from tests.conftest import EVENTS
from tests.support import dask_awkward_driver
from tests.support.dask_awkward_driver import Call
from tests.support.faults import KillsAlways, Plain, Raises
from tests.support.jobs import inspected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from analysis.runner.result import Result

VARIABLE: Final = "COFFEA_SCALING_DASK_AWKWARD_PYTHON"
ROOT: Final = Path(__file__).parents[3]
PATIENCE: Final = 600
"""Seconds after which the other Python is taken to hang: far above what it takes."""

SAMPLES: Final = ("ttbar__nominal", "ttbar__ME_var", "single_top_tW__nominal")
ADL_BRANCHES: Final = (*adl.INPUTS, adl.BTAGS)


class Driver:
    """A process of the Python that has dask-awkward, with a cluster of its own or without."""

    def __init__(self, python: str, workers: int, folder: Path) -> None:
        self.folder = folder
        self.errors = folder / "errors"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [python, "-m", "tests.support.dask_awkward_driver", str(workers)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __call__(self, jobs: Sequence[Call]) -> list[Any]:
        """What came of each job: a Result, or the sentence of an InputError."""
        assert self.process.stdin
        assert self.process.stdout
        path = self.folder / "jobs"
        path.write_bytes(pickle.dumps(list(jobs)))
        watch = threading.Timer(PATIENCE, self.process.kill)
        watch.start()
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answers = iter(self.process.stdout.readline, "")
        done = any(line.strip() == str(path) for line in answers)
        watch.cancel()
        assert done, self.errors.read_text()
        outcomes: list[Any] = pickle.loads(path.read_bytes())
        return outcomes

    def end(self) -> None:
        """Let it end by itself."""
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, self.errors.read_text()


def python() -> str:
    """The Python that has dask-awkward; skips where there is none."""
    found = Path(os.environ.get(VARIABLE) or ROOT / ".venv-dask-awkward" / "bin" / "python")
    if not found.exists():
        pytest.skip(f"there is no {found}: `make dask-awkward` makes it, or set {VARIABLE}")
    return str(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Works in its own process."""
    driver = Driver(python(), 0, tmp_path_factory.mktemp("alone"))
    yield driver
    driver.end()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Has two worker processes."""
    driver = Driver(python(), 2, tmp_path_factory.mktemp("cluster"))
    yield driver
    driver.end()


@pytest.fixture(params=["alone", "cluster"])
def drive(request: pytest.FixtureRequest) -> Driver:
    """Each of the two."""
    driver: Driver = request.getfixturevalue(request.param)
    return driver


@pytest.fixture
def some(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    """A sample with all variations, one without, and another process."""
    return {name: synthetic_fileset[name] for name in SAMPLES}


def call(fileset: Mapping[str, Any], processor: Any, *, tampering: str = "", **how: Any) -> Call:
    """A job on a file set that is as it should be."""
    return Call(inspected(fileset, processor, **how), tampering)


def iterative(call: Call) -> Result:
    """What the executor of this environment makes of a job."""
    with open_executor("iterative") as executor:
        return call.inspected.run(executor)


def assert_one_sentence(outcome: Any, *parts: str) -> None:
    assert isinstance(outcome, str)
    assert "\n" not in outcome
    assert len(outcome) < 600
    for part in parts:
        assert part in outcome


@pytest.mark.parametrize(
    "chunksizes", [(700, EVENTS), pytest.param((EVENTS, 700), marks=pytest.mark.slow)]
)
def test_same_as_the_iterative_executor(
    drive: Driver, some: dict[str, Any], chunksizes: tuple[int, int]
) -> None:
    processors = (
        (ttbar.TtbarProcessor("compiled"), ttbar.INPUTS),
        (adl.AdlProcessor("compiled"), ADL_BRANCHES),
    )
    # uproot opens a file for every chunk, as it does for dask-awkward: they read the same bytes.
    jobs = [
        call(some, processor, chunksize=chunksize, branches=branches, reader="uproot")
        for (processor, branches), chunksize in zip(processors, chunksizes, strict=True)
    ]
    for one, got in zip(jobs, drive(jobs), strict=True):
        want = iterative(one)
        if isinstance(one.inspected.job.processor, ttbar.TtbarProcessor):
            assert_same(got.accumulated, want.accumulated)
        else:
            assert got.accumulated == want.accumulated
        assert got.events == want.events == len(some) * EVENTS
        assert got.chunks == want.chunks
        assert got.repeated == 0
        assert got.bytes_read == want.bytes_read


@pytest.fixture
def references(tmp_path: Path) -> dict[str, Any]:
    """A file set of one sample, of two small files in which muons refer to jets."""
    random = np.random.default_rng(5)
    files = {}
    for number in range(2):
        events = 300
        jets, muons = random.integers(0, 5, events), random.integers(0, 3, events)
        columns: dict[str, Any] = {}
        for name, counts in (("Jet", jets), ("Muon", muons)):
            total = int(counts.sum())
            fields = {
                "pt": random.exponential(50, total),
                "eta": random.normal(0, 1, total),
                "phi": random.uniform(-3, 3, total),
                "mass": random.uniform(1, 9, total),
            }
            if name == "Muon":
                fields["charge"] = random.choice([-1, 1], total)
            columns |= {f"{name}_{field}": (counts, values) for field, values in fields.items()}
        # -1 for none: of events without jets, and of every third muon or so.
        most = np.repeat(jets, muons)
        index = np.floor(random.uniform(0, 1, len(most)) * most).astype(np.int32)
        index[(most == 0) | (random.uniform(0, 1, len(most)) < 0.3)] = -1
        columns["Muon_jetIdx"] = (muons, index)
        path = tmp_path / f"references [{number}].root"
        _write(path, events, columns)
        files[str(path)] = "Events"
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 1.0}
    return {"some": {"files": files, "metadata": metadata}}


def _write(path: Path, events: int, columns: Mapping[str, tuple[Any, Any]]) -> None:
    import awkward as ak

    identity = ("run", "luminosityBlock", "event")
    with uproot.recreate(path) as file:
        content = {
            name: ak.unflatten(values, counts) for name, (counts, values) in columns.items()
        }
        kinds = {name: str(array.type).partition(" * ")[2] for name, array in content.items()}
        tree = file.mktree(
            "Events", {**kinds, **dict.fromkeys(identity, "uint32")}, counter_name=_counter
        )
        tree.extend({**content, **{name: np.arange(events, dtype=np.uint32) for name in identity}})


def _counter(branch: str) -> str:
    return f"n{branch.partition('_')[0]}"


def test_partitions_are_events_in_full(alone: Driver, references: dict[str, Any]) -> None:
    """Vectors, cross references, metadata; brackets in a path; branches known or not."""
    known = [
        f"{name}_{field}" for name in ("Jet", "Muon") for field in ("pt", "eta", "phi", "mass")
    ]
    jobs = [
        call(references, dask_awkward_driver.objects, chunksize=100, branches=branches)
        for branches in ((), (*known, "Muon_jetIdx"))
    ]
    for one, got in zip(jobs, alone(jobs), strict=True):
        want = iterative(one).accumulated
        assert got.accumulated == want
        assert want["referred"].sum(flow=True) > 100
        assert len(want["about"]) == 6


def test_empty_files_are_processed(alone: Driver, some: dict[str, Any], tmp_path: Path) -> None:
    """As an executor processes them: their samples then have histograms, of nothing."""
    path = tmp_path / "empty.root"
    (first, *_) = some["ttbar__nominal"]["files"]
    with uproot.open(first) as file, uproot.recreate(path) as other:
        none = file["Events"].arrays(entry_stop=0)
        columns = {name: none[name] for name in none.fields if not name.startswith("n")}
        kinds = {name: str(column.type).partition(" * ")[2] for name, column in columns.items()}
        other.mktree("Events", kinds, counter_name=_counter)
    fileset = {
        "empty": {**some["ttbar__nominal"], "files": {str(path): "Events"}},
        "single_top_tW__nominal": some["single_top_tW__nominal"],
    }
    processor = ttbar.TtbarProcessor("columnar")
    one = call(fileset, processor, branches=ttbar.INPUTS, allow_empty=True)
    (got,) = alone([one])
    want = iterative(one)
    assert_same(got.accumulated, want.accumulated)
    assert got.chunks == want.chunks == 3


def test_failures_are_one_sentence(drive: Driver, some: dict[str, Any], tmp_path: Path) -> None:
    fileset = {"ttbar__nominal": dict(some["ttbar__nominal"])}
    paths = [str(tmp_path / f"file_{number}.root") for number in range(2)]
    for path, source in zip(paths, some["ttbar__nominal"]["files"], strict=True):
        shutil.copy(source, path)
    fileset["ttbar__nominal"]["files"] = dict.fromkeys(paths, "Events")
    good = ttbar.TtbarProcessor("compiled")
    jobs = [
        call(some, Raises(), chunksize=1000, branches=["Jet_pt"]),
        call(some, dask_awkward_driver.forward, branches=["Jet_pt"]),
        call(fileset, good, chunksize=1000, branches=ttbar.INPUTS),
    ]
    # Damaged where the form of events is not read from, once the files had been looked at.
    content = bytearray(Path(paths[1]).read_bytes())
    with uproot.open(paths[1]) as file:
        basket = file["Events"]["Jet_pt"].basket(0)
        begin, length = basket.cursor.index, basket.compressed_bytes
    content[begin : begin + length] = bytes(length)
    Path(paths[1]).write_bytes(content)

    raises, unread, damaged = drive(jobs)
    assert_one_sentence(raises, "events 1000 to 2000 could not be processed", "jets out of order")
    assert_one_sentence(unread, "could not be processed: it reads Jet_eta, which is not among")
    assert_one_sentence(damaged, paths[1], "cannot be read, fetch it again or leave it out")


# Workers start anew four times, which imports all of it.
@pytest.mark.slow
def test_death_of_workers_is_one_sentence(cluster: Driver, some: dict[str, Any]) -> None:
    """And the workers that were started in their place do what comes next."""
    fileset = {"ttbar__nominal": some["ttbar__nominal"]}
    killer = KillsAlways()
    killer.bad = "_0.root"
    jobs = [
        call(fileset, processor, chunksize=1000, branches=["Jet_pt"])
        for processor in (killer, Plain())
    ]
    killed, plain = cluster(jobs)
    assert_one_sentence(killed, "_0.root: events 0 to 1000", "workers died 4 times, 4 of them")
    assert plain.accumulated == iterative(jobs[1]).accumulated


def test_missing_files(alone: Driver, some: dict[str, Any], tmp_path: Path) -> None:
    """They were there when they were looked at; the first is opened by the client, for the form."""
    jobs, lost = [], []
    for position in range(2):
        paths = [str(tmp_path / f"lost_{position}_{number}.root") for number in range(2)]
        for path, source in zip(paths, some["ttbar__nominal"]["files"], strict=True):
            shutil.copy(source, path)
        dataset = {**some["ttbar__nominal"], "files": dict.fromkeys(paths, "Events")}
        jobs.append(call({"ttbar__nominal": dataset}, dask_awkward_driver.objects))
        lost.append(paths[position])
        Path(paths[position]).unlink()
    for path, outcome in zip(lost, alone(jobs), strict=True):
        assert_one_sentence(outcome, path, "cannot be read, fetch it again or leave it out")


def test_chunks_that_are_lost_or_merged_twice(alone: Driver, some: dict[str, Any]) -> None:
    jobs = [
        call(some, ttbar.TtbarProcessor(), tampering=how, branches=ttbar.INPUTS)
        for how in ("lost", "twice")
    ]
    lost, twice = alone(jobs)
    assert_one_sentence(lost, "the executor merged 4 of 6 chunks: the result is not used")
    assert_one_sentence(twice, "the executor merged 8 results of 6 chunks")


def test_what_it_does_not_do(alone: Driver, some: dict[str, Any]) -> None:
    parquet = FileSet.of({"ttbar": {"files": {"a.parquet": "Events"}, "metadata": {}}})
    jobs = [
        Call(Inspected(Job(parquet, dask_awkward_driver.objects), ())),
        call(some, dask_awkward_driver.objects, chunksize=0),
    ]
    other_format, no_size = alone(jobs)
    assert_one_sentence(other_format, "coffea reads TTrees only")
    assert_one_sentence(no_size, "a chunk cannot have 0 events")


@pytest.mark.slow
def test_without_dask_awkward(some: dict[str, Any]) -> None:
    """As in the environment of all other tests."""
    with pytest.raises(InputError, match="`make dask-awkward` makes it"):
        dask_awkward.run_lazily(inspected(some, dask_awkward_driver.objects))
    with pytest.raises(InputError, match="`make dask-awkward`"), dask_awkward.open_client():
        pass
