"""Inputs of other shapes have the files and events that were asked for, and are run as any other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.errors import InputError
from analysis.runner.job import Job
from perf.records import record_file
from perf.scaling import shapes
from perf.scaling.configurations import configurations
from perf.scaling.shapes import Shape
from tests.support import cli

if TYPE_CHECKING:
    from analysis.runner.job import Inspected


@pytest.fixture(scope="module")
def inspected(fileset: Path) -> Inspected:
    return Job.of_ttbar(fileset, variations="nominal").inspect()


@pytest.mark.parametrize("shape", [Shape(1, 2000), Shape(2, 500), Shape(5, 1000)])
def test_a_shape_has_so_many_files_of_so_many_events(
    inspected: Inspected, shape: Shape, tmp_path: Path
) -> None:
    path = shapes.write(inspected, shape, tmp_path / "some" / f"{shape}.json")
    again = Job.of_ttbar(path, variations="nominal").inspect()
    assert [file.selected for file in again.files] == [shape.events] * shape.files


def test_files_with_too_few_events_are_refused(inspected: Inspected, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file has 2,001 events"):
        shapes.write(inspected, Shape(1, 2001), tmp_path / "one.json")


def test_shapes_are_named_by_files_and_events() -> None:
    assert shapes.parse(["2x500", "16x1000", "2x500"]) == [Shape(2, 500), Shape(16, 1000)]
    for bad in ("16", "x5", "0x5", "5x0", "axb", "-1x5"):
        with pytest.raises(InputError, match="FILESxEVENTS"):
            shapes.parse([bad])


def test_a_sample_has_each_shape_chunk_size_and_number_of_workers_in_turn() -> None:
    inputs = [Shape(1, 240), Shape(2, 240), Shape(3, 240)]
    chosen = configurations(["iterative", "futures"], [1, 2], [10, 20, 30, 40])
    pairs = shapes.sample(inputs, chosen, 12, seed=3)
    assert len(pairs) == len({(shape, str(one)) for shape, one in pairs}) == 24
    futures = [(shape, one) for shape, one in pairs if one.executor == "futures"]
    assert set(Counter(shape for shape, _ in futures).values()) == {4}
    assert set(Counter(one.workers for _, one in futures).values()) == {6}
    assert set(Counter(one.chunksize for _, one in futures).values()) == {3}
    assert pairs == shapes.sample(inputs, chosen, 12, seed=3)
    assert pairs != shapes.sample(inputs, chosen, 12, seed=4)
    # Files of 10 events have one chunk of any of these sizes.
    small = shapes.sample([Shape(1, 10)], chosen, 100, seed=1)
    assert sorted((one.executor, one.workers) for _, one in small) == [
        ("futures", 1),
        ("futures", 2),
        ("iterative", 1),
    ]
    every = shapes.sample([None], chosen, 1000, seed=1)
    assert sorted(map(str, every)) == sorted(str((None, one)) for one in chosen)


@pytest.mark.slow
def test_the_command_measures_shapes(fileset: Path, tmp_path: Path) -> None:
    results = tmp_path / "scale.jsonl"
    command = ["scale", fileset, "--executors", "iterative", "--workers", "1", "--repeat", "1"]
    command += ["--chunksizes", "500", "--output", results]
    shaped = [*command, "--shapes", "3x500,5x2000", "--sample", "1"]
    outcome = cli.perf(*shaped)
    assert outcome.exit_code == 0, outcome.error
    assert "1 worker runs on 2 inputs are in" in outcome.output
    (found,) = record_file.read(results)
    assert (found.input.events, found.metrics["files"]) in {(1500, 3), (10_000, 5)}
    assert found.metrics["inspect_wall"] > 0
    assert found.metrics["accumulator"] > 1000
    assert "1 of 1 worker runs are in" in cli.perf(*shaped).output


@pytest.mark.parametrize(
    ("wrong", "said"), [("9x3000", "no file has 3,000 events"), (",", "names no input")]
)
def test_shapes_that_cannot_be_made_are_refused(
    fileset: Path, tmp_path: Path, wrong: str, said: str
) -> None:
    refused = cli.perf("scale", fileset, "--shapes", wrong, "--output", tmp_path / "scale.jsonl")
    assert refused.exit_code == 2
    assert said in refused.error
