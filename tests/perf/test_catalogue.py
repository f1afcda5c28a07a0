"""The catalogue covers the registries, and its inputs are what they are called."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from analysis.adl import QUERIES
from analysis.kernels import IMPLEMENTATIONS, KERNELS
from perf import catalogue, measure
from perf.data import Store

if TYPE_CHECKING:
    from pathlib import Path

SCALES = pytest.mark.parametrize("scale", catalogue.SCALES.values(), ids=lambda scale: scale.name)


@SCALES
def test_names_are_unique(scale: catalogue.Scale) -> None:
    names = Counter(case.id for case in catalogue.everything(scale))
    assert [name for name, number in names.items() if number > 1] == []


@SCALES
def test_every_kernel_is_measured_in_every_implementation_and_size(
    scale: catalogue.Scale,
) -> None:
    sizes = defaultdict(set)
    for case in catalogue.kernels(scale):
        sizes[case.kernel, case.implementation].add(case.size)
    for kernel in KERNELS:
        assert sizes[kernel, "reference"] == {catalogue.REFERENCE_SIZE}
        assert sizes[kernel, "columnar"] == sizes[kernel, "compiled"] == set(scale.sizes)
    assert {implementation for _, implementation in sizes} == set(IMPLEMENTATIONS)


@SCALES
def test_every_query_is_measured_on_synthetic_and_on_real_events(scale: catalogue.Scale) -> None:
    found = {(c.query, c.implementation, c.of) for c in catalogue.queries(scale)}
    assert found == {
        (query, implementation, source)
        for query in QUERIES
        for implementation in IMPLEMENTATIONS
        for source in ("synthetic", "real")
    }


@SCALES
def test_processor_is_measured_with_every_executor_and_chunk_size(scale: catalogue.Scale) -> None:
    cases = catalogue.processors(scale)
    nominal = {
        (c.implementation, c.executor, c.chunksize)
        for c in cases
        if c.variations == "nominal" and c.of == "synthetic"
    }
    assert nominal == {
        (implementation, executor, chunksize)
        for implementation in catalogue.VECTORISED
        for executor in ("iterative", "futures")
        for chunksize in scale.chunksizes
    } | {("idiomatic", "iterative", chunksize) for chunksize in scale.chunksizes}
    assert {(c.variations, c.of) for c in cases} == {
        (variations, source)
        for variations in ("nominal", "all")
        for source in ("synthetic", "real")
    }


@pytest.mark.parametrize("implementation", [*IMPLEMENTATIONS, "idiomatic"])
@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_no_implementation_is_compared_with_itself(implementation: str, size: int) -> None:
    assert catalogue.another(implementation, size) != implementation


@pytest.mark.parametrize(
    ("events", "text"),
    [(0, "0"), (40, "40"), (1_000, "1e3"), (250_000, "25e4"), (1_000_000, "1e6"), (1_234, "1234")],
)
def test_label(events: int, text: str) -> None:
    assert catalogue.label(events) == text
    assert int(float(text)) == events


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
    from perf.data import COUNTERS, PROCESS, SEED, VARIATION

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
        catalogue.ProcessorCase("compiled", name, 1_000, "nominal", 1_000)
        for name in ("iterative", "futures")
    )
    assert not iterative.in_workers
    assert futures.in_workers
    assert futures.cpu_clock is measure.cpu_of_tree
