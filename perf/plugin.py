"""pytest plugin: `timed` checks and measures a case; its options, its records and its table.

Benchmarks are collected everywhere and run when they are asked for: ``pytest --benchmark-only``
measures them, ``pytest --benchmark-disable`` runs each check once without measuring, ``pytest``
alone leaves them out.
"""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

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
    """Cases for ``metafunc.parametrize``: named, grouped, each with a clock of its own."""
    return [
        pytest.param(
            case,
            id=case.id,
            marks=(
                pytest.mark.benchmark(group=case.what.group, timer=measure.Clock(case.cpu_clock)),
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
        or None if pytest-benchmark is disabled. Fails if the implementations differ: there is no
        speed of a wrong result.
    """
    session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("benchmark")
    clock: measure.Clock = marker.kwargs["timer"]

    def check_and_measure(case: Case) -> Record | None:
        if case.source == "real" and session.inputs.real is None:
            pytest.skip(why_no_shared())
        with case.open(session.inputs) as ready:
            # This first call also compiles, reads files into the page cache and fills memory
            # pools: it is not the cost of the calls that follow.
            try:
                check = measure.digest(catalogue.checked(case, ready, session.inputs))
            except catalogue.DisagreementError as error:
                pytest.fail(str(error), pytrace=False)
            if benchmark.disabled:
                return None
            return _measure(case, ready, check)

    def _measure(case: Case, ready: catalogue.Ready, check: str) -> Record:
        scale = session.scale
        if not session.records:
            # Once: by now all that is large is imported.
            session.settled.enter_context(measure.settled())
        if case.what.kind in {"processor", "executor"}:
            # Seconds a call: nothing to calibrate.
            plan = measure.Plan(scale.processor_rounds, 1)
        else:
            plan = measure.plan(ready.act, seconds=scale.seconds, min_rounds=scale.min_rounds)
        before = measure.load_average()
        forgotten = measure.reset_peak_memory()
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            ready.act,
            rounds=plan.rounds,
            iterations=plan.iterations,
            # The check may have kept one worker busy and left another cold, without machine code.
            warmup_rounds=WORKER_WARMUPS if case.in_workers else 0,
        )
        wall, cpu = clock.samples(plan.rounds, plan.iterations)
        if min(cpu) < 0:
            # A worker ended while its time was read: no CPU time rather than a wrong one.
            cpu = []
        peak = measure.peak_memory_of_children() if case.in_workers else measure.peak_memory()
        record = Record(
            run=session.run,
            what=case.what,
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
        benchmark.extra_info |= _extra_info(record)
        results.append(session.path, record)
        session.records.append(record)
        return record

    return check_and_measure


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
    """End the workers that cases shared."""
    ours = session.config.stash[SESSION]
    ours.inputs.close()
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
