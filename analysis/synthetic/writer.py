"""Write synthetic samples as NanoAOD files, and the file set that names them."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from analysis.errors import InputError
from analysis.files.output import check_folder
from analysis.folders import alone
from analysis.samples import CROSS_SECTIONS, SAMPLE_VARIATIONS, sample_name
from analysis.synthetic.columns import Digest
from analysis.synthetic.events import GENERATOR_VERSION, check_branches, check_sample, generate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from analysis.synthetic.columns import Columns

    Sink = Callable[[Columns], None]

FORMATS: Final[dict[str, str]] = {"ttree": ".root", "rntuple": ".root", "parquet": ".parquet"}
"""Suffix of the files of each format."""

COMPRESSION_LEVELS: Final[dict[str, int]] = {
    # CMS writes NanoAOD with LZMA 9 or ZSTD 5. The level changes the time to write far more than
    # the size or the time to read: a slim ttbar event takes 194, 183 and 174 bytes at zstd 1, 3
    # and 5, while a core makes and writes 160, 145 and 115 thousand a second. lz4 4 and zlib 1
    # are ROOT's own defaults; lzma is slow at any level.
    "zstd": 3,
    "lz4": 4,
    "zlib": 1,
    "lzma": 1,
    "none": 0,
}
PARQUET_CODECS: Final[dict[str, str]] = {
    "zstd": "zstd",
    "lz4": "lz4",
    "zlib": "gzip",
    "none": "none",
}

TREE: Final = "Events"
FILESET: Final = "fileset.json"
PROVENANCE: Final = "provenance.json"
PART_PREFIX: Final = ".part-"
"""Of the name of an unfinished file; an interrupted run leaves such files behind."""


class Piece(NamedTuple):
    """One file of a sample: events [start, stop)."""

    process: str
    variation: str
    start: int
    stop: int
    name: str


def write_fileset(
    directory: Path,
    *,
    events: int,
    seed: int,
    processes: Sequence[str] | None = None,
    variations: Sequence[str] | None = None,
    compression: str = "zstd",
    format: str = "ttree",
    branches: str = "slim",
    events_per_file: int = 1_000_000,
    cluster: int = 50_000,
    progress: bool = False,
) -> dict[str, Any]:
    """Write every sample of the processes, and ``fileset.json`` when all are whole.

    A file is written under a temporary name and renamed when it is whole. Files of an earlier
    run with the same options are kept. Two processes cannot write to one directory at once.

    Parameters
    ----------
    directory
        Where to write; made if missing.
    events
        Events of each sample (process and variation).
    seed
        Seed of `generate`.
    processes
        Names out of `analysis.samples.CROSS_SECTIONS`; all if not given.
    variations
        Variations of each process to write, of those that it has; all if not given.
    compression
        ``zstd``, ``lz4``, ``zlib``, ``lzma`` or ``none``; the level is that of
        `COMPRESSION_LEVELS`. Parquet has no lzma.
    format
        ``ttree``, ``rntuple`` or ``parquet``.
    branches
        ``slim`` or ``full``, see `generate`.
    events_per_file
        A sample of more events is split.
    cluster
        Events of a cluster: a basket of each branch of a TTree, a cluster of an RNTuple, a row
        group of Parquet.
    progress
        Show a progress bar if a terminal is attached.

    Returns
    -------
    dict
        File set for coffea's Runner, as in ``fileset.json``: sample name to ``files`` (absolute
        path to tree name) and ``metadata`` (process, variation, nevts, xsec in pb).

    Raises
    ------
    InputError
        If an option is none of those above, or the directory cannot be written or is in use.
    """
    chosen = list(CROSS_SECTIONS) if processes is None else list(dict.fromkeys(processes))
    for process in chosen:
        check_sample(process, next(iter(SAMPLE_VARIATIONS.get(process, ("",)))))
    if not chosen:
        msg = f"no process to write: choose from {', '.join(CROSS_SECTIONS)}"
        raise InputError(msg)
    for variation in variations or ():
        _check_choice(
            "variation", variation, {name: None for p in chosen for name in SAMPLE_VARIATIONS[p]}
        )
    _check_choice("format", format, FORMATS)
    _check_choice(
        "compression",
        compression,
        PARQUET_CODECS if format == "parquet" else COMPRESSION_LEVELS,
        f" for {format}" if format == "parquet" else "",
    )
    check_branches(branches)
    for name, number in (
        ("events", events),
        ("events per file", events_per_file),
        ("events per cluster", cluster),
    ):
        if number < 1:
            msg = f"{number} {name}: give a number of at least 1"
            raise InputError(msg)

    check_folder(directory)
    directory = directory.resolve()
    pieces = [
        piece
        for process in chosen
        for variation in SAMPLE_VARIATIONS[process]
        if variations is None or variation in variations
        for piece in _pieces(process, variation, events, events_per_file, FORMATS[format])
    ]
    options = {
        "generator": GENERATOR_VERSION,
        "seed": seed,
        "compression": compression,
        "level": COMPRESSION_LEVELS[compression],
        "format": format,
        "branches": branches,
        "cluster": cluster,
    }
    fileset = _fileset(directory, pieces, events)
    # A caller that finds everything there, as measurements do, takes no lock.
    if _read_json(directory / FILESET) != fileset or _missing(directory, pieces, options):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with alone(directory):
                _write(directory, pieces, options, shown=progress)
                _write_json(directory / FILESET, fileset)
        except OSError as error:
            msg = f"{directory} cannot be written to ({error.strerror or error}): name another one"
            raise InputError(msg) from error
    return fileset


def _write(
    directory: Path, pieces: Sequence[Piece], options: dict[str, Any], *, shown: bool
) -> None:
    """Write the files that are missing."""
    for stale in directory.glob(f"{PART_PREFIX}*"):
        stale.unlink()  # of an interrupted run
    recorded, missing = _recorded(directory), _missing(directory, pieces, options)
    if missing:
        # The older list of files is wrong once the first of them is replaced.
        (directory / FILESET).unlink(missing_ok=True)
    with _bar(sum(piece.stop - piece.start for piece in missing), shown=shown) as advance:
        for piece in missing:
            digest, size = _write_piece(directory, piece, options, advance)
            recorded[piece.name] = _entry(piece, options) | {"size": size, "digest": digest}
            _write_json(directory / PROVENANCE, {"files": recorded})


def _fileset(directory: Path, pieces: Sequence[Piece], events: int) -> dict[str, Any]:
    fileset: dict[str, Any] = {}
    for piece in pieces:
        sample = fileset.setdefault(
            sample_name(piece.process, piece.variation),
            {
                "files": {},
                "metadata": {
                    "process": piece.process,
                    "variation": piece.variation,
                    "nevts": events,
                    "xsec": CROSS_SECTIONS[piece.process],
                },
            },
        )
        sample["files"][str(directory / piece.name)] = TREE
    return fileset


def _check_choice(what: str, value: str, choices: Iterator[str] | Any, where: str = "") -> None:
    if value not in choices:
        msg = f"unknown {what} {value!r}{where}: choose from {', '.join(choices)}"
        raise InputError(msg)


def _pieces(
    process: str, variation: str, events: int, per_file: int, suffix: str
) -> Iterator[Piece]:
    for i, start in enumerate(range(0, events, per_file)):
        name = f"{sample_name(process, variation)}_{i}{suffix}"
        yield Piece(process, variation, start, min(start + per_file, events), name)


def _entry(piece: Piece, options: dict[str, Any]) -> dict[str, Any]:
    return options | {
        "process": piece.process,
        "variation": piece.variation,
        "start": piece.start,
        "stop": piece.stop,
    }


def _recorded(directory: Path) -> dict[str, dict[str, Any]]:
    """Options and sizes of the files of earlier runs; nothing if the record cannot be read."""
    content = _read_json(directory / PROVENANCE)
    files = content.get("files") if isinstance(content, dict) else None
    return files if isinstance(files, dict) else {}


def _read_json(path: Path) -> Any:
    """Content of a JSON file; None if it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _missing(directory: Path, pieces: Sequence[Piece], options: dict[str, Any]) -> list[Piece]:
    recorded = _recorded(directory)
    return [piece for piece in pieces if not _is_whole(directory, piece, options, recorded)]


def _is_whole(
    directory: Path, piece: Piece, options: dict[str, Any], recorded: dict[str, dict[str, Any]]
) -> bool:
    known = recorded.get(piece.name, {})
    path = directory / piece.name
    return (
        path.is_file()
        and path.stat().st_size == known.get("size")
        and _entry(piece, options).items() <= known.items()
    )


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(PART_PREFIX + path.name)
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda _: None
        return
    with Progress(
        TextColumn("events"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task("events", total=total)
        yield lambda n: bar.update(task, advance=n)


def _write_piece(
    directory: Path,
    piece: Piece,
    options: dict[str, Any],
    advance: Callable[[int], None],
) -> tuple[str, int]:
    """Write one file; return the digest of its columns and its size in bytes."""
    part = directory / (PART_PREFIX + piece.name)
    digest = Digest()
    try:
        with _SINKS[options["format"]](part, options) as sink:
            for start in range(piece.start, piece.stop, options["cluster"]):
                stop = min(start + options["cluster"], piece.stop)
                columns = generate(
                    piece.process,
                    piece.variation,
                    start,
                    stop,
                    seed=options["seed"],
                    branches=options["branches"],
                )
                digest.update(columns)
                sink(columns)
                advance(stop - start)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        size = part.stat().st_size
        part.replace(directory / piece.name)
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest(), size


def _root_compression(options: dict[str, Any]) -> uproot.compression.Compression | None:
    kinds = {"zstd": uproot.ZSTD, "lz4": uproot.LZ4, "zlib": uproot.ZLIB, "lzma": uproot.LZMA}
    kind = kinds.get(options["compression"])
    return None if kind is None else kind(options["level"])


def collections_of(columns: Columns) -> dict[str, Any]:
    """Columns as uproot's TTree writer takes them: one record array for each collection.

    Branches of a collection then share its counter (nJet for Jet_pt and others), which the writer
    adds itself.
    """
    jagged: dict[str, dict[str, ak.Array]] = {}
    plain: dict[str, Any] = {}
    for name, column in columns.items():
        collection, _, attribute = name.partition("_")
        if isinstance(column, ak.Array):
            jagged.setdefault(collection, {})[attribute] = column
        else:
            plain[name] = column
    for collection, fields in jagged.items():
        plain.pop(f"n{collection}")
        # A collection of one branch, such as LHEPdfWeight, has no attribute names.
        plain[collection] = fields[""] if "" in fields else _zipped(fields)
    return plain


def _zipped(fields: dict[str, ak.Array]) -> ak.Array:
    """Record array that shares the offsets of the first field; all fields have the same."""
    first = next(iter(fields.values())).layout
    record = ak.contents.RecordArray(
        [field.layout.content for field in fields.values()], list(fields)
    )
    return ak.Array(ak.contents.ListOffsetArray(first.offsets, record))


@contextmanager
def _ttree(path: Path, options: dict[str, Any]) -> Iterator[Sink]:
    with uproot.recreate(path, compression=_root_compression(options)) as file:
        tree: Any = None

        def sink(columns: Columns) -> None:
            nonlocal tree
            grouped = collections_of(columns)
            if tree is None:
                types = {
                    name: column.dtype if isinstance(column, np.ndarray) else column.type.content
                    for name, column in grouped.items()
                }
                tree = file.mktree(TREE, types, title=TREE)
            tree.extend(grouped)

        yield sink


@contextmanager
def _rntuple(path: Path, options: dict[str, Any]) -> Iterator[Sink]:
    with uproot.recreate(path, compression=_root_compression(options)) as file:
        ntuple: Any = None

        def sink(columns: Columns) -> None:
            nonlocal ntuple
            # Counters stay: without nJet coffea's schema finds no Jet collection.
            array = ak.Array(
                ak.contents.RecordArray(
                    [ak.to_layout(column) for column in columns.values()], list(columns)
                )
            )
            if ntuple is None:
                ntuple = file.mkrntuple(TREE, array.layout.form)
            ntuple.extend(array)

        yield sink


@contextmanager
def _parquet(path: Path, options: dict[str, Any]) -> Iterator[Sink]:
    writer: pq.ParquetWriter | None = None

    def sink(columns: Columns) -> None:
        nonlocal writer
        table = pa.table(
            {
                name: ak.to_arrow(column, extensionarray=False, list_to32=True)
                for name, column in columns.items()
            }
        )
        if writer is None:
            writer = pq.ParquetWriter(
                path, table.schema, compression=PARQUET_CODECS[options["compression"]]
            )
        writer.write_table(table, row_group_size=len(table))

    try:
        yield sink
    finally:
        if writer is not None:
            writer.close()


_SINKS: Final = {"ttree": _ttree, "rntuple": _rntuple, "parquet": _parquet}
