"""Claims about the limit of the machine, and about reading: in fresh processes, each one a sample."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from analysis import ttbar
from analysis.errors import InputError, NotInstalledError
from analysis.files.bulk import Reader
from perf.cases.case import REAL_EVENTS, REAL_PROCESSOR, cross_check
from perf.cases.data import Store, find_shared, real_identity, why_no_shared
from perf.claims.verdict import Arm, Verdict
from perf.limits.held_out import HELD_OUT
from perf.limits.rounds import TOLD, Cell, measure
from perf.limits.sides import Side, parts, processor
from perf.measure.estimate import Estimate
from perf.measure.paired import ratio
from perf.records.limits import SUMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from perf.limits.rounds import Allocator, Samples

ROUNDS: Final = 9
"""Processes: the interval then leaves out the least and the largest ratio of them."""

REAL_ROUNDS: Final = 5
"""Of the real file, whose every chunk takes as long as opening it."""

CHUNK: Final = 250_000
SMALL_CHUNK: Final = 50_000

LIMIT_EVENTS: Final = 1_000_000
READING_EVENTS: Final = 500_000
MEMORY_EVENTS: Final = 2_000_000
"""Several chunks, because what one leaves behind adds to the next."""
FULL_EVENTS: Final = 40_000
FULL_CHUNK: Final = 20_000
"""Of files with as many branches as CMS stores."""
REAL_CHUNK: Final = 50
"""Of a real file of 1,000 events: a chunk then takes what its opening takes, and little else."""

FUSED: Final = ttbar.IMPLEMENTATIONS[-1]

MAX_OF_LIMIT: Final = {
    processor(FUSED): 1.10,
    processor("compiled"): 1.40,
    processor(FUSED, SMALL_CHUNK): 1.30,
    processor("compiled", SMALL_CHUNK): 2.0,
    processor(FUSED, variations="all"): 1.15,
}
"""CPU time over that of the limit whose data only are decompressed."""

READ_BY: Final = {
    Side(task="arrays"): "reading alone",
    processor("idiomatic"): "idiomatic",
    processor("columnar"): "columnar",
    processor("compiled"): "compiled",
}
MAX_READING: Final[dict[Allocator, tuple[float, ...]]] = {
    "workers": (0.72, 0.85, 0.78, 0.72),
    "default": (0.50, 0.88, 0.65, 0.57),
}
"""CPU time with the bulk reader over that with uproot's, in the order of READ_BY."""

READERS: Final[tuple[Reader, ...]] = get_args(Reader)
MAX_HELD_OUT: Final = 1.02
WITH_ALL: Final = tuple(dict.fromkeys(("columnar", "compiled", FUSED)))
"""Implementations that have all variations."""
MAX_MEMORY: Final = 450e6
MAX_REAL: Final = {"idiomatic": 80.0, "columnar": 40.0, "compiled": 40.0, FUSED: 40.0}
"""Milliseconds of CPU time a chunk of the real file."""

MAX_PROCESSOR: Final = {"idiomatic": 0.55, "columnar": 0.80}
"""CPU time of compiled over that of others. Less than 0.55 of columnar's, which was the goal, would be
less than the limit: reading, decompressing and computing take 372 ns of its 671 (`reports/limits.txt`)."""


@dataclass
class Measured:
    """A cell that was measured, and verdicts on it."""

    cell: Cell
    samples: Samples
    rng: np.random.Generator
    _told: set[Side] = field(default_factory=set)

    @classmethod
    def of(cls, cell: Cell, rng: np.random.Generator) -> Self:
        """Measure a cell."""
        (samples,) = measure([cell], int(rng.integers(2**31)))
        return cls(cell, samples, rng)

    def over(self, claim: str, bound: float, side: Side, others: Iterable[Side]) -> Verdict:
        """At most `bound`: CPU time of a side over the sum of that of others."""
        others = tuple(others)
        cpu = self.samples.cpu
        total = [sum(each) for each in zip(*(cpu[other] for other in others), strict=True)]
        estimate = ratio(cpu[side], total, self.rng)
        return Verdict(
            f"{claim} ({TOLD[self.cell.allocator]})",
            "at most",
            bound,
            estimate,
            "ratio",
            self.arms((*others, side)),
        )

    def more(self, claim: str, bound: float, side: Side, base: Side, chunks: int) -> Verdict:
        """At most so many milliseconds of CPU time for each of `chunks` that it has more."""
        cpu = self.samples.cpu
        each = [
            1e3 * (seconds - before) / chunks
            for seconds, before in zip(cpu[side], cpu[base], strict=True)
        ]
        return Verdict(
            f"{claim} ({TOLD[self.cell.allocator]})",
            "at most",
            bound,
            ratio(each, [1.0] * len(each), self.rng),
            "milliseconds",
            self.arms((base, side)),
        )

    def arms(self, sides: Sequence[Side]) -> tuple[Arm, ...]:
        """Sides as records keep them: one that is in several verdicts is kept with the first."""
        found = [side for side in sides if side not in self._told]
        self._told |= {*found}
        samples = self.samples
        return tuple(
            Arm(
                self.cell.what(side, "claim-limit-"),
                self.cell.identity,
                samples.wall[side],
                samples.cpu[side],
                1,
                samples.check[side],
            )
            for side in found
        )


def limit(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """How many times above the limit the fused and the compiled processor are."""
    varied: tuple[Literal["nominal"], Literal["all"]] = ("nominal", "all")
    everything = [side for variations in varied for side in parts(variations)]
    # Of one file, as those of CMS have a million events: what opening it takes is part of it.
    one_file = Store(store.directory, LIMIT_EVENTS)
    cell = _cell(one_file, LIMIT_EVENTS, (*everything, *MAX_OF_LIMIT), rounds)
    found = Measured.of(cell, rng)
    return [
        found.over(
            f"ttbar {side.variations}, chunk {side.chunksize:,} of a file of {LIMIT_EVENTS:,} events, "
            f"zstd: {side.name} / reading, decompressing the data, and computing",
            bound,
            side,
            (Side(task=part, variations=side.variations) for part in SUMS["data only"]),
        )
        for side, bound in MAX_OF_LIMIT.items()
    ]


def implementations(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """The nominal processor: compiled over what it is an alternative to."""
    compiled, others = processor("compiled"), [processor(name) for name in MAX_PROCESSOR]
    found = Measured.of(_cell(store, READING_EVENTS, (compiled, *others), rounds), rng)
    return [
        found.over(
            f"ttbar nominal, chunk {CHUNK:,}, zstd: compiled / {other.name}",
            MAX_PROCESSOR[other.name],
            compiled,
            [other],
        )
        for other in others
    ]


def reading(
    store: Store, rng: np.random.Generator, allocator: Allocator, rounds: int = ROUNDS
) -> list[Verdict]:
    """With branches read in bulk, reading and every processor take less CPU time than by uproot."""
    pairs = [(side, side.model_copy(update={"reader": "uproot"})) for side in READ_BY]
    cell = _cell(store, READING_EVENTS, [one for pair in pairs for one in pair], rounds, allocator)
    found = Measured.of(cell, rng)
    return [
        found.over(
            f"{told}, ttbar nominal, chunk {CHUNK:,}, zstd: read in bulk / by uproot",
            bound,
            bulk,
            [uproot],
        )
        for (bulk, uproot), told, bound in zip(
            pairs, READ_BY.values(), MAX_READING[allocator], strict=True
        )
    ]


def held_out(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """Processors that the bulk reader was not made for: the same result, and not slower."""
    pairs = [
        [
            Side(task="held out", name=name, chunksize=FULL_CHUNK, reader=reader)
            for reader in READERS
        ]
        for name in HELD_OUT
    ]
    full = Store(store.directory, FULL_EVENTS, branches="full")
    found = Measured.of(
        _cell(full, FULL_EVENTS, [one for pair in pairs for one in pair], rounds), rng
    )
    return [
        found.over(
            f"held out: {bulk.name} ({HELD_OUT[bulk.name].schema.__name__}), full branches, "
            f"chunk {FULL_CHUNK:,}, zstd: read in bulk / by uproot",
            MAX_HELD_OUT,
            bulk,
            [uproot],
        )
        for bulk, uproot in pairs
    ]


def real_file(rng: np.random.Generator, rounds: int = REAL_ROUNDS) -> list[Verdict]:
    """A real file of many branches: what a chunk costs that has few events."""
    folder = find_shared(Path.cwd())
    if folder is None:
        raise NotInstalledError(why_no_shared())
    path = folder / REAL_PROCESSOR
    fileset = {
        "ttbar__nominal": {
            "files": {str(path): "Events"},
            "metadata": {"process": "ttbar", "variation": "nominal", "xsec": 729.84},
        }
    }
    pairs = {
        name: (processor(name, REAL_CHUNK), processor(name, REAL_EVENTS)) for name in MAX_REAL
    }
    cell = Cell(
        fileset,
        real_identity(path, REAL_EVENTS),
        tuple(side for pair in pairs.values() for side in pair),
        codec="real",
        rounds=rounds,
    )
    found = Measured.of(cell, rng)
    return [
        found.more(
            f"real file of 1,479 branches, {name}: a chunk of {REAL_CHUNK} events after the first",
            MAX_REAL[name],
            *pair,
            REAL_EVENTS // REAL_CHUNK - 1,
        )
        for name, pair in pairs.items()
    ]


def memory(store: Store, name: str) -> Verdict:
    """The processor with all variations: the largest memory of a worker.

    Its result is that of another implementation, which runs once the memory is known.
    """
    side = processor(name, variations="all")
    other = processor(cross_check(name, MEMORY_EVENTS), variations="all")
    cell = replace(_cell(store, MEMORY_EVENTS, [side], 1), repeats=1, beside=(other,))
    (samples,) = measure([cell], 0)
    if samples.peak_memory is None:
        msg = "peak memory is read from /proc, which this system does not have: run on Linux"
        raise InputError(msg)
    arm = Arm(
        cell.what(side, "claim-memory-").model_copy(update={"kind": "processor"}),
        cell.identity,
        samples.wall[side],
        samples.cpu[side],
        1,
        samples.check[side],
        samples.peak_memory,
    )
    chunks = MEMORY_EVENTS // CHUNK
    return Verdict(
        f"ttbar, all variations, {chunks} chunks of {CHUNK:,}, {name}: peak of a worker "
        f"({TOLD[cell.allocator]})",
        "at most",
        MAX_MEMORY,
        Estimate.exact(samples.peak_memory),
        "bytes",
        (arm,),
    )


def _cell(
    store: Store,
    events: int,
    sides: Sequence[Side],
    rounds: int,
    allocator: Allocator = "workers",
) -> Cell:
    identity = store.fileset_identity(events)
    return Cell(
        store.fileset(events), identity, tuple(sides), allocator, store.compression, rounds
    )
