"""The command ``limits``: what reading, decompressing and computing take at least, and processors beside it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from analysis.errors import InputError
from perf.cases.data import DEFAULT_DIRECTORY, Store
from perf.cli import _console
from perf.cli._options import DataOption, MachineOption, RecordsOption, SeedOption
from perf.records import provenance, record_file
from perf.records.record_file import Record

# numba and coffea take seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perf.limits.rounds import Allocator, Cell, Samples
    from perf.limits.sides import Side

CODECS: Final = ("zstd", "zlib", "lz4", "lzma", "none")
"""The first is measured in all chunk sizes and with both allocators, the others with less."""

OTHER_ROUNDS: Final = 3
"""Most processes of a codec that is not the first, and of memory."""

GIVEN: Final = "as given"
"""Codec of files that are not ours, in records."""


def limits(
    fileset: Annotated[Path | None, typer.Argument(metavar="FILESET.json")] = None,
    codecs: Annotated[
        str | None,
        typer.Option(help="Compression of the synthetic events, with commas. By default all."),
    ] = None,
    chunksizes: Annotated[
        str, typer.Option(help="Events in a chunk, about, with commas.")
    ] = "250000,50000",
    variations: Annotated[
        Literal["nominal", "all"], typer.Option(help="Systematic variations.")
    ] = "nominal",
    implementations: Annotated[
        str | None,
        typer.Option(help="Of the ttbar analysis, with commas. By default all but the reference."),
    ] = None,
    reader: Annotated[
        Literal["bulk", "uproot"], typer.Option(help="What reads the branches of processors.")
    ] = "bulk",
    rounds: Annotated[
        int, typer.Option(min=1, help="Processes that measure, of each allocator.")
    ] = 6,
    events: Annotated[int, typer.Option(min=1, help="Synthetic events, about.")] = 500_000,
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: DataOption = Path(DEFAULT_DIRECTORY),
    machine: MachineOption = None,
    seed: SeedOption = 1,
) -> None:
    """Measure the limit of this machine, and processors as multiples of it.

    The limit is CPU time of reading the bytes that are needed, decompressing them into memory that
    is used again, and computing on columns in memory. Processors are those of the ttbar analysis,
    on synthetic events by default. Results are compared before anything is timed.
    """
    from perf.limits.rounds import measure

    if fileset is not None and codecs is not None:
        msg = "--codecs is for synthetic events: leave it out, or the file set"
        raise InputError(msg)
    chosen = _console.choices(codecs or ",".join(CODECS), "--codecs", CODECS)
    sizes = sorted(_console.numbers(chunksizes, "--chunksizes"), reverse=True)
    if not sizes or min(sizes) < 1:
        msg = f"--chunksizes must be numbers of at least 1, got {chunksizes!r}"
        raise InputError(msg)
    console = _console.console()
    names = _implementations(implementations, variations)
    sides = _sides(names, sizes, variations, reader)
    inputs = (
        [_given(fileset)]
        if fileset is not None
        else [_synthetic(data, codec, events) for codec in chosen]
    )
    cells = _cells(inputs, sides, max(sizes), rounds)
    run, before = uuid.uuid4().hex, provenance.load_average()
    with _console.progress() as progress:
        bar = progress.add_task("", total=sum(cell.rounds for cell in cells))
        samples = measure(
            cells,
            seed,
            lambda cell: progress.update(bar, advance=1, description=cell.codec),
        )
    found = _records(cells, samples, run, before, machine)
    for record in found:
        record_file.append(records, record)
    _print(found, console)


def _implementations(given: str | None, variations: str) -> list[str]:
    from analysis import ttbar
    from perf.cases.processor import IDIOMATIC

    known: list[str] = [name for name in ttbar.IMPLEMENTATIONS if name != "reference"]
    known += [IDIOMATIC] if variations == "nominal" else []
    return _console.choices(given or ",".join(known), "--implementations", known)


def _sides(
    names: Iterable[str],
    sizes: Iterable[int],
    variations: Literal["nominal", "all"],
    reader: Literal["bulk", "uproot"],
) -> list[Side]:
    from perf.limits.sides import parts, processor

    return [
        *parts(variations),
        *(
            processor(name, size, variations=variations, reader=reader)
            for size in dict.fromkeys(sizes)
            for name in names
        ),
    ]


_Given = tuple[dict[str, Any], record_file.Input, str]
"""File set, its identity and codec."""


def _given(path: Path) -> _Given:
    """The file set of a path, whose files are inspected."""
    from analysis.runner.job import Job

    inspected = Job.of_ttbar(path).inspect()
    identity = record_file.Input(
        digest=inspected.digest, events=inspected.events, source=str(path)
    )
    return dict(inspected.processed()), identity, GIVEN


def _synthetic(folder: Path, codec: str, events: int) -> _Given:
    # Few events are in one file; many in files as everything else has them.
    store = Store(folder, min(events, 250_000), compression=codec)
    return store.fileset(events), store.fileset_identity(events), codec


def _cells(
    inputs: Sequence[_Given], sides: Sequence[Side], largest: int, rounds: int
) -> list[Cell]:
    """The first input with everything, the others with less; memory, which needs no input."""
    from perf.cases.case import IN_MEMORY
    from perf.limits.rounds import ALLOCATORS, Cell
    from perf.limits.sides import Side

    fewer = min(rounds, OTHER_ROUNDS)
    few = tuple(side for side in sides if side.part or side.chunksize == largest)
    (fileset, identity, codec), *others = inputs
    allocators: list[Allocator] = list(ALLOCATORS)
    return [
        *(Cell(fileset, identity, tuple(sides), one, codec, rounds) for one in allocators),
        *(Cell(other, one, few, "workers", name, fewer) for other, one, name in others),
        Cell(
            {},
            IN_MEMORY,
            (Side(task="read memory"), Side(task="write memory")),
            codec="memory",
            rounds=fewer,
        ),
    ]


def _records(
    cells: Sequence[Cell],
    samples: Sequence[Samples],
    run: str,
    before: float | None,
    machine: str | None,
) -> list[Record]:
    versions = {**provenance.versions(), provenance.SUITE: provenance.suite()}
    where, after = provenance.machine(machine), provenance.load_average()
    return [
        Record(
            run=run,
            what=cell.what(side),
            input=cell.identity,
            versions=versions,
            machine=where,
            load_before=before,
            load_after=after,
            iterations=1,
            wall_seconds=tuple(of.wall[side]),
            cpu_seconds=tuple(of.cpu[side]),
            metrics={"bytes": of.bytes[side]} if of.bytes[side] else {},
            check=of.check[side],
        )
        for cell, of in zip(cells, samples, strict=True)
        for side in cell.sides
    ]


def _print(found: Sequence[Record], console: Any) -> None:
    from perf.limits import table
    from perf.records.limits import cells
    from perf.records.table import footnote, plain

    made = cells(found)
    for cell in made:
        _console.say(plain(table.table(cell)), on=console)
    memory = [record for record in found if record.what.parameters["codec"] == "memory"]
    _console.say(*table.bandwidth(memory, made[0].parts["data"]), footnote(found[-1]), on=console)
