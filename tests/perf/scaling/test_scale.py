"""Scaling is measured end to end, goes on where it was interrupted, and reports no wrong result."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import uproot
from coffea.processor import IterativeExecutor

from analysis.errors import InputError
from analysis.executors import open_executor
from perf.environments import CLONE_VARIABLE
from perf.records import identity, record_file
from perf.scaling import campaign as scaling_campaign
from perf.scaling import configurations as scaling_configurations
from perf.scaling import reference as scaling_reference
from perf.scaling import table as scaling_table
from perf.scaling import worker
from perf.scaling.worker import Configuration, Job, Measured
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

PATIENCE = 180.0
"""Seconds after which something that must happen is taken not to."""

SMALL = ("--executors", "iterative,futures", "--workers", "2", "--chunksizes", "500,1000")


def perf_scale(*arguments: Any) -> cli.Outcome:
    """Run ``python -m perf scale`` in this process."""
    outcome = cli.perf("scale", *arguments)
    return outcome._replace(error=" ".join(outcome.error.split()))


@pytest.fixture(scope="module")
def measured(fileset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, cli.Outcome]:
    """Both executors at both chunk sizes, once."""
    path = tmp_path_factory.mktemp("results") / "scale.jsonl"
    return path, perf_scale(fileset, *SMALL, "--repeat", 1, "--output", path)


# --- for real


def test_end_to_end(measured: tuple[Path, cli.Outcome]) -> None:
    path, outcome = measured
    assert outcome.exit_code == 0, outcome.error
    records = record_file.read(path)
    done = [scaling_campaign.read(one) for one in records]
    assert {
        (d.worker_run.configuration.executor, d.worker_run.configuration.chunksize) for d in done
    } == {(name, size) for name in ("iterative", "futures") for size in (500, 1000)}
    for one, of in zip(records, done, strict=True):
        configuration, seen = of.worker_run.configuration, of.measured
        assert one.input.events == seen.events == 4000
        assert seen.chunks == 4000 // configuration.chunksize
        assert seen.bytes_read
        assert seen.bytes_read > 0
        assert min(seen.wall + seen.cpu) > 0
        assert min(seen.first_wall, seen.first_cpu, seen.task_wall, seen.task_cpu) > 0
        assert min(seen.opening, seen.reading, seen.processing) > 0
        assert one.check
        assert len(one.check) == 64
        assert seen.peak_client
        assert seen.peak_worker
        assert seen.lost == 0
        if configuration.executor == "iterative":
            assert seen.peak_client >= seen.peak_worker
            assert seen.start_wall < 1
        else:
            assert configuration.workers == 2
            assert seen.start_cpu > 0.1  # two workers import the analysis
            assert 1 <= seen.workers_seen <= 2
        parts = (seen.serialising, seen.merging, seen.between, seen.waiting)
        rest = sum(one or 0 for one in parts)
        stages = (seen.opening, seen.reading, seen.decompressing, seen.processing, rest)
        assert sum(stages) == pytest.approx(seen.budget, rel=1e-9)
        assert seen.budget == pytest.approx(configuration.workers * seen.probed_wall)
    for text in (
        "Throughput",
        "Where the time",
        "Start, tasks and memory",
        "with the stage timer",
    ):
        assert text in outcome.output


@pytest.mark.slow
def test_coffea_compute_is_measured_beside_threads(fileset: Path, tmp_path: Path) -> None:
    if not os.environ.get(CLONE_VARIABLE):
        pytest.skip(f"{CLONE_VARIABLE} names no clone of coffea")
    path = tmp_path / "scale.jsonl"
    executors = "iterative,futures:pool=threads,compute"
    options = ("--workers", "2", "--chunksizes", "1000", "--repeat", "1", "--output", str(path))
    # In a process of its own: coffea.compute stays in the coffea of this one.
    command = [sys.executable, "-m", "perf", "scale", str(fileset), "--executors", executors]
    done = subprocess.run(
        [*command, "--compute", "compute", *options], capture_output=True, text=True, check=False
    )
    if "has no commit" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    records = record_file.read(path)
    assert {one.what.executor for one in records} == {"iterative", "futures", "compute"}
    assert len({one.check for one in records}) == 1
    assert all(len(one.versions["coffea.compute"]) == 10 for one in records)
    for of in map(scaling_campaign.read, records):
        assert (of.measured.chunks, of.measured.events, of.measured.workers_seen) == (4, 4000, 1)


def test_again_measures_nothing_and_prints_the_same(
    measured: tuple[Path, cli.Outcome], fileset: Path
) -> None:
    path, outcome = measured
    before = path.read_bytes()
    again = perf_scale(fileset, *SMALL, "--repeat", 1, "--output", path)
    assert again.exit_code == 0
    assert path.read_bytes() == before
    said, _, rest = again.output.partition("\n")
    assert said == f"4 of 4 worker runs are in {path} already"
    assert rest == outcome.output
    *_, versions, machine = rest.splitlines()
    assert f"coffea {version('coffea')}, " in versions
    assert " cores" in machine


def test_table_from_the_file(measured: tuple[Path, cli.Outcome]) -> None:
    path, outcome = measured
    shown = perf_scale("--show", path)
    assert shown.exit_code == 0
    assert shown.output.startswith(outcome.output)
    assert "coffea 20" in shown.output


def test_other_arguments_are_another_measurement(
    measured: tuple[Path, cli.Outcome], fileset: Path
) -> None:
    path, _ = measured
    job = Job(fileset=fileset)
    assert len(scaling_campaign.Campaign(job, path).done()) == 4
    for change in ({"variations": "all"}, {"implementation": "fused"}):
        assert scaling_campaign.Campaign(job.model_copy(update=change), path).done() == []


def test_fresh_forgets_its_own_alone(
    measured: tuple[Path, cli.Outcome], fileset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "copy.jsonl"
    path.write_bytes(measured[0].read_bytes())
    record_file.append(path, record())
    campaign = scaling_campaign.Campaign(Job(fileset=fileset), path)
    configuration = next(
        one.worker_run.configuration
        for one in campaign.done()
        if one.worker_run.configuration.executor == "futures"
    )
    campaign.forget(configuration)
    assert len(campaign.done()) == 3
    assert configuration not in [one.worker_run.configuration for one in campaign.done()]
    campaign.forget()
    assert campaign.done() == []
    assert record_file.read(path) == [
        r for r in record_file.read(path) if r.what.name == record().what.name
    ]
    assert len(record_file.read(path)) == 1


@pytest.mark.slow
def test_interrupted_it_leaves_no_process_and_goes_on_later(fileset: Path, tmp_path: Path) -> None:
    path = tmp_path / "scale.jsonl"
    arguments = [str(fileset), *SMALL[:4], "--chunksizes", "1000", "--repeat", "1"]
    command = [sys.executable, "-m", "perf", "scale", *arguments, "--output", str(path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    family = psutil.Process(process.pid)

    def workers() -> list[Any]:
        return [one for one in family.children(recursive=True) if "Loky" in str(one.cmdline())]

    until = time.monotonic() + PATIENCE
    try:
        # The worker run of the pool may come before that of the iterative executor or after it.
        while not path.exists() or not path.read_bytes() or not (workers() or done(path)):
            assert time.monotonic() < until
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(1)
        alive = [process.pid, *(one.pid for one in family.children(recursive=True))]
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert error.startswith("interrupted: ")
    assert error.count("\n") == 1
    while any(map(psutil.pid_exists, alive)):
        assert time.monotonic() < until
        time.sleep(0.05)
    kept = path.read_bytes()
    assert kept.count(b"\n") == 1

    again = perf_scale(*arguments, "--output", path)
    assert again.exit_code == 0, again.error
    assert again.output.startswith("1 of 2 worker runs are in")
    assert path.read_bytes().startswith(kept)
    assert path.read_bytes().count(b"\n") == 2


def done(path: Path) -> list[str]:
    """Executors whose worker run is in the file."""
    return [str(one.what.executor) for one in record_file.read(path)]


def test_result_that_depends_on_the_executor_has_no_speed(fileset: Path, tmp_path: Path) -> None:
    path = tmp_path / "scale.jsonl"
    outcome = perf_scale(
        *(fileset, "--executors", "iterative,futures", "--workers", 1, "--chunksizes", 1000),
        *(
            "--repeat",
            1,
            "--processor",
            "tests.support.bad_processors:ByProcess",
            "--output",
            path,
        ),
    )
    assert outcome.exit_code == 1
    assert done(path) == ["iterative"]
    text = " ".join(outcome.output.split())
    assert "FAILED" in text
    assert "the result differs from the reference" in text


@pytest.mark.slow
def test_a_configuration_that_fails_says_why_and_the_others_are_measured(
    fileset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scale.jsonl"
    outcome = perf_scale(
        *(fileset, "--executors", "futures,iterative", "--workers", 1, "--chunksizes", 1000),
        *("--repeat", 2, "--processor", "tests.support.bad_processors:Dies", "--output", path),
        *("--option", "retries=0"),
    )
    assert outcome.exit_code == 1
    assert done(path) == ["iterative", "iterative"]
    assert "workers died" in " ".join(outcome.output.split())


def test_what_coffeas_own_executor_does_not_tell_is_not_nothing(fileset: Path) -> None:
    configuration = Configuration(executor="iterative", tuned=False, chunksize=4000)
    prepared = Job(fileset=fileset, processor="tests.support.bad_processors:Counts").inspect()
    request = worker.Request(
        job=Job(fileset=fileset),
        configuration=configuration,
        input=prepared.digest,
        reference=fileset,
    )
    with worker.opened(configuration) as executor:
        assert type(executor) is IterativeExecutor
        found, _ = worker._measure(request, prepared, executor, lambda _: None)
    assert [found[name] for name in ("serialising", "waiting", "lost")] == [None] * 3
    stages = ("opening", "reading", "decompressing", "processing", "unknown")
    assert sum(found[name] for name in stages) == pytest.approx(found["budget"], rel=1e-9)


# --- which results are equal


@pytest.fixture(scope="module")
def iterative() -> Iterator[Any]:
    with open_executor("iterative") as executor:
        yield executor


@pytest.mark.parametrize("chunksizes", [(4000, 300), (300, 1000)])
def test_ordinary_results_are_equal_at_any_chunk_size(
    chunksizes: tuple[int, int], fileset: Path, iterative: Any
) -> None:
    prepared = Job(fileset=fileset, processor="tests.support.bad_processors:Ordinary").inspect()
    reference = scaling_reference.make_reference(prepared, chunksizes[0])
    assert reference.single
    scaling_reference.check_result(
        prepared, reference, prepared.run(iterative, chunksize=chunksizes[1])
    )


@pytest.mark.parametrize("name", ["ByLength", "MeanOfMeans"])
def test_results_that_depend_on_the_number_of_chunks_are_found(
    name: str, fileset: Path, iterative: Any
) -> None:
    prepared = Job(fileset=fileset, processor=f"tests.support.bad_processors:{name}").inspect()
    reference = scaling_reference.make_reference(prepared, 1000)
    scaling_reference.check_result(prepared, reference, prepared.run(iterative, chunksize=1000))
    with pytest.raises(
        scaling_reference.WrongError, match="the result differs from the reference: the res"
    ):
        scaling_reference.check_result(prepared, reference, prepared.run(iterative, chunksize=500))


# --- what a measurement depends on


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder with a processor that imports a module beside it and a package."""
    folder = tmp_path / "mine"
    (folder / "selection").mkdir(parents=True)
    (folder / "mine.py").write_text(
        "import cuts\n\ndef count(events):\n    from selection import objects\n"
        "    return {'n': cuts.n(events) + objects.ZERO}\n"
    )
    (folder / "cuts.py").write_text("def n(events):\n    return len(events)\n")
    (folder / "selection" / "__init__.py").write_text("from . import tools\n")
    (folder / "selection" / "objects.py").write_text("ZERO = 0\ndef f(): from .. import none\n")
    (folder / "selection" / "tools.py").write_text("")
    (folder / "selection" / "unused.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield folder
    for name in ("mine", "cuts", "selection"):
        sys.modules.pop(name, None)


MINE = ("mine", "cuts", "selection", "selection.objects", "selection.tools")


def test_modules_are_found_without_being_imported(mine: Path) -> None:
    assert set(identity.modules("mine")) == {f"the module {name}" for name in MINE}
    assert "mine" not in sys.modules
    before = identity.modules("mine")
    (mine / "selection" / "unused.py").write_text("changed = 1\n")
    assert identity.modules("mine") == before
    for name in MINE:
        path = next(mine.rglob(f"{name.rpartition('.')[2]}.py"), mine / name / "__init__.py")
        path.write_text(f"{path.read_text()}# changed\n")
        after = identity.modules("mine")
        assert identity.changes(before, after) == [f"the module {name}"]
        before = after


def test_code_that_is_measured_is_that_of_its_executor() -> None:
    names = {
        name.rpartition(" ")[2]
        for name in identity.modules(
            "perf.scaling.worker", "analysis.executors.dask", "analysis.kernels.*"
        )
    }
    assert {
        "analysis.kernels.trijet_mass",
        "analysis.executors.dask",
        "analysis.runner.job",
    } <= names
    assert (
        not {
            "analysis.executors.spark.executor",
            "analysis.delivery",
            "analysis.servicex",
            "perf.cli._app",
            "perf.__main__",
        }
        & names
    )
    assert not [name for name in names if not name.startswith(("analysis", "perf"))]


def measured_once(campaign: scaling_campaign.Campaign) -> None:
    """A record of what the iterative executor would have given."""
    done = scaling_campaign.Done(
        scaling_campaign.WorkerRun(Configuration(executor="iterative", chunksize=4000), 0),
        made(1, 1),
    )
    record_file.append(campaign.path, campaign._record(done, "", None))


def edit_fileset(path: Path) -> None:
    content = json.loads(path.read_text())
    content["ttbar__nominal"]["metadata"]["ptmin"] = 50
    path.write_text(json.dumps(content))


def edit_helper(path: Path) -> None:
    (path.parent / "mine" / "cuts.py").write_text("def n(events):\n    return 2 * len(events)\n")


def set_variable(_: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "7"


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (edit_fileset, "the file set or one of its files"),
        (edit_helper, "the module cuts"),
        (set_variable, "the environment variables"),
    ],
)
def test_what_was_measured_of_something_else_is_not_used(
    edit: Callable[[Path], None],
    changed: str,
    fileset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "fileset.json"
    path.write_text(fileset.read_text())
    job, output = Job(fileset=path, processor="mine:count"), tmp_path / "scale.jsonl"
    first = scaling_campaign.Campaign(job, output)
    assert first.outdated([]) == (0, [])
    measured_once(first)
    worker_runs = [one.worker_run for one in first.done()]
    assert len(worker_runs) == 1
    edit(path)
    second = scaling_campaign.Campaign(job, output)
    assert second.done() == []
    assert second.outdated(worker_runs) == (1, [changed])
    assert second.reference != first.reference
    # Other arguments are another measurement, not this one of something else.
    other = scaling_campaign.Campaign(job.model_copy(update={"trace": True}), output)
    assert (other.done(), other.outdated(worker_runs)) == ([], (0, []))


def test_an_edit_is_told_and_measured_anew(mine: Path, fileset: Path, tmp_path: Path) -> None:
    output = tmp_path / "scale.jsonl"
    arguments = (
        *(fileset, "--executors", "iterative", "--chunksizes", 4000, "--repeat", 1),
        *("--processor", "mine:count", "--output", output),
    )
    measured_once(scaling_campaign.Campaign(Job(fileset=fileset, processor="mine:count"), output))
    assert "1 of 1 worker runs are in" in perf_scale(*arguments).output
    (mine / "cuts.py").write_text("def n(events):\n    raise ValueError('cut')\n")
    outcome = perf_scale(*arguments)
    assert "measured anew: 1 of 1 worker runs, since the module cuts changed" in outcome.output
    assert outcome.exit_code == 2
    assert "cut" in outcome.error


def test_an_edit_while_it_is_measured_ends_it(mine: Path, fileset: Path, tmp_path: Path) -> None:
    job = Job(fileset=fileset, processor="mine:count")
    campaign = scaling_campaign.Campaign(job, tmp_path / "scale.jsonl")
    worker_run = scaling_campaign.WorkerRun(Configuration(executor="iterative"), 0)
    (mine / "cuts.py").write_text("")
    with pytest.raises(InputError, match="the module cuts was changed while it was measured"):
        campaign.measure(worker_run)
    request = worker.Request(
        job=job, configuration=worker_run.configuration, input="", reference=tmp_path
    )
    with pytest.raises(InputError, match="one of its files was changed while it was measured"):
        worker.measure(request)


def test_two_at_once_in_one_file(fileset: Path, tmp_path: Path) -> None:
    output = tmp_path / "scale.jsonl"
    campaign = scaling_campaign.Campaign(Job(fileset=fileset), output)
    with campaign.alone():
        outcome = perf_scale(fileset, "--output", output)
    assert outcome.exit_code == 2
    assert "another process is at work in" in outcome.error
    with campaign.alone():
        pass


def test_empty_files_may_be_allowed(fileset: Path, tmp_path: Path) -> None:
    content = json.loads(fileset.read_text())
    (path,) = list(content["ttbar__nominal"]["files"])[:1]
    with uproot.open(path) as file, uproot.recreate(tmp_path / "empty.root") as empty:
        tree = file["Events"]
        branches = {name: tree[name].array(entry_stop=1) for name in ("event", "MET_pt")}
        empty["Events"] = {name: one[:0] for name, one in branches.items()}
    content["ttbar__nominal"]["files"][str(tmp_path / "empty.root")] = "Events"
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps(content))
    arguments = ("--processor", "tests.support.bad_processors:Counts", "--executors", "iterative")
    refused = perf_scale(path, *arguments, "--output", tmp_path / "scale.jsonl")
    assert "pass --allow-empty" in refused.error
    job = Job(fileset=path, processor="tests.support.bad_processors:Counts", allow_empty=True)
    assert job.inspect().events == 4000


# --- what cannot be measured


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--executors", "dusk"), "there is no executor 'dusk'"),
        (("--executors", ","), "name an executor"),
        (("--workers", "two"), "--workers must be whole numbers"),
        (("--workers", "0"), "at least one of workers"),
        (("--chunksizes", "0"), "at least one of events a chunk"),
        (("--option", "retries"), "--option takes KEY=VALUE"),
        (("--option", "colour=red"), "none of iterative, futures has it"),
        (("--executors", "futures:pool"), "--option takes KEY=VALUE"),
        (("--executors", "futures:pool=tasks"), "option pool of the futures executor cannot be"),
        (("--compute", "."), ". has no coffea.compute (src/coffea/compute)"),
        (("--option", "futures.colour=red"), "the futures executor has no option 'colour'"),
        (("--option", "dask.address=x"), "dask is not measured"),
        (("--processor", "mine:P", "--arguments", "{"), "--arguments must be a JSON object"),
        (("--arguments", "{}1"), "are for a processor of your own"),
        (("--processor", "mine:P", "--variations", "all"), "are for the ttbar analysis"),
        (
            ("--processor", "tests.support.bad_processors:Nobody"),
            "tests.support.bad_processors has no Nobody",
        ),
        (
            ("--processor", "tests.support.bad_processors:Counts", "--schema", "NoSchema"),
            "there is no schema NoSchema",
        ),
    ],
)
def test_wrong_arguments(
    arguments: Sequence[str], message: str, fileset: Path, tmp_path: Path
) -> None:
    outcome = perf_scale(fileset, *arguments, "--output", tmp_path / "scale.jsonl")
    assert outcome.exit_code == 2
    assert message in outcome.error
    assert not list(tmp_path.iterdir())


def test_wrong_files(fileset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scale.jsonl"
    outcome = perf_scale(tmp_path / "none.json", "--output", path)
    assert (outcome.exit_code, outcome.error[:24]) == (2, "error: there is no file ")
    outcome = perf_scale("--show", path)
    assert (outcome.exit_code, outcome.error[:27]) == (2, "error: there are no records")
    assert perf_scale("--output", path).error.startswith("error: name a file set")
    record_file.append(path, record())
    assert "holds no scaling measurement" in perf_scale("--show", path).error
    for other, said in (
        (tmp_path, "is a folder"),
        ("/dev/null", "no file that can be read again"),
    ):
        outcome = perf_scale(fileset, "--output", other)
        assert outcome.exit_code == 2
        assert said in outcome.error
    path.write_text("no record\n")
    assert "holds no scaling measurement" in perf_scale("--show", path).error
    assert caplog.messages == [f"left out: {path}: line 1 is not JSON"]


# --- configurations, order and options


def test_configurations() -> None:
    made = scaling_configurations.configurations(
        ["iterative", "futures"], [1, 2, 2], [10, 20], untuned=True
    )
    # It has one worker whatever is asked for.
    iterative = [(c.tuned, c.workers, c.chunksize) for c in made if c.executor == "iterative"]
    assert iterative == [(t, 1, s) for t in (True, False) for s in (10, 20)]
    futures = [(c.tuned, c.workers, c.chunksize) for c in made if c.executor == "futures"]
    assert futures == [(t, w, s) for t in (True, False) for w in (1, 2) for s in (10, 20)]


def test_options_are_given_to_those_that_have_them() -> None:
    made = scaling_configurations.configurations(
        ["iterative", "futures"],
        [1],
        [10],
        options=["retries=0", "futures.batch=3", 'environment={"A": "1"}'],
    )
    assert {one.executor: one.options for one in made} == {
        "iterative": {"retries": 0},
        "futures": {"retries": 0, "batch": 3, "environment": {"A": "1"}},
    }


def test_an_executor_is_measured_beside_itself_with_an_option() -> None:
    made = scaling_configurations.configurations(
        ["iterative", "futures", "futures:pool=threads"],
        [2],
        [10],
        options=["futures.retries=0"],
        untuned=True,
    )
    assert [(one.label, one.inside) for one in made] == [
        ("iterative", True),
        ("iterative, coffea's own", True),
        ("futures, retries=0", False),
        ("futures, coffea's own, retries=0", False),
        ("futures, pool=threads, retries=0", True),
    ]
    assert len({str(one) for one in made}) == len(made)


def test_every_round_makes_every_configuration_in_another_order() -> None:
    chosen = [(None, Configuration(executor="futures", workers=n)) for n in range(1, 6)]

    def order(rounds: int, seed: int) -> list[scaling_campaign.WorkerRun]:
        return [worker_run for _, worker_run in scaling_campaign.order(chosen, rounds, seed)]

    worker_runs = order(20, 3)
    rounds = [
        [v.configuration.workers for v in worker_runs if v.round == number] for number in range(20)
    ]
    assert all(sorted(one) == [1, 2, 3, 4, 5] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 15
    assert [v.round for v in worker_runs] == sorted(v.round for v in worker_runs)
    assert worker_runs == order(20, 3)
    assert worker_runs != order(20, 4)
    # More rounds than before go on where these ended.
    assert order(21, 3)[: len(worker_runs)] == worker_runs


# --- tables


def made(wall: float, cpu: float, **changes: Any) -> Measured:
    """A worker run of a million events in four chunks."""
    content: dict[str, Any] = {field.name: 0.0 for field in dataclasses.fields(Measured)} | {
        "wall": (wall,),
        "cpu": (cpu,),
        "events": 1_000_000,
        "chunks": 4,
        "bytes_read": 10**8,
        "probed_wall": wall,
        "probed_cpu": 1.01 * cpu,
        "budget": wall,
        "workers_seen": 1,
        "batches": 1,
        "lost": 0,
        "peak_client": 10**8,
        "peak_worker": 10**9,
        "peak_engine": None,
        "unknown": None,
    }
    return Measured(**(content | changes))


def test_ratios_are_of_worker_runs_of_the_same_round() -> None:
    # The machine is twice as slow in the second round, for all.
    done = [
        scaling_campaign.Done(
            scaling_campaign.WorkerRun(Configuration(executor=name, workers=n), number),
            made(wall * slow, cpu * slow),
        )
        for number, slow in enumerate((1.0, 2.0, 1.5))
        for name, n, wall, cpu in (("iterative", 1, 1.0, 1.0), ("futures", 2, 0.5, 1.1))
    ]
    iterative, futures = scaling_table.rows(done[::-1])
    assert iterative.configuration.executor == "iterative"
    assert futures.speed_up is not None
    assert futures.cpu_ratio is not None
    assert futures.speed_up.value == futures.speed_up.low == pytest.approx(2)
    assert futures.cpu_ratio.high == pytest.approx(1.1)
    assert (futures.wall.low, futures.wall.value, futures.wall.high) == (0.5, 0.75, 1.0)
    assert futures.events_per_second == pytest.approx(1e6 / 0.75)
    assert "the range of 3 rounds" in scaling_table.footnote([iterative, futures])
    assert "with 75%" in scaling_table.footnote([iterative, futures])
    assert "client alone" not in scaling_table.footnote([iterative, futures])
    # Another chunk size has nothing to be compared with.
    alone = scaling_campaign.Done(
        scaling_campaign.WorkerRun(Configuration(executor="futures", chunksize=7), 0), made(1, 1)
    )
    row = scaling_table.rows([*done, alone])[-2]
    assert (row.configuration.chunksize, row.speed_up, row.cpu_ratio) == (7, None, None)


def test_ratios_of_weak_scaling_are_of_events_and_have_no_law() -> None:
    """Each worker has a million events."""
    done = [
        scaling_campaign.Done(
            scaling_campaign.WorkerRun(Configuration(executor=name, workers=n), number),
            made(wall, wall * n, events=n * 1_000_000),
        )
        for number in range(2)
        for name, n, wall in (
            *(("iterative", 1, 1.0), ("futures", 2, 1.25)),
            *(("futures", 4, 1.25), ("futures", 8, 1.25)),
        )
    ]
    rows = scaling_table.rows(done)
    assert [row.speed_up and row.speed_up.value for row in rows] == [1, 1.6, 3.2, 6.4]
    assert [one.cpu_ratio and round(one.cpu_ratio.value, 9) for one in rows] == [
        1,
        1.25,
        1.25,
        1.25,
    ]
    throughput, *others = scaling_table.tables(rows)
    assert len(others) == 2
    events = next(column for column in throughput.columns if column.header == "events")
    assert [*events.cells] == ["1e6", "2e6", "4e6", "8e6"]


def test_cpu_time_of_a_cluster_that_was_there_is_called_the_clients() -> None:
    configuration = Configuration(executor="dask", options={"address": "tcp://HOST:8786"})
    rows = scaling_table.rows(
        [scaling_campaign.Done(scaling_campaign.WorkerRun(configuration, 0), made(1.0, 1.0))]
    )
    assert "dask at tcp://HOST:8786: CPU times are those of the client alone" in (
        scaling_table.footnote(rows)
    )


def test_what_is_not_known_is_not_shown_as_nothing() -> None:
    one = made(1.0, 1.0, serialising=None, merging=None, between=None, waiting=None, unknown=0.25)
    rows = scaling_table.rows(
        [
            scaling_campaign.Done(
                scaling_campaign.WorkerRun(Configuration(executor="iterative"), 0), one
            )
        ]
    )
    where = scaling_table.tables(rows)[1]
    cells = {str(column.header): next(iter(column.cells)) for column in where.columns}
    assert (cells["pack"], cells["merge"], cells["wait"]) == ("-", "-", "-")
    assert cells["not known"] == "25.0"
    assert "one round tells nothing of noise" in scaling_table.footnote(rows)


def test_small_rates_are_no_nought() -> None:
    slow = scaling_campaign.Done(
        scaling_campaign.WorkerRun(Configuration(executor="iterative"), 0),
        made(4.0, 4.0, events=2000, bytes_read=130_000),
    )
    throughput, _, beside = scaling_table.tables(scaling_table.rows([slow]))
    cells = {str(column.header): next(iter(column.cells)) for column in throughput.columns}
    assert (cells["events/s"], cells["a worker"]) == ("500", "500")
    assert {str(c.header): next(iter(c.cells)) for c in beside.columns}["read"] == "0.13 MB"
    assert [scaling_table._rate(one) for one in (0.25, 31.4, 99_999, 1.5e6)] == [
        *("0.25", "31", "99,999", "1,500k")
    ]


def test_law_of_scaling_is_fitted_where_it_is_determined() -> None:
    def worker_runs(counts: Sequence[int], rounds: int) -> list[scaling_campaign.Done]:
        return [
            scaling_campaign.Done(
                scaling_campaign.WorkerRun(Configuration(executor="futures", workers=n), number),
                made((1 + 0.1 * (n - 1)) / n * (1 + 0.001 * (number + n % 2)), 1.0),
            )
            for n in counts
            for number in range(rounds)
        ]

    assert scaling_table.law_table(scaling_table.rows(worker_runs([1, 2], 5))) is None
    assert scaling_table.law_table(scaling_table.rows(worker_runs([1, 2, 4, 8], 1))) is None
    table = scaling_table.law_table(scaling_table.rows(worker_runs([1, 2, 4, 8, 16], 5)))
    assert table is not None
    cells = {str(column.header): next(iter(column.cells)) for column in table.columns}
    assert cells["law"] == "amdahl"
    assert str(cells["serial"]).startswith("10 %")


def test_a_record_of_no_worker_runis_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    assert scaling_campaign.read_all([record(parameters={"campaign": "old", "round": 1})]) == []
    (sentence,) = caplog.messages
    assert sentence.startswith("left out: the record ht-1e3-columnar is not of a scaling")
