"""A chunk of a Parquet file: of its row groups alone, and the columns that are known in one go.

coffea reads a column of the whole file for every chunk, and makes a form of all columns. But its
`NanoEventsFactory.from_parquet` takes a ParquetFile that is open, and this one reads what is needed.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class ChunkFile(pq.ParquetFile):
    """A Parquet file of which the rows from `start` to `stop` are read.

    `known` are columns that will be read, `form` those that it has for coffea; None for all.
    """

    def __init__(
        self,
        path: str,
        start: int,
        stop: int,
        known: Collection[str] = (),
        form: Collection[str] | None = None,
    ) -> None:
        super().__init__(path)
        whole = super().schema_arrow
        fields = [field for field in whole if form is None or field.name in form]
        self._schema = pa.schema(fields, metadata=whole.metadata)
        self._known = [field.name for field in fields if field.name in known]
        counts = [self.metadata.row_group(i).num_rows for i in range(self.num_row_groups)]
        self._groups, self._first = overlapping(counts, start, stop)
        self._table: pa.Table | None = None

    @property
    def schema_arrow(self) -> pa.Schema:
        """Schema of the columns that it has."""
        return self._schema

    def read(self, columns: Sequence[str], *, use_threads: bool = True) -> Any:
        """One column, whose rows have their numbers in the file; as coffea calls it."""
        (name,) = columns
        if name not in self._known:
            return _Column(self._read([name], use_threads), self._first)
        if self._table is None:
            self._table = self._read(self._known, use_threads)
        return _Column(self._table.select([name]), self._first)

    def _read(self, names: list[str], use_threads: bool) -> pa.Table:  # noqa: FBT001
        return self.read_row_groups(self._groups, names, use_threads=use_threads)


class _Column:
    """A column of some row groups."""

    def __init__(self, table: pa.Table, first: int) -> None:
        self._table = table
        self._first = first

    def __getitem__(self, rows: slice) -> tuple[pa.ChunkedArray]:
        """Rows by their numbers in the file, in one chunk: coffea takes the first and no other."""
        column = self._table.column(0).slice(rows.start - self._first, rows.stop - rows.start)
        if column.num_chunks != 1:
            column = pa.chunked_array([pa.concat_arrays(column.chunks)])
        return (column,)


def overlapping(counts: Sequence[int], start: int, stop: int) -> tuple[list[int], int]:
    """Row groups with rows from `start` to `stop`, and the number of rows before them."""
    ends = list(accumulate(counts))
    groups = [
        i
        for i, (count, end) in enumerate(zip(counts, ends, strict=True))
        if max(end - count, start) < min(end, stop)
    ]
    return groups, ends[groups[0]] - counts[groups[0]] if groups else start
