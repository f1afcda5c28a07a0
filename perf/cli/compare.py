"""Commands that compare two versions: ``compare``, ``compare-trials`` and ``bisect``."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from analysis.errors import InputError
from analysis.files import output as files
from perf.cases.data import DEFAULT_DIRECTORY
from perf.cli import _console
from perf.cli._options import (
    FAILED,
    ArgumentsOption,
    DataOption,
    OnlyOption,
    OutputOption,
    PinsOption,
    ResolutionOption,
    SchemaOption,
    SeedOption,
    TreeOption,
)
from perf.environments import CLONE_VARIABLE

# What compares takes seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from perf.compare.benchmarks import Benchmark
    from perf.compare.session import Comparison
    from perf.compare.sides import Side

UNDECIDED: Final = 3
"""Exit status of a search that leaves several commits."""

WIDTH: Final = 150
"""Columns of a table that is not written to a terminal."""

SuiteOption = Annotated[
    Path | None,
    typer.Option("--suite", help="Python file whose functions bench_... are compared instead."),
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="The version to compare with.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The version that may be slower.")],
    only: OnlyOption = None,
    suite: SuiteOption = None,
    budget: Annotated[float, typer.Option(min=1, help="Seconds to take, about.")] = 180,
    resolution: ResolutionOption = 0.03,
    set_a: Annotated[
        list[str] | None,
        typer.Option("--set-a", help="KEY=VALUE: environment variable of A (repeatable)."),
    ] = None,
    set_b: Annotated[
        list[str] | None,
        typer.Option("--set-b", help="KEY=VALUE: environment variable of B (repeatable)."),
    ] = None,
    processor: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:Class of a processor to run, or a function of events. Given "
            "twice: that of A, then that of B."
        ),
    ] = None,
    fileset: Annotated[
        Path | None,
        typer.Option(help="FILESET.json for --processor; by default synthetic events."),
    ] = None,
    arguments: ArgumentsOption = "{}",
    schema: SchemaOption = "NanoAODSchema",
    tree: TreeOption = "Events",
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Worker processes of --processor and of executors, or that --suite uses: of "
            "several the wall time is judged too.",
        ),
    ] = 1,
    pins: PinsOption = None,
    instructions: Annotated[
        bool, typer.Option("--instructions", help="Count instructions as well (needs valgrind).")
    ] = False,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all measurements to this file.")
    ] = None,
    markdown_path: Annotated[
        Path | None, typer.Option("--markdown", help="Write a comment for a pull request here.")
    ] = None,
    seed: SeedOption = 1,
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Is B slower than A? Measure both until that is decided.

    A and B are releases of coffea (2026.9.0), commits of it (v2026.7.0, master@../coffea),
    checkouts, "." for the coffea installed here, or commits and checkouts of this project.

    Exit status: 0 nothing is slower; 1 something is slower; 2 usage error; 3 nothing is slower, but
    something is undecided; 4 nothing is slower, but something could not be compared.
    """
    from analysis.cli._options import json_object
    from perf.compare import benchmarks, report, session
    from perf.compare import instructions as counting

    if not processor and (fileset, arguments, schema) != (None, "{}", "NanoAODSchema"):
        msg = "--fileset, --arguments and --schema are for a processor: name it with --processor"
        raise InputError(msg)
    keywords = json_object(arguments, "--arguments")
    for path in filter(None, (json_path, markdown_path)):
        files.check_with_folder(path)
    if instructions:
        counting.require()
    of_a, of_b = sides(a, b, set_a or (), set_b or (), processor or (), pins=pins)
    console = _console.console(WIDTH)
    with benchmarks.scratch() as folder:
        if processor and not suite:
            chosen = benchmarks.processors(
                data, fileset, keywords, schema=schema, tree=tree, workers=workers
            )
        else:
            chosen = _benchmarks(folder, data, only, suite, workers)
        made = session.Comparison(of_a, of_b, chosen, seed=seed, resolution=resolution)
        with _following(budget) as follow:
            made.run(budget, follow)
        counts = None
        if instructions:
            with console.status("counting instructions"):
                counts = {
                    name: counting.counted(measured.benchmark, of_a, of_b)
                    for name, measured in made.measured.items()
                    if measured.failure is None
                }
    console.print(report.table(made, counts))
    _console.say(*report.lines(made, counts), on=console)
    if json_path is not None:
        with files.whole(json_path) as part:
            part.write_text(json.dumps(report.as_json(made, counts), indent=1) + "\n")
    if markdown_path is not None:
        with files.whole(markdown_path) as part:
            part.write_text(report.markdown(made, counts))
    if status := report.exit_status(made):
        raise typer.Exit(status)


def compare_trials(
    count: Annotated[
        int, typer.Option("--trials", min=1, help="Trials of each kind with each tool.")
    ] = 20,
    kinds: Annotated[
        str,
        typer.Option(
            help="one, five: a kernel is 1 or 5 % slower and the others are identical; none: all "
            "are identical. Several with commas."
        ),
    ] = "five",
    tools: Annotated[
        str, typer.Option(help="compare, asv (with its defaults), or both with a comma.")
    ] = "compare",
    load: Annotated[int, typer.Option(min=0, help="Busy processes beside the trial.")] = 2,
    budget: Annotated[float, typer.Option(min=1, help="Seconds of a comparison, about.")] = 180,
    resolution: ResolutionOption = 0.03,
    only: OnlyOption = None,
    output: OutputOption = Path(".perf/compare-trials/trials.jsonl"),
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Check that `compare` finds a slowdown, and nothing else.

    Exit status 1 if it does not, often enough.
    """
    from perf.compare import trials as known
    from perf.compare import trials_table
    from perf.compare.benchmarks import KERNELS

    chosen_kinds = _console.choices(kinds, "--kinds", known.KINDS)
    chosen_tools = _console.choices(tools, "--tools", known.TOOLS)
    if only and "asv" in chosen_tools:
        msg = "--only is of compare's trials: leave it out with --tools asv"
        raise InputError(msg)
    trials = known.Trials(
        output, output.with_suffix(".d"), data, load, budget, resolution, tuple(only or KERNELS)
    )
    wanted = [
        known.Trial(tool, kind, number)
        for number in range(1, count + 1)
        for tool in chosen_tools
        for kind in chosen_kinds
    ]
    files.check_with_folder(trials.path)
    console = _console.console(WIDTH)
    pending = trials.pending(wanted)
    for index, trial in enumerate(pending, start=1):
        title = f"trial {index} of {len(pending)} ({trial.tool}, {trial.kind}): "
        with _following(trials.budget, title) as follow:
            done = trials.make(trial, follow)
        if not console.is_terminal:
            _console.say(_line(title, done), on=console)
    keys = [trial.key for trial in wanted]
    finished = [done for done in trials.done() if any(key.items() <= done.items() for key in keys)]
    console.print(trials_table.table(finished))
    _console.say(*trials_table.footnote(finished), on=console)
    if trials_table.reached(finished) is False:
        raise typer.Exit(FAILED)


def _line(title: str, done: dict[str, Any]) -> str:
    changed = [
        f"{name} {outcome}"
        for name, outcome in done["outcomes"].items()
        if outcome in {"slower", "faster"}
    ]
    return f"{title}{', '.join(changed) or 'nothing changed'}, {done['seconds']:.0f} s"


def bisect(
    good: Annotated[str, typer.Argument(metavar="GOOD", help="Commit before the change.")],
    bad: Annotated[str, typer.Argument(metavar="BAD", help="Commit after it.")],
    benchmark: Annotated[
        str, typer.Argument(metavar="BENCHMARK", help="Name of a benchmark of `compare`.")
    ],
    repo: Annotated[
        Path | None, typer.Option(help="Clone of coffea; by default that of COFFEA_REPO.")
    ] = None,
    suite: SuiteOption = None,
    budget: Annotated[float, typer.Option(min=1, help="Seconds of a step, about.")] = 180,
    resolution: ResolutionOption = 0.03,
    pins: PinsOption = None,
    seed: SeedOption = 1,
    data: DataOption = Path(DEFAULT_DIRECTORY),
) -> None:
    """Which commit made a benchmark slower? Bisect with `compare`.

    Exit status: 0 one commit is left; 3 several are, because some could not be decided.
    """
    from perf.compare import bisect as bisection
    from perf.compare.benchmarks import scratch
    from perf.compare.sides import side

    known = os.environ.get(CLONE_VARIABLE)
    clone = repo or (Path(known) if known else None)
    if clone is None or not clone.is_dir():
        msg = f"name a clone with --repo, or in {CLONE_VARIABLE}: there is none at {clone}"
        raise InputError(msg)
    commits = bisection.commits(clone, good, bad)
    console = _console.console(WIDTH)
    with scratch() as folder:
        every = _benchmarks(folder, data, [benchmark], suite)
        named = [candidate for candidate in every if candidate.name == benchmark]
        if len(named) != 1:
            msg = f"bisect takes one benchmark, and {len(named)} are named {benchmark!r}"
            raise InputError(msg)
        search = bisection.Search(
            clone,
            commits,
            lambda commit: side(f"{commit}@{clone}", pins=pins),
            named[0],
            budget=budget,
            seed=seed,
            resolution=resolution,
        )

        def report(step: bisection.Step) -> None:
            why = f"{step.judgement.effect}, {step.judgement}" if step.judgement else step.reason
            commit = bisection.described(clone, step.commit)
            _console.say(f"{commit}: {step.answer}: {why}", on=console)

        with console.status(f"{len(commits) - 1} commits"):
            left = search.run(report)
    console.print(f"{benchmark} is {search.direction} since:" if len(left) == 1 else "one of:")
    _console.say(*(f"  {bisection.described(clone, commit)}" for commit in left), on=console)
    if len(left) > 1:
        raise typer.Exit(UNDECIDED)


@contextmanager
def _following(budget: float, title: str = "") -> Iterator[Callable[[Comparison], None]]:
    """Show the progress of a comparison, in seconds, on a terminal."""
    with _console.progress() as progress:
        bar = progress.add_task(f"{title}the first calls", total=budget)

        def follow(comparison: Comparison) -> None:
            progress.update(
                bar,
                completed=comparison.elapsed,
                description=f"{title}{comparison.blocks} blocks, {len(comparison.todo)} undecided",
            )

        yield follow


def sides(
    a: str,
    b: str,
    set_a: Sequence[str],
    set_b: Sequence[str],
    processors: Sequence[str],
    *,
    pins: str | None = None,
) -> tuple[Side, Side]:
    """Both sides, each with its environment variables and its processor."""
    from perf.compare.benchmarks import PROCESSOR_VARIABLE
    from perf.compare.sides import side

    if len(processors) > 2:
        msg = (
            f"--processor is given once, or once for A and once for B, not {len(processors)} times"
        )
        raise InputError(msg)
    for name in processors:
        if not all(name.partition(":")):
            msg = f"a processor is named as package.module:Class, not {name!r}"
            raise InputError(msg)
    of_a, of_b = (
        [f"{PROCESSOR_VARIABLE}={name}" for name in of] for of in (processors[:1], processors[-1:])
    )
    both = side(a, [*set_a, *of_a], pins=pins), side(b, [*set_b, *of_b], pins=pins)
    # A single processor is that of both sides.
    for of_side, name in zip(both, (*processors, *processors), strict=False):
        _require_module(of_side, name.partition(":")[0].partition(".")[0])
    return both


def _require_module(side: Side, name: str) -> None:
    """Report a missing module before processes are started to find that out."""
    from perf.compare.benchmarks import user_path

    places = [str(side.source), *user_path(), *sys.path]
    # What another environment has only it can tell.
    if side.python == Path(sys.executable) and PathFinder.find_spec(name, places) is None:
        msg = (
            f"there is no module {name} in {Path.cwd()}, in PYTHONPATH or among what is installed: "
            "correct --processor"
        )
        raise InputError(msg)


def _benchmarks(
    folder: Path, data: Path, only: Sequence[str] | None, suite: Path | None, workers: int = 1
) -> list[Benchmark]:
    from perf.compare import benchmarks

    if suite is not None:
        return benchmarks.functions(suite, only or ("*",), workers=workers)
    return benchmarks.default(folder, data, only, workers)
