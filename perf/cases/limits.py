"""The limit: reading, decompressing and computing, each alone and from memory that is used again.

Whoever processes the events of a file has to read the bytes of their baskets, to decompress them,
and to compute: nobody takes less than the three together. What a processor takes beside them is
what a reader, NanoEvents, coffea's Runner and fresh memory cost.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perf.cases.case import Case, Ready
from perf.cases.processor import process
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.format import label
from perf.records.limits import KIND, PARTS
from perf.records.record_file import What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from analysis.files.baskets import Basket
    from perf.cases.case import Inputs
    from perf.cases.processor import Variations
    from perf.cases.scales import Scale
    from perf.records.limits import Part

    See = Callable[[memoryview], object]
    """Called with what a part has read or decompressed, before it is overwritten."""

COLUMNS: Final = 250_000
"""Events whose columns are computed on at once."""


class _Place(NamedTuple):
    """Where a basket begins and ends in a file, and which it is."""

    start: int
    stop: int
    branch: str
    number: int


class _File:
    """The baskets of some branches of a file, in its order."""

    def __init__(self, path: str, tree: str, names: Collection[str]) -> None:
        import uproot

        from analysis.errors import InputError
        from analysis.files import bulk
        from analysis.files.baskets import Basket

        self.path, self.tree, self.names = path, tree, names
        with uproot.open({path: tree}) as opened:
            if not isinstance(opened, uproot.TTree) or not Path(path).is_file():
                msg = f"{path}: only TTrees in files of this machine have a limit here"
                raise InputError(msg)
            found = {name: bulk.find(opened, name) for name in names}
        if other := sorted(name for name, branch in found.items() if branch is None):
            msg = (
                f"{path}: {', '.join(other)} cannot be read in bulk, of which the limit is made: "
                "convert the file with `coffea-analysis deliver`"
            )
            raise InputError(msg)
        self.places = sorted(
            _Place(*place, name, number)
            for name, branch in found.items()
            if branch is not None
            for number, place in enumerate(branch.places)
        )
        self.ranges: list[tuple[int, int]] = []
        for place in self.places:
            touches = self.ranges and self.ranges[-1][1] == place.start
            begin = self.ranges.pop()[0] if touches else place.start
            self.ranges.append((begin, place.stop))
        with Path(path).open("rb") as file:
            descriptor = file.fileno()
            self.baskets: list[Basket] = [
                Basket.of(memoryview(os.pread(descriptor, place.stop - place.start, place.start)))
                for place in self.places
            ]
        # The data and the offsets behind them.
        self.whole = [replace(basket, border=basket.size) for basket in self.baskets]

    @property
    def bytes(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def read(self, buffer: memoryview, see: See) -> int:
        at = 0
        with Path(self.path).open("rb") as file:
            descriptor = file.fileno()
            for start, stop in self.ranges:
                at += os.preadv(descriptor, [buffer[at : at + stop - start]], start)
        see(buffer[:at])
        return at

    def expected(self, part: Part, see: See) -> None:
        """Show what a part has to give, as the file and uproot have it."""
        import uproot

        if part == "read":
            content = memoryview(Path(self.path).read_bytes())
            for start, stop in self.ranges:
                see(content[start:stop])
            return
        with uproot.open({self.path: self.tree}) as tree:
            for place in self.places:
                basket = tree[place.branch].basket(place.number)
                see(memoryview((basket.raw_data if part == "whole" else basket.data).tobytes()))


class _InMemory:
    """Events whose columns are in memory, as far as `analysis.files.columns.Columns` asks."""

    def __init__(self, columns: Mapping[str, Any], size: int, metadata: Mapping[str, Any]) -> None:
        self._columns, self._size = columns, size
        self.metadata = metadata
        self.fields = list(columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def __len__(self) -> int:
        return self._size


def _blind(_: memoryview) -> None:
    """See nothing."""


class Limit:
    """The parts of the limit of the ttbar analysis on a file set; each `run` is all of a part.

    Parameters
    ----------
    fileset
        Of TTrees in files of this machine.
    variations
        Of the analysis, which reads more branches for ``all``.

    Raises
    ------
    InputError
        If a file is missing, or cannot be read in bulk.
    """

    def __init__(self, fileset: Mapping[str, Any], variations: Variations = "nominal") -> None:
        from analysis import ttbar
        from analysis.errors import InputError
        from analysis.files.fileset import FileSet
        from analysis.files.nanoevents import counters
        from analysis.runner.job import Job

        self._fileset = FileSet.of(fileset, analysis=True)
        files = [file for dataset in self._fileset.datasets.values() for file in dataset.files]
        if any(file.steps for file in files):
            msg = "a part of a file has no limit here: leave the steps out of the file set"
            raise InputError(msg)
        # The fastest of all: `compute` is to be what nobody undercuts.
        self.implementation = ttbar.IMPLEMENTATIONS[-1]
        self._variations = variations
        job = Job.of_ttbar(self._fileset, self.implementation, variations)
        self._inspected = job.inspect()
        self.events = self._inspected.events
        self._names = sorted({*job.branch_names, *counters(job.branch_names)})
        self._files = [_File(file.path, file.tree, self._names) for file in self._inspected.files]
        sizes = [basket.size for file in self._files for basket in file.baskets]
        room = max([file.bytes for file in self._files] + sizes)
        # Used again by every file and basket, and written once: nothing faults a page in later.
        self._buffer = memoryview(bytearray(b"\1") * room)

    def run(self, part: Part, see: See = _blind) -> Any:
        """All of a part: the number of bytes that it gives, or the result of the analysis."""
        match part:
            case "read":
                return sum(file.read(self._buffer, see) for file in self._files)
            case "compute":
                return self._compute()
        return sum(
            self._decompress(file.whole if part == "whole" else file.baskets, see)
            for file in self._files
        )

    def digest(self, part: Part) -> str:
        """Digest of all that a part gives."""
        if part == "compute":
            return result_digest(self._compute())
        total = sha256()
        self.run(part, total.update)
        return total.hexdigest()

    def expected(self, part: Part) -> str:
        """The digest that a part other than ``compute`` has to have."""
        total = sha256()
        for file in self._files:
            file.expected(part, total.update)
        return total.hexdigest()

    def data_bytes(self) -> int:
        """Bytes of the data, as columns have them."""
        return sum(basket.border for file in self._files for basket in file.baskets)

    def _decompress(self, baskets: Collection[Basket], see: See) -> int:
        for basket in baskets:
            target = self._buffer[: basket.border]
            basket.read_into(target)
            see(target)
        return sum(basket.border for basket in baskets)

    @cached_property
    def _columns(self) -> list[_InMemory]:
        """Columns of all events, as the bulk reader gives them to a processor."""
        import uproot

        from analysis.files import bulk, inspection

        datasets, found = self._inspected.processed().datasets, []
        for file, start, stop in inspection.chunks(self._inspected.files, COLUMNS):
            with uproot.open({file.path: file.tree}) as tree:
                branches = {name: bulk.find(tree, name) for name in self._names}
                columns = bulk.read(tree, {n: b for n, b in branches.items() if b}, start, stop)
            found.append(_InMemory(columns, stop - start, datasets[file.dataset].metadata))
        return found

    def _compute(self) -> Any:
        from coffea.processor import accumulate

        from analysis import ttbar

        process = ttbar.TtbarProcessor(self.implementation, self._variations).process
        result = accumulate([process(events) for events in self._columns])
        cutflow = ttbar.whole_cutflow(result["cutflow"], self._fileset)
        return {**result, "cutflow": cutflow}


@dataclass(frozen=True, kw_only=True)
class LimitCase(Case):
    """A part of the limit, beside the processor that it is the limit of."""

    part: Part
    size: int

    @property
    def what(self) -> What:
        """Named by part and size, in the group of the processor."""
        return What(
            name=f"limit_{self.part}-{label(self.size)}",
            group="ttbar, nominal",
            kind=KIND,
            subject=self.part,
            size=self.size,
            parameters={"variations": "nominal", "source": "synthetic"},
        )

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Read the baskets, and columns for ``compute``."""
        from analysis.executors import open_executor

        fileset = inputs.store.fileset(self.size)
        limit = inputs.cached("limit", self.size, lambda: Limit(fileset))

        def columnar() -> Any:
            with open_executor("iterative") as executor:
                return process(
                    fileset,
                    executor,
                    implementation="columnar",
                    variations="nominal",
                    chunksize=self.size,
                )()

        computes = self.part == "compute"
        yield Ready(
            run=lambda: limit.run(self.part),
            expected=columnar if computes else lambda: limit.expected(self.part),
            result_key=(self.part, self.size),
            compare=difference.agree,
            identity=inputs.store.fileset_identity(self.size),
            content=(lambda result: result) if computes else lambda _: limit.digest(self.part),
        )


def limits(scale: Scale) -> list[LimitCase]:
    """Every part, of as many events as the processor has."""
    return [LimitCase(part=part, size=scale.processor_events) for part in PARTS]
