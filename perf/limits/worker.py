"""The process that times sides: it compares their results first."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
import warnings
from collections import defaultdict
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import psutil
import uproot

from analysis.allocator import ALLOCATOR
from analysis.errors import InputError
from analysis.executors import open_executor
from analysis.files import inspection
from analysis.files.bulk import BulkTrees
from analysis.files.fileset import FileSet
from analysis.files.nanoevents import counters
from analysis.runner.job import Job
from analysis.synthetic import digest
from perf.cases import processor
from perf.cases.limits import Limit
from perf.limits.held_out import HELD_OUT
from perf.limits.sides import Answer, Request, Timed
from perf.measure import clocks
from perf.measure.fresh_process import answering
from perf.measure.memory import peak_memory
from perf.measure.paired import in_rounds
from perf.records import difference
from perf.records.digest import result_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coffea.processor.executor import ExecutorBase

    from perf.limits.sides import Side

CACHES: Final = 4
"""How many times the largest cache an array is that is not to be in it."""

MOST: Final = 8
"""The fraction of all memory that it may take."""

LEAST_MEMORY: Final = 2**28
"""Bytes of it where the caches are not known, or small."""


def main() -> None:
    """Answer one request."""
    warnings.simplefilter("ignore")
    with answering() as stream:
        request = Request.model_validate_json(sys.stdin.read())
        try:
            answer = measured(request)
        except InputError as error:
            answer = Answer(error=str(error))
        stream.write(answer.model_dump_json())


class _Prepared(NamedTuple):
    run: Callable[[], Any]
    content: Callable[[], Any]
    """All of a result, which is compared with that of other sides; calls `run` or does the same."""


def measured(request: Request) -> Answer:
    """Compare the results of all sides and time them; an InputError if results differ."""
    with ExitStack() as stack:
        sides = _Sides(request.fileset, stack.enter_context(open_executor("iterative")), stack)
        prepared = [sides.prepare(side) for side in request.sides]
        contents = {side: one.content() for side, one in zip(request.sides, prepared, strict=True)}
        require_equal(contents, sides.expected(request))
        wall: dict[int, list[float]] = defaultdict(list)
        cpu: dict[int, list[float]] = defaultdict(list)
        given: dict[int, Any] = {}
        with clocks.gc_frozen():
            for number, _ in in_rounds(range(len(prepared)), request.repeats, request.seed):
                run = prepared[number].run
                gc.collect()
                cpu_begin, begin = time.process_time(), time.perf_counter()
                given[number] = run()
                end, cpu_end = time.perf_counter(), time.process_time()
                wall[number].append(end - begin)
                cpu[number].append(cpu_end - cpu_begin)
        peak = peak_memory()
        beside = {side: sides.prepare(side).content() for side in request.beside}
        require_equal(contents | beside, {})
    return Answer(
        timed=tuple(
            Timed(
                wall=statistics.median(wall[number]),
                cpu=statistics.median(cpu[number]),
                check=result_digest(content),
                bytes=given[number] if isinstance(given[number], int) else 0,
            )
            for number, content in enumerate(contents.values())
        ),
        peak_memory=peak,
        allocator={name: os.environ.get(name) for name in ALLOCATOR},
    )


def require_equal(contents: Mapping[Side, Any], expected: Mapping[str, Any]) -> None:
    """Check that sides which have to give the same do; an InputError otherwise.

    `expected` are results that do not come from a side, by `Side.result`.
    """
    known = dict(expected)
    for side, content in contents.items():
        found = difference.difference(content, known.setdefault(side.result, content))
        if found is not None:
            what = f"{side.task} {side.name}".strip()
            msg = f"{what} gives another result ({found}): no speed is reported, run the tests"
            raise InputError(msg)


class _Sides:
    """Makes sides of a file set ready, what they share once."""

    def __init__(
        self, fileset: Mapping[str, Any], executor: ExecutorBase, stack: ExitStack
    ) -> None:
        self._fileset, self._executor, self._stack = fileset, executor, stack
        self._limits: dict[str, Limit] = {}

    def prepare(self, side: Side) -> _Prepared:
        if part := side.part:
            limit = self._limit(side)
            content = (
                partial(limit.run, part) if part == "compute" else partial(limit.digest, part)
            )
            return _Prepared(partial(limit.run, part), content)
        match side.task:
            case "processor":
                run = processor.process(
                    self._fileset,
                    self._executor,
                    implementation=cast("Any", side.name),
                    variations=side.variations,
                    chunksize=side.chunksize,
                    reader=side.reader,
                )
                return _Prepared(run, run)
            case "held out":
                run = self._held_out(side)
                return _Prepared(run, run)
            case "arrays":
                return self._arrays(side)
        return _memory(write=side.task == "write memory")

    def expected(self, request: Request) -> dict[str, str]:
        """What the parts have to give, as uproot has it."""
        return {
            side.result: self._limit(side).expected(part)
            for side in request.sides
            if (part := side.part) and part != "compute"
        }

    def _limit(self, side: Side) -> Limit:
        if side.variations not in self._limits:
            self._limits[side.variations] = Limit(self._fileset, side.variations)
        return self._limits[side.variations]

    def _held_out(self, side: Side) -> Callable[[], Any]:
        one = HELD_OUT[side.name]
        job = Job(
            FileSet.of(self._fileset),
            one.function,
            one.branches,
            schema=one.schema,
            chunksize=side.chunksize,
            reader=side.reader,
        )
        inspected = job.inspect()
        return lambda: inspected.run(self._executor).accumulated

    def _arrays(self, side: Side) -> _Prepared:
        """Columns of the branches of the analysis, chunk by chunk of files that are open."""
        job = Job.of_ttbar(FileSet.of(self._fileset, analysis=True), variations=side.variations)
        names = {*job.branch_names, *counters(job.branch_names)}
        bulk = {"object_cache": BulkTrees()} if side.reader == "bulk" else {}
        chunks = [
            (
                self._stack.enter_context(
                    uproot.open({file.path: file.tree}, array_cache=None, **bulk)
                ),
                start,
                stop,
            )
            for file, start, stop in inspection.chunks(job.inspect().files, side.chunksize)
        ]

        def arrays(tree: Any, start: int, stop: int) -> Any:
            return tree.arrays(
                filter_branch=lambda branch: branch.name in names,
                entry_start=start,
                entry_stop=stop,
                how=dict,
            )

        def run() -> None:
            for chunk in chunks:
                arrays(*chunk)

        return _Prepared(run, lambda: [digest(arrays(*chunk)) for chunk in chunks])


@cache
def _large() -> Any:
    """An array that no cache holds, every page of which is there."""
    caches = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    largest = max((int(path.read_text().rstrip("K\n")) << 10 for path in caches), default=0)
    most = psutil.virtual_memory().total // MOST
    return np.ones(min(max(CACHES * largest, LEAST_MEMORY), most) // 8, dtype=np.int64)


def _memory(*, write: bool) -> _Prepared:
    """All of a large array is read, or written."""
    array = _large()

    def run() -> int:
        if write:
            array.fill(1)
        else:
            array.max()
        return int(array.nbytes)

    return _Prepared(run, run)
