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
from contextlib import suppress
from dataclasses import replace
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
from perf.cases.case import DisagreementError, Inputs, run_checked
from perf.cases.data import DEFAULT_DIRECTORY, Store, find_shared, why_no_shared
from perf.cases.scales import DEFAULT_SCALE, SCALES
from perf.cases.timing import Session, measure
from perf.measure import clocks
from perf.records import provenance, record_file
from perf.records.record_file import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _pytest.mark import ParameterSet
    from _pytest.terminal import TerminalReporter
    from pytest_benchmark.fixture import BenchmarkFixture
    from pytest_benchmark.session import BenchmarkSession

    from perf.cases.case import Case

    Timed = Callable[[Case], Record | None]


SESSION = pytest.StashKey[Session]()
HELD_BACK = pytest.StashKey[int]()

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
    """Cases for ``metafunc.parametrize``, each with its name, group and clock."""
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
                return measure(case, ready, session, benchmark, clock)
        except NotInstalledError as error:
            pytest.skip(str(error))
        except (DisagreementError, InputError) as error:
            pytest.fail(str(error), pytrace=False)

    return check_and_measure


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
            [
                saved | {"name": saved["fullname"].rpartition("::")[2]}
                for saved in of
                if saved["source"]
            ],
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
        terminalreporter, [group for group in groups if group[1]], report_noprogress
    )
    others = ", ".join(config.stash[SESSION].differences)
    terminalreporter.write_line(f"Changed beside: {others or 'neither machine nor versions'}.")
    terminalreporter.write_line("Not judged: `python -m perf compare` says what is a change.")
