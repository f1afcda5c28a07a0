"""coffea: every chunk of a Parquet file reads whole columns, so that a file costs its square."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from coffea.nanoevents import BaseSchema, NanoEventsFactory
from measure import timed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHAT = "3 columns of a Parquet file in 10 chunks, 10 row groups"
UNIT = "ms of CPU"
CHUNKS = 10


def make(folder: Path, *, quick: bool) -> None:
    """Write one file, a row group for each chunk."""
    rng = np.random.default_rng(1)
    events = 10_000 if quick else 500_000
    each = rng.poisson(6.0, events)
    offsets = pa.array(np.append(0, np.cumsum(each)).astype(np.int32))
    total = int(each.sum())
    columns = {
        "MET_pt": pa.array(rng.exponential(30.0, events).astype(np.float32)),
        "Jet_pt": pa.ListArray.from_arrays(
            offsets, pa.array(rng.exponential(30.0, total).astype(np.float32))
        ),
        "Jet_eta": pa.ListArray.from_arrays(
            offsets, pa.array(rng.normal(size=total).astype(np.float32))
        ),
    }
    pq.write_table(
        pa.table(columns),
        folder / "events.parquet",
        row_group_size=events // CHUNKS,
        compression="zstd",
    )


def turns(folder: Path, _side: str) -> Iterator[tuple[float, Any]]:
    """Read the file chunk by chunk, as the Runner does; borders of chunks cut row groups too."""
    path = folder / "events.parquet"
    events = pq.ParquetFile(path).metadata.num_rows
    borders = [0, *(events * k // CHUNKS + 7 for k in range(1, CHUNKS)), events]

    def sums() -> list[Any]:
        found = []
        for start, stop in pairwise(borders):
            chunk = NanoEventsFactory.from_parquet(
                str(path), entry_start=start, entry_stop=stop, schemaclass=BaseSchema
            ).events()
            found += [float(ak.sum(chunk.Jet_pt)), float(ak.sum(chunk.Jet_eta)), len(chunk)]
            found += [float(ak.sum(chunk.MET_pt)), ak.num(chunk.Jet_pt).to_numpy()]
        return found

    while True:
        yield timed(sums)
