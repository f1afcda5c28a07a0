"""pytest plugin: options, selection and output of benchmarks; the fixture `timed`.

``pytest --benchmark-only`` measures benchmarks, ``pytest --benchmark-disable`` runs each check
once without measuring, ``pytest`` alone leaves them out. pytest-benchmark's own options do what
its documentation says; its table is printed if one of them asks for it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from _pytest.pathlib import bestrelpath
from pytest_benchmark.session import PerformanceRegression
from pytest_benchmark.table import CompareBetweenResults
from pytest_benchmark.utils import report_noprogress

from analysis.errors import InputError, NotInstalledError
from analysis.files import output
from perf.cases.case import DisagreementError, Inputs, check, run_checked
from perf.cases.data import DEFAULT_DIRECTORY, Store, find_shared, why_no_shared
from perf.cases.scales import DEFAULT_SCALE, SCALES
from perf.measure import clocks
from perf.records import provenance, record_file
from perf.records.digest import result_digest
from perf.records.record_file import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _pytest.mark import ParameterSet
    from _pytest.terminal import TerminalReporter
    from pytest_benchmark.fixture import BenchmarkFixture
    from pytest_benchmark.session import BenchmarkSession

    from perf.cases.case import Case, Ready
    from perf.cases.scales import Scale

    Timed = Callable[[Case], Record | None]


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


SESSION = pytest.StashKey[Session]()
HELD_BACK = pytest.StashKey[int]()

WORKER_WARMUPS: Final = 2
"""Calls before those measured where other processes do the work: a worker spends about 2 s in its
first call, loading the machine code of compiled kernels."""

SHORT_TABLE: Final = 20
"""Records whose table is printed in full; of more, a summary."""

FULL_TABLE: Final = "benchmarks.txt"
"""File of the table of the last large run, beside the file of records."""

SHOWN_BY: Final = (
    *("verbose", "compare", "compare-fail", "histogram", "cprofile"),
    *("columns", "sort", "group-by", "name", "time-unit"),
)
"""pytest-benchmark's options that ask for its own table."""

NOT_USED: Final = (
    *("timer", "min-time", "calibration-precision", "precision", "confidence"),
    *("warmup", "warmup-iterations"),
)
"""Its options for a calibration that `clocks.plan` does here."""

GROUPINGS: Final = frozenset(
    {"group", "name", "func", "fullname", "fullfunc", "param", "param:case"}
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suite, beside those of pytest-benchmark."""
    group = parser.getgroup("benchmark")
    group.addoption(
        "--benchmark-scale",
        choices=tuple(SCALES),
        default=DEFAULT_SCALE,
        help="How much to measure: small is a smoke test. Default: %(default)s",
    )
    group.addoption(
        "--benchmark-records",
        type=Path,
        metavar="PATH",
        help=f"File that records are appended to. Default: {record_file.DEFAULT_PATH} in the rootdir",
    )
    group.addoption(
        "--benchmark-machine",
        metavar="NAME",
        help=f"Name of this machine in records. Default: ${provenance.MACHINE_VARIABLE} or its own",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Make warnings errors in tests only, not in measurements.

    pytest reads the filters right after this hook. Those of ``-W`` stay as they are.
    """
    if _asked_for(config):
        filters = config.getini("filterwarnings")
        filters[:] = [re.sub("^error", "default", line) for line in filters]


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what the measurements of this session share."""
    scale = SCALES[config.getoption("benchmark_scale")]
    if _given(config, "min-rounds"):
        scale = replace(scale, min_rounds=config.getoption("benchmark_min_rounds"))
    if _given(config, "max-time"):
        scale = replace(scale, seconds=float(config.getoption("benchmark_max_time")))
    root = config.rootpath
    config.stash[SESSION] = Session(
        scale=scale,
        path=config.getoption("benchmark_records") or root / record_file.DEFAULT_PATH,
        inputs=Inputs(Store(root / DEFAULT_DIRECTORY, scale.file_events), find_shared(root)),
        machine=provenance.machine(config.getoption("benchmark_machine")),
        versions={**provenance.versions(), provenance.SUITE: provenance.suite()},
    )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Check options before the work that pytest-benchmark checks after it; choose the table."""
    config = session.config
    theirs = _theirs(config)
    try:
        _check(config, theirs)
    except InputError as error:
        raise pytest.UsageError(str(error)) from None
    # It still reports what it saved and what it compares with.
    theirs.quiet |= not _given(config, *SHOWN_BY)


def _check(config: pytest.Config, theirs: BenchmarkSession) -> None:
    """Raise an InputError for what would fail after the work."""
    for option in NOT_USED:
        if _given(config, option):
            msg = (
                f"--benchmark-{option} is not used here: --benchmark-scale, --benchmark-max-time "
                "and --benchmark-min-rounds say how often a case is called"
            )
            raise InputError(msg)
    if theirs.compare_fail and not theirs.compared_mapping:
        msg = (
            "--benchmark-compare-fail needs a run to compare with: save one with "
            "--benchmark-save=NAME, and add --benchmark-compare"
        )
        raise InputError(msg)
    if theirs.histogram and find_spec("pygal") is None:
        msg = "--benchmark-histogram needs pygal: pip install 'pytest-benchmark[histogram]'"
        raise InputError(msg)
    if unknown := set(theirs.group_by.split(",")) - GROUPINGS:
        msg = (
            f"--benchmark-group-by has no {', '.join(sorted(unknown))}: use some of "
            f"{', '.join(sorted(GROUPINGS))}"
        )
        raise InputError(msg)
    if theirs.json:
        output.check(theirs.json)
    if theirs.histogram:
        output.check_folder(Path(theirs.histogram).parent)
    if theirs.save or theirs.autosave:
        output.check_folder(theirs.storage.path)
    if _asked_for(config) and not theirs.disabled:
        output.check_folder(config.stash[SESSION].path.parent)


def _theirs(config: pytest.Config) -> BenchmarkSession:
    """pytest-benchmark's state of a session."""
    return cast("BenchmarkSession", config.pluginmanager.get_plugin("pytest-benchmark"))


def _given(config: pytest.Config, *options: str) -> bool:
    """Whether one of pytest-benchmark's options was given, even with its default value."""
    words = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *config.invocation_params.args]
    names = {str(word).partition("=")[0] for word in words}
    return any(f"--benchmark-{option}" in names for option in options)


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
    """Write the machine into pytest-benchmark's own files, which tells machines apart by it.

    Without what changes by itself: the momentary clock rate, the host name of a virtual machine.
    """
    machine = config.stash[SESSION].machine.model_dump()
    machine_info |= {"node": machine["name"], **machine}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Write versions and load, which differ from run to run, into pytest-benchmark's own files."""
    output_json["versions"] = config.stash[SESSION].versions
    output_json["load_average"] = provenance.load_average()


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> Iterator[None]:
    """Note what else differs from a saved run, to be printed below the comparison."""
    session = config.stash[SESSION]
    # In the form in which it was saved: JSON has no tuples.
    now = json.loads(json.dumps(machine_info))
    then, versions = compared_benchmark["machine_info"], compared_benchmark.get("versions", {})
    session.differences += [
        f"{name} {old.get(name, 'none')} to {new.get(name, 'none')}"
        for old, new, names in (
            (then, now, now),
            (versions, session.versions, {**versions, **session.versions}),
        )
        for name in names
        if old.get(name) != new.get(name)
    ]
    # pytest-benchmark 5.3 cannot name a storage outside of the working folder.
    with suppress(ValueError):
        yield


def parameters(cases: Sequence[Case]) -> list[ParameterSet]:
    """Cases for ``metafunc.parametrize``, each with its name, group and clock.

    The clock is read around every call. It reads the CPU time of this process, which is quick;
    that of workers is read by `_Times`.
    """
    return [
        pytest.param(
            case,
            id=case.id,
            marks=(
                pytest.mark.benchmark(group=case.what.group, timer=clocks.Clock()),
                # A case whose check fails is not timed; its error says so.
                pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all"),
            ),
        )
        for case in cases
    ]


@pytest.fixture
def timed(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Timed:
    """A function that checks a case against another implementation, then measures it.

    It returns the record, which it appends to the file of records, or None if pytest-benchmark is
    disabled. It fails if the results differ, or if chunks were not processed once each: there is
    no speed of a wrong result. It skips if what the case needs is not installed.
    """
    session = request.config.stash[SESSION]
    marker = request.node.get_closest_marker("benchmark")
    clock: clocks.Clock = marker.kwargs["timer"]

    def check_and_measure(case: Case) -> Record | None:
        if case.source == "real" and session.inputs.real is None:
            pytest.skip(why_no_shared())
        try:
            with case.open(session.inputs) as ready:
                if benchmark.disabled:
                    run_checked(case, ready, session.inputs)
                    return None
                return _measure(case, ready, session, benchmark, clock)
        except NotInstalledError as error:
            pytest.skip(str(error))
        except (DisagreementError, InputError) as error:
            pytest.fail(str(error), pytrace=False)

    return check_and_measure


def _measure(
    case: Case,
    ready: Ready,
    session: Session,
    benchmark: BenchmarkFixture,
    clock: clocks.Clock,
) -> Record:
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
            versions=session.versions,
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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the shared executor, and remove folders."""
    ours = session.config.stash[SESSION]
    ours.inputs.close()
    ours.gc_frozen.close()


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print the table of what was measured, if it is short or asked for."""
    records = _shown(config)
    if not records or (len(records) > SHORT_TABLE and not config.getoption("benchmark_verbose")):
        return
    from perf.records import table  # noqa: PLC0415  (rich, only where a table is printed)

    write = terminalreporter.write_line
    terminalreporter.section("measurements")
    wide = max(terminalreporter._tw.fullwidth, table.MIN_WIDTH)
    width = wide if terminalreporter.isatty else table.PLAIN_WIDTH
    write(table.plain(table.summary(records), width))
    write(table.footnote(records[-1]))
    write(f"{len(records)} records appended to {config.stash[SESSION].path}")


@pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_terminal_summary")
def pytest_screenful(terminalreporter: TerminalReporter, config: pytest.Config) -> Iterator[None]:
    """End with a summary on one screen, if much was measured; write the table into a file."""
    yield
    records = _shown(config)
    if len(records) <= SHORT_TABLE:
        return
    from perf.records import summary, table  # noqa: PLC0415

    write = terminalreporter.write_line
    path = config.stash[SESSION].path
    full = path.with_name(FULL_TABLE)
    full.write_text(f"{table.plain(table.summary(records))}\n{table.footnote(records[-1])}\n")
    terminalreporter.section("summary")
    for line in summary.lines(records, record_file.read(path)):
        write(line)
    write(f"Table     {bestrelpath(config.invocation_params.dir, full)}; page: make publish")


def _shown(config: pytest.Config) -> list[Record]:
    """What was measured and is to be printed."""
    return [] if config.getoption("benchmark_quiet") else config.stash[SESSION].records


@pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_terminal_summary")
def pytest_summary_of_changes(
    terminalreporter: TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Say what changed, below pytest-benchmark's table; a regression is a failure, no crash."""
    try:
        yield
    except PerformanceRegression as regression:
        run = cast("pytest.Session", config.pluginmanager.get_plugin("session"))
        run.exitstatus, run.shouldfail = pytest.ExitCode.TESTS_FAILED, str(regression)
    theirs = _theirs(config)
    if theirs.quiet or not theirs.compared_mapping or not theirs.groups:
        return
    groups = [
        # What was not saved has no source; its table wrote the source into names.
        (
            name,
            [one | {"name": one["fullname"].rpartition("::")[2]} for one in of if one["source"]],
        )
        for name, of in theirs.groups
    ]
    terminalreporter.section("what changed")
    changes = CompareBetweenResults(  # type: ignore[no-untyped-call]
        columns=config.getoption("benchmark_columns") or ("min", "median"),
        sort=theirs.sort,
        histogram=False,
        name_format=theirs.name_format,
        logger=theirs.logger,
        scale_unit=partial(config.hook.pytest_benchmark_scale_unit, config=config),
    )
    changes.display(  # type: ignore[no-untyped-call]
        terminalreporter, [one for one in groups if one[1]], report_noprogress
    )
    others = ", ".join(config.stash[SESSION].differences)
    terminalreporter.write_line(f"Changed beside: {others or 'neither machine nor versions'}.")
    terminalreporter.write_line("Not judged: `python -m perf compare` says what is a change.")
