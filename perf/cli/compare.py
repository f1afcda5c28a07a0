"""Bodies of the commands `compare` and `compare-trials`."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from analysis.errors import InputError
from analysis.files import output
from perf.compare import bisect, session
from perf.compare import report as compare_report
from perf.compare import trials as compare_trials
from perf.compare.trials import Kind, Tool, Trial, Trials
from perf.environments import CLONE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Text = TypeVar("_Text", bound=str)

WIDTH: Final = 150
"""Columns of a table that is not written to a terminal."""


def compared(
    a: session.Side,
    b: session.Side,
    benchmarks: Callable[[Path], list[session.Benchmark]],
    *,
    budget: float,
    seed: int,
    resolution: float,
    instructions: bool,
    console: Console,
    json_path: Path | None,
    markdown_path: Path | None,
) -> int:
    """Compare two sides, print and write what was found.

    Parameters
    ----------
    a, b
        The sides.
    benchmarks
        Makes them, with a folder for what they read.
    budget
        Seconds.
    seed, resolution
        As of `compare.comparison`.
    instructions
        Whether to count these too.
    console
        To print on.
    json_path, markdown_path
        Files to write.

    Returns
    -------
    int
        Exit status, as `compare_report.exit_status`.
    """
    from perf.compare import instructions as counting  # noqa: PLC0415  (for those who count)

    for path in (json_path, markdown_path):
        if path is not None:
            output.check_with_folder(path)
    if instructions:
        counting.require()
    with session.scratch() as folder:
        made = session.comparison(a, b, benchmarks(folder), seed=seed, resolution=resolution)
        with following(console, budget) as report:
            made.run(budget, report)
        counted = None
        if instructions:
            with console.status("counting instructions"):
                counted = {
                    name: counting.counted(made.measured[name].benchmark, a, b)
                    for name in made.measured
                    if made.measured[name].failure is None
                }
    console.print(compare_report.table(made, counted))
    for line in compare_report.lines(made, counted):
        console.print(line, highlight=False, markup=False)
    if json_path is not None:
        with output.whole(json_path) as part:
            part.write_text(json.dumps(compare_report.as_json(made, counted), indent=1) + "\n")
    if markdown_path is not None:
        with output.whole(markdown_path) as part:
            part.write_text(compare_report.markdown(made, counted))
    return compare_report.exit_status(made)


@contextmanager
def following(
    console: Console, budget: float, title: str = ""
) -> Iterator[Callable[[session.Comparison], None]]:
    """Show how far a comparison is, while it runs, on a terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        bar = progress.add_task(f"{title}the first calls", total=budget)

        def report(made: session.Comparison) -> None:
            progress.update(
                bar,
                completed=made.elapsed,
                description=f"{title}{made.blocks} blocks, {len(made.todo)} undecided",
            )

        yield report


def bisected(
    good: str,
    bad: str,
    name: str,
    clone: Path | None,
    benchmarks: Callable[[Path], list[session.Benchmark]],
    *,
    budget: float,
    resolution: float,
    stack: str | None,
    seed: int,
    console: Console,
) -> int:
    """Search for the commit that changed a benchmark, and print each step.

    Returns
    -------
    int
        Commits that are left: one if all went well.
    """
    where = clone or (Path(os.environ[CLONE_VARIABLE]) if CLONE_VARIABLE in os.environ else None)
    if where is None or not where.is_dir():
        msg = f"name a clone with --repo, or in {CLONE_VARIABLE}: there is none at {where}"
        raise InputError(msg)
    commits = bisect.commits(where, good, bad)
    with session.scratch() as folder:
        found = [one for one in benchmarks(folder) if one.name == name]
        if len(found) != 1:
            msg = f"a search is for one benchmark, and {name!r} is the name of {len(found)}"
            raise InputError(msg)
        search = bisect.Search(
            where,
            commits,
            lambda commit: session.side(f"{commit}@{where}", stack=stack),
            found[0],
            budget=budget,
            seed=seed,
            resolution=resolution,
        )

        def report(step: bisect.Step) -> None:
            said = f"{step.judgement.effect}, {step.judgement}" if step.judgement else step.reason
            console.print(
                f"{bisect.described(where, step.commit)}: {step.answer}: {said}",
                highlight=False,
                markup=False,
            )

        with console.status(f"{len(commits) - 1} commits"):
            left = search.run(report)
    console.print(f"{name} is {search.direction} since:" if len(left) == 1 else "one of:")
    for commit in left:
        console.print(f"  {bisect.described(where, commit)}", highlight=False, markup=False)
    return len(left)


def tried(
    trials: Trials,
    count: int,
    kinds: Sequence[Kind],
    tools: Sequence[Tool],
    console: Console,
) -> bool | None:
    """Make trials that are not made yet, and print what all of them found.

    Returns
    -------
    bool or None
        As `compare_trials.reached`.
    """
    wanted = [
        Trial(tool, kind, number)
        for number in range(1, count + 1)
        for tool in tools
        for kind in kinds
    ]
    output.check_with_folder(trials.path)
    pending = trials.pending(wanted)
    for index, trial in enumerate(pending, start=1):
        title = f"trial {index} of {len(pending)} ({trial.tool}, {trial.kind}): "
        with following(console, trials.budget, title) as report:
            made = trials.make(trial, report)
        if not console.is_terminal:
            console.print(_line(title, made), highlight=False, markup=False)
    keys = [trial.key for trial in wanted]
    done = [one for one in trials.done() if any(key.items() <= one.items() for key in keys)]
    console.print(compare_trials.table(done))
    for line in compare_trials.footnote(done):
        console.print(line, highlight=False, markup=False)
    return compare_trials.reached(done)


def _line(title: str, made: dict[str, Any]) -> str:
    outcomes = made["outcomes"]
    changed = [f"{name} {one}" for name, one in outcomes.items() if one in {"slower", "faster"}]
    return f"{title}{', '.join(changed) or 'nothing changed'}, {made['seconds']:.0f} s"


def sides(
    a: str,
    b: str,
    set_a: Sequence[str],
    set_b: Sequence[str],
    processors: Sequence[str],
    *,
    stack: str | None = None,
) -> tuple[session.Side, session.Side]:
    """Both sides from what was typed.

    Raises
    ------
    InputError
        If there is none, or both are one.
    """
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
        [*given, *([f"{session.PROCESSOR_VARIABLE}={name}"] if name else [])]
        for given, name in (
            (set_a, processors[0] if processors else ""),
            (set_b, processors[-1] if processors else ""),
        )
    )
    made = session.side(a, of_a, stack=stack), session.side(b, of_b, stack=stack)
    if processors:
        for side, name in zip(made, (processors[0], processors[-1]), strict=True):
            _require_module(side, name.partition(":")[0].partition(".")[0])
    return made


def _require_module(side: session.Side, name: str) -> None:
    """Tell of a module that is nowhere before processes are started to find that out."""
    places = [str(side.source), *session.user_path(), *sys.path]
    # What another environment has only it can tell.
    if side.python == Path(sys.executable) and PathFinder.find_spec(name, places) is None:
        msg = (
            f"there is no module {name} in {Path.cwd()}, in PYTHONPATH or among what is installed: "
            "correct --processor"
        )
        raise InputError(msg)


def chosen(
    only: Sequence[str] | None,
    suite: Path | None,
    data: Path,
    processors: Sequence[str] = (),
    **processed: Any,
) -> Callable[[Path], list[session.Benchmark]]:
    """Benchmarks from what was typed; `processed` as of `compare.processors`."""

    def make(folder: Path) -> list[session.Benchmark]:
        if suite is not None:
            return session.functions(suite, only or ("*",))
        if processors:
            return session.processors(data, **processed)
        return session.default(folder, data, only)

    return make


def kinds(text: str) -> list[Kind]:
    """Kinds of trials from what was typed."""
    return [_one_of(one, compare_trials.KINDS, "--kinds") for one in text.split(",")]


def tools(text: str) -> list[Tool]:
    """Tools from what was typed."""
    return [_one_of(one, compare_trials.TOOLS, "--tools") for one in text.split(",")]


def _one_of(text: str, known: Sequence[_Text], option: str) -> _Text:
    for one in known:
        if one == text.strip():
            return one
    msg = f"{option} takes {' and '.join(known)}, not {text!r}"
    raise InputError(msg)
