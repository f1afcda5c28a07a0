"""The catalogue covers the registries, and its inputs are what they are called."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from analysis.adl import QUERIES
from analysis.inference import OPTIMIZERS
from analysis.kernels import IMPLEMENTATIONS, KERNELS
from perf.cases import catalogue
from perf.cases.case import PROCESSORS, REFERENCE_SIZE, cross_check
from perf.cases.data import Store
from perf.cases.delivery import deliveries
from perf.cases.executors import MergeCase, StartCase, TasksCase
from perf.cases.inference import inferences
from perf.cases.kernels import kernels, queries
from perf.cases.limits import limits
from perf.cases.nanoevents import nano_cases
from perf.cases.peers import peer_cases
from perf.cases.peers import queries as peer_queries
from perf.cases.processor import (
    FilesCase,
    ProcessorCase,
    RecoveryCase,
    ScalingCase,
    many_files,
    processors,
    scalings,
)
from perf.cases.reading import formats, readings
from perf.cases.scales import SCALES, Scale
from perf.cases.workflow import stages
from perf.measure import clocks
from perf.peers.processes import PEERS
from perf.records import provenance
from perf.records.format import data_size

if TYPE_CHECKING:
    from pathlib import Path

EACH_SCALE = pytest.mark.parametrize("scale", SCALES.values(), ids=lambda scale: scale.name)


@EACH_SCALE
def test_names_are_unique(scale: Scale) -> None:
    names = Counter(case.id for case in catalogue.everything(scale))
    assert [name for name, number in names.items() if number > 1] == []


@EACH_SCALE
def test_every_kernel_is_measured_in_every_implementation_and_size(
    scale: Scale,
) -> None:
    sizes = defaultdict(set)
    for case in kernels(scale):
        sizes[case.kernel, case.implementation].add(case.size)
    for kernel in KERNELS:
        assert sizes[kernel, "reference"] == {REFERENCE_SIZE}
        assert sizes[kernel, "columnar"] == sizes[kernel, "compiled"] == set(scale.sizes)
    assert {implementation for _, implementation in sizes} == set(IMPLEMENTATIONS)


@EACH_SCALE
def test_every_query_is_measured_on_synthetic_and_on_real_events(scale: Scale) -> None:
    found = {(c.query, c.implementation, c.source) for c in queries(scale)}
    assert found == {
        (query, implementation, source)
        for query in QUERIES
        for implementation in IMPLEMENTATIONS
        for source in ("synthetic", "real")
    }


@EACH_SCALE
def test_processor_is_measured_with_every_executor_and_chunk_size(scale: Scale) -> None:
    cases = processors(scale)
    nominal = {
        (c.implementation, c.executor, c.chunksize)
        for c in cases
        if c.variations == "nominal" and c.source == "synthetic"
    }
    assert nominal == {
        (implementation, executor, chunksize)
        for implementation in PROCESSORS
        for executor in ("iterative", "futures", "dask", "parsl", "spark")
        for chunksize in scale.chunksizes
    } | {("idiomatic", "iterative", chunksize) for chunksize in scale.chunksizes}
    plain = {"dask", "spark"} if scale.details else set()
    assert {c.executor for c in cases if c.variant == "plain"} == plain
    assert {(c.variations, c.source) for c in cases} == {
        (variations, source)
        for variations in ("nominal", "all")
        for source in ("synthetic", "real")
    }


@EACH_SCALE
def test_all_that_an_executor_costs_is_measured_on_each(scale: Scale) -> None:
    found = defaultdict(set)
    for case in catalogue.on_executors(scale):
        if not case.variant:
            found[case.executor].add((type(case), case.what.group))
    starts = {(StartCase, "executor start")}
    tasks = {(TasksCase, f"{number:,} empty tasks") for number in scale.tasks}
    merging = {
        (MergeCase, f"merging {number} x {data_size(size)}") for size, number, _ in scale.merged
    }
    files = {(FilesCase, "number of files")}
    base = tasks | merging | files
    recovery = {(RecoveryCase, "one worker killed")} if scale.details else set()
    scaling = {(ScalingCase, "scaling")} if scale.fewest_workers else set()
    assert found.pop("iterative") == base
    assert set(found) == {"futures", "dask", "parsl", "spark"}
    for groups in found.values():
        assert groups - {(ProcessorCase, "ttbar, all")} == base | starts | {
            (ProcessorCase, "ttbar, nominal"),
            *scaling,
            *recovery,
        }


@EACH_SCALE
def test_cases_that_can_share_an_executor_follow_each_other(scale: Scale) -> None:
    cases = catalogue.on_executors(scale)
    # Each start is its own.
    used = [c.on for c in cases if not isinstance(c, StartCase)]
    assert len([on for on, _ in groupby(used)]) == len(set(used))


@EACH_SCALE
def test_fits_are_measured_with_every_backend_and_optimizer(scale: Scale) -> None:
    pairs = {(backend, one) for backend, found in OPTIMIZERS.items() for one in found}
    cases = inferences(scale)
    ours = {("numpy", "least_squares"), ("jax", "newton")}
    for how in (("synthetic", "cold"), ("synthetic", "warm"), ("real", "warm")):
        fits = {
            (c.backend, c.optimizer)
            for c in cases
            if c.task == "fit" and (c.source, c.process) == how
        }
        assert fits == (pairs if scale.details else ours if how[0] == "synthetic" else set())
    if not scale.details:
        assert not [c for c in cases if c.task == "limit"]
    for task in ("build", "hypotest", "limit") if scale.details else ("build", "hypotest"):
        found = {(c.backend, c.optimizer) for c in cases if c.task == task}
        assert found == pairs if task in scale.slow_tests else found < pairs
        assert found >= {("numpy", "least_squares"), ("jax", "newton")}


@EACH_SCALE
def test_everything_is_each_case_once(scale: Scale) -> None:
    everything = set(catalogue.everything(scale))
    assert everything == {
        *kernels(scale),
        *queries(scale),
        *processors(scale),
        *limits(scale),
        *nano_cases(scale),
        *readings(scale),
        *formats(scale),
        *inferences(scale),
        *deliveries(scale),
        *stages(scale),
        *peer_cases(scale),
        *catalogue.on_executors(scale),
    }
    assert {case.files for case in many_files(scale)} == set(scale.files)
    assert all(scale.files_events % files == 0 for files in scale.files)


@EACH_SCALE
def test_every_tool_answers_every_query(scale: Scale) -> None:
    cases = peer_cases(scale)
    assert [(c.peer, c.query) for c in cases] == [
        (name, query) for name, peer in PEERS.items() for query in (peer.only or peer_queries())
    ]
    assert {c.query for c in cases} == {*QUERIES, "ttbar"}
    # All that is compared has the same events.
    assert len({(c.query, c.size) for c in cases}) == len(QUERIES) + 1


@EACH_SCALE
def test_stages_of_the_workflow_are_measured_in_order(scale: Scale) -> None:
    every = ["events", "delivery", "histograms", "fit", "limit", "pictures"]
    measured = [case.stage for case in stages(scale)]
    assert measured == (every if scale.details else every[:3])


@EACH_SCALE
def test_scaling_is_strong_and_weak_and_takes_no_more_workers_than_cores(
    scale: Scale,
) -> None:
    found = {(case.workers, case.size) for case in scalings(scale)}
    whole, half = scale.processor_events, scale.processor_events // 2
    assert min(found, default=(None,))[0] == scale.fewest_workers
    for workers in {workers for workers, _ in found}:
        assert workers <= (provenance.machine().cores or 0)
        assert {(workers, whole), (workers, workers * half)} <= found


@EACH_SCALE
def test_reading_is_measured_by_route_latency_and_chunk_size(scale: Scale) -> None:
    cases = readings(scale)
    found = {(c.route, c.milliseconds, c.chunksize) for c in cases if c.handler == "default"}
    assert found == {("local", 0, chunksize) for chunksize in scale.chunksizes} | {
        (route, milliseconds, chunksize)
        for route in ("xrootd", "http")
        for milliseconds in scale.delays
        for chunksize in scale.chunksizes
    } | {("servicex", 0, chunksize) for chunksize in scale.chunksizes}
    others = {(c.route, c.milliseconds) for c in cases if c.handler == "uproot"}
    assert others == {
        (route, milliseconds)
        for route in ("xrootd", "http")
        for milliseconds in scale.delays
        if scale.details
    }
    assert len({(c.size, c.executor, c.workers, c.implementation) for c in cases}) == 1


@EACH_SCALE
def test_formats_beside_ttrees_have_the_same_events(scale: Scale, tmp_path: Path) -> None:
    cases = formats(scale)
    assert [case.format for case in cases] == ["rntuple", "parquet"]
    assert {case.chunksize for case in cases} == {scale.chunksizes[-1]}
    stores = [Store(tmp_path, 300, format=format_) for format_ in ("ttree", "rntuple", "parquet")]
    ttree, rntuple, parquet = (
        set(store.fileset(300)["ttbar__nominal"]["files"]) for store in stores
    )
    assert not ttree & rntuple
    assert all(path.endswith(".parquet") for path in parquet)


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, "fused", "idiomatic"])
@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_no_implementation_is_compared_with_itself(implementation: str, size: int) -> None:
    assert cross_check(implementation, size) != implementation


def test_store_gives_the_same_events_whatever_was_asked_before(tmp_path: Path) -> None:
    cold, warm = Store(tmp_path / "a", 500), Store(tmp_path / "b", 300)
    warm.dense(400)
    for n in (1, 300, 301):
        assert cold.events(n).identity == warm.events(n).identity
        assert cold.dense(n).identity == warm.dense(n).identity
        assert cold.events(n).identity.events == n
    assert cold.events(300).identity != cold.events(301).identity
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".part"]


def test_store_reads_what_the_generator_made(tmp_path: Path) -> None:
    from analysis.synthetic import digest, generate
    from perf.cases.data import COUNTERS, PROCESS, SEED, VARIATION

    made = generate(PROCESS, VARIATION, 0, 700, seed=SEED)
    read = Store(tmp_path, 400).events(700)
    assert read.identity.digest == digest({k: v for k, v in made.items() if k not in COUNTERS})


def test_dense_events_have_four_selected_jets(tmp_path: Path) -> None:
    import awkward as ak

    columns = Store(tmp_path, 1_000).dense(400).columns
    kernel = KERNELS["jets"]
    assert ak.min(ak.num(columns["Jet_pt"])) == 4
    assert ak.all(kernel.run("columnar", *kernel.arguments(columns)))


def test_store_writes_each_file_once(tmp_path: Path) -> None:
    Store(tmp_path, 200).events(400)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.root")}
    assert len(written) == 2
    fileset = Store(tmp_path, 200).fileset(300)
    assert fileset["ttbar__nominal"]["metadata"]["nevts"] == 400
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.root")} == written


def test_cpu_of_a_pool_is_that_of_its_workers() -> None:
    iterative, futures = (
        ProcessorCase(name, 2, implementation="compiled", chunksize=1_000, size=1_000)
        for name in ("iterative", "futures")
    )
    assert not iterative.in_workers
    assert futures.in_workers
    assert futures.cpu_clock is clocks.cpu_of_tree
