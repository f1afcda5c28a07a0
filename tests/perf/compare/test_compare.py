"""Slowdowns that are there are found, with the right sign, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import psutil
import pytest

from analysis.errors import InputError
from perf.cli import compare as cli_compare
from perf.compare import benchmarks, bisect, report, session, sides, worker
from perf.records.difference import difference
from tests.perf.records.test_difference import EQUAL, UNEQUAL
from tests.support import cli, toy_repository
from tests.support.toy_repository import NAMES, TIMED, WORK

STATES = {
    "base": {},
    "none": {},
    "five": {"beta": WORK * 105 // 100},
    "double": {"gamma": 2 * WORK},
    "half": {"gamma": WORK // 2},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_repository.repository(tmp_path_factory.mktemp("made_up"), STATES)


@pytest.fixture(autouse=True)
def apart_and_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A few samples of each process: what is to be found here is large, or counted.
    monkeypatch.setattr(session, "SAMPLES", 0.02)
    monkeypatch.setattr(session, "PROCESS", 0.02)


def test_few_benchmarks_get_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    one = session.Measured(benchmarks.Benchmark("one", {}, lambda *_: None), sample=session.SAMPLE)
    rounds = []
    for others in (30, 10, 2, 1):
        one.share(others)
        rounds.append(one.rounds)
    assert rounds == [40, 40, 200, 400]
    one.sample = 1.0
    one.share(1)
    assert one.rounds == session.FEWEST_ROUNDS


def compared(
    repository: Path, a: str, b: str, suite: Path, error: float = 0.01, resolution: float = 0.03
) -> session.Comparison:
    made = session.Comparison(
        sides.side(f"{a}@{repository}"),
        sides.side(f"{b}@{repository}"),
        benchmarks.functions(suite),
        error=error,
        resolution=resolution,
    )
    made.run(60)
    return made


def outcomes(made: session.Comparison) -> dict[str, str]:
    return {
        name: one.judgement.outcome if one.judgement else "none"
        for name, one in made.measured.items()
    }


@pytest.mark.parametrize(
    ("b", "changed", "status"),
    [
        ("none", {}, 0),
        ("five", {"beta": "slower"}, report.SLOWER),
        ("double", {"gamma": "slower"}, report.SLOWER),
        ("half", {"gamma": "faster"}, 0),
    ],
)
def test_what_is_there_is_found_and_nothing_else(
    repository: Path, tmp_path: Path, b: str, changed: dict[str, str], status: int
) -> None:
    made = compared(repository, "base", b, toy_repository.suite(tmp_path))
    assert outcomes(made) == {name: changed.get(name, "no change") for name in NAMES}
    assert report.exit_status(made) == status


SLEEPING = """

from concurrent.futures import ThreadPoolExecutor

MILLISECONDS = {{"gamma": {more}}}


def shared(name):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, MILLISECONDS.get(name, 20) / 1000)
        return called(name)


def bench_beta():
    return shared("beta")


def bench_gamma():
    return shared("gamma")
"""


@pytest.mark.parametrize(
    ("work", "slept", "cpu", "wall"),
    [
        ("none", 'int(os.environ.get("SLEEP", 20))', "no change", "slower"),
        ("double", "20", "slower", "no change"),
    ],
)
def test_work_that_is_shared_is_judged_by_both_clocks(
    repository: Path, tmp_path: Path, work: str, slept: str, cpu: str, wall: str
) -> None:
    # The clock of CPU time counts, that of wall time is the machine's: error and resolution are
    # such that what is no change is none by any chance.
    suite = tmp_path / "benchmarks.py"
    suite.write_text(toy_repository.COUNTED + SLEEPING.format(more=slept))
    made = session.Comparison(
        sides.side(f"base@{repository}"),
        sides.side(f"{work}@{repository}", ["SLEEP=60"]),
        benchmarks.functions(suite, workers=2),
        error=1e-6,
        resolution=0.8,
    )
    made.run(60)
    gamma = made.measured["gamma"]
    assert {clock: one.outcome for clock, one in gamma.judgements.items()} == {
        "cpu": cpu,
        "wall": wall,
    }
    assert gamma.clock == ("cpu" if cpu == "slower" else "wall")
    assert gamma.outcome == "slower"
    assert made.measured["beta"].outcome == "no change"
    assert report.exit_status(made) == report.SLOWER
    told = report.as_json(made)["benchmarks"]["gamma"]
    assert (told["clock"], told["outcome"]) == (gamma.clock, "slower")
    assert (told["cpu"]["outcome"], told["wall"]["outcome"]) == (cpu, wall)
    rows = [line for line in report.markdown(made).splitlines() if line.startswith("| gamma")]
    assert [("**slower**" in row, row.split("|")[2].strip()) for row in rows] == [
        (cpu == "slower", "cpu"),
        (wall == "slower", "wall"),
    ]


def test_of_one_worker_only_cpu_time_is_judged() -> None:
    side = sides.side(".")
    made = session.Comparison(
        side,
        side,
        [
            benchmarks.Benchmark("alone", {}, lambda *_: None),
            benchmarks.Benchmark("shared", {}, lambda *_: None, workers=2),
        ],
    )
    rng = np.random.default_rng(1)
    for member in made.measured.values():
        logs = 0.005 * rng.standard_normal((9, 3))
        member.cpu = [tuple(block) for block in logs]
        # B waits.
        member.wall = [(a, again, b + 0.5) for a, again, b in logs]
    made._look()
    assert {name: one.outcome for name, one in made.measured.items()} == {
        "alone": "no change",
        "shared": "slower",
    }
    assert report.as_json(made)["benchmarks"]["alone"]["wall"] is None
    assert "in CPU time, slower in wall time" in made.measured["shared"].verdict
    assert made.todo == []
    made.measured["shared"].failure = "it fails"
    assert report.exit_status(made) == report.INCOMPARABLE


def test_each_process_has_its_arrays_elsewhere_in_a_page(repository: Path, tmp_path: Path) -> None:
    suite = tmp_path / "places.py"
    suite.write_text(
        "import numpy as np\n\n\n"
        "def bench_place():\n    return np.empty(3000, np.uint8).ctypes.data % 4096\n"
    )
    (place,) = benchmarks.functions(suite)
    side, places = sides.side(f"base@{repository}"), set()
    for _ in range(5):
        with session.Process(side, 1) as process:
            path = tmp_path / "place.npz"
            process.call("open", name="place", spec=place.spec, result=str(path))
            places |= set(worker.load(path))
    # Without `displaced` there is one.
    assert len(places) > 2


def test_cpu_time_is_also_that_of_children_that_ended() -> None:
    before = worker._cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert worker._cpu_seconds() - before > 0.01


@pytest.mark.serial
def test_twice_the_work_is_found_by_the_machines_own_clock(
    repository: Path, tmp_path: Path
) -> None:
    # The allowed error is one in a million: this test must not fail by chance.
    made = compared(repository, "base", "double", toy_repository.suite(tmp_path, TIMED), 1e-6, 1.0)
    found = outcomes(made)
    assert found.pop("gamma") == "slower"
    assert not {"slower", "faster"} & set(found.values())
    effect = made.measured["gamma"].judgement
    assert effect is not None
    assert 1.5 < effect.effect.ratio < 2.5


def test_results_that_differ_are_not_compared(repository: Path, tmp_path: Path) -> None:
    path = toy_repository.suite(tmp_path)
    path.write_text(
        path.read_text()
        + "\n\ndef bench_source():\n    return open(made_up.__file__).readline()\n"
    )
    made = compared(repository, "base", "none", path)
    failure = made.measured["source"].failure
    assert failure is not None
    assert "results of A and B differ" in failure
    assert not made.measured["source"].cpu
    assert report.exit_status(made) == report.INCOMPARABLE


def test_what_fails_on_one_side_does_not_stop_the_rest(repository: Path, tmp_path: Path) -> None:
    path = toy_repository.suite(tmp_path)
    path.write_text(
        path.read_text()
        + "\n\ndef bench_dies():\n    os._exit(7)\n\n\ndef bench_fails():\n    raise ValueError('no')\n"
    )
    made = compared(repository, "base", "double", path)
    assert "status 7" in str(made.measured["dies"].failure)
    assert "ValueError: no" in str(made.measured["fails"].failure)
    assert outcomes(made)["gamma"] == "slower"
    # What is slower is told before what could not be compared.
    assert report.exit_status(made) == report.SLOWER


def test_what_fails_later_does_not_stop_the_rest(repository: Path, tmp_path: Path) -> None:
    path = toy_repository.suite(tmp_path, TIMED)
    path.write_text(
        path.read_text()
        + f"""

import os

with open({str(tmp_path / "processes")!r}, "a") as file:
    file.write("x")
    started = file.tell()
print("x" * 200_000)


def bench_for_a_while():
    if started > 4:
        os._exit(5)
"""
    )
    made = compared(repository, "base", "double", path, 1e-6, 1.0)
    assert "status 5" in str(made.measured["for_a_while"].failure)
    # Two rehearsals and the first two of a block went well.
    assert "it worked once" in str(made.measured["for_a_while"].failure)
    assert outcomes(made)["gamma"] == "slower"


def test_command_writes_verdicts_and_tells_ci(repository: Path, tmp_path: Path) -> None:
    suite = toy_repository.suite(tmp_path)
    out, text = tmp_path / "out.json", tmp_path / "out.md"
    command = [
        sys.executable,
        "-m",
        "perf",
        "compare",
        f"base@{repository}",
        f"double@{repository}",
    ]
    command += ["--suite", str(suite), "--json", str(out), "--markdown", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == report.SLOWER, done.stderr
    read = json.loads(out.read_text())
    assert read["exit_status"] == done.returncode
    assert {name: one["outcome"] for name, one in read["benchmarks"].items()} == {
        name: "slower" if name == "gamma" else "no change" for name in NAMES
    }
    # Processes of each arm, one after the other: A, A again, B.
    assert {len(one) for one in read["benchmarks"]["gamma"]["log_cpu_seconds"]} == {3}
    assert "| gamma |" in text.read_text()
    assert "**slower**" in text.read_text()
    assert "Both environments have the same packages." in text.read_text()


@pytest.mark.parametrize(
    ("variables", "only", "suite", "says"),
    [
        (["novalue"], None, None, "KEY=VALUE"),
        ([], ["no-such"], None, "there is no benchmark 'no-such'"),
        ([], None, "no-such.py", "no-such.py cannot be read"),
        ([], None, os.devnull, "no function bench_"),
    ],
)
def test_bad_input_says_what_to_do(
    variables: list[str],
    only: list[str] | None,
    suite: str | None,
    says: str,
    repository: Path,
    tmp_path: Path,
) -> None:
    def ask() -> None:
        cli_compare.sides(f"base@{repository}", f"none@{repository}", variables, [], [])
        if suite:
            benchmarks.functions(Path(suite), only or ("*",))
        else:
            benchmarks.kernels(tmp_path, tmp_path, only or ["ht-*"])

    with pytest.raises(InputError, match=says):
        ask()


def test_where_it_is_written_is_looked_at_first(repository: Path, tmp_path: Path) -> None:
    base = f"base@{repository}"
    for name, said in ((tmp_path, "is a folder"), (Path("/proc/none/x.json"), "cannot be made")):
        outcome = cli.perf("compare", base, base, "--json", name)
        assert outcome.exit_code == 2
        assert said in outcome.error


def test_no_such_side_is_status_two() -> None:
    command = [sys.executable, "-m", "perf", "compare", "master@/no/such/clone", "."]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_differences_of_environments_are_shown(repository: Path) -> None:
    a = sides.side(f"base@{repository}")
    b = sides.Side("B", a.python, {**a.installed, "coffea": "0", "new": "1"})
    made = session.Comparison(a, b, [])
    assert report.as_json(made)["differences"] == {
        "coffea": (a.installed["coffea"], "0"),
        "new": (None, "1"),
    }
    assert "new none -> 1" in report.markdown(made)


def test_nothing_is_left_in_a_checkout_that_is_compared(tmp_path: Path) -> None:
    for name in ("__init__.py", "errors.py", "kernels/__init__.py"):
        path = tmp_path / "analysis" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    for spec, kept in ((str(tmp_path), "1"), (".", "")):
        one = sides.side(spec)
        environ = one.environ(1)
        assert environ["PYTHONDONTWRITEBYTECODE"] == kept
        command = [
            str(one.python),
            "-P",
            "-s",
            "-c",
            "import analysis.errors as it; print(it.__file__)",
        ]
        said = subprocess.check_output(command, env={**os.environ, **environ}, text=True)
        assert said.strip() == str(one.source / "analysis" / "errors.py")
    assert not list(tmp_path.rglob("__pycache__"))


def test_environment_variables_are_of_their_side(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/the/user")
    one, other = cli_compare.sides(
        f"base@{repository}", f"base@{repository}", ["X=1"], [], ["json:P", "csv:Q"]
    )
    assert one.environ(1)["X"] == "1"
    assert "X" not in other.environ(1)
    assert [side.environ(1)[benchmarks.PROCESSOR_VARIABLE] for side in (one, other)] == [
        "json:P",
        "csv:Q",
    ]
    assert one.environ(3)["PYTHONPATH"] == str(one.source)


@pytest.mark.slow
def test_processor_of_each_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "PROCESSOR_EVENTS", 200)
    ttbar, plain = (
        sides.side(".", [f"{benchmarks.PROCESSOR_VARIABLE}={one}"])
        for one in ("analysis.idiomatic:IdiomaticProcessor", "tests.support.faults:Plain")
    )
    same = session.Comparison(ttbar, ttbar, benchmarks.processors(tmp_path))
    same.run(0)
    assert same.measured["processor"].failure is None
    assert same.measured["processor"].seconds(2) > 0
    other = session.Comparison(ttbar, plain, benchmarks.processors(tmp_path))
    other.run(0)
    assert "results of A and B differ" in str(other.measured["processor"].failure)


MINE = """
import hist
import numpy as np
from coffea.processor import ProcessorABC, column_accumulator

import cuts

class P(ProcessorABC):
    def __init__(self, least=0):
        self.least = least

    def process(self, events):
        assert not hasattr(events, "Jet")
        good = events.MET_pt[cuts.passing(events, self.least)]
        return {
            "n": len(good),
            "names": {events.metadata["dataset"]},
            "sum": float(np.sum(good)),
            "met": column_accumulator(np.asarray(good)),
            "mean": hist.Hist.new.Reg(2, 0, 200).Mean().fill(good, sample=good),
        }

    def postprocess(self, accumulator):
        return accumulator
"""


def test_processor_of_the_user_on_files_of_the_user(
    synthetic_fileset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "cuts.py").write_text(
        "def passing(events, least):\n    return events.MET_pt > least\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "beside"))
    name = "ttbar__nominal"
    (tmp_path / "fileset.json").write_text(json.dumps({name: synthetic_fileset[name]}))
    made = session.Comparison(
        *cli_compare.sides(".", ".", (), (), ["mine:P"]),
        benchmarks.processors(tmp_path, tmp_path / "fileset.json", {"least": 60}, "BaseSchema"),
    )
    with tempfile.TemporaryDirectory() as folder:
        made._rehearse(Path(folder))
        assert made.measured["processor"].failure is None
        _, read = made._expected["processor"]
    assert read["names"] == {name}
    assert 0 < read["n"] < 4000
    assert len(read["met"].columns["column"]) == read["n"]


def test_suite_finds_what_is_beside_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "helper.py").write_text("import other\nVALUE = other.VALUE\n")
    (folder / "bench.py").write_text("import helper\ndef bench_it():\n    return helper.VALUE\n")
    (tmp_path / "other.py").write_text("VALUE = 7\n")
    monkeypatch.chdir(tmp_path)
    (one,) = benchmarks.functions(folder / "bench.py")
    with session.Process(sides.side(f"base@{repository}"), 0) as process:
        process.call("open", name="it", spec=one.spec, result=str(tmp_path / "it.npz"))
    assert worker.load(tmp_path / "it.npz") == [7]


@pytest.mark.parametrize(
    ("processor", "says"),
    [("mine", "package.module:Class, not 'mine'"), ("nowhere_at_all:P", "no module nowhere")],
)
def test_processor_that_is_nowhere_is_told_at_once(processor: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        cli_compare.sides(".", ".", (), (), [processor])


def test_clone_of_another_user_is_read(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By this git takes all for another's.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert (sides.side(f"double~1@{repository}").source / "made_up.py").is_file()


def test_git_says_why(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no commit 'no-such' \(git: .*revision.*\): fetch"):
        sides.side(f"no-such@{repository}")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        sides.side(f"main@{tmp_path / 'none'}")
    with pytest.raises(InputError, match=r"has no commit 'no-such' \(git: "):
        bisect.commits(repository, "no-such", "double")


def test_interrupted_it_leaves_no_process(repository: Path, tmp_path: Path) -> None:
    suite = toy_repository.suite(tmp_path, TIMED)
    command = [sys.executable, "-m", "perf", "compare", f"base@{repository}", f"none@{repository}"]
    process = subprocess.Popen(
        [*command, "--suite", str(suite), "--budget", "300"],
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 120
    workers: list[psutil.Process] = []
    while len(workers) < 3:
        assert time.monotonic() < until
        time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.decode().startswith("interrupted: ")
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_worker_ends_when_its_parent_is_gone(repository: Path) -> None:
    side = sides.side(f"base@{repository}")
    with session.Process(side, 1) as process:
        process.call("freeze_gc")
        popen = process._process
    assert popen.poll() is not None


# --- values that are read by other versions


def test_values_are_read_as_they_were_written(tmp_path: Path) -> None:
    import awkward as ak
    import hist

    jagged = ak.Array([[1.0, 2.0], [], [3.0]])
    filled = hist.Hist.new.Reg(3, 0, 1, name="x").Weight().fill([0.1, 0.5], weight=[1, 2])
    value = (jagged, {"n": np.arange(3), "s": "text"}, [1, 2.5, None], filled)
    path = tmp_path / "value.npz"
    first = worker.dump(value, path)
    assert worker.dump(value, path) == first
    assert worker.dump((jagged * 2, *value[1:]), tmp_path / "other.npz") != first
    one, two = worker.load(path, copies=2)
    for read in (one, two):
        assert ak.array_equal(read[0], jagged)
        assert read[1]["n"].tolist() == [0, 1, 2]
        assert read[2] == [1, 2.5, None]
        assert read[3].view["value"].sum() == 3
    with pytest.raises(TypeError, match="a lock cannot be compared"):
        worker.dump({"a": Lock()}, path)


def test_whatever_a_processor_returns_is_compared(tmp_path: Path) -> None:
    for number, (got, want) in enumerate(EQUAL):
        paths = [tmp_path / f"{number}-{side}.npz" for side in "ab"]
        for one, path in zip((got, want), paths, strict=True):
            worker.dump({"it": one}, path)
        read = [worker.load(path)[0] for path in paths]
        assert difference(read[0], read[1]) is None
    for number, (got, want, _) in enumerate(UNEQUAL):
        if isinstance(want, type(Lock())):
            continue
        path = tmp_path / f"not-{number}.npz"
        worker.dump(got, path)
        read = worker.load(path)
        worker.dump(want, path)
        assert difference(read[0], worker.load(path)[0]) is not None
