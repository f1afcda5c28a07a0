"""The limit: its parts give what uproot gives, its multiples add up, and nothing wrong is timed."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import uproot

from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.files.baskets import Basket
from analysis.idiomatic import IdiomaticProcessor
from analysis.synthetic import write_fileset
from perf.cases.case import Inputs, run_checked
from perf.cases.data import Store
from perf.cases.limits import Limit, LimitCase
from perf.cases.processor import process
from perf.limits import held_out, rounds, table, worker
from perf.limits.rounds import ALLOCATORS, Cell, Samples, measure
from perf.limits.sides import Answer, Request, Side, Timed, parts, processor
from perf.records import difference, limits, record_file
from perf.records.limits import PARTS
from tests.support import cli
from tests.support.factories import record
from tests.support.limit_records import IDENTITY, a_run, of_part, of_side

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perf.records.record_file import Record

# --- the parts


@pytest.fixture(scope="module")
def nominal(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}


@pytest.mark.parametrize("codec", ["zstd", "zlib", "lz4", "lzma", "none"])
def test_parts_give_what_the_file_and_uproot_have(codec: str, tmp_path: Path) -> None:
    store = Store(tmp_path, 300, compression=codec)
    limit = Limit(store.fileset(600))
    for part in ("read", "data", "whole"):
        assert limit.digest(part) == limit.expected(part), part
    sizes = {part: limit.run(part) for part in ("read", "data", "whole")}
    total = 0
    (sample,) = store.fileset(600).values()
    for path, tree in sample["files"].items():
        with uproot.open({path: tree}) as opened:
            names = limit._names
            total += sum(opened[name].array(library="ak").layout.nbytes for name in names)
            compressed = sum(opened[name].compressed_bytes for name in names)
    # Without the offsets that awkward arrays of lists have, and baskets behind the data.
    assert 0 < sizes["data"] < min(total, sizes["whole"])
    # Headers are read, too.
    assert compressed < sizes["read"]


def test_a_part_that_gives_something_else_is_seen(
    nominal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = Limit(nominal)
    right = Basket.read_into

    def wrong(basket: Basket, target: memoryview) -> None:
        right(basket, target)
        if len(target):
            target[-1] ^= 1

    monkeypatch.setattr(Basket, "read_into", wrong)
    assert limit.digest("data") != limit.expected("data")


@pytest.mark.parametrize("variations", ["nominal", "all"])
def test_computing_from_memory_is_the_analysis(nominal: dict[str, Any], variations: Any) -> None:
    with open_executor("iterative") as executor:
        run = process(
            nominal,
            executor,
            implementation="columnar",
            variations=variations,
            chunksize=1_000,
        )
        assert difference.agree(Limit(nominal, variations).run("compute"), run())


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_a_benchmark_that_is_checked(part: Any, tmp_path: Path) -> None:
    inputs = Inputs(Store(tmp_path, 500), None)
    case = LimitCase(part=part, size=500)
    with case.open(inputs) as ready:
        run_checked(case, ready, inputs)
    inputs.close()
    assert case.what.group == "ttbar, nominal"


def test_what_has_no_limit_is_refused(nominal: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.root"):
        Limit(
            {"a": {**nominal["ttbar__nominal"], "files": {str(tmp_path / "gone.root"): "Events"}}}
        )
    one = next(iter(nominal["ttbar__nominal"]["files"]))
    steps = {one: {"object_path": "Events", "steps": [[0, 10]]}}
    with pytest.raises(InputError, match="leave the steps out"):
        Limit({"a": {**nominal["ttbar__nominal"], "files": steps}})
    ntuple = write_fileset(
        tmp_path, events=10, seed=1, processes=["ttbar"], variations=["nominal"], format="rntuple"
    )
    with pytest.raises(InputError, match="only TTrees"):
        Limit(ntuple)


# --- arithmetic


def test_parts_add_up_process_by_process() -> None:
    (cell,) = limits.cells(a_run())
    assert cell.limit() == pytest.approx([4e-3, 5e-3, 6e-3])
    assert cell.limit("whole") == pytest.approx([5e-3, 6e-3, 7e-3])
    with pytest.raises(ValueError, match="argument"):
        limits.limit({"read": [1.0], "data": [1.0, 2.0], "compute": [1.0, 1.0]})


def test_multiples_are_taken_within_each_process() -> None:
    (cell,) = limits.cells(a_run())
    rows = {(row.name, row.chunksize): row for row in table.rows(cell)}
    compiled = rows["compiled", 250_000]
    assert compiled.nanoseconds == pytest.approx(10_000)
    # Twice the limit in every process, whatever slowed the process down.
    times = compiled.times["data only"]
    assert (times.value, times.low, times.high) == pytest.approx((2.0, 2.0, 2.0))
    assert compiled.times["whole"].value == pytest.approx(10 / 6)
    assert rows["compiled", 50_000].times["data only"].value == pytest.approx(4.0)
    columnar = rows["columnar", 250_000].times["data only"]
    assert (columnar.value, columnar.low, columnar.high) == pytest.approx((3.0, 2.0, 4.0))
    assert rows["limit: read, data, compute", None].nanoseconds == pytest.approx(5_000)
    names = [row.name for row in table.rows(cell)]
    assert names[-3:] == ["compiled", "columnar", "compiled"]


def test_the_newest_run_counts_and_half_a_limit_does_not() -> None:
    now = record().timestamp
    new = a_run(run="new", timestamp=now)
    old = a_run(run="old", timestamp=now - timedelta(days=1))
    other = a_run(run="new", timestamp=now, codec="lz4")[:3]
    (cell,) = limits.cells([*new[:-1], *old, *other])
    assert {one.run for one in (*cell.parts.values(), *cell.processors.values())} == {"new"}
    assert cell.processors.keys() == {(250_000, "compiled"), (50_000, "compiled")}


def test_bandwidth_is_bytes_of_the_data_by_speed() -> None:
    memory = of_side(Side(task="read memory"), 0.5, metrics={"bytes": 10**9})
    (said,) = table.bandwidth([memory], of_part("data", 1.0, metrics={"bytes": 80_000}))
    assert said.endswith("2.0 GB/s, 40.0 ns for the 80 bytes of data an event")


def test_a_sentence_says_how_far_benchmarks_are_from_the_limit() -> None:
    def bench(subject: str, seconds: float, **what: Any) -> Record:
        return record(
            name=subject,
            group="ttbar, nominal",
            subject=subject,
            cpu_seconds=(seconds,),
            **{"implementation": None, **what},
        )

    found = [bench(part, 1e-4, kind="limit") for part in PARTS]
    in_process = {"kind": "processor", "executor": "iterative"}
    found += [
        bench("a", 9e-4, implementation="columnar", chunksize=50, **in_process),
        bench("b", 6e-4, implementation="columnar", chunksize=250, **in_process),
        bench("c", 3e-4, implementation="compiled", chunksize=250, **in_process),
    ]
    said = limits.distance(found, {"columnar": "awkward"})
    assert said == "300 ns/event; compiled 1.0, awkward 2.0 times"
    assert limits.distance(found[1:], {}) == ""
    assert limits.distance(found[:4], {}) == ""


# --- nothing wrong is timed


def request(fileset: dict[str, Any], *sides: Side) -> Request:
    return Request(fileset=fileset, sides=sides, repeats=1, seed=0)


def test_a_process_times_every_side_and_says_what_it_gave(nominal: dict[str, Any]) -> None:
    arrays = [Side(task="arrays", chunksize=1_000, reader=one) for one in ("bulk", "uproot")]
    sides = (*parts(), processor("compiled", 1_000), processor("idiomatic", 1_000), *arrays)
    answer = worker.measured(request(nominal, *sides))
    timed = dict(zip(sides, answer.timed, strict=True))
    assert all(one.cpu > 0 and one.wall > 0 for one in timed.values())
    assert timed[arrays[0]].check == timed[arrays[1]].check
    assert timed[Side(task="data")].bytes < timed[Side(task="whole")].bytes
    assert timed[processor("compiled", 1_000)].bytes == 0


def test_an_implementation_that_gives_something_else_is_not_timed(
    nominal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = IdiomaticProcessor.process

    def wrong(self: IdiomaticProcessor, events: Any) -> dict[str, Any]:
        result = right(self, events)
        result["cutflow"]["ttbar"]["nominal"]["nominal"]["4j2b"] += 1
        return result

    monkeypatch.setattr(IdiomaticProcessor, "process", wrong)
    compiled, idiomatic = processor("compiled", 1_000), processor("idiomatic", 1_000)
    asked = request(nominal, compiled)
    for wrong_request in (
        request(nominal, compiled, idiomatic),
        asked.model_copy(update={"beside": (idiomatic,)}),
    ):
        with pytest.raises(InputError, match=r"idiomatic gives another result .*4j2b"):
            worker.measured(wrong_request)
    right_ones = asked.model_copy(update={"beside": (processor("columnar", 1_000),)})
    assert len(worker.measured(right_ones).timed) == 1


def test_readers_and_parts_are_compared_too() -> None:
    bulk, uproot_ = (Side(task="arrays", reader=one) for one in ("bulk", "uproot"))
    worker.require_equal({bulk: ["a"], uproot_: ["a"]}, {})
    with pytest.raises(InputError, match="arrays gives another result"):
        worker.require_equal({bulk: ["a"], uproot_: ["b"]}, {})
    data = Side(task="data")
    with pytest.raises(InputError, match="data gives another result"):
        worker.require_equal({data: "a"}, {data.result: "b"})
    # Of other variations another result is right.
    worker.require_equal({processor("fused"): 1, processor("fused", variations="all"): 2}, {})


def test_processes_that_give_something_else_are_not_joined() -> None:
    side = processor("compiled")
    one, other = (Answer(timed=(Timed(wall=1, cpu=1, check=check),)) for check in "ab")
    samples = Samples()
    samples.add([side], one)
    samples.add([side], one)
    assert samples.cpu[side] == [1, 1]
    with pytest.raises(InputError, match="two processes differs"):
        samples.add([side], other)


@pytest.mark.slow
def test_held_out_processors_read_other_branches_and_are_equal(tmp_path: Path) -> None:
    from analysis import ttbar

    fileset = Store(tmp_path, 200, branches="full").fileset(200)
    for name, one in held_out.HELD_OUT.items():
        assert not {*one.branches} & {*ttbar.INPUTS}
        sides = [
            Side(task="held out", name=name, chunksize=100, reader=reader)
            for reader in ("bulk", "uproot")
        ]
        bulk, by_uproot = worker.measured(request(fileset, *sides)).timed
        assert bulk.check == by_uproot.check


# --- for real


@pytest.mark.slow
def test_processes_have_the_allocator_that_is_asked_for(
    nominal: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it is refused, whatever this process was started with."""
    for name in ALLOCATORS["workers"]:
        monkeypatch.setenv(name, "0")
    side = Side(task="compute")
    cells = [Cell(nominal, IDENTITY, (side,), allocator) for allocator in ALLOCATORS]
    for samples in measure(cells, 1):
        assert samples.peak_memory
        assert len(samples.cpu[side]) == 1
    monkeypatch.setattr(rounds, "environment", lambda _: nullcontext())
    with pytest.raises(InputError, match="another allocator"):
        measure(cells[:1], 1)


@pytest.fixture
def small(tmp_path: Path) -> Sequence[object]:
    return (
        *("--data", tmp_path / "data", "--records", tmp_path / "limits.jsonl"),
        *("--events", 1_000, "--chunksizes", 500, "--rounds", 1),
    )


@pytest.mark.slow
def test_command_measures_every_codec_and_writes_records(
    small: Sequence[object], tmp_path: Path
) -> None:
    outcome = cli.perf(
        "limits", *small, "--codecs", "zstd,none", "--implementations", "compiled,idiomatic"
    )
    assert outcome.exit_code == 0, outcome.error
    for said in (
        "zstd, nominal: 1,000 events, allocator of workers, 1 process",
        "zstd, nominal: 1,000 events, allocator as it comes, 1 process",
        "none, nominal: 1,000 events, allocator of workers, 1 process",
        *("limit: read, data, compute", "idiomatic", "read memory: ", "write memory: ", "python"),
    ):
        assert said in outcome.output
    found = limits.cells(record_file.read(tmp_path / "limits.jsonl"))
    assert [(cell.codec, cell.allocator) for cell in found] == [
        *(("zstd", "workers"), ("zstd", "default"), ("none", "workers"))
    ]
    for cell in found:
        assert cell.processors.keys() == {(500, "compiled"), (500, "idiomatic")}
        for one in cell.processors.values():
            assert one.check == cell.processors[500, "compiled"].check or one.input.events == 1_000
            assert np.all(np.array(one.cpu_seconds) > 0)


@pytest.mark.slow
def test_command_takes_a_file_set(
    small: Sequence[object], nominal: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "fileset.json"
    path.write_text(json.dumps(nominal))
    outcome = cli.perf(
        "limits", path, *small, "--variations", "all", "--implementations", "compiled"
    )
    assert outcome.exit_code == 0, outcome.error
    assert "as given, all: " in outcome.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.json"], "there is no file set gone.json"),
        (["--codecs", "snappy"], "--codecs must be some of zstd, zlib"),
        (["fileset.json", "--codecs", "zstd"], "--codecs is for synthetic events"),
        (["--chunksizes", "0"], "--chunksizes must be numbers of at least 1"),
        (["--chunksizes", "many"], "--chunksizes must be whole numbers"),
        (["--implementations", "quick"], "--implementations must be some of columnar"),
        (
            ["--variations", "all", "--implementations", "idiomatic"],
            "--implementations must be some of columnar",
        ),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], said: str, tmp_path: Path) -> None:
    outcome = cli.perf("limits", *arguments, "--data", tmp_path, "--events", 100)
    assert outcome.exit_code == 2
    assert said in " ".join(outcome.error.split())
