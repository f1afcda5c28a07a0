"""Timing of a case by pytest-benchmark, and its record."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from perf.cases.case import check, run_checked
from perf.measure import clocks
from perf.records import provenance, record_file
from perf.records.digest import result_digest
from perf.records.record_file import Record

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from perf.cases.case import Case, Inputs, Ready
    from perf.cases.scales import Scale

WORKER_WARMUPS: Final = 2
"""Calls before those measured where other processes do the work: a worker spends about 2 s in its
first call, loading the machine code of compiled kernels."""


@dataclass
class Session:
    """What the measurements of one session share."""

    scale: Scale
    path: Path
    inputs: Inputs
    machine: record_file.Machine
    versions: dict[str, str]
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    records: list[Record] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """Between this run and the saved runs that it is compared with, one line each."""
    gc_frozen: ExitStack = field(default_factory=ExitStack)
    """Closed at the end of the session; entered by the first measurement."""


def measure(
    case: Case,
    ready: Ready,
    session: Session,
    benchmark: BenchmarkFixture,
    clock: clocks.Clock,
) -> Record:
    """Check a case, time it, and append its record to the file of records.

    `clock` is that of the benchmark: pytest-benchmark reads it around every call. It reads the CPU
    time of this process, which is quick; that of workers is read by `_Times`.
    """
    # The first call also compiles, reads files into the page cache and fills memory pools.
    result: Any = None
    newest = None if case.cold else run_checked(case, ready, session.inputs)
    if not session.records:
        # Once: all large modules are imported by now.
        session.gc_frozen.enter_context(clocks.gc_frozen())
    rounds = case.rounds(session.scale)
    timed, torn_down = _Times(), _Times()

    def run() -> None:
        nonlocal result
        result = ready.run()

    def setup() -> None:
        if ready.setup:
            ready.setup()
        timed.begin(case.cpu_clock)

    def teardown() -> None:
        timed.end(case.cpu_clock)
        if ready.teardown:
            torn_down.begin(case.cpu_clock)
            ready.teardown()
            torn_down.end(case.cpu_clock)
        nonlocal newest
        newest = check(case, ready, session.inputs, result)

    if rounds:
        # A call takes seconds: nothing to calibrate, and time to check each result.
        plan = clocks.Plan(rounds, 1)
    else:
        scale = session.scale
        plan = clocks.plan(ready.run, seconds=scale.seconds, min_rounds=scale.min_rounds)
    before = provenance.load_average()
    warmups = _warmups(case, session.inputs)
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        run if rounds else ready.run,
        setup=setup if rounds else None,
        teardown=teardown if rounds else None,
        rounds=plan.rounds,
        iterations=plan.iterations,
        warmup_rounds=warmups,
    )
    digest = result_digest(newest)

    def keep(what: record_file.What, wall: list[float], cpu: list[float]) -> Record:
        record = Record(
            run=session.run,
            what=what,
            input=ready.identity,
            versions={**session.versions, **ready.versions},
            machine=session.machine,
            load_before=before,
            load_after=provenance.load_average(),
            iterations=plan.iterations,
            wall_seconds=tuple(wall),
            cpu_seconds=tuple(cpu),
            # This process and shared workers also hold what other cases needed.
            peak_memory=None,
            check=digest,
        )
        record_file.append(session.path, record)
        session.records.append(record)
        return record

    wall, cpu = clock.samples(plan.rounds, plan.iterations)
    # After the warm-ups; a profile, if one is asked for, follows.
    measured = slice(warmups, warmups + plan.rounds)
    record = keep(case.what, wall, timed.cpu[measured] if rounds else cpu)
    benchmark.extra_info |= _extra_info(record)
    if case.teardown_record:
        keep(case.teardown_record, torn_down.wall[measured], torn_down.cpu[measured])
    return record


def _warmups(case: Case, inputs: Inputs) -> int:
    """Calls before those measured: the check may have used one worker only.

    Each worker loads machine code once for all cases of an implementation that share it.
    """
    if case.cold or not case.in_workers:
        return 0
    what = case.what
    warmed = what.kind, what.subject, what.implementation, what.parameters.get("variations")
    if warmed in inputs.warmed:
        return 0
    inputs.warmed.add(warmed)
    return WORKER_WARMUPS


@dataclass
class _Times:
    """Wall and CPU seconds of each of several calls.

    CPU time is read outside of wall time: looking through all processes takes milliseconds.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    _began: Any = None

    def begin(self, cpu: clocks.CpuClock) -> None:
        self._began = cpu()
        self.wall.append(time.perf_counter())

    def end(self, cpu: clocks.CpuClock) -> None:
        self.wall[-1] = time.perf_counter() - self.wall[-1]
        self.cpu.append(cpu() - self._began)


def _extra_info(record: Record) -> dict[str, Any]:
    """What is written into pytest-benchmark's own files beside its statistics."""
    return {
        "what": record.what.model_dump(exclude_none=True),
        "input": record.input.model_dump(),
        "versions": record.versions,
        "load_average": [record.load_before, record.load_after],
        "cpu_seconds": list(record.cpu_seconds),
        "cpu_seconds_per_event": record.cpu_seconds_per_event,
        "seconds_per_event": record.seconds_per_event,
        "check": record.check,
        "run": record.run,
    }
