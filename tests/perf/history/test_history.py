"""The same acts run in old and new releases, and none is timed whose result is another."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import psutil
import pytest

from analysis.adl import QUERIES
from analysis.errors import InputError
from analysis.files.columns import Columns
from analysis.folders import alone
from analysis.kernels import bind
from perf.cli import history
from perf.history import compat, portable_analysis, workloads
from perf.history import table as history_table
from perf.history.campaign import (
    INSTALL,
    Notes,
    default_versions,
    order,
    sorted_versions,
)
from perf.records import record_file
from perf.records.keep import keep
from perf.records.void import SHIPPED, VOID
from tests.perf.test_environments import uv
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from perf.records.record_file import Record

__all__ = ["uv"]

KEPT: Final = Path(__file__).parents[3] / "perf/kept"
PATIENCE = 120.0
"""Seconds after which something that must happen is taken not to."""

SAME_AS = {"6": "6a"}
"""Names of queries in `analysis.adl`, where they differ."""


@pytest.fixture(scope="module")
def file(synthetic: Path) -> str:
    """A file of 2000 events."""
    return str(min(synthetic.rglob("*ttbar*nominal*.root")))


@pytest.fixture(scope="module")
def events(file: str) -> Any:
    return compat.open_events(file, "virtual")


# --- the body is right


@pytest.mark.parametrize("name", portable_analysis.QUERIES)
def test_queries_are_those_of_the_kernels(name: str, events: Any) -> None:
    want = QUERIES[SAME_AS.get(name, name)].run(Columns(events), "compiled")
    got = portable_analysis.query(name, events).view(flow=True)
    assert got.sum() > 0
    np.testing.assert_array_equal(got, want)


def test_ttbar_is_that_of_the_kernels(events: Any) -> None:
    got = portable_analysis.Ttbar().process(events)
    columns, kernels = Columns(events), bind("compiled")

    def of(collection: str, *fields: str) -> list[Any]:
        return [columns[f"{collection}_{field}"] for field in fields]

    electrons = kernels(
        "electrons", *of("Electron", "pt", "eta", "cutBased", "sip3d"), eta_max=2.125
    )
    muons = kernels(
        "muons",
        *of("Muon", "pt", "eta", "tightId", "sip3d", "pfRelIso04_all"),
        eta_max=2.125,
        isolation_max=0.15625,
    )
    one_lepton = np.isin(kernels("leptons", electrons, muons), (1, 2))
    jets = kernels("jets", *of("Jet", "pt", "eta", "jetId"), eta_max=2.375)
    region = kernels("regions", jets, columns["Jet_btagCSVV2"])
    assert got["events"] == len(region)
    assert got["one_lepton"] == np.count_nonzero(one_lepton) > 0
    assert got["four_jets"] == np.count_nonzero(one_lepton & (region >= 1)) > 0

    def chosen(number: int) -> list[Any]:
        return [
            column[jets][one_lepton & (region == number)]
            for column in of("Jet", "pt", "eta", "phi", "mass", "btagCSVV2")
        ]

    _, mass = kernels("trijet_pt", *chosen(3))
    for name, values in {"4j1b": kernels("ht", chosen(2)[0]), "4j2b": mass}.items():
        want, _ = np.histogram(values, np.linspace(50, 550, 26))
        np.testing.assert_array_equal(got[name].values(), want)


def test_every_workload_of_this_version_is_run(file: str) -> None:
    done, missing = set(), set()
    for workload in workloads.WORKLOADS:
        if workload == workloads.IMPORT or workload.group == "executors":
            continue
        with contextlib.ExitStack() as close:
            try:
                ready = workloads.ready(workload, file, chunksize=1_000, workers=1, close=close)
            except compat.MissingError:
                missing.add(workload.name)
                continue
            assert len(ready.digest(ready.run())) == 64
            done.add(workload.name)
    # dask-awkward is in an environment of its own.
    assert missing <= {"open-dask", "read-dask"}
    assert {"read-virtual", "trijet_pt-compiled", "adl-8", workloads.ONE_CORE} <= done


def test_sizes_of_tasks_and_of_what_they_return(file: str) -> None:
    sizes = compat.Job(file, portable_analysis.Ttbar(), 500).sizes("iterative")
    assert sizes.tasks == 4
    assert 100 < sizes.task_bytes < 100_000
    assert 100 < sizes.accumulator_bytes < 100_000


def test_digests_tell_results_apart_and_not_their_form() -> None:
    jagged = ak.Array([[1.0, 2.0], [], [3.0]])
    same = ak.Array([[0.0], [1.0, 2.0], [], [3.0]])[1:]
    other = ak.Array([[1.0], [2.0], [3.0]])
    assert workloads.digest(jagged) == workloads.digest(same)
    assert workloads.digest(jagged) != workloads.digest(other)
    assert workloads.digest(3) == workloads.digest(np.int32(3))
    assert workloads.digest(3) != workloads.digest(4)
    assert workloads.digest({"a": 1, "b": 2}) == workloads.digest({"b": 2, "a": 1})


# --- a history from end to end


def perf_history(*arguments: Any) -> tuple[int, str, str]:
    """Run ``python -m perf history`` in this process: exit code, output, error."""
    code, output, error = cli.perf("history", *arguments)
    return code, output, " ".join(error.split())


SMALL = ("--groups", "ttbar", "--rounds", "1", "--events", "2000", "--chunksize", "1000")


@pytest.mark.slow
@pytest.mark.usefixtures("uv")
def test_two_ages_of_coffea_give_one_result(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    command = ("run", *SMALL, "--seconds", "0.01", "-o", path, "--data", tmp_path / "data")

    # One without a Runner, and one with; and one that cannot be had.
    code, output, error = perf_history(*command, "--releases", "2025.3.0,2026.9.0,1.2.3")
    assert code == 1
    assert "no pins of coffea 1.2.3" in error
    old, new = sorted(record_file.read(path), key=lambda one: one.versions["coffea"])
    assert (old.versions["coffea"], old.what.executor) == ("2025.3.0", "dask-awkward")
    assert (new.versions["coffea"], new.what.executor) == ("2026.9.0", "iterative")
    assert old.check == new.check
    assert old.what.parameters["released"] == "2025-03-17"
    assert len(new.versions) > 100
    assert new.metrics["task_bytes"] > 0
    assert all(name in output for name in ("2025.3.0", "2026-09-13", workloads.ONE_CORE))

    # What is done is not done again.
    code, _, _ = perf_history(*command, "--releases", "2025.3.0,2026.9.0")
    assert code == 0
    assert len(record_file.read(path)) == 2

    # No time of a result that is another.
    notes = json.loads(record_file.notes_path(path).read_text())
    (content,) = notes.values()
    content["digests"]["ttbar"] = "0" * 64
    record_file.notes_path(path).write_text(json.dumps(notes))
    code, output, _ = perf_history(*command, "--rounds", "2", "--releases", "2026.9.0")
    assert code == 1
    assert "its result is not that of the other versions" in output
    assert len(record_file.read(path)) == 2


def test_nothing_is_left_running_after_an_interruption(tmp_path: Path) -> None:
    # What is installed here is a version, too.
    command = ("history", "run", *SMALL, "--releases", ".", "-o", str(tmp_path / "h.jsonl"))
    process = subprocess.Popen(
        [sys.executable, "-m", "perf", *command, "--data", str(tmp_path / "data")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        worker = None
        end = time.monotonic() + PATIENCE
        while worker is None and process.poll() is None and time.monotonic() < end:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any("perf.history.worker" in one for one in child.cmdline()):
                        worker = child
            time.sleep(0.05)
        assert worker is not None
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in error
    assert not worker.is_running()


@pytest.mark.slow
def test_memory_is_that_of_workers_though_they_end_within_the_call(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    options = ("--rounds", "1", "--events", "2000", "--chunksize", "1000", "--seconds", "0.01")
    command = ("run", "--groups", "executors", "--releases", ".", *options)
    code, _, _ = perf_history(*command, "-o", path, "--data", tmp_path / "data")
    assert code == 0
    memory = {
        record.what.parameters["act"]: record.peak_memory for record in record_file.read(path)
    }
    assert {"ttbar-futures", "ttbar-dask"} <= memory.keys()
    # An interpreter with awkward; that of loky's tracker alone has 20 MB.
    assert all(peak is not None and peak > 100e6 for peak in memory.values()), memory


# --- order, notes, table


def test_two_campaigns_in_one_folder_do_not_run_at_once(tmp_path: Path) -> None:
    with alone(tmp_path):
        code, _, error = perf_history(
            *("run", "--releases", ".", *SMALL, "--output", tmp_path / "history.jsonl")
        )
    assert code == 2
    assert error.startswith(f"error: another process is at work in {tmp_path}: wait until")
    assert not list(tmp_path.iterdir())


def test_every_version_has_a_run_in_every_round() -> None:
    runs = order(["a", "b", "c"], ["events", "ttbar"], 4, seed=1)
    rounds = [runs[start : start + 6] for start in range(0, 24, 6)]
    for number, one in enumerate(rounds):
        assert {run.round for run in one} == {number}
        assert len({(run.version, run.group) for run in one}) == 6
    assert len({tuple((run.version, run.group) for run in one) for one in rounds}) > 1


def test_versions_are_in_the_order_of_their_numbers() -> None:
    assert sorted_versions(["2026.9.0", "main@x", "2023.12.0", "0.7.31", "0.7.22"]) == [
        *("0.7.22", "0.7.31", "2023.12.0", "2026.9.0", "main@x"),
    ]
    assert default_versions("2026.9.0")[0] == "2025.7.3"
    assert default_versions(None)[0] == "0.7.22"


def of_version(version: str, round_: int, cpu: float, **changes: Any) -> Record:
    return record(
        name=f"history-{workloads.ONE_CORE}",
        kind="processor",
        cpu_seconds=(cpu,),
        parameters={
            "campaign": "c",
            "coffea": version,
            "act": workloads.ONE_CORE,
            "round": round_,
            "stack": "",
            "released": "2025-01-01",
        },
        **changes,
    )


def cells(records: list[Record]) -> dict[str, list[str]]:
    table = history_table.table(records)
    columns = [list(column.cells) for column in table.columns]
    return {str(row[0]): [str(one) for one in row[1:]] for row in zip(*columns, strict=True)}


def test_the_table_shows_ratios_to_the_version_before() -> None:
    slow = [of_version("2025.9.0", n, 0.2 + n / 1000) for n in range(3)]
    fast = [of_version("2025.7.3", n, 0.1 + n / 1000) for n in range(3)]
    row = cells([*slow, *fast])[workloads.ONE_CORE]
    assert row[0].split() == ["101", "ms"]
    assert row[1].split() == ["201", "ms", "1.99*"]
    # Two processes a side are no proof.
    assert cells([*slow[:2], *fast[:2]])[workloads.ONE_CORE][1].split()[-1] == "2.00"
    # Nor are those that overlap.
    mixed = [of_version("2025.9.0", n, cpu) for n, cpu in enumerate((0.1, 0.2, 0.3))]
    assert cells([*mixed, *fast])[workloads.ONE_CORE][1].split()[-1] == "1.98"


def test_notes_of_other_campaigns_stay(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    for name in ("one", "other"):
        notes = Notes.read(path, name)
        notes.failed[name] = {INSTALL: f"no {name}"}
        notes.write()
    assert Notes.read(path, "one").failed == {"one": {INSTALL: "no one"}}
    assert history_table.reasons(Notes.read(path, "other")) == ["other: no other"]


def test_what_is_kept_is_what_was_measured_last(tmp_path: Path) -> None:
    path = tmp_path / ".perf/history.jsonl"
    (tmp_path / "perf").mkdir()
    cells = itertools.product(("", "2026.9.0"), ("old", "new"), range(3))
    for second, (stack, campaign, number) in enumerate(cells):
        made = of_version("2026.9.0", number, 1e-3)
        parameters = {**made.what.parameters, "stack": stack, "campaign": campaign}
        what = made.what.model_copy(update={"parameters": parameters})
        moment = made.timestamp + timedelta(seconds=second)
        record_file.append(path, made.model_copy(update={"what": what, "timestamp": moment}))
    Notes(
        record_file.notes_path(path), "new", {"it": "digest"}, {}, {"0.7.22": {"install": "no"}}
    ).write()
    Notes(record_file.notes_path(path), "old", {"it": "another"}).write()
    fixed, releases, *notes_of_both = keep(tmp_path)
    assert [one.name for one in (fixed, releases)] == [
        "history-2026.9.0.jsonl.gz",
        "history-releases.jsonl.gz",
    ]
    assert [record_file.notes_path(one) for one in (fixed, releases)] == notes_of_both
    for kept, name in ((releases, ""), (fixed, "2026.9.0")):
        records, notes = history_table.last(kept, name)
        assert records == history_table.last(path, name)[0]
        assert len(records) == 3
        assert notes.failed == {"0.7.22": {"install": "no"}}
        assert json.loads(notes.path.read_text()).keys() == {"new"}
    releases.write_bytes(releases.read_bytes()[:50])
    with pytest.raises(InputError, match="cannot be read"):
        history_table.last(releases)


def test_the_history_that_is_kept_is_drawn(tmp_path: Path) -> None:
    """Ten releases or more with all their acts, of which none failed."""
    path = tmp_path / "history.svg"
    code, _, error = perf_history("picture", path, "--folder", KEPT)
    assert (code, error) == (0, "")
    assert ">ttbar-futures [s]</text>" in path.read_text()
    records, notes = history_table.last(KEPT / "history-releases.jsonl.gz")
    assert len({record.what.parameters["coffea"] for record in records}) >= 10
    assert not any(notes.failed.values())


def test_the_history_that_came_with_the_suite_is_shown_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, error = perf_history("show", "--pins", "2026.9.0")
    assert (code, error) == (0, "")
    assert f"of {KEPT / 'history-2026.9.0.jsonl.gz'}" in output.replace("\n", "")
    assert "2026.9.0" in output
    code, _, error = perf_history("show", "--pins", "nosuch")
    assert (code, error.count("\n")) == (2, 0)
    assert "no history with the dependencies of nosuch" in error
    # What is measured here comes first.
    record_file.append(tmp_path / history.PATH, of_version("2025.9.0", 0, 0.5))
    code, output, _ = perf_history("show")
    assert code == 0
    assert f"of {history.PATH}" in output


def test_a_wheel_has_the_history() -> None:
    """Hatchling takes what git does not ignore of these packages: it has to be in one of them."""
    root = KEPT.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "perf" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [*KEPT.glob("*.jsonl.gz"), SHIPPED / VOID]
    assert len(files) >= 3
    assert all(one.is_relative_to(root / "perf") for one in files)
    command = ["git", "-C", str(root), "check-ignore", *map(str, files)]
    asked = subprocess.run(command, check=False, capture_output=True, text=True)
    if asked.returncode not in {0, 1}:
        pytest.skip("this is no git repository")
    assert asked.stdout == ""


def test_notes_that_are_no_notes_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "history.notes.json"
    for text in ("[]", '{"one": {"nosuch": 1}}', "[" * 200_000, '{"one": 3}'):
        path.write_text(text)
        with pytest.raises(InputError, match="cannot be read"):
            Notes.read(path, "one")


def test_bad_arguments_are_one_sentence(tmp_path: Path) -> None:
    code, _, error = perf_history("run", "--groups", "events,nosuch")
    assert code == 2
    assert "--groups must be some of events, queries, ttbar, executors" in error
    assert "got 'events,nosuch'" in error
    path = tmp_path / "records.jsonl"
    record_file.append(path, record())
    code, _, error = perf_history("show", path)
    assert code == 2
    assert "holds no history" in error
