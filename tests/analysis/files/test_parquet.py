"""A chunk of a Parquet file has what coffea reads of it, from its own row groups."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from coffea.nanoevents import BaseSchema, NanoEventsFactory
from coffea.processor import IterativeExecutor
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import InputError, UnreadableError
from analysis.files.parquet import ChunkFile, overlapping
from tests.support.jobs import inspected, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "u1": pa.uint8(),
    "i2": pa.int16(),
    "u4": pa.uint32(),
    "i8": pa.int64(),
    "f4": pa.float32(),
    "f8": pa.float64(),
}
LISTS: dict[str, Callable[[pa.DataType], pa.DataType]] = {
    "One": lambda content: content,
    "Many": pa.list_,
    "Large": pa.large_list,
}


def write(path: Path, groups: Sequence[pa.Table], codec: str = "zstd") -> None:
    """A file with a row group of each table."""
    with pq.ParquetWriter(path, groups[0].schema, compression=codec) as file:
        for group in groups:
            file.write_table(group, row_group_size=max(len(group), 1))


def table(columns: Collection[str], rows: int, rng: np.random.Generator) -> pa.Table:
    """Columns, named by LISTS and TYPES, of few distinct numbers or of many."""
    made = {}
    for name in columns:
        of, _, content = name.partition("_")
        counts = rng.integers(0, 4, rows)
        numbers = rng.integers(0, rng.choice([2, 128]), rows if of == "One" else counts.sum())
        values = pa.array(numbers.astype(content), TYPES[content])
        if of != "One":
            offsets = np.concatenate([[0], np.cumsum(counts)])
            kind = pa.ListArray if of == "Many" else pa.LargeListArray
            values = kind.from_arrays(
                pa.array(offsets, pa.int32() if of == "Many" else "i8"), values
            )
        made[name] = values
    return pa.table(made)


def events(file: Any, start: int, stop: int) -> Any:
    """Events of a file by its path, as coffea reads them, or of a `ChunkFile`."""
    limits = {"entry_start": start, "entry_stop": stop}
    return NanoEventsFactory.from_parquet(file, schemaclass=BaseSchema, **limits).events()


def assert_equal(got: Any, want: Any, names: Collection[str]) -> None:
    """The same columns, types, lists and numbers, to the last bit."""
    assert got.fields == want.fields
    assert len(got) == len(want)
    for name in names:
        one, other = (ak.materialize(each[name]) for each in (got, want))
        assert one.type == other.type, name
        assert one.to_list() == other.to_list(), name


@st.composite
def files(draw: st.DrawFn) -> tuple[list[pa.Table], tuple[int, int], list[str]]:
    """Row groups, of which some are empty, a range of rows, and names that are known."""
    names = [f"{of}_{content}" for of in LISTS for content in TYPES]
    columns = draw(st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True))
    sizes = draw(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(sum))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = draw(st.integers(0, sum(sizes) - 1))
    stop = draw(st.integers(start + 1, sum(sizes)))
    known = draw(st.lists(st.sampled_from([*columns, "other"]), unique=True))
    return [table(columns, size, rng) for size in sizes], (start, stop), known


@given(made=files(), codec=st.sampled_from(["zstd", "snappy", "none"]))
def test_made_up_files(made: Any, codec: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    groups, (start, stop), known = made
    path = tmp_path_factory.mktemp("files") / "events.parquet"
    write(path, groups, codec)
    got = events(ChunkFile(str(path), start, stop, known), start, stop)
    assert_equal(got, events(str(path), start, stop), groups[0].column_names)


@given(
    counts=st.lists(st.integers(0, 3), max_size=6),
    ends=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_row_groups_of_a_chunk_are_those_that_have_its_rows(
    counts: list[int], ends: tuple[int, int]
) -> None:
    start, stop = (min(end, sum(counts)) for end in sorted(ends))
    of_rows = [group for group, count in enumerate(counts) for _ in range(count)]
    groups, first = overlapping(counts, start, stop)
    assert groups == sorted(set(of_rows[start:stop]))
    assert first == (of_rows.index(groups[0]) if groups else start)


def test_every_range_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    rng = np.random.default_rng(1)
    names = ["One_f4", "Many_f4", "Many_bool"]
    write(path, [table(names, size, rng) for size in (2, 0, 1, 3)])
    for start, stop in itertools.combinations(range(7), 2):
        got = events(ChunkFile(str(path), start, stop, names), start, stop)
        assert_equal(got, events(str(path), start, stop), names)


def test_columns_that_are_not_asked_for_are_not_there(tmp_path: Path) -> None:
    """Of text coffea makes no events; where other columns are named it need not."""
    path = tmp_path / "events.parquet"
    made = pa.table({"x": [1.0, 2.0, 3.0], "text": ["a", "b", "c"], "y": [1, 2, 3]})
    write(path, [made])
    with pytest.raises(AttributeError):
        events(str(path), 0, 3)
    got = events(ChunkFile(str(path), 1, 3, ["x"], ["x", "other"]), 1, 3)
    assert got.fields == ["x"]
    assert got.x.to_list() == [2.0, 3.0]


def spoilt(path: Path, group: int) -> None:
    """Spoil the data of a row group: page headers and all."""
    column = pq.read_metadata(path).row_group(group).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)


def total(events: Any) -> dict[str, float]:
    """Fields that events have, and what one of them adds up to."""
    return {"fields": len(events.fields), "sum": float(ak.sum(events.x))}


def processed(path: Path, **how: Any) -> Any:
    """Result of `total`, in chunks of 50 events."""
    fileset = {"a": {"files": {str(path): "Events"}}}
    executor = IterativeExecutor(status=False)
    return run(fileset, total, executor, chunksize=50, schema=BaseSchema, **how)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of four row groups of 50 rows."""
    rng = np.random.default_rng(2)
    path = tmp_path / "events.parquet"
    write(path, [pa.table({"x": rng.random(50), "y": rng.random(50)}) for _ in range(4)])
    return path


@pytest.mark.parametrize("branches", [(), ("x",)])
def test_row_groups_of_other_chunks_are_not_read(path: Path, branches: tuple[str, ...]) -> None:
    want = pq.read_table(path)["x"].to_numpy().reshape(4, 50).sum(axis=1)
    result = processed(path, branches=branches)
    assert result.accumulated["sum"] == pytest.approx(want.sum())
    assert result.accumulated["fields"] == 4 * (1 if branches else 2)
    spoilt(path, 2)
    with pytest.raises(UnreadableError, match="events 100 to 150 could not be read"):
        processed(path, branches=branches)
    rest = processed(path, branches=branches, skip_bad_files=True)
    assert [(one.start, one.stop) for one in rest.skipped] == [(100, 150)]
    assert rest.accumulated["sum"] == pytest.approx(want[[0, 1, 3]].sum())


def test_a_file_that_is_cut_off_after_it_was_looked_at(path: Path) -> None:
    """As a worker may find it by another path."""

    def cut(processor: Any) -> Any:
        path.write_bytes(path.read_bytes()[:100])
        return processor

    looked = inspected({"a": {"files": {str(path): "Events"}}}, total, schema=BaseSchema)
    looked = replace(looked, files=(replace(looked.files[0], stamp=None),))
    with pytest.raises(UnreadableError, match="events 0 to 200 could not be read, fetch it again"):
        looked.run(IterativeExecutor(status=False), wrap=cut)


def test_tracing_finds_what_is_read(path: Path) -> None:
    result = processed(path, trace=True)
    assert result.traced["a"].branches == {"x"}
    assert not result.traced["a"].failure
    # What tracing does not find may still be read.
    assert result.accumulated["fields"] == 8


def test_a_missing_column_is_named(path: Path) -> None:
    with pytest.raises(InputError, match="no branch z"):
        processed(path, branches=["x", "z"])


def test_there_is_one_way_to_read_parquet_whatever_the_reader(path: Path) -> None:
    results = [processed(path, reader=reader, branches=["x"]) for reader in ("bulk", "uproot")]
    assert results[0].accumulated == results[1].accumulated
    assert results[0].read_ahead == results[1].read_ahead == {}
    assert results[0].bytes_read is None
