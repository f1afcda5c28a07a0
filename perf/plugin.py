"""pytest plugin: `timed` checks and measures a case; its options, its records and its table.

Benchmarks are collected everywhere and run when they are asked for: ``pytest --benchmark-only``
measures them, ``pytest --benchmark-disable`` runs each check once without measuring, ``pytest``
alone leaves them out.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.errors import InputError, NotInstalledError
from perf import catalogue, measure, results
from perf.data import DEFAULT_DIRECTORY, Store, find_shared, why_no_shared
from perf.results import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _pytest.mark import ParameterSet
    from _pytest.terminal import TerminalReporter
    from pytest_benchmark.fixture import BenchmarkFixture

    from perf.catalogue import Case, Inputs, Scale


@dataclass
class Session:
    """What the measurements of one session share.

    Attributes
    ----------
    scale
        How much is measured.
    path
        File of records.
    inputs
        What is measured on.
    machine, versions
        Of the session.
    run
        Its identity.
    records
        Made so far.
    settled
        Ends what began with the first measurement.
    """

    scale: Scale
    path: Path
    inputs: Inputs
    machine: results.Machine
    versions: dict[str, str]
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    records: list[Record] = field(default_factory=list)
    settled: ExitStack = field(default_factory=ExitStack)


SESSION = pytest.StashKey[Session]()
HELD_BACK = pytest.StashKey[int]()

WORKER_WARMUPS: Final = 2
"""Calls before those measured, where the work is done in other processes: the first takes a worker
some 2 s, in which it loads the machine code of compiled kernels."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite, beside those of pytest-benchmark."""
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark-scale",
        choices=tuple(catalogue.SCALES),
        default=catalogue.DEFAULT_SCALE,
        help="How much to measure: small is a smoke test. Default: %(default)s",
    )
    group.addoption(
        "--benchmark-records",
        type=Path,
        metavar="PATH",
        help=f"File that records are appended to. Default: {results.DEFAULT_PATH} in the rootdir",
    )
    group.addoption(
        "--benchmark-machine",
        metavar="NAME",
        help=f"Name of this machine in records. Default: ${measure.MACHINE_VARIABLE} or its own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-benchmark's own table for ``--benchmark-verbose``; ours is printed instead."""
    if not config.getoption("benchmark_verbose", default=False):
        # Read by pytest-benchmark in its own pytest_configure, which comes last.
        config.option.benchmark_quiet = True
    scale = catalogue.SCALES[config.getoption("benchmark_scale")]
    root = config.rootpath
    config.stash[SESSION] = Session(
        scale=scale,
        path=config.getoption("benchmark_records") or root / results.DEFAULT_PATH,
        inputs=catalogue.Inputs(
            Store(root / DEFAULT_DIRECTORY, scale.file_events), find_shared(root)
        ),
        machine=measure.machine(config.getoption("benchmark_machine")),
        versions=measure.versions(),
    )


def _asked_for(config: pytest.Config) -> bool:
    return any(
        config.getoption(f"benchmark_{name}", default=False)
        for name in ("only", "enable", "disable")
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave benchmarks out unless they are asked for, and tests if only benchmarks are."""
    only = config.getoption("benchmark_only", default=False)
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    benchmarks_left = 0
    for item in items:
        benchmark = "benchmark" in getattr(item, "fixturenames", ())
        keep = (_asked_for(config) if benchmark else not only) or config.option.collectonly
        (kept if keep else left).append(item)
        benchmarks_left += benchmark and not keep
    config.stash[HELD_BACK] = benchmarks_left
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Say how the benchmarks that were left out are run."""
    if held_back := config.stash.get(HELD_BACK, 0):
        return f"{held_back} benchmarks left out: pytest --benchmark-only measures them"
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """Versions, machine and load in pytest-benchmark's own files."""
    session = config.stash[SESSION]
    machine_info |= {
        "versions": session.versions,
        "load_average": measure.load_average(),
        **session.machine.model_dump(),
    }


def parameters(cases: Sequence[Case]) -> list[ParameterSet]:
    """Cases for ``metafunc.parametrize``: named, grouped, each with a clock of its own.

    The clock is read around every call. It reads the CPU time of this process, which is quick;
    that of workers is read before and after (see `_Times`).
    """
    return [
        pytest.param(
            case,
            id=case.id,
            marks=(
                pytest.mark.benchmark(group=case.what.group, timer=measure.Clock()),
                # A case whose check fails is not timed, and has said so.
                pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all"),
            ),
        )
        for case in cases
    ]


@pytest.fixture
def timed(
    request: pytest.FixtureRequest, benchmark: BenchmarkFixture
) -> Callable[[Case], Record | None]:
    """Check a case against another implementation on the very input, then measure it.

    Returns
    -------
    Callable
        Takes the case; gives its record, which stands in the file of records and in the table,
        or None if pytest-benchmark is disabled. Fails if the implementations differ, or if chunks
        were not processed once each: there is no speed of a wrong result. Skips where what the
        case needs is not installed.
    """
    session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("benchmark")
    clock: measure.Clock = marker.kwargs["timer"]

    def check_and_measure(case: Case) -> Record | None:
        if case.source == "real" and session.inputs.real is None:
            pytest.skip(why_no_shared())
        try:
            with case.open(session.inputs) as ready:
                if benchmark.disabled:
                    catalogue.checked(case, ready, session.inputs)
                    return None
                return _measure(case, ready, session, benchmark, clock)
        except NotInstalledError as error:
            pytest.skip(str(error))
        except (catalogue.DisagreementError, InputError) as error:
            pytest.fail(str(error), pytrace=False)

    return check_and_measure


def _measure(
    case: Case,
    ready: catalogue.Ready,
    session: Session,
    benchmark: BenchmarkFixture,
    clock: measure.Clock,
) -> Record:
    # The first call also compiles, reads files into the page cache and fills memory pools: it is
    # not the cost of the calls that follow.
    result: Any = None
    newest = None if case.from_nothing else catalogue.checked(case, ready, session.inputs)
    if not session.records:
        # Once: by now all that is large is imported.
        session.settled.enter_context(measure.settled())
    rounds = case.rounds(session.scale)
    timed, undone = _Times(), _Times()

    def act() -> None:
        nonlocal result
        result = ready.act()

    def setup() -> None:
        if ready.before:
            ready.before()
        timed.begin(case.cpu_clock)

    def teardown() -> None:
        timed.end(case.cpu_clock)
        if ready.after:
            undone.begin(case.cpu_clock)
            ready.after()
            undone.end(case.cpu_clock)
        nonlocal newest
        newest = catalogue.compare(case, ready, session.inputs, result)

    if rounds:
        # Seconds a call: nothing to calibrate, and time to compare each result.
        plan = measure.Plan(rounds, 1)
    else:
        scale = session.scale
        plan = measure.plan(ready.act, seconds=scale.seconds, min_rounds=scale.min_rounds)
    before = measure.load_average()
    forgotten = measure.reset_peak_memory()
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        act if rounds else ready.act,
        setup=setup if rounds else None,
        teardown=teardown if rounds else None,
        rounds=plan.rounds,
        iterations=plan.iterations,
        # The check may have kept one worker busy and left another cold, without machine code.
        warmup_rounds=WORKER_WARMUPS if case.in_workers and not case.from_nothing else 0,
    )
    peak = measure.peak_memory_of_children() if case.in_workers else measure.peak_memory()
    check = measure.digest(newest)

    def keep(what: results.What, wall: list[float], cpu: list[float]) -> Record:
        if min(cpu) < 0:
            # A worker ended while its time was read: no CPU time rather than a wrong one.
            cpu = []
        record = Record(
            run=session.run,
            what=what,
            input=ready.identity,
            versions=session.versions,
            machine=session.machine,
            load_before=before,
            load_after=measure.load_average(),
            iterations=plan.iterations,
            wall_seconds=tuple(wall),
            cpu_seconds=tuple(cpu),
            peak_memory=peak if forgotten or case.in_workers else None,
            check=check,
        )
        results.append(session.path, record)
        session.records.append(record)
        return record

    wall, cpu = clock.samples(plan.rounds, plan.iterations)
    record = keep(case.what, wall, timed.cpu[-plan.rounds :] if rounds else cpu)
    benchmark.extra_info |= _extra_info(record)
    if case.undoing:
        keep(case.undoing, undone.wall, undone.cpu)
    return record


@dataclass
class _Times:
    """Wall and CPU seconds of each of some spells.

    CPU time is read outside of wall time: to look through all processes takes milliseconds.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def begin(self, cpu: Callable[[], float]) -> None:
        self.cpu.append(cpu())
        self.wall.append(time.perf_counter())

    def end(self, cpu: Callable[[], float]) -> None:
        self.wall[-1] = time.perf_counter() - self.wall[-1]
        # Less than nothing where a process ended during the second look (`measure.cpu_of_tree`).
        self.cpu[-1] = max(cpu() - self.cpu[-1], 0.0)


def _extra_info(record: Record) -> dict[str, Any]:
    """What pytest-benchmark's own files say of a measurement beside its statistics."""
    return {
        "what": record.what.model_dump(exclude_none=True),
        "input": record.input.model_dump(),
        "versions": record.versions,
        "load_average": [record.load_before, record.load_after],
        "cpu_seconds": list(record.cpu_seconds),
        "cpu_seconds_per_event": record.cpu_seconds_per_event,
        "seconds_per_event": record.seconds_per_event,
        "peak_memory": record.peak_memory,
        "check": record.check,
        "run": record.run,
    }


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the workers that cases shared, and remove their folders."""
    ours = session.config.stash[SESSION]
    ours.inputs.end()
    ours.settled.close()


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print the table of what was measured."""
    session = config.stash[SESSION]
    if not session.records:
        return
    from perf import table  # noqa: PLC0415  (rich, only where a table is printed)

    write = terminalreporter.write_line
    terminalreporter.section("measurements")
    wide = max(terminalreporter._tw.fullwidth, table.MIN_WIDTH)
    width = wide if terminalreporter.isatty else table.PLAIN_WIDTH
    write(table.plain(table.summary(session.records), width))
    write(table.footnote(session.records[-1]))
    write(f"{len(session.records)} records appended to {session.path}")
