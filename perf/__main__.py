"""Command line of the suite: ``python -m perf``."""

from __future__ import annotations

if __name__ == "__main__":
    # Before what takes long to import: signals are heeded from here on, and libraries find a home.
    from analysis import interruption

    interruption.listen()

    from analysis import folders

    folders.settle()

import json
import math
import sys
import uuid
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from analysis.errors import InputError, NotInstalledError
from analysis.executors import DEFAULT_CHUNKSIZE, EXECUTORS
from analysis.interruption import call
from perf.cases.data import DEFAULT_DIRECTORY, Store
from perf.cli.history import app as history
from perf.measure import clocks
from perf.records import record_file
from perf.records.record_file import Record
from perf.records.table import PLAIN_WIDTH, footnote, made_with, summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perf.measure.paired import Verdict
    from perf.scaling.campaign import Campaign, Done, Failed, Visit

app = typer.Typer(
    help="Measure the analysis, and look at what was measured.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(history, name="history")

FAILED: Final = 1
UNDECIDED: Final = 3
LITTLE: Final = 0.1
"""Below it a ratio has three decimals."""

LEAST_DRAWN: Final = 2
"""Pictures are of runs that measured more than so many kernels or executors."""

SCALE_PATH: Final = ".perf/scale.jsonl"
"""Of what `scale` measured."""

SCALE_WIDTH: Final = 150
"""Columns of the tables of `scale` that are not written to a terminal."""

RecordsOption = Annotated[
    Path, typer.Option("--records", help="File of records.", show_default=True)
]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


@app.command()
def claims(
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: Annotated[Path, typer.Option(help="Where synthetic events are kept.")] = Path(
        DEFAULT_DIRECTORY
    ),
    machine: Annotated[str | None, typer.Option(help="Name of this machine in records.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of measurements.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Name or pattern, as 'executor-*' (may be repeated). By default all."),
    ] = None,
) -> None:
    """Measure every claim about speed and memory; exit status 1 if one fails or is undecided."""
    # numba and coffea take seconds, which --help and `records` need not wait for.
    import numpy as np  # noqa: PLC0415

    from perf.claims.catalogue import every  # noqa: PLC0415

    console, run = _console(), uuid.uuid4().hex
    verdicts: list[Verdict] = []
    written: list[Record] = []
    missing: list[str] = []
    pending = every(Store(data), np.random.default_rng(seed), only or ())
    with console.status("") as status:
        for number, claim in enumerate(pending, start=1):
            status.update(f"{claim.name}, {number} of {len(pending)}")
            before = clocks.load_average()
            try:
                found = claim.measure()
            except NotInstalledError as error:
                missing.append(f"{claim.name} was not measured: {error}")
                continue
            verdicts.extend(found)
            written += _kept(records, run, found, before, machine)
    console.print(_verdicts(verdicts))
    for line in (*missing, *([footnote(written[-1])] if written else ())):
        console.print(line, highlight=False, markup=False)
    if not all(verdict.holds for verdict in verdicts):
        raise typer.Exit(FAILED)


def _kept(
    path: Path,
    run: str,
    verdicts: Iterable[Verdict],
    load_before: float | None,
    machine: str | None,
) -> list[Record]:
    """Append what was measured to the file of records."""
    versions = {**clocks.versions(), clocks.SUITE: clocks.suite()}
    where, load = clocks.machine(machine), clocks.load_average()
    made = [
        Record(
            run=run,
            what=arm.what,
            input=arm.input,
            versions=versions,
            machine=where,
            load_before=load_before,
            load_after=load,
            iterations=arm.iterations,
            wall_seconds=tuple(arm.wall),
            cpu_seconds=tuple(arm.cpu),
            peak_memory=arm.peak_memory,
            check=arm.check,
        )
        for verdict in verdicts
        for arm in verdict.arms
    ]
    for record in made:
        record_file.append(path, record)
    return made


@app.command("levers")
def levers_command(
    executors: Annotated[
        str, typer.Argument(help="Names with commas between them.")
    ] = "futures,parsl,dask,spark",
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: Annotated[Path, typer.Option(help="Where synthetic events are kept.")] = Path(
        DEFAULT_DIRECTORY
    ),
    machine: Annotated[str | None, typer.Option(help="Name of this machine in records.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of measurements.")] = 1,
) -> None:
    """Take away what tunes our executors, setting by setting, and show what each is worth."""
    import numpy as np  # noqa: PLC0415

    from perf.cases.case import WORKERS  # noqa: PLC0415
    from perf.claims import ablation  # noqa: PLC0415
    from perf.claims.executors import EVENTS, PROCESSOR_CHUNK, QUANTITIES  # noqa: PLC0415

    console, run = _console(), uuid.uuid4().hex
    table = Table(
        "executor",
        "without it",
        title=f"Settings of executors: {EVENTS:,} events, {WORKERS} workers, "
        f"chunk {PROCESSOR_CHUNK:,}; the first two over the iterative executor's",
        pad_edge=False,
    )
    for quantity in QUANTITIES:
        table.add_column(quantity, justify="right")
    wanted = ablation.of(executors.split(","))
    written: list[Record] = []
    missing: dict[str, str] = {}
    store, rng = Store(data), np.random.default_rng(seed)
    with console.status("") as status:
        for number, lever in enumerate(wanted, start=1):
            status.update(f"{lever.executor}, {lever.without}: {number} of {len(wanted)}")
            before = clocks.load_average()
            try:
                found = lever.measured(store, rng)
            except NotInstalledError as error:
                missing[lever.executor] = str(error)
                continue
            written += _kept(records, run, found.values(), before, machine)
            if lever.without == ablation.TUNED:
                table.add_section()
            table.add_row(
                lever.executor,
                lever.without,
                *(_number(found[one].measured, found[one].unit) for one in QUANTITIES),
            )
    console.print(table)
    for name, why in missing.items():
        console.print(f"{name} was not measured: {why}", highlight=False, markup=False)
    if written:
        console.print(footnote(written[-1]), highlight=False, markup=False)


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "unknown"
    match unit:
        case "milliseconds":
            return f"{value:.3g} ms"
        case "bytes":
            return f"{value / 1e6:.0f} MB"
        case "count":
            return f"{value:,.0f}"
        case _:
            return f"{value:.3f}" if value < LITTLE else f"{value:.2f}"


@app.command("scheduler-load")
def scheduler_load_command(
    workers: Annotated[
        str, typer.Option(help="Numbers of simulated workers, with commas between them.")
    ] = "1,10,30,100,300",
    tasks: Annotated[int, typer.Option(help="Tasks of each load.")] = 10_000,
    repeat: Annotated[int, typer.Option(help="Loads of each number of workers.")] = 3,
    seconds: Annotated[
        str, typer.Option(help="Of a chunk, with commas between them: for the prediction.")
    ] = "0.1,0.25,1,10",
    seed: Annotated[int, typer.Option(help="Of the order of loads.")] = 1,
) -> None:
    """Measure Dask's scheduler with simulated workers: what a task costs it, and how many it feeds.

    The scheduler is the real one, in a process of its own; the workers answer and compute nothing.
    """
    import numpy as np  # noqa: PLC0415

    from perf.scaling import scheduler_load  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    counts = [int(one) for one in rng.permutation(_numbers(workers, "--workers") * repeat)]
    console = _console()
    loads = []
    with console.status("") as status:
        for number, count in enumerate(counts, start=1):
            status.update(f"load {number} of {len(counts)}: {count} workers")
            load = scheduler_load.measure_load(
                count,
                tasks,
                # As long as keeps the scheduler busy, and no shorter: that would flatter it.
                task_seconds=scheduler_load.saturating(count),
                seed=seed + number,
            )
            loads.append(load)
    cost = scheduler_load.fit_load(loads, rng)
    console.print(scheduler_load.table(sorted(loads, key=lambda load: load.workers), cost))
    console.print(
        scheduler_load.capacity_table(
            [
                scheduler_load.capacity(cost, float(one), chunks_per_task=chunks)
                for one in seconds.split(",")
                for chunks in (1, 8)
            ]
        )
    )
    console.print(made_with(clocks.versions(), clocks.machine()), highlight=False)


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    from perf.measure.paired import CONFIDENCE  # noqa: PLC0415

    table = Table("claim", title="Claims: pairs in random order", pad_edge=False)
    for heading in ("bound", "measured", f"{CONFIDENCE:.0%} interval", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in verdicts:
        number = partial(_number, unit=one.unit)
        table.add_row(
            one.claim,
            "-" if one.bound is None else f"{one.sense} {number(one.bound)}",
            number(one.measured),
            "-" if one.low == one.high else f"{number(one.low)} to {number(one.high)}",
            str(one),
        )
    return table


@app.command()
def scale(
    fileset: Annotated[Path | None, typer.Argument(metavar="FILESET.json")] = None,
    executors: Annotated[
        str, typer.Option(help=f"Names with commas between them: {', '.join(EXECUTORS)}.")
    ] = "iterative,futures",
    workers: Annotated[str, typer.Option(help="Numbers of worker processes.")] = "1,2",
    chunksizes: Annotated[str, typer.Option(help="Events a chunk, about.")] = str(
        DEFAULT_CHUNKSIZE
    ),
    repeat: Annotated[int, typer.Option(min=1, help="Rounds: visits of each cell.")] = 6,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of a visit.")] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of results; what is in it is done.")
    ] = Path(SCALE_PATH),
    processor: Annotated[
        str | None,
        typer.Option(
            help="package.module:Class of your own, or of a function of events. By default the "
            "ttbar analysis.",
        ),
    ] = None,
    arguments: Annotated[
        str, typer.Option(help="JSON: keywords to make --processor with.")
    ] = "{}",
    schema: Annotated[
        str, typer.Option(help="Of events for --processor: a name in coffea.nanoevents.")
    ] = "NanoAODSchema",
    tree: Annotated[
        str, typer.Option(help="Of files that the file set lists without for --processor.")
    ] = "Events",
    trace: Annotated[  # noqa: FBT002  (a flag)
        bool,
        typer.Option("--trace", help="Find out what --processor reads, and read it in one go."),
    ] = False,
    implementation: Annotated[
        Literal["columnar", "compiled"], typer.Option(help="Of the kernels.")
    ] = "columnar",
    variations: Annotated[
        Literal["nominal", "all"], typer.Option(help="Systematic variations.")
    ] = "nominal",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="KEY=VALUE: of all executors that have it; EXECUTOR.KEY=VALUE: of one, such as "
            "dask.address=tcp://HOST:8786.",
        ),
    ] = None,
    untuned: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--untuned", help="Measure coffea's own executors too, as they come.")
    ] = False,
    allow_empty: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--allow-empty", help="Files may have no events.")
    ] = False,
    scratch: Annotated[
        Path | None, typer.Option(help="Folder shared with workers on other machines.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of visits.")] = 1,
    fresh: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--fresh", help="Forget what was measured with the same arguments.")
    ] = False,
    show: Annotated[
        Path | None, typer.Option(help="Measure nothing: print the tables of this file.")
    ] = None,
) -> None:
    """Measure a processor on executors x workers x chunk sizes; exit status 1 if a cell fails."""
    from perf.scaling import campaign as scaling  # noqa: PLC0415  (numpy)
    from perf.scaling.worker import TTBAR, Job  # noqa: PLC0415

    if show is not None:
        done, newest = scaling.last_campaign(show)
        _print_scaling(done, [], newest)
        return
    if fileset is None:
        msg = "name a file set to measure on, or a file of results with --show"
        raise InputError(msg)
    cells = scaling.cells(
        _split(executors),
        _numbers(workers, "--workers"),
        _numbers(chunksizes, "--chunksizes"),
        options=option or (),
        untuned=untuned,
    )
    if processor is not None and (implementation, variations) != ("columnar", "nominal"):
        msg = "--implementation and --variations are of the ttbar analysis: leave them out"
        raise InputError(msg)
    if processor is None and (arguments, schema, trace) != ("{}", "NanoAODSchema", False):
        msg = "--arguments, --schema and --trace are of a processor of your own: name it with --processor"
        raise InputError(msg)
    campaign = scaling.Campaign(
        Job(
            fileset=fileset.absolute(),
            processor=processor or TTBAR,
            arguments=_json(arguments, "--arguments"),
            schema_name=schema,
            tree=tree,
            trace=trace,
            implementation=implementation,
            variations=variations,
            allow_empty=allow_empty,
            scratch=scratch,
        ),
        output,
    )
    visits = scaling.order(cells, repeat, seed)
    with campaign.alone():
        if fresh:
            campaign.forget()
        # By the smallest: of how much a sum is what chunks leave of each other is known then.
        smallest = min(cell.chunksize for cell in cells)
        failed = _measured(campaign, visits, runs, smallest)
    wanted = [visit.cell for visit in visits]
    found = [one for one in campaign.found() if one.visit.cell in wanted]
    _print_scaling(found, failed, None)
    if failed:
        raise typer.Exit(FAILED)


def _measured(
    campaign: Campaign, visits: Sequence[Visit], runs: int, chunksize: int
) -> list[Failed]:
    """Make visits that are not made yet; gives what failed."""
    from perf.scaling.campaign import Failed  # noqa: PLC0415  (numpy)

    finished = [one.visit for one in campaign.found()]
    todo = [visit for visit in visits if visit not in finished]
    console = _console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if len(todo) < len(visits):
        say(f"{len(visits) - len(todo)} of {len(visits)} visits are in {campaign.path} already")
    outdated, changed = campaign.outdated(todo)
    if outdated:
        say(
            f"measured anew: {outdated} of {len(visits)} visits, since {', '.join(changed)} changed"
        )
    failed: dict[str, Failed] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        bar = progress.add_task("the reference", total=len(todo))
        if todo:
            campaign.make_reference(chunksize)
        for visit in todo:
            progress.update(bar, description=str(visit.cell))
            # What failed once is not waited for again.
            if str(visit.cell) not in failed:
                outcome = campaign.measure(visit, runs=runs)
                if isinstance(outcome, Failed):
                    failed[str(visit.cell)] = outcome
            progress.advance(bar)
    return list(failed.values())


def _print_scaling(done: Sequence[Done], failed: Sequence[Failed], newest: Record | None) -> None:
    from perf.scaling import table as scaling_table  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=SCALE_WIDTH)
    found = scaling_table.rows(done)
    for table in scaling_table.tables(found, failed):
        console.print(table)
    for one in failed:
        console.print(f"{one.cell}: {one.reason}", highlight=False, markup=False, soft_wrap=True)
    if found:
        console.print(scaling_table.footnote(found), highlight=False, markup=False)
    if newest is not None:
        console.print(footnote(newest), highlight=False, markup=False)


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(one) for one in _split(text)]
    except ValueError:
        msg = f"{option} takes whole numbers with commas between them, not {text!r}"
        raise InputError(msg) from None


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError as error:
        msg = f"{option} takes JSON, and {text!r} is none: {error}"
        raise InputError(msg) from None
    if not isinstance(read, dict):
        msg = f"{option} takes a JSON object, not {text!r}"
        raise InputError(msg)
    return read


@app.command()
def records(
    path: Annotated[Path, typer.Argument(help="File of records.")] = Path(
        record_file.DEFAULT_PATH
    ),
    run: Annotated[
        str | None, typer.Option(help="Beginning of a run's identity; the last by default.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Only this group (may be repeated).")
    ] = None,
    all_runs: Annotated[bool, typer.Option("--list", help="List the runs.")] = False,  # noqa: FBT002  (a flag)
) -> None:
    """Show the measurements of a run as a table, or list the runs."""
    runs: dict[str, list[Record]] = {}
    for record in record_file.read(path):
        runs.setdefault(record.run, []).append(record)
    if not runs:
        msg = f"{path} has no records: make some with `pytest --benchmark-only`"
        raise InputError(msg)
    console = _console()
    if all_runs:
        table = Table("run", "ended (UTC)", "records", "machine", "coffea")
        for name, members in runs.items():
            last = members[-1]
            table.add_row(
                name[:8],
                f"{last.timestamp:%Y-%m-%d %H:%M}",
                str(len(members)),
                last.machine.name,
                last.versions.get("coffea", "-"),
            )
        console.print(table)
        return
    chosen = [name for name in runs if name.startswith(run)] if run else [list(runs)[-1]]
    if len(chosen) != 1:
        msg = f"{len(chosen)} runs begin with {run!r}: see `python -m perf records --list`"
        raise InputError(msg)
    found = [one for one in runs[chosen[0]] if not group or one.what.group in group]
    if not found:
        groups = ", ".join(dict.fromkeys(one.what.group for one in runs[chosen[0]]))
        msg = f"the run has no group {' or '.join(group or ())}: it has {groups}"
        raise InputError(msg)
    console.print(summary(found))
    console.print(footnote(found[-1]), highlight=False, markup=False)


@app.command()
def picture(
    output: Annotated[Path, typer.Argument(help="Picture to write: .svg, .png or .pdf.")],
    path: RecordsOption = Path(record_file.DEFAULT_PATH),
    of: Annotated[
        Literal["kernels", "executors"],
        typer.Option(help="Costs of kernels, or of executors as `claims` measured them."),
    ] = "kernels",
    size: Annotated[int, typer.Option(help="Events of the kernels to draw.")] = 100_000,
) -> None:
    """Draw what was measured by the last run that measured it."""
    from perf.publish import figures as drawing  # noqa: PLC0415  (imports matplotlib)

    kind = "kernel" if of == "kernels" else "processor"
    runs: dict[str, list[Record]] = {}
    for record in record_file.read(path):
        claim = record.what.name.startswith("claim-executor-")
        if record.what.kind == kind and claim == (of == "executors"):
            runs.setdefault(record.run, []).append(record)
    # A run of claims may measure one kernel or executor; one of all of them is wanted.
    whole = [
        one
        for one in runs.values()
        if len({(r.what.subject, r.what.executor) for r in one}) > LEAST_DRAWN
    ]
    last = (whole or [*runs.values()] or [[]])[-1]
    if of == "kernels":
        drawing.draw(last, output, size=size)
    else:
        drawing.draw_executors(last, output)
    _console().print(f"written to {output}", highlight=False)


RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="Of the project whose records are read. By default the working folder, and the "
        "history that came with the suite.",
    ),
]
MoreOption = Annotated[
    list[Path] | None,
    typer.Option("--records", help="File of records beside those found (may be repeated)."),
]


@app.command("publish")
def publish_command(
    html: Annotated[
        Path | None, typer.Option(help="Folder of the pages; replaced. Default: reports/asv")
    ] = None,
    root: RootOption = None,
    more: MoreOption = None,
    serve: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--serve", help="Show the pages at an address of this machine.")
    ] = False,
    port: Annotated[int, typer.Option(help="Of --serve; 0 for any.")] = 8765,
) -> None:
    """Publish the history of everything that was measured, as pages that need no network."""
    from perf.publish import site  # noqa: PLC0415  (asv)
    from perf.records import store  # noqa: PLC0415  (asv)

    where, console = html or (root or Path()) / site.HTML, _console()
    with console.status("collecting records"):
        found, voids = store.collect(root, more or ()), store.voids(root)
    with console.status("asv publishes"):
        done = site.publish(found, where, voids)
    console.print(
        f"{done.benchmarks} benchmarks of {done.points} releases and commits of coffea are in "
        f"{where}: python -m perf publish --serve shows them",
        highlight=False,
        soft_wrap=True,
    )
    if done.left_out:
        console.print(
            f"{done.left_out} records are left out: nobody knows when the coffea that they "
            "measured came out",
            highlight=False,
            soft_wrap=True,
        )
    if serve:
        with site.served(where, port) as (server, address):
            console.print(f"{address} until Ctrl-C", highlight=False)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


@app.command("watch")
def watch_command(
    root: RootOption = None,
    more: MoreOption = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], help="Only at releases and commits of this day or later."
        ),
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, help="Smallest change that is told, as a fraction.")
    ] = 0.05,
    only: Annotated[
        list[str] | None, typer.Option(help="Name or pattern of benchmarks (may be repeated).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write them to a file, too.")
    ] = None,
) -> None:
    """Tell where the history has become slower or faster; exit status 1 if anything is slower."""
    from perf.publish import change_points, site  # noqa: PLC0415  (asv)
    from perf.records import store  # noqa: PLC0415  (asv)

    console = _console()
    with console.status("looking for change points"):
        found = site.series(store.collect(root, more or ()), store.voids(root))
        chosen = [
            one
            for name, one in found.items()
            if not only or any(fnmatchcase(name, pattern) for pattern in only)
        ]
        if not chosen:
            msg = "no benchmark is left to watch: measure a history, or name others with --only"
            raise InputError(msg)
        changes = change_points.changes(chosen, least=least, since=since.date() if since else None)
    if output is not None:
        output.write_text(json.dumps([one.as_json() for one in changes], indent=1))
    if changes:
        console.print(change_points.table(changes))
    else:
        console.print(f"no change of {least:.0%} or more in {len(chosen)} benchmarks")
    if any(one.worse for one in changes):
        raise typer.Exit(FAILED)


SuiteOption = Annotated[
    Path | None,
    typer.Option("--suite", help="Python file whose functions bench_... are compared instead."),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(help="Name or pattern of benchmarks, as '*-compiled' (may be repeated)."),
]
DataOption = Annotated[Path, typer.Option(help="Where synthetic events are kept.")]
StackOption = Annotated[
    str | None, typer.Option(help="Release whose pins, or file of pins, fix all but coffea.")
]


@app.command("compare")
def compare_command(
    a: Annotated[str, typer.Argument(metavar="A", help="What is compared with.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Is it slower?")],
    only: OnlyOption = None,
    suite: SuiteOption = None,
    budget: Annotated[float, typer.Option(min=1, help="Seconds, about.")] = 180,
    resolution: Annotated[
        float, typer.Option(min=0.001, max=1, help="Smallest change that matters.")
    ] = 0.03,
    set_a: Annotated[
        list[str] | None,
        typer.Option("--set-a", help="KEY=VALUE: environment variable of A (may be repeated)."),
    ] = None,
    set_b: Annotated[list[str] | None, typer.Option("--set-b", help="As --set-a, of B.")] = None,
    processor: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:Class of a processor to run, or of a function of events. Given "
            "twice: that of A, that of B."
        ),
    ] = None,
    fileset: Annotated[
        Path | None,
        typer.Option(help="FILESET.json for --processor; by default synthetic events."),
    ] = None,
    arguments: Annotated[
        str, typer.Option(help="JSON: keywords to make --processor with.")
    ] = "{}",
    schema: Annotated[
        str, typer.Option(help="Of events for --processor: a name in coffea.nanoevents.")
    ] = "NanoAODSchema",
    tree: Annotated[
        str, typer.Option(help="Of files that the file set lists without for --processor.")
    ] = "Events",
    stack: StackOption = None,
    instructions: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--instructions", help="Count instructions as well (needs valgrind).")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="File to write all that was measured to.")
    ] = None,
    markdown_path: Annotated[
        Path | None, typer.Option("--markdown", help="File for a comment of a pull request.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order of calls.")] = 1,
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Is B slower than A? Measure both side by side until that can be said.

    A and B: releases of coffea (2026.9.0), commits (v2026.7.0, master@../coffea), checkouts, or "."
    for what is installed here; or commits and checkouts of this project.

    Exit status: 0 nothing is slower; 1 something is; 2 the question was wrong; 3 nothing is slower
    but something undecided; 4 the same, but something could not be compared.
    """
    from perf.cli import compare as command  # noqa: PLC0415  (takes seconds)

    if not processor and (fileset, arguments, schema) != (None, "{}", "NanoAODSchema"):
        msg = "--fileset, --arguments and --schema are of a processor: name it with --processor"
        raise InputError(msg)
    processed = {
        "fileset": fileset,
        "arguments": _json(arguments, "--arguments"),
        "schema": schema,
        "tree": tree,
    }
    sides = command.sides(a, b, set_a or (), set_b or (), processor or (), stack=stack)
    status = command.compared(
        *sides,
        command.chosen(only, suite, data, processor or (), **processed),
        budget=budget,
        seed=seed,
        resolution=resolution,
        instructions=instructions,
        console=_wide_console(command.WIDTH),
        json_path=json_path,
        markdown_path=markdown_path,
    )
    if status:
        raise typer.Exit(status)


@app.command("compare-trials")
def compare_trials_command(
    count: Annotated[int, typer.Option("--trials", min=1, help="Of each kind.")] = 20,
    kinds: Annotated[
        str,
        typer.Option(
            help="five: +5 % in one kernel, which tells of the others what identical commits do; "
            "none: identical commits. With a comma between them: both."
        ),
    ] = "five",
    tools: Annotated[
        str, typer.Option(help="compare, asv (with its defaults), or both with a comma.")
    ] = "compare",
    load: Annotated[int, typer.Option(min=0, help="Busy processes beside.")] = 2,
    budget: Annotated[float, typer.Option(min=1, help="Seconds of a comparison.")] = 180,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of trials; what is in it is done.")
    ] = Path(".perf/compare-trials/trials.jsonl"),
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Is a known slowdown of 5 % found, and nothing else? Exit status 1 if not often enough."""
    from perf.cli import compare as command  # noqa: PLC0415  (takes seconds)
    from perf.compare.trials import Trials  # noqa: PLC0415

    reached = command.tried(
        Trials(output, output.with_suffix(".d"), data, load, budget),
        count,
        command.kinds(kinds),
        command.tools(tools),
        _wide_console(command.WIDTH),
    )
    if reached is False:
        raise typer.Exit(FAILED)


@app.command("bisect")
def bisect_command(
    good: Annotated[str, typer.Argument(metavar="GOOD", help="Commit before the change.")],
    bad: Annotated[str, typer.Argument(metavar="BAD", help="Commit after it.")],
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK", help="Name of one that `compare` has.")
    ],
    repo: Annotated[
        Path | None, typer.Option(help="Clone; by default what COFFEA_REPO names.")
    ] = None,
    suite: SuiteOption = None,
    budget: Annotated[float, typer.Option(min=1, help="Seconds of a step.")] = 180,
    resolution: Annotated[
        float, typer.Option(min=0.001, max=1, help="Smallest change that matters.")
    ] = 0.03,
    stack: StackOption = None,
    seed: Annotated[int, typer.Option(help="Of the order of calls.")] = 1,
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Which commit made a benchmark slower? Each step is decided by `compare`.

    Exit status: 0 one commit is left; 3 several are, because some could not be decided.
    """
    from perf.cli import compare as command  # noqa: PLC0415  (takes seconds)

    left = command.bisected(
        good,
        bad,
        benchmark,
        repo,
        command.chosen([benchmark], suite, data),
        budget=budget,
        resolution=resolution,
        stack=stack,
        seed=seed,
        console=_wide_console(command.WIDTH),
    )
    if left > 1:
        raise typer.Exit(UNDECIDED)


def _wide_console(width: int) -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=width)


def main() -> None:
    """Run the command line; an InputError is one sentence and exit status 2."""
    call(app, "what was measured before is in the records")


if __name__ == "__main__":
    main()
